// The GCS is killed after each single write to its storage, in turn. The next one starts from what
// was written, the nodes come back, and whoever got no answer asks again. In the end everything is
// as if nothing had happened.
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/gcs/control_plane.h"
#include "ray/gcs/gcs_testutil.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::JobId;
using base::NodeId;
using base::PlacementGroupId;
using base::WorkerId;

// Keeps what the first `limit` writes made: what a process that ended then would have left.
class CutStorage final : public Storage {
 public:
  explicit CutStorage(MemoryStorage from) : now_(from), kept_(std::move(from)) {}

  absl::StatusOr<std::string> Get(std::string_view table, std::string_view key) override {
    return now_.Get(table, key);
  }
  absl::Status Scan(std::string_view table, std::string_view prefix, Visitor visit) override {
    return now_.Scan(table, prefix, visit);
  }
  absl::Status Write(const WriteBatch& batch) override {
    if (++writes_ <= limit) MANTA_CHECK(kept_.Write(batch).ok());
    return now_.Write(batch);
  }

  bool IsCut() const { return writes_ >= limit; }
  int writes() const { return writes_; }
  const MemoryStorage& kept() const { return kept_; }

  int limit = std::numeric_limits<int>::max();

 private:
  MemoryStorage now_;
  MemoryStorage kept_;
  int writes_ = 0;
};

// Two nodes, what runs there, and what they have not been told yet that the GCS knows.
class Cluster final : public NodeSender {
 public:
  // 0: never dies.
  explicit Cluster(int dies_after) {
    StartGcs(MemoryStorage(), dies_after);
    for (const NodeId& node : nodes_) Register(node);
  }

  // Asks until there is an answer. What a GCS that is dead by then has said counts for nothing.
  void Do(const std::function<void()>& request) {
    request();
    if (!storage_->IsCut()) return Deliver();
    Die();
    request();
    Deliver();
  }

  ControlPlane& gcs() { return *control_; }
  int writes() const { return storage_->writes(); }
  int deaths() const { return deaths_; }

  // Ends the process of an actor.
  void Crash(const ActorId& actor) {
    const Running running = running_.at(actor);
    running_.erase(actor);
    v1::NodeMessage message;
    message.mutable_worker_died()->set_worker_id(running.worker.BinaryString());
    message.mutable_worker_died()->set_actor_id(actor.BinaryString());
    message.mutable_worker_died()->set_num_restarts(running.num_restarts);
    Do([&] { ASSERT_TRUE(control_->HandleNodeMessage(running.node, message).ok()); });
  }
  void KillNode(const NodeId& node) {
    std::erase_if(running_, [&](const auto& entry) { return entry.second.node == node; });
    alive_.erase(node);
    v1::NodeMessage message;
    message.mutable_leaving()->set_reason("test");
    Do([&] { ASSERT_TRUE(control_->HandleNodeMessage(node, message).ok()); });
  }
  void Pass(absl::Duration time) {
    for (absl::Duration done; done < time; done += absl::Milliseconds(50)) {
      clock_.Advance(absl::Milliseconds(50));
      Do([&] { control_->RunDeadlines(); });
    }
  }

  wire::v1::ActorInfo Info(const ActorId& actor) {
    wire::v1::SubscribeActor request;
    request.set_actor_id(actor.BinaryString());
    return control_->GetActor(request)->info();
  }
  bool Runs(const ActorId& actor) const { return running_.contains(actor); }
  NodeId NodeOf(const ActorId& actor) const { return running_.at(actor).node; }
  const std::map<std::pair<NodeId, PlacementGroupId>, std::set<uint32_t>>& bundles() const {
    return bundles_;
  }

  const NodeId nodes_[2] = {NodeId::Random(), NodeId::Random()};

 private:
  struct Running {
    NodeId node;
    WorkerId worker;
    uint64_t num_restarts;
  };

  void StartGcs(MemoryStorage from, int dies_after) {
    storage_ = std::make_unique<CutStorage>(std::move(from));
    if (dies_after > 0) storage_->limit = dies_after;
    control_ = std::make_unique<ControlPlane>(
        base::Config(), ControlPlane::Environment{.clock = &clock_,
                                                  .wall_clock = [] { return absl::UnixEpoch(); },
                                                  .storage = storage_.get(),
                                                  .sender = this});
    MANTA_CHECK(control_->Load().ok());
    if (storage_->IsCut()) Die();
  }

  void Die() {
    ++deaths_;
    const MemoryStorage kept = storage_->kept();
    to_nodes_.clear();
    control_.reset();
    StartGcs(kept, 0);
    for (const NodeId& node : alive_) Register(node);
    Deliver();
  }

