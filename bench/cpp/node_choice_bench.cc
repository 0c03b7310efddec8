// What it costs to decide where a lease request goes, and whether that depends on the size of the
// cluster.
#include <benchmark/benchmark.h>

#include <optional>
#include <string>
#include <vector>

#include "ray/base/check.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/resources/node_resources.h"
#include "ray/scheduling/lease_queue.h"
#include "ray/scheduling/lease_router.h"

namespace ray::scheduling {
namespace {

using base::NodeId;
using resources::ResourceSet;
using wire::v1::RequestLeaseReply;

wire::v1::NodeState State(const NodeId& id, const ResourceSet& available) {
  wire::v1::NodeState state;
  state.set_node_id(id.BinaryString());
  state.set_alive(true);
  *state.mutable_total() = ResourceSet{{"CPU", 64}, {"memory", 1e9}}.ToWire();
  *state.mutable_available() = available.ToWire();
  return state;
}

// A raylet without resources of its own; the others grant whatever they are asked for.
class Cluster final : public LeaseQueue::Actions, public LeaseRouter::Actions {
 public:
  explicit Cluster(int64_t nodes) {
    for (int64_t i = 0; i < nodes; ++i) {
      ids_.push_back(NodeId::Random());
      router_.NodeChanged(State(ids_.back(), {{"CPU", 64}, {"memory", 1e9}}));
    }
  }

  // A request is decided, granted elsewhere and returned.
  void Request(bool spread) {
    wire::v1::RequestLease request;
    request.set_request_id(++requests_);
    *request.mutable_resources() = ResourceSet{{"CPU", 1}}.ToWire();
    request.set_job_id(base::JobIdFromInt(1).BinaryString());
    request.mutable_strategy()->set_spread(spread);
    MANTA_CHECK(router_.Request(1, request).ok());
    RequestLeaseReply reply;
    reply.set_outcome(RequestLeaseReply::GRANTED);
    const base::LeaseId lease = base::LeaseId::Random();
    reply.set_lease_id(lease.BinaryString());
    *reply.mutable_available() = ResourceSet{{"CPU", 63}, {"memory", 1e9}}.ToWire();
    router_.Answered(asked_, forward_, reply);
    MANTA_CHECK(router_.Return(lease, 1, false));
  }
  // One node of all says what is free there.
  void Report() {
    const NodeId& id = ids_[reports_ % ids_.size()];
    router_.NodeChanged(
        State(id, {{"CPU", static_cast<double>(reports_++ % 64)}, {"memory", 1e9}}));
  }

  std::optional<base::WorkerId> AcquireWorker(const base::LeaseId&, const base::JobId&,
                                              const std::string&) override {
    return std::nullopt;
  }
  void AbandonWorker(const base::LeaseId&) override {}
  void ReleaseWorker(const base::WorkerId&, WorkerAfter) override {}
  void GrantLease(const LeaseGrant&) override {}
  void RefuseLease(ClientId, uint64_t) override {}
  void GiveUp(ClientId, uint64_t, const std::string&) override {}
  void ReclaimLeases(ClientId) override {}
  void Warn(const LeaseWarning&) override {}
  void Answer(ClientId, uint64_t, const RequestLeaseReply&) override {}
  bool Forward(const NodeId& node, const wire::v1::RequestLease& request) override {
    asked_ = node;
    forward_ = request.request_id();
    return true;
  }
  void CancelForwarded(const NodeId&, uint64_t) override {}
  void ReturnLease(const NodeId&, const base::LeaseId&, LeaseEnd) override {}
  void WatchGroup(const base::PlacementGroupId&) override {}

 private:
  LeaseQueue queue_{{}, resources::NodeResources(ResourceSet{}), base::RealClock::Get(), this};
  LeaseRouter router_{{.self = NodeId::Random()}, &queue_, base::RealClock::Get(), this};
  std::vector<NodeId> ids_;
  uint64_t requests_ = 0;
  uint64_t reports_ = 0;
  NodeId asked_;
  uint64_t forward_ = 0;
};

void BM_Decide(benchmark::State& state, bool spread, bool reports) {
  Cluster cluster(state.range(0));
  for (auto _ : state) {
    if (reports) cluster.Report();
    cluster.Request(spread);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(BM_Decide, hybrid, false, false)->ArgName("nodes")->Arg(10)->Arg(100)->Arg(1000);
BENCHMARK_CAPTURE(BM_Decide, spread, true, false)->ArgName("nodes")->Arg(10)->Arg(100)->Arg(1000);
// A report of another node comes with each request.
BENCHMARK_CAPTURE(BM_Decide, hybrid_and_reports, false, true)
    ->ArgName("nodes")
    ->Arg(10)
    ->Arg(100)
    ->Arg(1000);

}  // namespace
}  // namespace ray::scheduling
