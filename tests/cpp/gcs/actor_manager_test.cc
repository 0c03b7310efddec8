// The life of actors on a virtual clock: what the manager stores, sends and publishes.
#include "ray/gcs/actor_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ray/gcs/gcs_testutil.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::JobId;
using base::NodeId;
using base::WorkerId;
using testing::HasSubstr;
using v1::GcsMessage;
using wire::v1::ActorInfo;
using wire::v1::ActorSpec;

int Code(absl::StatusCode code) { return static_cast<int>(code); }

class ActorManagerTest : public testing::Test {
 protected:
  ActorManagerTest() {
    Restart();
    Join(node_, 4);
  }

  // As when gcs_server is killed and started again: only the storage is left.
  void Restart() {
    actors_.reset();
    nodes_.reset();
    deadlines_ = std::make_unique<Deadlines>(&clock_);
    nodes_ = std::make_unique<NodeManager>(
        NodeManager::Options{}, &storage_, deadlines_.get(), &sender_, nullptr,
        [this](const NodeId& node) { actors_->OnNodeDead(node); });
    groups_ = std::make_unique<PlacementGroupManager>(
        PlacementGroupManager::Options(),
        PlacementGroupManager::Environment{
            .clock = &clock_,
            .wall_clock = [] { return absl::UnixEpoch(); },
            .storage = &storage_,
            .deadlines = deadlines_.get(),
            .nodes = nodes_.get(),
            .sender = &sender_,
            .on_removed = [this](const auto& group) { actors_->OnGroupRemoved(group); }});
    actors_ = std::make_unique<ActorManager>(ActorManager::Options{.dead_actors_max = 3}, &storage_,
                                             deadlines_.get(), nodes_.get(), groups_.get(),
                                             &sender_, [](const ActorId&) {});
    ASSERT_TRUE(nodes_->Load().ok());
    ASSERT_TRUE(groups_->Load().ok());
    ASSERT_TRUE(actors_->Load().ok());
    sender_.Clear();
  }

  void Advance(absl::Duration by) {
    clock_.Advance(by);
    deadlines_->RunDue();
  }

  // -- nodes
  void Join(const NodeId& node, int64_t cpus, const std::vector<ActorInfo>& live = {},
            const std::vector<ActorId>& watched = {}) {
    v1::RegisterNode request;
    *request.mutable_node() = NodeWith(node, {{"CPU", cpus}});
    for (const ActorInfo& info : live) *request.add_live_actors() = info;
    for (const ActorId& id : watched) request.add_watched_actors(id.BinaryString());
    ASSERT_TRUE(nodes_->Register(node, request.node()).ok());
    actors_->OnNodeRegistered(node, *NodeActors::FromRegistration(request));
  }
  void Report(uint64_t sequence, int64_t available) {
    ASSERT_TRUE(nodes_->Report(node_, ReportOf(sequence, {{"CPU", 4}}, {{"CPU", available}})).ok());
    actors_->PlaceWaiting();
  }
  void KillNode(const NodeId& node) {
    nodes_->Disconnect(node);
    Advance(absl::Seconds(5));
  }

  // -- actors
  size_t CreationsAsked() { return sender_.Take(node_, GcsMessage::kCreateActor).size(); }
  ActorSpec Spec(int32_t restarts_max = 0) {
    ActorSpec spec = SpecOf(base::NewActorId(job_), owner_, node_);
    spec.set_restarts_max(restarts_max);
    return spec;
  }
  ActorSpec Named(const std::string& name, const std::string& actor_namespace = "") {
    ActorSpec spec = Spec();
    spec.set_name(name);
    spec.set_actor_namespace(actor_namespace);
    return spec;
  }
  wire::v1::RegisterActorReply TryRegister(const ActorSpec& spec) {
    wire::v1::RegisterActor request;
    *request.mutable_spec() = spec;
    return actors_->Register(request, "job_namespace");
  }
  ActorId Register(const ActorSpec& spec) {
    const auto reply = TryRegister(spec);
    EXPECT_EQ(reply.status().code(), 0) << reply.status().message();
    return *ActorId::FromBinary(spec.actor_id());
  }
  void Created(const ActorId& id, const NodeId& node, const WorkerId& worker = WorkerId::Random()) {
    v1::ActorCreated message = Outcome(id, v1::ActorCreated::CREATED);
    message.mutable_address()->set_worker_id(worker.BinaryString());
    message.set_pid(42);
    ASSERT_TRUE(actors_->OnActorCreated(node, message).ok());
  }
  v1::ActorCreated Outcome(const ActorId& id, v1::ActorCreated::Outcome outcome) {
    v1::ActorCreated message;
    message.set_actor_id(id.BinaryString());
    message.set_num_restarts(Info(id).num_restarts());
    message.set_outcome(outcome);
    return message;
  }
  void Fail(const ActorId& id, v1::ActorCreated::Outcome outcome, const std::string& text = "") {
    v1::ActorCreated message = Outcome(id, outcome);
    message.set_message(text);
    message.set_creation_error("pickled " + text);
    ASSERT_TRUE(actors_->OnActorCreated(node_, message).ok());
  }
  ActorId MakeAlive(const ActorSpec& spec, const WorkerId& worker = WorkerId::Random()) {
    const ActorId id = Register(spec);
    Created(id, node_, worker);
    EXPECT_EQ(Info(id).state(), wire::v1::ALIVE);
    sender_.Clear();
    return id;
  }
  void WorkerDied(const WorkerId& worker, const ActorId* actor = nullptr, bool intended = false,
                  const std::string& text = "") {
    v1::WorkerDied message;
    message.set_worker_id(worker.BinaryString());
    if (actor != nullptr) {
      message.set_actor_id(actor->BinaryString());
      message.set_num_restarts(Info(*actor).num_restarts());
    }
    message.set_intended(intended);
    message.set_message(text);
    ASSERT_TRUE(actors_->OnWorkerDied(node_, message).ok());
  }
  void ActorDied(const ActorId& id, const std::string& text = "", bool intended = false) {
    WorkerDied(*WorkerId::FromBinary(Info(id).address().worker_id()), &id, intended, text);
  }
  absl::Status Kill(const ActorId& id, bool no_restart) {
    wire::v1::KillActor request;
    request.set_actor_id(id.BinaryString());
    request.set_no_restart(no_restart);
    return actors_->Kill(request);
  }
  absl::Status OutOfScope(const ActorId& id) {
    wire::v1::ActorOutOfScope request;
    request.set_actor_id(id.BinaryString());
    return actors_->OutOfScope(request);
  }
  void Watch(const NodeId& node, const ActorId& id) {
    v1::WatchActor message;
    message.set_actor_id(id.BinaryString());
    ASSERT_TRUE(actors_->OnWatchActor(node, message).ok());
  }