  void Register(const NodeId& node) {
    alive_.insert(node);
    v1::RegisterNode request;
    *request.mutable_node() = NodeWith(node, {{"CPU", 8}});
    for (const auto& [actor, running] : running_) {
      if (running.node != node) continue;
      wire::v1::ActorInfo& info = *request.add_live_actors();
      info.set_actor_id(actor.BinaryString());
      info.set_num_restarts(running.num_restarts);
      info.set_state(wire::v1::ALIVE);
      info.mutable_address()->set_worker_id(running.worker.BinaryString());
    }
    for (const auto& [key, indices] : bundles_) {
      if (key.first != node) continue;
      v1::HeldBundles& held = *request.add_bundles();
      held.set_placement_group_id(key.second.BinaryString());
      for (uint32_t index : indices) held.add_indices(index);
    }
    Do([&] { MANTA_CHECK(control_->RegisterNode(node, request).ok()); });
  }

  // -- the nodes
  void Send(const NodeId& node, const v1::GcsMessage& message) override {
    to_nodes_.emplace_back(node, message);
  }
  void Deliver() {
    while (!to_nodes_.empty()) {
      const auto [node, message] = to_nodes_.front();
      to_nodes_.pop_front();
      if (alive_.contains(node)) OnMessage(node, message);
    }
  }
  void OnMessage(const NodeId& node, const v1::GcsMessage& message) {
    if (message.has_create_actor()) {
      OnCreate(node, message.create_actor());
    } else if (message.has_kill_worker()) {
      const ActorId id = *ActorId::FromBinary(message.kill_worker().actor_id());
      const auto running = running_.find(id);
      if (running != running_.end() && running->second.node == node &&
          running->second.num_restarts == message.kill_worker().num_restarts()) {
        running_.erase(running);
      }
    } else if (message.has_prepare_bundles()) {
      const auto& prepare = message.prepare_bundles();
      auto& held = bundles_[{node, *PlacementGroupId::FromBinary(prepare.placement_group_id())}];
      held.insert(prepare.indices().begin(), prepare.indices().end());
      v1::NodeMessage answer;
      answer.mutable_bundles_prepared()->set_placement_group_id(prepare.placement_group_id());
      answer.mutable_bundles_prepared()->set_attempt(prepare.attempt());
      answer.mutable_bundles_prepared()->set_ok(true);
      Do([&] { ASSERT_TRUE(control_->HandleNodeMessage(node, answer).ok()); });
    } else if (message.has_return_bundles()) {
      const auto& given = message.return_bundles();
      const auto key = std::pair(node, *PlacementGroupId::FromBinary(given.placement_group_id()));
      for (uint32_t index : given.indices()) bundles_[key].erase(index);
      if (given.indices().empty() || bundles_[key].empty()) bundles_.erase(key);
    }
  }
  void OnCreate(const NodeId& node, const wire::v1::CreateActor& create) {
    const ActorId id = *ActorId::FromBinary(create.spec().actor_id());
    const auto known = running_.find(id);
    if (known != running_.end() && known->second.num_restarts == create.num_restarts()) return;
    const Running running{node, WorkerId::Random(), create.num_restarts()};
    running_[id] = running;
    v1::NodeMessage message;
    v1::ActorCreated& created = *message.mutable_actor_created();
    created.set_actor_id(create.spec().actor_id());
    created.set_num_restarts(create.num_restarts());
    created.set_outcome(v1::ActorCreated::CREATED);
    created.mutable_address()->set_worker_id(running.worker.BinaryString());
    created.set_pid(1);
    Do([&] { ASSERT_TRUE(control_->HandleNodeMessage(node, message).ok()); });
  }

  base::VirtualClock clock_;
  std::unique_ptr<CutStorage> storage_;
  std::unique_ptr<ControlPlane> control_;
  std::deque<std::pair<NodeId, v1::GcsMessage>> to_nodes_;
  int deaths_ = 0;
  std::set<NodeId> alive_;
  std::map<ActorId, Running> running_;
  std::map<std::pair<NodeId, PlacementGroupId>, std::set<uint32_t>> bundles_;
};

