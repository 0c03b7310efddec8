#include "ray/gcs/node_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ray/gcs/gcs_testutil.h"

namespace ray::gcs {
namespace {

using base::NodeId;
using resources::ResourceSet;
using wire::v1::SchedulingStrategy;

const SchedulingStrategy kAnywhere;

class NodeManagerTest : public testing::Test {
 protected:
  NodeManagerTest() { Restart(); }

  void Restart() {
    deadlines_ = std::make_unique<Deadlines>(&clock_);
    nodes_ = std::make_unique<NodeManager>(NodeManager::Options{.dead_nodes_max = 2}, &storage_,
                                           deadlines_.get(), &sender_,
                                           [this](const NodeId& node) { died_.push_back(node); });
    ASSERT_TRUE(nodes_->Load().ok());
  }
  NodeId Join(int64_t cpus) {
    const NodeId node = NodeId::Random();
    EXPECT_TRUE(nodes_->Register(node, NodeWith(node, {{"CPU", cpus}})).ok());
    return node;
  }
  void Kill(const NodeId& node) {
    nodes_->Disconnect(node);
    Advance(absl::Seconds(5));
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    deadlines_->RunDue();
  }
  bool IsAlive(const NodeId& node) {
    const wire::v1::ClusterStateReply cluster = nodes_->ClusterState();
    for (const auto& state : cluster.nodes()) {
      if (state.node_id() == node.Binary()) return state.alive();
    }
    return false;
  }