  // -- what is seen
  wire::v1::ActorInfoReply Get(const ActorId& id) {
    wire::v1::SubscribeActor request;
    request.set_actor_id(id.BinaryString());
    return actors_->Get(request);
  }
  ActorInfo Info(const ActorId& id) { return Get(id).info(); }
  std::vector<ActorId> CreatesOn(const NodeId& node) {
    std::vector<ActorId> ids;
    for (const GcsMessage& message : sender_.Take(node, GcsMessage::kCreateActor)) {
      ids.push_back(*ActorId::FromBinary(message.create_actor().spec().actor_id()));
    }
    return ids;
  }
  std::vector<v1::KillWorker> KillsOn(const NodeId& node) {
    std::vector<v1::KillWorker> kills;
    for (const GcsMessage& message : sender_.Take(node, GcsMessage::kKillWorker)) {
      kills.push_back(message.kill_worker());
    }
    return kills;
  }
  std::vector<ActorInfo> ChangesSeenBy(const NodeId& node) {
    std::vector<ActorInfo> changes;
    for (const GcsMessage& message : sender_.Take(node, GcsMessage::kActorChanged)) {
      changes.push_back(message.actor_changed());
    }
    return changes;
  }
  wire::v1::ActorInfoReply GetNamed(const std::string& name, const std::string& actor_namespace) {
    wire::v1::GetNamedActor request;
    request.set_name(name);
    request.set_actor_namespace(actor_namespace);
    return actors_->GetNamed(request);
  }

  base::VirtualClock clock_;
  FailingStorage storage_;
  RecordingSender sender_;
  const NodeId node_ = NodeId::Random();
  const WorkerId owner_ = WorkerId::Random();
  const JobId job_ = base::JobIdFromInt(1);
  std::unique_ptr<Deadlines> deadlines_;
  std::unique_ptr<NodeManager> nodes_;
  std::unique_ptr<PlacementGroupManager> groups_;
  std::unique_ptr<ActorManager> actors_;
};

// -- creation

TEST_F(ActorManagerTest, CreatesAnActorOnANodeWithRoom) {
  ActorSpec spec = Spec();
  spec.set_class_blob("class");
  const ActorId id = Register(spec);
  EXPECT_EQ(Info(id).state(), wire::v1::PENDING_CREATION);
  const auto sent = sender_.Take(node_, GcsMessage::kCreateActor);
  ASSERT_EQ(sent.size(), 1);
  EXPECT_EQ(sent[0].create_actor().spec().class_blob(), "class");
  EXPECT_EQ(sent[0].create_actor().job_id(), job_.Binary());
  EXPECT_EQ(sent[0].create_actor().job_namespace(), "job_namespace");
  EXPECT_EQ(sent[0].create_actor().num_restarts(), 0);

  const WorkerId worker = WorkerId::Random();
  Created(id, node_, worker);
  const ActorInfo info = Info(id);
  EXPECT_EQ(info.state(), wire::v1::ALIVE);
  EXPECT_EQ(info.address().worker_id(), worker.Binary());
  EXPECT_EQ(info.pid(), 42);
  EXPECT_EQ(info.class_name(), "Counter");
  EXPECT_EQ(info.job_id(), job_.Binary());
}

TEST_F(ActorManagerTest, RegisteringTheSameActorAgainChangesNothing) {
  const ActorSpec spec = Named("n");
  Register(spec);
  sender_.Clear();
  Register(spec);
  EXPECT_TRUE(CreatesOn(node_).empty());
  EXPECT_EQ(actors_->List().actors_size(), 1);
}

TEST_F(ActorManagerTest, PrefersTheOwnersNodeWhileItHasRoom) {
  const NodeId large = NodeId::Random();
  Join(large, 64);
  for (int i = 0; i < 5; ++i) Register(Spec());
  EXPECT_EQ(CreatesOn(node_).size(), 4);
  EXPECT_EQ(CreatesOn(large).size(), 1);
}

TEST_F(ActorManagerTest, WaitsForRoomAndTakesItInOrder) {
  std::vector<ActorId> ids;
  for (int i = 0; i < 6; ++i) ids.push_back(Register(Spec()));
  EXPECT_EQ(CreatesOn(node_), std::vector<ActorId>(ids.begin(), ids.begin() + 4));
  // A created actor needs no CPU any more.
  Created(ids[0], node_);
  EXPECT_EQ(CreatesOn(node_), std::vector<ActorId>{ids[4]});
  Report(1, 1);
  EXPECT_EQ(CreatesOn(node_), std::vector<ActorId>{ids[5]});
}

TEST_F(ActorManagerTest, WhatItNeedsToLiveMustFitToo) {
  ActorSpec spec = Spec();
  *spec.mutable_lifetime_resources() = Resources({{"CPU", 3}});
  Register(spec);
  Register(Spec());
  Register(Spec());
  EXPECT_EQ(CreatesOn(node_).size(), 2);
}

TEST_F(ActorManagerTest, ASmallRequestIsNotHeldUpByALargeOne) {
  ActorSpec large = Spec();
  *large.mutable_creation_resources() = Resources({{"CPU", 9}});
  Register(large);
  const ActorId small = Register(Spec());
  EXPECT_EQ(CreatesOn(node_), std::vector<ActorId>{small});
}

