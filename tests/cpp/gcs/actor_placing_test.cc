// Where actors go, and when they wait: room, node affinity, bundles of placement groups.
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
using wire::v1::ActorSpec;

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

// -- node affinity

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

// -- placement groups

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

}  // namespace
}  // namespace ray::gcs
