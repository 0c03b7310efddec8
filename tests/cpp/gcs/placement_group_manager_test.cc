// The life of placement groups on a virtual clock: what the manager stores, sends and answers.
#include "ray/gcs/placement_group_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ray/gcs/gcs_testutil.h"

namespace ray::gcs {
namespace {

using base::JobId;
using base::NodeId;
using base::PlacementGroupId;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using v1::GcsMessage;
using wire::v1::PlacementGroupInfo;
using wire::v1::PlacementGroupSpec;
using wire::v1::PlacementGroupsReply;

constexpr auto kPrepare = GcsMessage::kPrepareBundles;
constexpr auto kCommit = GcsMessage::kCommitBundles;
constexpr auto kReturn = GcsMessage::kReturnBundles;

class PlacementGroupManagerTest : public testing::Test {
 protected:
  PlacementGroupManagerTest() {
    Restart();
    for (const NodeId& node : nodes_ids_) Join(node, 4);
  }

  // As when gcs_server is killed and started again: only the storage is left.
  void Restart() {
    groups_.reset();
    nodes_.reset();
    deadlines_ = std::make_unique<Deadlines>(&clock_);
    nodes_ = std::make_unique<NodeManager>(
        NodeManager::Options{}, &storage_, deadlines_.get(), &sender_, nullptr,
        [this](const NodeId& node) { groups_->OnNodeDead(node); });
    groups_ = std::make_unique<PlacementGroupManager>(
        PlacementGroupManager::Options{.removed_max = 2},
        PlacementGroupManager::Environment{
            .clock = &clock_,
            .wall_clock = [] { return absl::FromUnixSeconds(7); },
            .storage = &storage_,
            .deadlines = deadlines_.get(),
            .nodes = nodes_.get(),
            .sender = &sender_,
            .on_removed = [this](const PlacementGroupId& id) { removed_.push_back(id); }});
    ASSERT_TRUE(nodes_->Load().ok());
    ASSERT_TRUE(groups_->Load().ok());
    sender_.Clear();
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    deadlines_->RunDue();
  }

  // -- nodes
  void Join(const NodeId& node, int64_t cpus, const NodeBundles& held = {}) {
    ASSERT_TRUE(nodes_->Register(node, NodeWith(node, {{"CPU", cpus}})).ok());
    groups_->OnNodeRegistered(node, held);
  }
  void Kill(const NodeId& node) {
    nodes_->Disconnect(node);
    Advance(absl::Seconds(5));
  }

  // -- groups
  PlacementGroupSpec Spec(wire::v1::PlacementStrategy strategy, const std::vector<int64_t>& cpus) {
    PlacementGroupSpec spec;
    spec.set_placement_group_id(base::NewPlacementGroupId(job_).BinaryString());
    spec.set_strategy(strategy);
    for (int64_t cpu : cpus) *spec.add_bundles()->mutable_resources() = Resources({{"CPU", cpu}});
    return spec;
  }
  PlacementGroupId Create(const PlacementGroupSpec& spec) {
    const absl::Status created = groups_->Create(spec, "job_namespace");
    EXPECT_TRUE(created.ok()) << created;
    return *PlacementGroupId::FromBinary(spec.placement_group_id());
  }
  PlacementGroupInfo Info(const PlacementGroupId& id) {
    wire::v1::PlacementGroupRequest request;
    request.set_placement_group_id(id.BinaryString());
    const PlacementGroupsReply reply = groups_->List(request);
    return reply.groups_size() == 1 ? reply.groups(0) : PlacementGroupInfo();
  }
  wire::v1::PlacementGroupState State(const PlacementGroupId& id) { return Info(id).state(); }
  std::vector<std::string> NodesOf(const PlacementGroupId& id) {
    std::vector<std::string> nodes;
    const PlacementGroupInfo info = Info(id);
    for (const auto& bundle : info.spec().bundles()) nodes.push_back(bundle.node_id());
    return nodes;
  }

