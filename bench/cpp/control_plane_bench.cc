// What an actor costs the GCS in a cluster of so many nodes: processor time and messages, from its
// registration until it is alive and known to its creator's node, and for its end.
//
// The control plane is whole but for its sockets; nodes are what their messages say. 40 actors a
// node are made, 10,000 a second of virtual time, while each node that got one reports what it has
// left. So with 1,000 nodes there are 40,000 actors.
#include <benchmark/benchmark.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "ray/base/check.h"
#include "ray/base/clock.h"
#include "ray/base/config.h"
#include "ray/base/ids.h"
#include "ray/gcs/control_plane.h"
#include "ray/gcs/node_sender.h"
#include "ray/gcs/storage.h"
#include "ray/resources/resource_set.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::NodeId;
using base::WorkerId;
using resources::ResourceSet;

constexpr int kActorsOfNode = 40;
constexpr absl::Duration kActorInterval = absl::Microseconds(100);

// Counts what goes to the nodes, and remembers who was asked to create an actor.
class CountingSender final : public NodeSender {
 public:
  void Send(const NodeId& node, const v1::GcsMessage& message) override {
    if (message.has_nodes_changed()) {
      ++broadcasts;
      if (node == weighed) broadcast_bytes += message.ByteSizeLong();  // all get nearly the same
      return;
    }
    ++messages;
    if (message.has_create_actor()) chosen = node;
  }
  int64_t messages = 0;
  int64_t broadcasts = 0;
  NodeId weighed;
  uint64_t broadcast_bytes = 0;  // to `weighed`
  NodeId chosen;
};

class Cluster {
 public:
  Cluster(int64_t nodes, const std::string& storage) {
    auto opened = OpenStorage(storage);
    MANTA_CHECK(opened.ok());
    storage_ = *std::move(opened);
    control_ = std::make_unique<ControlPlane>(
        base::Config(), ControlPlane::Environment{.clock = &clock_,
                                                  .wall_clock = [] { return absl::UnixEpoch(); },
                                                  .storage = storage_.get(),
                                                  .sender = &sender_});
    MANTA_CHECK(control_->Load().ok());
    for (int64_t i = 0; i < nodes; ++i) Join();
    Advance(absl::Seconds(1));
    v1::AddJobRequest job;
    job.set_driver_worker_id(driver_.BinaryString());
    job.set_node_id(nodes_[0].id.BinaryString());
    auto added = control_->AddJob(job);
    MANTA_CHECK(added.ok());
    job_ = *base::JobId::FromBinary(added->job_id());
    sender_ = CountingSender();
    sender_.weighed = nodes_[0].id;
  }

  // Registered, placed, created there, published to the node of its creator.
  void MakeActor() {
    const ActorId id = base::NewActorId(job_);
    wire::v1::RegisterActor request;
    wire::v1::ActorSpec* spec = request.mutable_spec();
    spec->set_actor_id(id.BinaryString());
    spec->mutable_owner()->set_worker_id(driver_.BinaryString());
    spec->mutable_owner()->set_node_id(nodes_[0].id.BinaryString());
    spec->set_class_name("Counter");
    spec->set_class_blob(std::string(500, 'c'));
    *spec->mutable_creation_resources() = one_cpu_;
    *spec->mutable_lifetime_resources() = one_cpu_;
    auto reply = control_->RegisterActor(request);
    MANTA_CHECK(reply.ok() && reply->status().code() == 0);

    v1::NodeMessage watch;
    watch.mutable_watch_actor()->set_actor_id(id.BinaryString());
    Handle(nodes_[0].id, watch);

    Node& node = *by_id_.at(sender_.chosen);
    v1::NodeMessage created;
    created.mutable_actor_created()->set_actor_id(id.BinaryString());
    created.mutable_actor_created()->set_outcome(v1::ActorCreated::CREATED);
    wire::v1::Address* address = created.mutable_actor_created()->mutable_address();
    address->set_worker_id(WorkerId::Random().BinaryString());
    address->set_node_id(node.id.BinaryString());
    address->set_endpoint("unix:/somewhere");
    Handle(node.id, created);
    ++node.actors;
    ReportRoom(&node);
    Advance(kActorInterval);
    actors_.push_back(id);
  }

