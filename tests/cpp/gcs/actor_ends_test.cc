// How actors end, and when they are restarted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cpp/gcs/actor_manager_fixture.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::NodeId;
using base::WorkerId;
using testing::HasSubstr;
using wire::v1::ActorSpec;

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

TEST_F(ActorManagerTest, AnActorOfAnOwnerOnADeadNodeIsRefused) {
  const NodeId other = NodeId::Random();
  Join(other, 4);
  KillNode(other);
  ActorSpec late = Spec();  // sent before its node was declared dead
  late.mutable_owner()->set_node_id(other.BinaryString());
  EXPECT_EQ(TryRegister(late).status().code(), Code(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(actors_->List().actors_size(), 0);
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

}  // namespace
}  // namespace ray::gcs