  // The node's answers to what it has been asked.
  size_t Answer(const NodeId& node, bool ok = true) {
    const auto asked = sender_.Take(node, kPrepare);
    for (const GcsMessage& message : asked) {
      v1::BundlesPrepared answer;
      answer.set_placement_group_id(message.prepare_bundles().placement_group_id());
      answer.set_attempt(message.prepare_bundles().attempt());
      answer.set_ok(ok);
      EXPECT_TRUE(groups_->OnBundlesPrepared(node, answer).ok());
    }
    return asked.size();
  }
  void AnswerAll() {
    for (const NodeId& node : nodes_ids_) Answer(node);
  }
  PlacementGroupId CreateAndPlace(const PlacementGroupSpec& spec) {
    const PlacementGroupId id = Create(spec);
    AnswerAll();
    EXPECT_EQ(State(id), wire::v1::GROUP_CREATED);
    return id;
  }
  NodeId NodeOf(const PlacementGroupId& id, size_t bundle = 0) {
    return *NodeId::FromBinary(NodesOf(id).at(bundle));
  }

  // What a wait was answered with, if it was.
  struct Answered {
    bool done = false;
    PlacementGroupsReply reply;
  };
  std::shared_ptr<Answered> Wait(const PlacementGroupId& id, int64_t timeout_ms = -1) {
    auto answered = std::make_shared<Answered>();
    wire::v1::WaitPlacementGroup request;
    request.set_placement_group_id(id.BinaryString());
    request.set_timeout_ms(timeout_ms);
    groups_->Wait(request, [answered](PlacementGroupsReply reply) {
      EXPECT_FALSE(answered->done) << "GROUP-4";
      *answered = {true, std::move(reply)};
    });
    return answered;
  }