TEST_F(ActorManagerTest, ExplainsALongWaitOnceToThoseWhoWatch) {
  ActorSpec spec = Spec();
  *spec.mutable_creation_resources() = Resources({{"GPU", 1}});
  const ActorId infeasible = Register(spec);
  Watch(node_, infeasible);
  for (int i = 0; i < 4; ++i) Register(Spec());
  const ActorId busy = Register(Spec());
  Advance(absl::Seconds(6));
  EXPECT_THAT(Info(infeasible).pending_reason(), HasSubstr("no node of the cluster has as much"));
  EXPECT_THAT(Info(infeasible).pending_reason(), HasSubstr("GPU"));
  EXPECT_THAT(Info(busy).pending_reason(), HasSubstr("in use"));
  EXPECT_EQ(ChangesSeenBy(node_).size(), 2);
  Advance(absl::Seconds(60));
  EXPECT_TRUE(ChangesSeenBy(node_).empty());

  const NodeId with_gpu = NodeId::Random();
  ASSERT_TRUE(nodes_->Register(with_gpu, NodeWith(with_gpu, {{"GPU", 1}})).ok());
  actors_->OnNodeRegistered(with_gpu, {});
  EXPECT_EQ(CreatesOn(with_gpu), std::vector<ActorId>{infeasible});
  Created(infeasible, with_gpu);
  EXPECT_EQ(Info(infeasible).pending_reason(), "");
}

TEST_F(ActorManagerTest, PlacesAgainWhenTheNodeHasLessThanThought) {
  const ActorId id = Register(Spec());
  sender_.Clear();
  for (int i = 0; i < 3; ++i) Register(Spec());
  sender_.Clear();
  Fail(id, v1::ActorCreated::NO_RESOURCES);
  EXPECT_TRUE(CreatesOn(node_).empty());
  EXPECT_EQ(Info(id).state(), wire::v1::PENDING_CREATION);
  Advance(absl::Milliseconds(100));
  EXPECT_EQ(CreatesOn(node_), std::vector<ActorId>{id});
  EXPECT_EQ(Info(id).num_restarts(), 0);
}

TEST_F(ActorManagerTest, AFailedCreationIsFinalAndKeepsTheError) {
  const ActorId id = Register(Spec(5));
  Fail(id, v1::ActorCreated::INIT_FAILED, "ValueError: no");
  const ActorInfo info = Info(id);
  EXPECT_EQ(info.state(), wire::v1::DEAD);
  EXPECT_EQ(info.death_cause(), wire::v1::CREATION_FAILED);
  EXPECT_EQ(info.creation_error(), "pickled ValueError: no");
  EXPECT_THAT(info.death_message(), HasSubstr("creation task"));
  EXPECT_THAT(info.death_message(), HasSubstr("ValueError: no"));
}

TEST_F(ActorManagerTest, AWorkerLostInCreationCountsAsARestart) {
  const ActorId id = Register(Spec(1));
  Fail(id, v1::ActorCreated::WORKER_LOST, "signal 9");
  EXPECT_EQ(Info(id).state(), wire::v1::RESTARTING);
  EXPECT_EQ(Info(id).num_restarts(), 1);
  Fail(id, v1::ActorCreated::WORKER_LOST, "signal 9");
  EXPECT_EQ(Info(id).state(), wire::v1::DEAD);
  EXPECT_EQ(Info(id).death_cause(), wire::v1::WORKER_DIED);
  EXPECT_THAT(Info(id).death_message(), HasSubstr("died unexpectedly"));
}

TEST_F(ActorManagerTest, EndsAWorkerThatWasCreatedForAnActorNobodyWantsAnyMore) {
  const ActorId id = Register(Spec());
  ASSERT_TRUE(Kill(id, true).ok());
  sender_.Clear();
  Created(id, node_);
  EXPECT_EQ(Info(id).state(), wire::v1::DEAD);
  ASSERT_EQ(KillsOn(node_).size(), 1);
}

TEST_F(ActorManagerTest, AnActorWithoutHandlesFinishesItsCallsThoughItsNodeWasAway) {
  for (const bool out_of_scope : {true, false}) {
    const ActorId id = MakeAlive(Spec());
    const ActorInfo live = Info(id);
    nodes_->Disconnect(node_);
    ASSERT_TRUE((out_of_scope ? OutOfScope(id) : Kill(id, true)).ok());
    sender_.Clear();
    Join(node_, 4, {live});
    const auto kills = KillsOn(node_);
    ASSERT_EQ(kills.size(), 1);
    EXPECT_EQ(kills[0].force(), !out_of_scope);
  }
}

TEST_F(ActorManagerTest, ANodeThatComesBackWithThePreviousIncarnationIsAskedForThePresentOne) {
  const ActorId id = MakeAlive(Spec(1));
  const ActorInfo live = Info(id);
  nodes_->Disconnect(node_);
  Join(node_, 4, {live});
  ASSERT_TRUE(Kill(id, false).ok());
  // Neither the kill nor the new order arrives.
  nodes_->Disconnect(node_);
  Restart();
  Join(node_, 4, {live});
  EXPECT_EQ(KillsOn(node_).at(0).num_restarts(), 0);
  Advance(absl::Milliseconds(100));
  EXPECT_EQ(CreatesOn(node_), std::vector<ActorId>{id});
}