  base::VirtualClock clock_;
  FailingStorage storage_;
  RecordingSender sender_;
  std::vector<NodeId> died_;
  std::unique_ptr<Deadlines> deadlines_;
  std::unique_ptr<NodeManager> nodes_;
};

TEST_F(NodeManagerTest, NodeSurvivesABreakShorterThanTheTimeout) {
  const NodeId node = Join(1);
  nodes_->Disconnect(node);
  Advance(absl::Seconds(4));
  ASSERT_TRUE(nodes_->Register(node, NodeWith(node, {{"CPU", 1}})).ok());
  Advance(absl::Seconds(10));
  EXPECT_TRUE(IsAlive(node));
  EXPECT_TRUE(died_.empty());
}

TEST_F(NodeManagerTest, NodeDiesOnceAfterTheTimeoutAndMayNotComeBack) {
  const NodeId node = Join(1);
  nodes_->Disconnect(node);
  Advance(absl::Seconds(2));
  EXPECT_TRUE(IsAlive(node));
  Advance(absl::Seconds(3));
  EXPECT_FALSE(IsAlive(node));
  Advance(absl::Seconds(10));
  EXPECT_EQ(died_, std::vector<NodeId>{node});
  EXPECT_TRUE(absl::IsFailedPrecondition(nodes_->Register(node, NodeWith(node, {{"CPU", 1}}))));
}

TEST_F(NodeManagerTest, EveryStoredNodeGetsTheTimeoutToComeBackAfterARestart) {
  const NodeId returns = Join(1);
  const NodeId stays_away = Join(1);
  Restart();
  EXPECT_TRUE(IsAlive(returns));
  ASSERT_TRUE(nodes_->Register(returns, NodeWith(returns, {{"CPU", 1}})).ok());
  Advance(absl::Seconds(5));
  EXPECT_TRUE(IsAlive(returns));
  EXPECT_EQ(died_, std::vector<NodeId>{stays_away});
  Restart();
  EXPECT_FALSE(IsAlive(stays_away));
}

TEST_F(NodeManagerTest, RemembersTheLatestDeadNodesOnly) {
  std::vector<NodeId> nodes;
  for (int i = 0; i < 4; ++i) {
    nodes.push_back(Join(1));
    Kill(nodes.back());
  }
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(nodes_->ClusterState().nodes_size(), 2);
    EXPECT_TRUE(absl::IsFailedPrecondition(nodes_->Register(nodes[3], NodeWith(nodes[3], {}))));
    Restart();
  }
}

TEST_F(NodeManagerTest, PrefersTheGivenNodeElseTheOneLoadedTheLeast) {
  const NodeId small = Join(2);
  const NodeId large = Join(8);
  EXPECT_EQ(nodes_->FindRoom({{"CPU", 1}}, kAnywhere, small), small);
  EXPECT_EQ(nodes_->FindRoom({{"CPU", 1}}, kAnywhere, NodeId::Random()), large);
  EXPECT_EQ(nodes_->FindRoom({{"CPU", 4}}, kAnywhere, small), large);
  EXPECT_EQ(nodes_->FindRoom({{"GPU", 1}}, kAnywhere, small), std::nullopt);
}

TEST_F(NodeManagerTest, CountsWhatIsHeldUntilTheNextReport) {
  const NodeId node = Join(2);
  const ResourceSet one{{"CPU", 1}};
  const ResourceSet two{{"CPU", 2}};
  nodes_->ChangeHold(node, {}, two);
  EXPECT_EQ(nodes_->FindRoom(one, kAnywhere, node), std::nullopt);
  nodes_->ChangeHold(node, two, one);
  EXPECT_EQ(nodes_->FindRoom(one, kAnywhere, node), node);
  EXPECT_EQ(nodes_->FindRoom(two, kAnywhere, node), std::nullopt);
  ASSERT_TRUE(nodes_->Report(node, ReportOf(1, {{"CPU", 2}}, {{"CPU", 2}})).ok());
  EXPECT_EQ(nodes_->FindRoom(two, kAnywhere, node), node);
  // The report knew already what is given back now: still no more than the node has.
  nodes_->ChangeHold(node, two, {});
  EXPECT_EQ(nodes_->FindRoom({{"CPU", 3}}, kAnywhere, node), std::nullopt);
}

TEST_F(NodeManagerTest, PlacesNothingOnANodeThatIsAway) {
  const NodeId node = Join(2);
  nodes_->Disconnect(node);
  EXPECT_EQ(nodes_->FindRoom({{"CPU", 1}}, kAnywhere, node), std::nullopt);
  EXPECT_TRUE(nodes_->IsFeasible({{"CPU", 1}}, kAnywhere));
  Advance(absl::Seconds(5));
  EXPECT_FALSE(nodes_->IsFeasible({{"CPU", 1}}, kAnywhere));
}

TEST_F(NodeManagerTest, IgnoresAnOlderReportButTakesAnyAfterAReconnect) {
  const NodeId node = Join(2);
  ASSERT_TRUE(nodes_->Report(node, ReportOf(7, {{"CPU", 2}}, {{"CPU", 1}})).ok());
  ASSERT_TRUE(nodes_->Report(node, ReportOf(6, {{"CPU", 2}}, {{"CPU", 2}})).ok());
  EXPECT_EQ(nodes_->FindRoom({{"CPU", 2}}, kAnywhere, node), std::nullopt);
  ASSERT_TRUE(nodes_->Register(node, NodeWith(node, {{"CPU", 1}})).ok());
  ASSERT_TRUE(nodes_->Report(node, ReportOf(1, {{"CPU", 2}}, {{"CPU", 2}})).ok());
  EXPECT_EQ(nodes_->FindRoom({{"CPU", 2}}, kAnywhere, node), node);
}

TEST_F(NodeManagerTest, TellsTheOthersAboutNewsAtOnceAndAboutReportsTogether) {
  const NodeId a = Join(1);
  const NodeId b = Join(1);
  EXPECT_EQ(sender_.Take(a, v1::GcsMessage::kNodesChanged).size(), 1);
  for (uint64_t sequence = 1; sequence <= 9; ++sequence) {
    ASSERT_TRUE(nodes_->Report(b, ReportOf(sequence, {{"CPU", 1}}, {})).ok());
  }
  EXPECT_TRUE(sender_.Take(a, v1::GcsMessage::kNodesChanged).empty());
  Advance(absl::Milliseconds(100));
  const auto changes = sender_.Take(a, v1::GcsMessage::kNodesChanged);
  ASSERT_EQ(changes.size(), 1);
  EXPECT_EQ(changes[0].nodes_changed().nodes(0).node_id(), b.Binary());
  EXPECT_TRUE(sender_.Take(b, v1::GcsMessage::kNodesChanged).empty());

  const NodeId c = Join(1);
  nodes_->SendOthersTo(c);
  const auto others = sender_.Take(c, v1::GcsMessage::kNodesChanged);
  ASSERT_EQ(others.size(), 1);
  EXPECT_EQ(others[0].nodes_changed().nodes_size(), 2);
}

TEST_F(NodeManagerTest, ASingleNodeCausesNoTimers) {
  const NodeId node = Join(1);
  ASSERT_TRUE(nodes_->Report(node, ReportOf(1, {{"CPU", 1}}, {})).ok());
  EXPECT_EQ(deadlines_->Next(), absl::InfiniteFuture());
}

TEST_F(NodeManagerTest, RefusesNegativeResources) {
  const NodeId node = Join(1);
  wire::v1::NodeState state = NodeWith(NodeId::Random(), {{"CPU", -1}});
  EXPECT_TRUE(absl::IsInvalidArgument(nodes_->Register(NodeId::Random(), state)));
  EXPECT_TRUE(absl::IsInvalidArgument(nodes_->Report(node, ReportOf(1, {{"CPU", -1}}, {}))));
}

TEST_F(NodeManagerTest, ReportsOfUnknownNodesAreIgnored) {
  EXPECT_TRUE(nodes_->Report(NodeId::Random(), ReportOf(1, {}, {})).ok());
  nodes_->Disconnect(NodeId::Random());
  nodes_->ChangeHold(NodeId::Random(), {}, {{"CPU", 1}});
  EXPECT_EQ(nodes_->ClusterState().nodes_size(), 0);
}

TEST_F(NodeManagerTest, StrategiesChooseNodes) {
  const NodeId first = Join(4);
  const NodeId second = Join(4);
  const ResourceSet one{{"CPU", 1}};
  SchedulingStrategy named;
  named.mutable_node_affinity()->set_node_id(second.BinaryString());
  EXPECT_EQ(nodes_->FindRoom(one, named, first), second);
  named.mutable_node_affinity()->set_node_id(NodeId::Random().BinaryString());
  EXPECT_EQ(nodes_->FindRoom(one, named, first), std::nullopt);
  EXPECT_FALSE(nodes_->IsFeasible(one, named));
  named.mutable_node_affinity()->set_soft(true);
  EXPECT_EQ(nodes_->FindRoom(one, named, first), first);

  auto on = [](const NodeId& node) {
    SchedulingStrategy::LabelCondition condition;
    condition.set_key("ray.io/node-id");
    condition.set_kind(SchedulingStrategy::LabelCondition::IN);
    condition.add_values(node.Hex());
    return condition;
  };
  SchedulingStrategy labels;
  *labels.add_preferred_labels() = on(second);
  EXPECT_EQ(nodes_->FindRoom(one, labels, first), second);
  *labels.add_required_labels() = on(NodeId::Random());
  EXPECT_FALSE(nodes_->IsFeasible(one, labels));
  *labels.add_fallback_labels()->add_conditions() = on(first);
  EXPECT_EQ(nodes_->FindRoom(one, labels, second), first);

  SchedulingStrategy spread;
  spread.set_spread(true);
  nodes_->ChangeHold(first, {}, one);
  EXPECT_EQ(nodes_->FindRoom(one, spread, first), second);
}

}  // namespace
}  // namespace ray::gcs