  base::VirtualClock clock_;
  FailingStorage storage_;
  RecordingSender sender_;
  const JobId job_ = base::JobIdFromInt(1);
  const std::vector<NodeId> nodes_ids_ = {NodeId::Random(), NodeId::Random(), NodeId::Random()};
  std::unique_ptr<Deadlines> deadlines_;
  std::unique_ptr<NodeManager> nodes_;
  std::unique_ptr<PlacementGroupManager> groups_;
  std::vector<PlacementGroupId> removed_;
};

TEST_F(PlacementGroupManagerTest, PreparesOnEveryNodeBeforeItCommits) {
  const PlacementGroupId id = Create(Spec(wire::v1::STRICT_SPREAD, {1, 1}));
  EXPECT_EQ(State(id), wire::v1::GROUP_PENDING);
  std::vector<NodeId> asked;
  for (const NodeId& node : nodes_ids_) {
    if (Answer(node) == 0) continue;
    asked.push_back(node);
    if (asked.size() == 1) {
      EXPECT_EQ(State(id), wire::v1::GROUP_PENDING);
      EXPECT_THAT(sender_.Take(node, kCommit), IsEmpty());
    }
  }
  ASSERT_THAT(asked, SizeIs(2));
  EXPECT_EQ(State(id), wire::v1::GROUP_CREATED);
  for (const NodeId& node : asked) {
    const auto commits = sender_.Take(node, kCommit);
    ASSERT_THAT(commits, SizeIs(1));
    EXPECT_FALSE(commits[0].commit_bundles().incomplete());
  }
  EXPECT_EQ(Info(id).create_time_ms(), 7000);
}

TEST_F(PlacementGroupManagerTest, ReturnsWhatOthersPreparedWhenANodeRefuses) {
  const PlacementGroupId id = Create(Spec(wire::v1::STRICT_SPREAD, {1, 1, 1}));
  Answer(nodes_ids_[0]);
  Answer(nodes_ids_[1], /*ok=*/false);
  EXPECT_THAT(sender_.Take(nodes_ids_[0], kReturn), SizeIs(1));
  Answer(nodes_ids_[2]);  // of the attempt that is over
  EXPECT_EQ(State(id), wire::v1::GROUP_PENDING);
  Advance(absl::Milliseconds(100));
  AnswerAll();
  EXPECT_EQ(State(id), wire::v1::GROUP_CREATED);
}

TEST_F(PlacementGroupManagerTest, WaitsForRoom) {
  const PlacementGroupId first = CreateAndPlace(Spec(wire::v1::STRICT_SPREAD, {4, 4, 4}));
  const PlacementGroupId second = Create(Spec(wire::v1::PACK, {3}));
  AnswerAll();
  EXPECT_EQ(State(second), wire::v1::GROUP_PENDING);
  ASSERT_TRUE(groups_->Remove(first).ok());
  groups_->PlaceWaiting();
  AnswerAll();
  EXPECT_EQ(State(second), wire::v1::GROUP_CREATED);
}

TEST_F(PlacementGroupManagerTest, LooksAtWaitingGroupsOnceAnInterval) {
  const PlacementGroupId group = Create(Spec(wire::v1::STRICT_PACK, {3, 3}));
  groups_->PlaceWaiting();
  Join(NodeId::Random(), 6);
  EXPECT_EQ(State(group), wire::v1::GROUP_PENDING);
  const NodeId large = NodeId::Random();
  Join(large, 8);
  Advance(absl::Milliseconds(10));
  size_t asked = 0;
  const auto cluster = nodes_->ClusterState();
  for (const auto& node : cluster.nodes()) asked += Answer(*NodeId::FromBinary(node.node_id()));
  EXPECT_EQ(asked, 1u);
  EXPECT_EQ(State(group), wire::v1::GROUP_CREATED);
}

TEST_F(PlacementGroupManagerTest, AnswersWaitsWhenTheGroupIsCreatedOrRemoved) {
  const PlacementGroupId id = Create(Spec(wire::v1::PACK, {1}));
  auto until_created = Wait(id);
  EXPECT_FALSE(until_created->done);
  AnswerAll();
  ASSERT_TRUE(until_created->done);
  EXPECT_EQ(until_created->reply.groups(0).state(), wire::v1::GROUP_CREATED);
  EXPECT_TRUE(Wait(id)->done);

  const PlacementGroupId never = Create(Spec(wire::v1::PACK, {100}));
  EXPECT_TRUE(Wait(never, 0)->done);
  auto until_removed = Wait(never);
  auto short_wait = Wait(never, 50);
  Advance(absl::Milliseconds(50));
  EXPECT_TRUE(short_wait->done);
  EXPECT_FALSE(until_removed->done);
  ASSERT_TRUE(groups_->Remove(never).ok());
  ASSERT_TRUE(until_removed->done);
  EXPECT_EQ(until_removed->reply.groups(0).state(), wire::v1::GROUP_STATE_REMOVED);
  EXPECT_NE(Wait(PlacementGroupId::Random())->reply.status().code(), 0);
}

TEST_F(PlacementGroupManagerTest, ExplainsALongWaitAndAnswersIt) {
  const PlacementGroupId never = Create(Spec(wire::v1::STRICT_PACK, {3, 3}));
  const PlacementGroupId first = CreateAndPlace(Spec(wire::v1::STRICT_SPREAD, {4, 4, 4}));
  const PlacementGroupId later = Create(Spec(wire::v1::PACK, {1}));
  auto wait = Wait(never);
  Advance(absl::Seconds(5));
  ASSERT_TRUE(wait->done);
  EXPECT_THAT(wait->reply.groups(0).pending_reason(), HasSubstr("cannot be created"));
  EXPECT_THAT(wait->reply.groups(0).pending_reason(), HasSubstr("STRICT_PACK"));
  EXPECT_THAT(Info(later).pending_reason(), HasSubstr("waits for room"));
  EXPECT_EQ(Info(first).pending_reason(), "");
  auto again = Wait(never);
  Advance(absl::Seconds(15));
  EXPECT_TRUE(again->done);
}

TEST_F(PlacementGroupManagerTest, ServerThatEndsAnswersWaits) {
  auto wait = Wait(Create(Spec(wire::v1::PACK, {100})));
  groups_->EndWaits();
  EXPECT_TRUE(wait->done);
}

TEST_F(PlacementGroupManagerTest, RemovalTellsTheActorsThenTheNodes) {
  const PlacementGroupId id = CreateAndPlace(Spec(wire::v1::STRICT_SPREAD, {1, 1}));
  ASSERT_TRUE(groups_->Remove(id).ok());
  ASSERT_TRUE(groups_->Remove(id).ok());
  EXPECT_THAT(removed_, ElementsAre(id));
  size_t returns = 0;
  for (const NodeId& node : nodes_ids_) {
    for (const GcsMessage& message : sender_.Take(node, kReturn)) {
      EXPECT_TRUE(message.return_bundles().removed());
      ++returns;
    }
  }
  EXPECT_EQ(returns, 2u);
  EXPECT_FALSE(groups_->Exists(id));
  EXPECT_TRUE(absl::IsNotFound(groups_->Remove(PlacementGroupId::Random())));
}

TEST_F(PlacementGroupManagerTest, RemovalDuringAnAttemptReturnsIt) {
  const PlacementGroupId id = Create(Spec(wire::v1::PACK, {1}));
  ASSERT_TRUE(groups_->Remove(id).ok());
  AnswerAll();
  EXPECT_EQ(State(id), wire::v1::GROUP_STATE_REMOVED);
  size_t returns = 0;
  for (const NodeId& node : nodes_ids_) returns += sender_.Take(node, kReturn).size();
  EXPECT_EQ(returns, 1u);
}

TEST_F(PlacementGroupManagerTest, PlacesLostBundlesAgainWhenANodeDies) {
  const PlacementGroupId id = CreateAndPlace(Spec(wire::v1::STRICT_SPREAD, {1, 1}));
  const NodeId dead = NodeOf(id, 0);
  const NodeId survivor = NodeOf(id, 1);
  sender_.Clear();
  Kill(dead);
  EXPECT_EQ(State(id), wire::v1::GROUP_RESCHEDULING);
  const auto told = sender_.Take(survivor, kCommit);
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_TRUE(told[0].commit_bundles().incomplete());
  auto wait = Wait(id);
  AnswerAll();
  EXPECT_TRUE(wait->done);
  EXPECT_EQ(State(id), wire::v1::GROUP_CREATED);
  EXPECT_NE(NodeOf(id, 0), dead);
  EXPECT_EQ(NodeOf(id, 1), survivor);
}

TEST_F(PlacementGroupManagerTest, BeginsAgainWhenANodeDiesDuringAnAttempt) {
  const PlacementGroupId id = Create(Spec(wire::v1::STRICT_SPREAD, {1, 1}));
  std::vector<NodeId> asked;
  for (const NodeId& node : nodes_ids_) {
    if (!sender_.Take(node, kPrepare).empty()) asked.push_back(node);
  }
  ASSERT_THAT(asked, SizeIs(2));
  Kill(asked[0]);
  EXPECT_THAT(sender_.Take(asked[1], kReturn), SizeIs(1));
  AnswerAll();
  EXPECT_EQ(State(id), wire::v1::GROUP_CREATED);
}

TEST_F(PlacementGroupManagerTest, NamesAreUniqueInANamespaceUntilRemoval) {
  PlacementGroupSpec spec = Spec(wire::v1::PACK, {1});
  spec.set_name("gang");
  const PlacementGroupId first = Create(spec);
  PlacementGroupSpec other = Spec(wire::v1::PACK, {1});
  other.set_name("gang");
  EXPECT_TRUE(absl::IsAlreadyExists(groups_->Create(other, "job_namespace")));
  EXPECT_TRUE(groups_->Create(spec, "job_namespace").ok());  // said again
  wire::v1::PlacementGroupRequest by_name;
  by_name.set_name("gang");
  by_name.set_group_namespace("job_namespace");
  EXPECT_EQ(groups_->List(by_name).groups(0).spec().placement_group_id(), first.Binary());
  ASSERT_TRUE(groups_->Remove(first).ok());
  EXPECT_NE(groups_->List(by_name).status().code(), 0);
  EXPECT_TRUE(groups_->Create(other, "job_namespace").ok());
}

TEST_F(PlacementGroupManagerTest, EndsWithItsJobOrCreatorUnlessDetached) {
  const base::ActorId actor = base::NewActorId(job_);
  PlacementGroupSpec detached = Spec(wire::v1::PACK, {1});
  detached.set_detached(true);
  PlacementGroupSpec of_actor = Spec(wire::v1::PACK, {1});
  of_actor.set_creator_actor(actor.BinaryString());
  const PlacementGroupId plain = Create(Spec(wire::v1::PACK, {1}));
  const PlacementGroupId stays = Create(detached);
  const PlacementGroupId with_actor = Create(of_actor);
  groups_->OnJobFinished(base::JobIdFromInt(2));
  EXPECT_THAT(removed_, IsEmpty());
  groups_->OnJobFinished(job_);
  EXPECT_THAT(removed_, ElementsAre(plain));
  EXPECT_TRUE(groups_->IsCreator(actor));
  groups_->OnCreatorDead(actor);
  EXPECT_THAT(removed_, ElementsAre(plain, with_actor));
  EXPECT_TRUE(groups_->Exists(stays));
}

TEST_F(PlacementGroupManagerTest, RefusesMalformedGroups) {
  PlacementGroupSpec no_strategy = Spec(wire::v1::PLACEMENT_STRATEGY_UNSPECIFIED, {1});
  PlacementGroupSpec no_bundles = Spec(wire::v1::PACK, {});
  PlacementGroupSpec empty_bundle = Spec(wire::v1::PACK, {0});
  PlacementGroupSpec bad_id = Spec(wire::v1::PACK, {1});
  bad_id.set_placement_group_id("x");
  PlacementGroupSpec bad_creator = Spec(wire::v1::PACK, {1});
  bad_creator.set_creator_actor("x");
  for (const auto& spec : {no_strategy, no_bundles, empty_bundle, bad_id, bad_creator}) {
    EXPECT_TRUE(absl::IsInvalidArgument(groups_->Create(spec, "job_namespace")));
  }
}

TEST_F(PlacementGroupManagerTest, SurvivesARestartOfTheGcs) {
  const PlacementGroupId placed = CreateAndPlace(Spec(wire::v1::PACK, {1, 1}));
  const PlacementGroupId pending = Create(Spec(wire::v1::STRICT_SPREAD, {1, 1}));
  const PlacementGroupId removed = Create(Spec(wire::v1::PACK, {1}));
  ASSERT_TRUE(groups_->Remove(removed).ok());
  const NodeId node = NodeOf(placed);
  Restart();
  EXPECT_EQ(State(placed), wire::v1::GROUP_CREATED);
  EXPECT_EQ(State(pending), wire::v1::GROUP_PENDING);
  EXPECT_EQ(State(removed), wire::v1::GROUP_STATE_REMOVED);
  // The node comes back with what it had, and with what must not be there any more.
  Join(node, 4, {{placed, {0, 1, 7}}, {removed, {0}}, {PlacementGroupId::Random(), {0}}});
  size_t extra = 0;
  size_t gone = 0;
  for (const GcsMessage& message : sender_.Take(node, kReturn)) {
    const auto& back = message.return_bundles();
    if (back.removed()) {
      ++gone;
    } else {
      ++extra;
      EXPECT_THAT(back.indices(), ElementsAre(7));
    }
  }
  EXPECT_EQ(extra, 1u);
  EXPECT_EQ(gone, 2u);
  // It is told again what it should have, in case it missed it.
  const auto commits = sender_.Take(node, kCommit);
  ASSERT_THAT(commits, SizeIs(1));
  EXPECT_THAT(commits[0].commit_bundles().indices(), ElementsAre(0, 1));
  for (const NodeId& other : nodes_ids_) {
    if (other != node) Join(other, 4);
  }
  Advance(absl::Milliseconds(10));
  AnswerAll();
  EXPECT_EQ(State(pending), wire::v1::GROUP_CREATED);
}

TEST_F(PlacementGroupManagerTest, ANodeThatCannotKeepItsBundlesLosesThem) {
  const PlacementGroupId id = CreateAndPlace(Spec(wire::v1::PACK, {4}));
  const NodeId node = NodeOf(id);
  Join(node, 4);
  sender_.Take(node, kReturn);
  Answer(node, /*ok=*/false);
  EXPECT_EQ(State(id), wire::v1::GROUP_RESCHEDULING);
  // What it may have kept or set aside for the group, too.
  const auto returned = sender_.Take(node, kReturn);
  ASSERT_THAT(returned, SizeIs(1));
  EXPECT_THAT(returned[0].return_bundles().indices(), IsEmpty());
  EXPECT_FALSE(returned[0].return_bundles().removed());
}

TEST_F(PlacementGroupManagerTest, ALossThatIsToldTwiceEndsNoAttemptElsewhere) {
  const PlacementGroupId id = CreateAndPlace(Spec(wire::v1::SPREAD, {4, 4}));
  const NodeId node = NodeOf(id);
  Join(node, 1);
  const auto asked = sender_.Take(node, kPrepare);
  ASSERT_THAT(asked, SizeIs(1));
  v1::BundlesPrepared refusal;
  refusal.set_placement_group_id(id.BinaryString());
  refusal.set_attempt(asked[0].prepare_bundles().attempt());
  ASSERT_TRUE(groups_->OnBundlesPrepared(node, refusal).ok());
  ASSERT_EQ(State(id), wire::v1::GROUP_RESCHEDULING);
  ASSERT_TRUE(groups_->OnBundlesPrepared(node, refusal).ok());
  for (const NodeId& other : nodes_ids_) {
    if (other == node) continue;
    EXPECT_THAT(sender_.Take(other, kReturn), IsEmpty());
  }
  AnswerAll();
  EXPECT_EQ(State(id), wire::v1::GROUP_CREATED);
}

TEST_F(PlacementGroupManagerTest, RemembersTheLastRemovedOnes) {
  std::vector<PlacementGroupId> ids;
  for (int i = 0; i < 4; ++i) {
    ids.push_back(Create(Spec(wire::v1::PACK, {1})));
    ASSERT_TRUE(groups_->Remove(ids.back()).ok());
  }
  EXPECT_EQ(State(ids[0]), wire::v1::PLACEMENT_GROUP_STATE_UNSPECIFIED);
  EXPECT_EQ(State(ids[3]), wire::v1::GROUP_STATE_REMOVED);
  EXPECT_EQ(groups_->List({}).groups_size(), 2);
}

TEST_F(PlacementGroupManagerTest, StoresAgainWhatTheStorageRefused) {
  const PlacementGroupId id = Create(Spec(wire::v1::PACK, {1}));
  storage_.broken = true;
  EXPECT_FALSE(groups_->Create(Spec(wire::v1::PACK, {1}), "job_namespace").ok());
  AnswerAll();
  EXPECT_EQ(State(id), wire::v1::GROUP_CREATED);
  storage_.broken = false;
  Advance(absl::Seconds(1));
  Restart();
  EXPECT_EQ(State(id), wire::v1::GROUP_CREATED);
}

TEST_F(PlacementGroupManagerTest, FindsRoomForActorsInBundles) {
  const PlacementGroupId id = CreateAndPlace(Spec(wire::v1::PACK, {1, 2}));
  EXPECT_EQ(groups_->FindRoom(id, -1, {{"CPU", 1}})->index, 0u);
  EXPECT_EQ(groups_->FindRoom(id, -1, {{"CPU", 2}})->index, 1u);
  EXPECT_FALSE(groups_->FindRoom(id, 0, {{"CPU", 2}}).has_value());
  groups_->ChangeHold(id, 0, {}, {{"CPU", 1}});
  EXPECT_EQ(groups_->FindRoom(id, -1, {{"CPU", 1}})->index, 1u);
  EXPECT_FALSE(groups_->FindRoom(id, 0, {{"CPU", 1}}).has_value());
  groups_->ChangeHold(id, 0, {{"CPU", 1}}, {});
  EXPECT_EQ(groups_->FindRoom(id, 0, {{"CPU", 1}})->node, NodeOf(id));
  const PlacementGroupId pending = Create(Spec(wire::v1::PACK, {100}));
  EXPECT_FALSE(groups_->FindRoom(pending, -1, {}).has_value());
}

TEST_F(PlacementGroupManagerTest, LabelsOfBundlesChooseNodes) {
  PlacementGroupSpec spec = Spec(wire::v1::PACK, {1});
  auto* condition = spec.mutable_bundles(0)->add_labels();
  condition->set_key("ray.io/node-id");
  condition->set_kind(wire::v1::SchedulingStrategy::LabelCondition::IN);
  condition->add_values(nodes_ids_[1].Hex());
  EXPECT_EQ(NodeOf(CreateAndPlace(spec)), nodes_ids_[1]);
}

}  // namespace
}  // namespace ray::gcs
