// Actors as they are registered, created, named and watched.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cpp/gcs/actor_manager_fixture.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::NodeId;
using base::WorkerId;
using testing::HasSubstr;
using v1::GcsMessage;
using wire::v1::ActorInfo;
using wire::v1::ActorSpec;

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

}  // namespace
}  // namespace ray::gcs
