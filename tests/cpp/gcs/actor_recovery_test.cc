// Actors when the storage fails, the GCS starts anew, or a node was away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cpp/gcs/actor_manager_fixture.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::NodeId;
using base::WorkerId;
using v1::GcsMessage;
using wire::v1::ActorInfo;
using wire::v1::ActorSpec;

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

TEST_F(ActorManagerTest, AnActorThatMustRunOnANodeWaitsForItToComeBackAfterARestart) {
  Report(1, 0);
  ActorSpec spec = Spec();
  spec.mutable_strategy()->mutable_node_affinity()->set_node_id(node_.BinaryString());
  const ActorId id = Register(spec);
  Restart();
  Join(NodeId::Random(), 8);
  EXPECT_EQ(Info(id).state(), wire::v1::PENDING_CREATION) << Info(id).death_message();
  Join(node_, 4);
  EXPECT_EQ(CreatesOn(node_), std::vector<ActorId>{id});
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
  EXPECT_EQ(TryRegister(Spec()).status().code(), Code(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace ray::gcs