TEST_F(ActorManagerTest, ARegistrationThatComesAfterItsOwnersDeathIsRefusedByTheNextGcsToo) {
  WorkerDied(owner_);
  Restart();
  EXPECT_EQ(TryRegister(Spec()).status().code(),
            static_cast<int>(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ActorManagerTest, IgnoresWhatAnotherNodeSaysOfAnActor) {
  const NodeId stranger = NodeId::Random();
  const ActorId id = Register(Spec());
  Created(id, stranger);
  EXPECT_EQ(Info(id).state(), wire::v1::PENDING_CREATION);
  EXPECT_EQ(KillsOn(stranger).size(), 1);
}

// -- names

TEST_F(ActorManagerTest, ANameIsTakenOncePerNamespace) {
  const ActorId id = Register(Named("n"));
  const auto reply = TryRegister(Named("n", "job_namespace"));
  EXPECT_EQ(reply.status().code(), Code(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(reply.status().message(), HasSubstr("'n'"));
  EXPECT_EQ(reply.existing().actor_id(), id.Binary());
  Register(Named("n", "other"));
  EXPECT_EQ(GetNamed("n", "job_namespace").info().actor_id(), id.Binary());
  EXPECT_EQ(GetNamed("n", "third").status().code(), Code(absl::StatusCode::kNotFound));
}

TEST_F(ActorManagerTest, DeathFreesTheName) {
  const ActorId first = Register(Named("n"));
  ASSERT_TRUE(Kill(first, true).ok());
  EXPECT_EQ(GetNamed("n", "job_namespace").status().code(), Code(absl::StatusCode::kNotFound));
  const ActorId second = Register(Named("n"));
  EXPECT_EQ(GetNamed("n", "job_namespace").info().actor_id(), second.Binary());
}

TEST_F(ActorManagerTest, ListsNamesOfOneOrAllNamespaces) {
  Register(Named("b", "x"));
  Register(Named("a", "x"));
  Register(Named("c", "y"));
  Register(Spec());
  wire::v1::ListNamedActors request;
  request.set_actor_namespace("x");
  const auto of_x = actors_->ListNamed(request);
  ASSERT_EQ(of_x.actors_size(), 2);
  EXPECT_EQ(of_x.actors(0).name(), "a");
  request.set_all_namespaces(true);
  EXPECT_EQ(actors_->ListNamed(request).actors_size(), 3);
}

// -- restarts and ends

TEST_F(ActorManagerTest, RestartsUpToTheLimit) {
  const ActorId id = MakeAlive(Spec(2));
  for (uint64_t restart = 1; restart <= 2; ++restart) {
    ActorDied(id, "signal 11");
    EXPECT_EQ(Info(id).state(), wire::v1::RESTARTING);
    EXPECT_TRUE(Info(id).will_restart());
    EXPECT_EQ(Info(id).num_restarts(), restart);
    EXPECT_FALSE(Info(id).has_address());
    EXPECT_THAT(Info(id).death_message(), HasSubstr("signal 11"));
    EXPECT_EQ(CreatesOn(node_), std::vector<ActorId>{id});
    Created(id, node_);
    EXPECT_FALSE(Info(id).will_restart());
  }
  ActorDied(id, "signal 11");
  EXPECT_EQ(Info(id).state(), wire::v1::DEAD);
  EXPECT_THAT(Info(id).death_message(), HasSubstr("died unexpectedly: signal 11"));
  EXPECT_THAT(Info(id).death_message(), HasSubstr("restarted 2 times"));
}

TEST_F(ActorManagerTest, RestartsWithoutLimitWhenToldSo) {
  const ActorId id = MakeAlive(Spec(-1));
  for (int i = 0; i < 100; ++i) {
    ActorDied(id);
    Created(id, node_);
  }
  EXPECT_EQ(Info(id).state(), wire::v1::ALIVE);
  EXPECT_EQ(Info(id).num_restarts(), 100);
}

TEST_F(ActorManagerTest, AnIntendedExitIsFinalAndSaysWhy) {
  const ActorId id = MakeAlive(Spec(-1));
  ActorDied(id, "exit_actor() was called", true);
  EXPECT_EQ(Info(id).state(), wire::v1::DEAD);
  EXPECT_EQ(Info(id).death_cause(), wire::v1::INTENDED_EXIT);
  EXPECT_THAT(Info(id).death_message(), HasSubstr("exit_actor() was called"));
}

TEST_F(ActorManagerTest, NewsOfAnEarlierIncarnationIsIgnored) {
  const ActorId id = MakeAlive(Spec(5));
  v1::WorkerDied late;
  late.set_worker_id(WorkerId::Random().BinaryString());
  late.set_actor_id(id.BinaryString());
  ActorDied(id);
  Created(id, node_);
  ASSERT_TRUE(actors_->OnWorkerDied(node_, late).ok());
  EXPECT_EQ(Info(id).state(), wire::v1::ALIVE);
  EXPECT_EQ(Info(id).num_restarts(), 1);
}

TEST_F(ActorManagerTest, KillIsFinal) {
  const ActorId id = MakeAlive(Spec(-1));
  ASSERT_TRUE(Kill(id, true).ok());
  EXPECT_EQ(Info(id).death_cause(), wire::v1::KILLED);
  EXPECT_THAT(Info(id).death_message(), HasSubstr("killed by `ray.kill`"));
  const auto kills = KillsOn(node_);
  ASSERT_EQ(kills.size(), 1);
  EXPECT_TRUE(kills[0].force());
  EXPECT_EQ(kills[0].actor_id(), id.Binary());
  EXPECT_TRUE(Kill(id, true).ok());
  EXPECT_TRUE(KillsOn(node_).empty());
}

TEST_F(ActorManagerTest, KillThatAllowsRestartCountsAsOne) {
  const ActorId id = MakeAlive(Spec(1));
  ASSERT_TRUE(Kill(id, false).ok());
  EXPECT_EQ(Info(id).state(), wire::v1::RESTARTING);
  EXPECT_EQ(KillsOn(node_).at(0).num_restarts(), 0);
  EXPECT_EQ(CreatesOn(node_), std::vector<ActorId>{id});
  Created(id, node_);
  ASSERT_TRUE(Kill(id, false).ok());
  EXPECT_EQ(Info(id).state(), wire::v1::DEAD);
  EXPECT_EQ(Info(id).death_cause(), wire::v1::KILLED);
}

TEST_F(ActorManagerTest, KillOfAnActorThatWaitsForRoomLeavesNothingWaiting) {
  ActorSpec spec = Spec();
  *spec.mutable_creation_resources() = Resources({{"CPU", 5}});
  const ActorId id = Register(spec);
  ASSERT_TRUE(Kill(id, true).ok());
  EXPECT_TRUE(KillsOn(node_).empty());
  Join(NodeId::Random(), 8);
  Advance(absl::Seconds(10));
  EXPECT_EQ(Info(id).state(), wire::v1::DEAD);
  EXPECT_EQ(Info(id).pending_reason(), "");
}

TEST_F(ActorManagerTest, KillOfAnUnknownActorSaysSo) {
  EXPECT_TRUE(absl::IsNotFound(Kill(base::NewActorId(job_), true)));
}

TEST_F(ActorManagerTest, OutOfScopeLetsTheRunningCallFinish) {
  const ActorId id = MakeAlive(Spec(-1));
  ASSERT_TRUE(OutOfScope(id).ok());
  EXPECT_EQ(Info(id).death_cause(), wire::v1::OUT_OF_SCOPE);
  const auto kills = KillsOn(node_);
  ASSERT_EQ(kills.size(), 1);
  EXPECT_FALSE(kills[0].force());
}

TEST_F(ActorManagerTest, ADetachedActorHasNoScopeNoOwnerAndNoJob) {
  ActorSpec spec = Named("n");
  spec.set_detached(true);
  const ActorId id = MakeAlive(spec);
  ASSERT_TRUE(OutOfScope(id).ok());
  WorkerDied(owner_);
  actors_->OnJobFinished(job_, owner_);
  EXPECT_EQ(Info(id).state(), wire::v1::ALIVE);
}

TEST_F(ActorManagerTest, AnActorDiesWithItsOwner) {
  const WorkerId worker = WorkerId::Random();
  const ActorId parent = MakeAlive(Spec(1), worker);
  ActorSpec owned = Spec(-1);
  owned.mutable_owner()->set_worker_id(worker.BinaryString());
  const ActorId child = MakeAlive(owned);
  WorkerDied(worker, &parent);
  EXPECT_EQ(Info(parent).state(), wire::v1::RESTARTING);
  EXPECT_EQ(Info(child).state(), wire::v1::DEAD);
  EXPECT_EQ(Info(child).death_cause(), wire::v1::OWNER_DIED);
  EXPECT_EQ(KillsOn(node_).at(0).actor_id(), child.Binary());
}

TEST_F(ActorManagerTest, ARegistrationOvertakenByItsOwnersDeathIsRefused) {
  WorkerDied(owner_);
  EXPECT_EQ(TryRegister(Spec()).status().code(), Code(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ActorManagerTest, AFinishedJobTakesItsActorsButNotThoseOfItsDetachedOnes) {
  const ActorId plain = MakeAlive(Spec(-1));
  const WorkerId worker = WorkerId::Random();
  ActorSpec spec = Spec();
  spec.set_detached(true);
  const ActorId detached = MakeAlive(spec, worker);
  ActorSpec owned = Spec();
  owned.mutable_owner()->set_worker_id(worker.BinaryString());
  const ActorId child = MakeAlive(owned);
  ActorSpec of_other_job = Spec();
  of_other_job.set_actor_id(base::NewActorId(base::JobIdFromInt(2)).BinaryString());
  of_other_job.mutable_owner()->set_worker_id(WorkerId::Random().BinaryString());
  const ActorId other = MakeAlive(of_other_job);

  actors_->OnJobFinished(job_, owner_);
  EXPECT_EQ(Info(plain).death_cause(), wire::v1::JOB_FINISHED);
  EXPECT_EQ(Info(detached).state(), wire::v1::ALIVE);
  EXPECT_EQ(Info(child).state(), wire::v1::ALIVE);
  EXPECT_EQ(Info(other).state(), wire::v1::ALIVE);
  EXPECT_EQ(KillsOn(node_).size(), 1);
}

TEST_F(ActorManagerTest, NodeDeathRestartsItsActorsElsewhereAndEndsWhatItOwned) {
  const NodeId other = NodeId::Random();
  Join(other, 1);
  ActorSpec restartable = Spec(1);
  restartable.mutable_owner()->set_node_id(other.BinaryString());
  restartable.mutable_owner()->set_worker_id(WorkerId::Random().BinaryString());
  const ActorId survivor = Register(restartable);
  ASSERT_EQ(CreatesOn(other).size(), 1);
  Created(survivor, other);
  const ActorId orphan = MakeAlive(Spec(-1));
  KillNode(node_);
  EXPECT_EQ(Info(orphan).death_cause(), wire::v1::OWNER_DIED);
  EXPECT_EQ(Info(survivor).state(), wire::v1::ALIVE);

  const NodeId third = NodeId::Random();
  Join(third, 1);
  ActorSpec detached = Spec(1);
  detached.set_detached(true);
  detached.mutable_owner()->set_worker_id(WorkerId::Random().BinaryString());
  detached.mutable_owner()->set_node_id(other.BinaryString());
  const ActorId moved = Register(detached);
  ASSERT_EQ(CreatesOn(other).size(), 1);
  Created(moved, other);
  KillNode(other);
  EXPECT_EQ(CreatesOn(third), std::vector<ActorId>{moved});
  EXPECT_EQ(Info(moved).death_cause(), wire::v1::NODE_DIED);
  EXPECT_THAT(Info(moved).death_message(), HasSubstr(other.Hex()));
}

TEST_F(ActorManagerTest, RemembersTheLatestDeadActorsOnly) {
  std::vector<ActorId> ids;
  for (int i = 0; i < 6; ++i) {
    ids.push_back(Register(Spec()));
    ASSERT_TRUE(Kill(ids.back(), true).ok());
  }
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(actors_->List().actors_size(), 3);
    EXPECT_EQ(Get(ids[2]).status().code(), Code(absl::StatusCode::kNotFound));
    EXPECT_EQ(Info(ids[3]).state(), wire::v1::DEAD);
    Restart();
  }
  int specs = 0;
  ASSERT_TRUE(
      storage_
          .Scan("actor_specs", "", [&](std::string_view, std::string_view) { return ++specs > 0; })
          .ok());
  EXPECT_EQ(specs, 0);
}

// -- watching

TEST_F(ActorManagerTest, PublishesEachChangeToWatchersWithGrowingRevisions) {
  const NodeId watcher = NodeId::Random();
  const ActorId id = Register(Spec(1));
  Watch(watcher, id);
  Created(id, node_);
  ActorDied(id);
  Created(id, node_);
  ASSERT_TRUE(Kill(id, true).ok());
  const auto changes = ChangesSeenBy(watcher);
  ASSERT_EQ(changes.size(), 5);
  const wire::v1::ActorState states[] = {wire::v1::PENDING_CREATION, wire::v1::ALIVE,
                                         wire::v1::RESTARTING, wire::v1::ALIVE, wire::v1::DEAD};
  for (size_t i = 0; i < changes.size(); ++i) {
    EXPECT_EQ(changes[i].state(), states[i]) << i;
    EXPECT_EQ(changes[i].revision(), changes[0].revision() + i);
  }
  EXPECT_TRUE(ChangesSeenBy(node_).empty());
}

TEST_F(ActorManagerTest, AWatchMayComeBeforeTheRegistration) {
  const ActorSpec spec = Spec();
  const ActorId id = *ActorId::FromBinary(spec.actor_id());
  Watch(node_, id);
  EXPECT_TRUE(ChangesSeenBy(node_).empty());
  Register(spec);
  EXPECT_EQ(ChangesSeenBy(node_).size(), 1);
}

TEST_F(ActorManagerTest, AWatchOfADeadActorIsAnsweredOnce) {
  const ActorId id = Register(Spec());
  ASSERT_TRUE(Kill(id, true).ok());
  Watch(node_, id);
  ASSERT_EQ(ChangesSeenBy(node_).size(), 1);
}

// -- storage and restarts of the GCS

TEST_F(ActorManagerTest, AnActorThatCannotBeStoredIsRefused) {
  storage_.broken = true;
  const ActorSpec spec = Spec();
  EXPECT_EQ(TryRegister(spec).status().code(), Code(absl::StatusCode::kResourceExhausted));
  EXPECT_TRUE(CreatesOn(node_).empty());
  storage_.broken = false;
  Register(spec);
}

TEST_F(ActorManagerTest, AFullDiskDelaysStoringButStopsNothing) {
  const ActorId id = Register(Spec());
  storage_.broken = true;
  Created(id, node_);
  EXPECT_EQ(Info(id).state(), wire::v1::ALIVE);
  storage_.broken = false;
  Advance(ActorTable::kSaveRetry);
  Restart();
  EXPECT_EQ(Info(id).state(), wire::v1::ALIVE);
}

TEST_F(ActorManagerTest, EverythingIsThereAfterARestart) {
  ActorSpec spec = Named("n", "space");
  spec.set_restarts_max(3);
  spec.set_class_blob("class");
  const ActorId alive = MakeAlive(spec);
  ActorDied(alive);
  Created(alive, node_);
  const ActorId dead = Register(Spec());
  ASSERT_TRUE(Kill(dead, true).ok());
  const ActorInfo before = Info(alive);

  Restart();
  EXPECT_EQ(Info(alive).SerializeAsString(), before.SerializeAsString());
  EXPECT_EQ(Info(dead).death_cause(), wire::v1::KILLED);
  EXPECT_EQ(GetNamed("n", "space").info().actor_id(), alive.Binary());
  Join(node_, 4, {Info(alive)});
  Advance(absl::Seconds(60));
  EXPECT_EQ(Info(alive).state(), wire::v1::ALIVE);
  // The specification too: it can be created once more.
  ActorDied(alive);
  const auto creates = sender_.Take(node_, GcsMessage::kCreateActor);
  ASSERT_EQ(creates.size(), 1);
  EXPECT_EQ(creates[0].create_actor().spec().class_blob(), "class");
  EXPECT_EQ(creates[0].create_actor().num_restarts(), 2);
  EXPECT_EQ(creates[0].create_actor().job_namespace(), "job_namespace");
}

TEST_F(ActorManagerTest, AnActorWhoseNodeComesBackWithoutItIsRestartedAfterTheTimeout) {
  const ActorId id = MakeAlive(Spec(1));
  Restart();
  Join(node_, 4);
  Advance(absl::Seconds(4));
  EXPECT_EQ(Info(id).state(), wire::v1::ALIVE);
  Advance(absl::Seconds(1));
  EXPECT_EQ(Info(id).state(), wire::v1::RESTARTING);
  EXPECT_EQ(Info(id).death_cause(), wire::v1::WORKER_DIED);
  EXPECT_EQ(CreatesOn(node_), std::vector<ActorId>{id});
}

TEST_F(ActorManagerTest, AnExplanationBehindTheRegistrationWinsOverTheTimeout) {
  const ActorId id = MakeAlive(Spec(1));
  Restart();
  Join(node_, 4);
  ActorDied(id, "exit_actor", true);
  Advance(absl::Seconds(60));
  EXPECT_EQ(Info(id).death_cause(), wire::v1::INTENDED_EXIT);
}

TEST_F(ActorManagerTest, AnActorWhoseNodeStaysAwayIsMovedAfterTheTimeout) {
  ActorSpec spec = Spec(1);
  spec.set_detached(true);
  const ActorId id = MakeAlive(spec);
  Restart();
  const NodeId other = NodeId::Random();
  Join(other, 4);
  Advance(absl::Seconds(5));
  EXPECT_EQ(Info(id).death_cause(), wire::v1::NODE_DIED);
  EXPECT_EQ(CreatesOn(other), std::vector<ActorId>{id});
}

TEST_F(ActorManagerTest, AskForACreationAgainOnlyIfItsAnswerWasLost) {
  const ActorId answered = Register(Spec());
  const ActorId finished = Register(Spec());
  const ActorId lost = Register(Spec());
  Restart();
  ActorInfo live = Info(finished);
  live.set_state(wire::v1::ALIVE);
  live.mutable_address()->set_worker_id(WorkerId::Random().BinaryString());
  Join(node_, 4, {live});
  EXPECT_EQ(Info(finished).state(), wire::v1::ALIVE);
  Created(answered, node_);  // said again behind the registration
  EXPECT_TRUE(CreatesOn(node_).empty());
  Advance(absl::Seconds(1));
  EXPECT_EQ(CreatesOn(node_), std::vector<ActorId>{lost});
}

TEST_F(ActorManagerTest, AnActorThatWaitedForRoomStillWaitsAfterARestart) {
  ActorSpec spec = Spec();
  *spec.mutable_creation_resources() = Resources({{"CPU", 8}});
  const ActorId id = Register(spec);
  Restart();
  const NodeId large = NodeId::Random();
  Join(large, 8);
  EXPECT_EQ(CreatesOn(large), std::vector<ActorId>{id});
}

TEST_F(ActorManagerTest, EndsWhatRunsOnAReturningNodeButShouldNot) {
  const ActorId killed = MakeAlive(Spec());
  ActorInfo stale = Info(killed);
  ASSERT_TRUE(Kill(killed, true).ok());
  ActorInfo unknown = stale;
  unknown.set_actor_id(base::NewActorId(job_).BinaryString());
  sender_.Clear();
  Join(node_, 4, {stale, unknown});
  EXPECT_EQ(KillsOn(node_).size(), 2);
}

TEST_F(ActorManagerTest, AReturningNodeHearsOfWhatItWatchesAndOnlyOfThat) {
  const ActorId watched = Register(Spec());
  const ActorId dropped = Register(Spec());
  Watch(node_, dropped);
  sender_.Clear();
  Join(node_, 4, {Info(watched), Info(dropped)}, {watched});
  const auto changes = ChangesSeenBy(node_);
  ASSERT_EQ(changes.size(), 1);
  EXPECT_EQ(changes[0].actor_id(), watched.Binary());
  Created(dropped, node_);
  EXPECT_TRUE(ChangesSeenBy(node_).empty());
}

// -- bad input

TEST_F(ActorManagerTest, RefusesMalformedMessages) {
  ActorSpec short_id = Spec();
  short_id.set_actor_id("short");
  ActorSpec no_owner = Spec();
  no_owner.clear_owner();
  ActorSpec negative = Spec();
  *negative.mutable_creation_resources() = Resources({{"CPU", -1}});
  ActorSpec bad_restarts = Spec(-2);
  for (const ActorSpec& spec : {short_id, no_owner, negative, bad_restarts}) {
    EXPECT_EQ(TryRegister(spec).status().code(), Code(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_EQ(actors_->List().actors_size(), 0);

  EXPECT_TRUE(absl::IsInvalidArgument(actors_->OnActorCreated(node_, {})));
  EXPECT_TRUE(absl::IsInvalidArgument(actors_->OnWorkerDied(node_, {})));
  EXPECT_TRUE(absl::IsInvalidArgument(actors_->OnWatchActor(node_, {})));
  EXPECT_TRUE(absl::IsInvalidArgument(actors_->Kill({})));
  EXPECT_EQ(actors_->Get({}).status().code(), Code(absl::StatusCode::kInvalidArgument));
  v1::RegisterNode request;
  request.add_watched_actors("short");
  EXPECT_TRUE(absl::IsInvalidArgument(NodeActors::FromRegistration(request).status()));

  const ActorId id = Register(Spec());
  EXPECT_TRUE(absl::IsInvalidArgument(
      actors_->OnActorCreated(node_, Outcome(id, v1::ActorCreated::OUTCOME_UNSPECIFIED))));
  EXPECT_TRUE(absl::IsInvalidArgument(
      actors_->OnActorCreated(node_, Outcome(id, v1::ActorCreated::CREATED))));  // no address
}

// -- where it may run

class ActorsInGroupsTest : public ActorManagerTest {
 protected:
  // A group of one bundle with two CPUs, placed on node_.
  base::PlacementGroupId MakeGroup(bool placed = true) {
    const auto id = base::NewPlacementGroupId(job_);
    wire::v1::PlacementGroupSpec spec;
    spec.set_placement_group_id(id.BinaryString());
    spec.set_strategy(wire::v1::PACK);
    *spec.add_bundles()->mutable_resources() = Resources({{"CPU", 2}});
    EXPECT_TRUE(groups_->Create(spec, "job_namespace").ok());
    if (placed) Prepared(id);
    sender_.Clear();
    return id;
  }
  void Prepared(const base::PlacementGroupId& id) {
    v1::BundlesPrepared answer;
    answer.set_placement_group_id(id.BinaryString());
    answer.set_attempt(1);
    answer.set_ok(true);
    ASSERT_TRUE(groups_->OnBundlesPrepared(node_, answer).ok());
    actors_->PlaceWaiting();
  }
  ActorSpec In(const base::PlacementGroupId& group, int index = -1) {
    ActorSpec spec = Spec();
    auto* bundle = spec.mutable_strategy()->mutable_bundle();
    bundle->set_placement_group_id(group.BinaryString());
    bundle->set_bundle_index(index);
    *spec.mutable_lifetime_resources() = spec.creation_resources();
    return spec;
  }
};

TEST_F(ActorsInGroupsTest, AreCreatedInABundleOnceTheGroupIs) {
  const auto group = MakeGroup(/*placed=*/false);
  Register(In(group));
  EXPECT_EQ(CreationsAsked(), 0u);
  Prepared(group);
  const auto asked = sender_.Take(node_, GcsMessage::kCreateActor);
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].create_actor().spec().strategy().bundle().bundle_index(), 0);
}

TEST_F(ActorsInGroupsTest, WaitWhileOthersFillTheBundle) {
  const auto group = MakeGroup();
  const ActorId first = Register(In(group));
  Register(In(group));
  Register(In(group));
  EXPECT_EQ(CreationsAsked(), 2u);  // although the node has room
  Created(first, node_);
  ASSERT_TRUE(Kill(first, /*no_restart=*/true).ok());
  EXPECT_EQ(CreationsAsked(), 1u);
}

TEST_F(ActorsInGroupsTest, EndWithTheirGroup) {
  const auto group = MakeGroup();
  const ActorId lives = MakeAlive(In(group));
  ActorSpec restartable = In(group);
  restartable.set_restarts_max(-1);
  const ActorId starts = Register(restartable);
  const ActorId waits = Register(In(group));
  const ActorId other = MakeAlive(Spec());
  ASSERT_TRUE(groups_->Remove(group).ok());
  for (const ActorId& id : {lives, starts, waits}) {
    EXPECT_EQ(Info(id).state(), wire::v1::DEAD);
    EXPECT_EQ(Info(id).death_cause(), wire::v1::GROUP_REMOVED);
    EXPECT_THAT(Info(id).death_message(), HasSubstr(group.Hex()));
  }
  EXPECT_EQ(Info(other).state(), wire::v1::ALIVE);
  EXPECT_EQ(sender_.Take(node_, GcsMessage::kKillWorker).size(), 2u);
}

TEST_F(ActorsInGroupsTest, DieAtOnceInAGroupThatIsGone) {
  const auto group = MakeGroup();
  ASSERT_TRUE(groups_->Remove(group).ok());
  for (const auto& gone : {group, base::PlacementGroupId::Random()}) {
    const ActorId id = Register(In(gone));
    EXPECT_EQ(Info(id).state(), wire::v1::DEAD);
    EXPECT_EQ(Info(id).death_cause(), wire::v1::GROUP_REMOVED);
  }
}

TEST_F(ActorsInGroupsTest, KeepTheirBundleThroughARestartOfTheGcs) {
  const auto group = MakeGroup();
  MakeAlive(In(group, 0));
  MakeAlive(In(group, 0));
  Restart();
  EXPECT_FALSE(groups_->FindRoom(group, 0, {{"CPU", 1}}).has_value());
}

TEST_F(ActorsInGroupsTest, TryAgainWhenTasksFillTheBundle) {
  const auto group = MakeGroup();
  const ActorId id = Register(In(group));
  EXPECT_EQ(CreationsAsked(), 1u);
  Fail(id, v1::ActorCreated::NO_RESOURCES);
  Advance(absl::Milliseconds(100));
  EXPECT_EQ(CreationsAsked(), 1u);
}

TEST_F(ActorManagerTest, HardAffinityToAMissingNodeIsUnschedulable) {
  ActorSpec spec = Spec();
  auto* affinity = spec.mutable_strategy()->mutable_node_affinity();
  affinity->set_node_id(NodeId::Random().BinaryString());
  const ActorId hard = Register(spec);
  EXPECT_EQ(Info(hard).state(), wire::v1::DEAD);
  EXPECT_EQ(Info(hard).death_cause(), wire::v1::UNSCHEDULABLE);

  ActorSpec soft = Spec();
  *soft.mutable_strategy() = spec.strategy();
  soft.mutable_strategy()->mutable_node_affinity()->set_soft(true);
  MakeAlive(soft);

  // The node is there, but can never hold it.
  ActorSpec too_large = Spec();
  *too_large.mutable_creation_resources() = Resources({{"CPU", 100}});
  too_large.mutable_strategy()->mutable_node_affinity()->set_node_id(node_.BinaryString());
  EXPECT_EQ(Info(Register(too_large)).death_cause(), wire::v1::UNSCHEDULABLE);
}

TEST_F(ActorManagerTest, SoftAffinityWaitsForItsNodeUnlessItMaySpill) {
  ActorSpec all = Spec();
  *all.mutable_creation_resources() = Resources({{"CPU", 4}});
  *all.mutable_lifetime_resources() = all.creation_resources();
  MakeAlive(all);
  const NodeId other = NodeId::Random();
  Join(other, 4);
  sender_.Clear();
  ActorSpec soft = Spec();
  soft.mutable_owner()->set_worker_id(WorkerId::Random().BinaryString());
  soft.mutable_owner()->set_node_id(other.BinaryString());
  auto* affinity = soft.mutable_strategy()->mutable_node_affinity();
  affinity->set_node_id(node_.BinaryString());
  affinity->set_soft(true);
  const ActorId waits = Register(soft);
  EXPECT_EQ(CreationsAsked(), 0u);
  ActorSpec spill = Spec();
  *spill.mutable_strategy() = soft.strategy();
  spill.mutable_strategy()->mutable_node_affinity()->set_spill_on_unavailable(true);
  Created(Register(spill), other);
  EXPECT_EQ(Info(waits).state(), wire::v1::PENDING_CREATION);
  // It goes elsewhere once its node is gone.
  KillNode(node_);
  Created(waits, other);
  EXPECT_EQ(Info(waits).state(), wire::v1::ALIVE);
}

TEST_F(ActorManagerTest, AnActorThatMayNotWaitDiesWithoutRoom) {
  ActorSpec all = Spec();
  *all.mutable_creation_resources() = Resources({{"CPU", 4}});
  *all.mutable_lifetime_resources() = all.creation_resources();
  MakeAlive(all);
  auto impatient = [&] {
    ActorSpec spec = Spec();
    spec.mutable_strategy()->mutable_node_affinity()->set_node_id(node_.BinaryString());
    spec.mutable_strategy()->mutable_node_affinity()->set_fail_on_unavailable(true);
    return spec;
  };
  const ActorId dies = Register(impatient());
  Advance(absl::Milliseconds(400));
  EXPECT_EQ(Info(dies).state(), wire::v1::PENDING_CREATION) << "leases may be given back";
  Advance(absl::Milliseconds(200));
  EXPECT_EQ(Info(dies).death_cause(), wire::v1::UNSCHEDULABLE);
  EXPECT_THAT(Info(dies).death_message(), HasSubstr("free now"));
  const ActorId lives = Register(impatient());
  Report(1, 4);
  Created(lives, node_);
  Advance(absl::Seconds(1));
  EXPECT_EQ(Info(lives).state(), wire::v1::ALIVE);
}

TEST_F(ActorManagerTest, AnActorThatWaitsForANodeDiesWithIt) {
  ActorSpec all = Spec();
  *all.mutable_creation_resources() = Resources({{"CPU", 4}});
  *all.mutable_lifetime_resources() = all.creation_resources();
  MakeAlive(all);
  ActorSpec spec = Spec();
  spec.mutable_owner()->set_worker_id(WorkerId::Random().BinaryString());
  spec.mutable_owner()->set_node_id(NodeId::Random().BinaryString());
  spec.mutable_strategy()->mutable_node_affinity()->set_node_id(node_.BinaryString());
  const ActorId waits = Register(spec);
  EXPECT_EQ(Info(waits).state(), wire::v1::PENDING_CREATION);
  KillNode(node_);
  EXPECT_EQ(Info(waits).death_cause(), wire::v1::UNSCHEDULABLE);
}

}  // namespace
}  // namespace ray::gcs