  void EndActor() {
    wire::v1::ActorOutOfScope request;
    request.set_actor_id(actors_.back().BinaryString());
    actors_.pop_back();
    MANTA_CHECK(control_->ActorOutOfScope(request).ok());
    Advance(kActorInterval);
  }

  const CountingSender& sender() const { return sender_; }

 private:
  struct Node {
    NodeId id;
    uint64_t reports = 0;
    int actors = 0;
  };

  void Join() {
    nodes_.push_back({NodeId::Random()});
    v1::RegisterNode request;
    request.mutable_node()->set_node_id(nodes_.back().id.BinaryString());
    *request.mutable_node()->mutable_total() = total_;
    *request.mutable_node()->mutable_available() = total_;
    MANTA_CHECK(control_->RegisterNode(nodes_.back().id, request).ok());
    by_id_[nodes_.back().id] = &nodes_.back();
  }
  void ReportRoom(Node* node) {
    v1::NodeMessage message;
    v1::NodeReport* report = message.mutable_report();
    report->set_sequence(++node->reports);
    *report->mutable_total() = total_;
    *report->mutable_available() = ResourceSet{{"CPU", 64.0 - node->actors}}.ToWire();
    Handle(node->id, message);
  }
  void Handle(const NodeId& node, const v1::NodeMessage& message) {
    const absl::Status status = control_->HandleNodeMessage(node, message);
    MANTA_CHECK(status.ok());
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    control_->RunDeadlines();
  }

  const wire::v1::ResourceSet total_ = ResourceSet{{"CPU", 64}}.ToWire();
  const wire::v1::ResourceSet one_cpu_ = ResourceSet{{"CPU", 1}}.ToWire();
  const WorkerId driver_ = WorkerId::Random();
  base::VirtualClock clock_;
  CountingSender sender_;
  std::unique_ptr<Storage> storage_;
  std::unique_ptr<ControlPlane> control_;
  std::deque<Node> nodes_;  // stay where they are
  absl::flat_hash_map<NodeId, Node*> by_id_;
  std::vector<ActorId> actors_;
  base::JobId job_;
};

void BM_ActorsMade(benchmark::State& state) {
  const int64_t actors = state.range(0) * kActorsOfNode;
  int64_t messages = 0;
  int64_t broadcasts = 0;
  double broadcast_bytes = 0;
  for (auto _ : state) {
    state.PauseTiming();
    auto cluster = std::make_unique<Cluster>(state.range(0), "memory");
    state.ResumeTiming();
    for (int64_t i = 0; i < actors; ++i) cluster->MakeActor();
    state.PauseTiming();
    messages += cluster->sender().messages;
    broadcasts += cluster->sender().broadcasts;
    broadcast_bytes += static_cast<double>(cluster->sender().broadcast_bytes * state.range(0));
    cluster.reset();
    state.ResumeTiming();
  }
  const auto made = static_cast<double>(state.iterations() * actors);
  state.SetItemsProcessed(static_cast<int64_t>(made));
  state.counters["actors"] = static_cast<double>(actors);
  state.counters["messages_each"] = static_cast<double>(messages) / made;
  state.counters["broadcasts_each"] = static_cast<double>(broadcasts) / made;
  state.counters["broadcast_bytes_each"] = broadcast_bytes / made;
}
BENCHMARK(BM_ActorsMade)
    ->ArgName("nodes")
    ->Arg(10)
    ->Arg(100)
    ->Arg(1000)
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

void BM_ActorsEnded(benchmark::State& state) {
  const int64_t actors = state.range(0) * kActorsOfNode;
  for (auto _ : state) {
    state.PauseTiming();
    auto cluster = std::make_unique<Cluster>(state.range(0), "memory");
    for (int64_t i = 0; i < actors; ++i) cluster->MakeActor();
    state.ResumeTiming();
    for (int64_t i = 0; i < actors; ++i) cluster->EndActor();
    state.PauseTiming();
    cluster.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * actors);
}
BENCHMARK(BM_ActorsEnded)
    ->ArgName("nodes")
    ->Arg(10)
    ->Arg(100)
    ->Arg(1000)
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ray::gcs