// A program's life. Returns how many writes it took.
int RunProgram(int dies_after) {
  Cluster cluster(dies_after);
  SCOPED_TRACE(absl::StrCat("killed after write ", dies_after));
  const WorkerId driver = WorkerId::Random();
  const NodeId home = cluster.nodes_[0];
  JobId job;
  cluster.Do([&] {
    v1::AddJobRequest request;
    request.set_driver_worker_id(driver.BinaryString());
    request.set_node_id(home.BinaryString());
    job = *JobId::FromBinary(cluster.gcs().AddJob(request)->job_id());
  });
  EXPECT_EQ(base::JobIdToInt(job), 1u);

  auto put = [&](const std::string& key_namespace, const std::string& key, const std::string& id) {
    wire::v1::KvReply reply;
    cluster.Do([&] {
      wire::v1::KvRequest request;
      request.set_op(wire::v1::KvRequest::PUT);
      request.set_kv_namespace(key_namespace);
      request.set_key(key);
      reply = *cluster.gcs().Kv(request, id);
    });
    return reply;
  };
  auto exists = [&](const std::string& key_namespace, const std::string& key) {
    wire::v1::KvRequest request;
    request.set_op(wire::v1::KvRequest::EXISTS);
    request.set_kv_namespace(key_namespace);
    request.set_key(key);
    return cluster.gcs().Kv(request, "")->found();
  };
  EXPECT_FALSE(put("user", "k", "put k").found()) << "it was not there before";
  put(absl::StrCat("job:", job.Hex()), "job", "put job");
  put("job_items", absl::StrCat(job.Hex(), " packages p"), "put item");
  put("packages", "p", "put p");
  put("packages", "p#0", "put p0");

  auto add = [&](const std::string& name, bool detached, int32_t restarts, const NodeId& owner_node,
                 const WorkerId& owner) {
    wire::v1::RegisterActor request;
    *request.mutable_spec() = SpecOf(base::NewActorId(job), owner, owner_node);
    request.mutable_spec()->set_name(name);
    request.mutable_spec()->set_detached(detached);
    request.mutable_spec()->set_restarts_max(restarts);
    cluster.Do([&] {
      const auto reply = cluster.gcs().RegisterActor(request);
      ASSERT_TRUE(reply.ok());
      EXPECT_EQ(reply->status().code(), 0) << reply->status().message();
    });
    return *ActorId::FromBinary(request.spec().actor_id());
  };
  const ActorId plain = add("", false, 0, home, driver);
  const ActorId named = add("named", false, 3, home, driver);
  const ActorId detached = add("detached", true, 2, home, driver);
  cluster.Pass(absl::Seconds(1));
  EXPECT_TRUE(cluster.Runs(plain));

  const PlacementGroupId group = base::NewPlacementGroupId(job);
  v1::ChangePlacementGroupsRequest create;
  wire::v1::PlacementGroupSpec& spec = *create.add_changes()->mutable_create();
  spec.set_placement_group_id(group.BinaryString());
  spec.set_strategy(wire::v1::STRICT_SPREAD);
  for (int i = 0; i < 2; ++i) *spec.add_bundles()->mutable_resources() = Resources({{"CPU", 1}});
  cluster.Do([&] { EXPECT_EQ(cluster.gcs().ChangePlacementGroups(create)->results(0).code(), 0); });
  cluster.Pass(absl::Seconds(1));
  EXPECT_EQ(cluster.bundles().size(), 2u);

  cluster.Do([&] {
    wire::v1::KillActor request;
    request.set_actor_id(named.BinaryString());
    EXPECT_EQ(cluster.gcs().KillActor(request, "kill named")->code(), 0);
  });
  cluster.Pass(absl::Seconds(1));
  EXPECT_EQ(cluster.Info(named).num_restarts(), 1u) << "one kill is one restart";
  EXPECT_TRUE(cluster.Runs(named));

  cluster.Crash(plain);
  EXPECT_EQ(cluster.Info(plain).state(), wire::v1::DEAD);

  v1::ChangePlacementGroupsRequest remove;
  remove.add_changes()->set_remove(group.BinaryString());
  cluster.Do([&] { EXPECT_EQ(cluster.gcs().ChangePlacementGroups(remove)->results(0).code(), 0); });
  cluster.Pass(absl::Seconds(1));
  EXPECT_TRUE(cluster.bundles().empty());

  cluster.Do([&] {
    v1::FinishJobRequest request;
    request.set_job_id(job.BinaryString());
    EXPECT_EQ(cluster.gcs().FinishJob(request)->code(), 0);
  });
  cluster.Pass(absl::Seconds(1));
  EXPECT_FALSE(cluster.Runs(named));
  EXPECT_TRUE(cluster.Runs(detached));
  EXPECT_TRUE(exists("packages", "p")) << "the detached actor may still need it";

  const NodeId host = cluster.NodeOf(detached);
  cluster.KillNode(host);
  cluster.Pass(absl::Seconds(1));
  EXPECT_TRUE(cluster.Runs(detached));
  EXPECT_NE(cluster.NodeOf(detached), host);

  cluster.Do([&] {
    wire::v1::KillActor request;
    request.set_actor_id(detached.BinaryString());
    request.set_no_restart(true);
    EXPECT_EQ(cluster.gcs().KillActor(request, "kill detached")->code(), 0);
  });
  cluster.Pass(absl::Seconds(1));
  EXPECT_EQ(cluster.Info(detached).state(), wire::v1::DEAD);
  EXPECT_FALSE(exists("packages", "p"));
  EXPECT_FALSE(exists("packages", "p#0"));
  EXPECT_FALSE(exists(absl::StrCat("job:", job.Hex()), "job"));
  EXPECT_TRUE(exists("user", "k"));
  EXPECT_EQ(cluster.gcs().ListJobs({})->jobs_size(), 1);
  EXPECT_EQ(cluster.deaths(), dies_after > 0 ? 1 : 0);
  return cluster.writes();
}

TEST(GcsCrash, NothingIsLostWhereverItIsKilled) {
  const int writes = RunProgram(0);
  EXPECT_GT(writes, 20);
  for (int dies_after = 1; dies_after < writes && !testing::Test::HasFailure(); ++dies_after) {
    RunProgram(dies_after);
  }
}

}  // namespace
}  // namespace ray::gcs
