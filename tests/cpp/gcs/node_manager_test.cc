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
                                           deadlines_.get(), &sender_, &probe_,
                                           [this](const NodeId& node) { died_.push_back(node); });
    ASSERT_TRUE(nodes_->Load().ok());
  }
  NodeId Join(int64_t cpus) {
    const NodeId node = NodeId::Random();
    EXPECT_TRUE(nodes_->Register(node, NodeWith(node, {{"CPU", cpus}})).ok());
    return node;
  }
  // As Join, of a node that others can reach.
  NodeId JoinAt(const std::string& tcp_endpoint, bool is_head = false) {
    const NodeId node = NodeId::Random();
    Register(node, tcp_endpoint, is_head);
    return node;
  }
  void Register(const NodeId& node, const std::string& tcp_endpoint, bool is_head = false) {
    wire::v1::NodeState state = NodeWith(node, {{"CPU", 1}});
    state.set_tcp_endpoint(tcp_endpoint);
    state.set_is_head(is_head);
    EXPECT_TRUE(nodes_->Register(node, state).ok());
  }
  wire::v1::NodeState StateOf(const NodeId& node) {
    const wire::v1::ClusterStateReply cluster = nodes_->ClusterState();
    for (const auto& state : cluster.nodes()) {
      if (state.node_id() == node.Binary()) return state;
    }
    return {};
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
  FakeProbe probe_;
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

TEST_F(NodeManagerTest, ANodeThatLeavesIsDeadAtOnce) {
  const NodeId node = Join(1);
  v1::NodeLeaving leaving;
  leaving.set_reason("it was stopped");
  ASSERT_TRUE(nodes_->Leave(node, leaving).ok());
  EXPECT_EQ(died_, std::vector<NodeId>{node});
  EXPECT_EQ(StateOf(node).death_reason(), "it was stopped");
  EXPECT_EQ(nodes_->FindRoom({{"CPU", 1}}, kAnywhere, node), std::nullopt);
  EXPECT_TRUE(nodes_->View().empty());
  // Said again by a duplicate, and followed by the break of its channel.
  ASSERT_TRUE(nodes_->Leave(node, leaving).ok());
  nodes_->Disconnect(node);
  Advance(absl::Seconds(10));
  EXPECT_EQ(died_.size(), 1);
  Restart();
  EXPECT_EQ(StateOf(node).death_reason(), "it was stopped");
}

TEST_F(NodeManagerTest, ANodeWhoseProcessIsGoneIsDeadAtOnce) {
  const NodeId node = JoinAt("tcp:127.0.0.1:1");
  nodes_->Disconnect(node);
  // The dying process may still listen for a moment: it is asked again.
  EXPECT_THAT(probe_.Answer(false), testing::ElementsAre("tcp:127.0.0.1:1"));
  EXPECT_TRUE(probe_.Answer(true).empty());
  EXPECT_TRUE(IsAlive(node));
  Advance(absl::Milliseconds(50));
  EXPECT_THAT(probe_.Answer(true), testing::SizeIs(1));
  EXPECT_EQ(died_, std::vector<NodeId>{node});
  EXPECT_THAT(StateOf(node).death_reason(), testing::HasSubstr("ended"));
}

TEST_F(NodeManagerTest, ANodeThatCameBackIsNotKilledByAProbeOfBefore) {
  const NodeId node = JoinAt("tcp:127.0.0.1:1");
  nodes_->Disconnect(node);
  Register(node, "tcp:127.0.0.1:1");
  EXPECT_THAT(probe_.Answer(true), testing::SizeIs(1));
  nodes_->Disconnect(node);
  Register(node, "tcp:127.0.0.1:1");
  nodes_->Disconnect(node);
  EXPECT_TRUE(IsAlive(node));
  EXPECT_THAT(probe_.Answer(false), testing::SizeIs(2));
  Advance(absl::Seconds(10));
  EXPECT_FALSE(IsAlive(node)) << "silence still counts";
}

TEST_F(NodeManagerTest, AfterARestartOnlyTheNodesWhoseProcessIsGoneDieAtOnce) {
  const NodeId gone = JoinAt("tcp:127.0.0.1:1");
  const NodeId lives = JoinAt("tcp:127.0.0.1:2");
  Restart();
  EXPECT_TRUE(IsAlive(gone));
  Register(lives, "tcp:127.0.0.1:2");
  EXPECT_THAT(probe_.Answer(true), testing::SizeIs(2));
  EXPECT_EQ(died_, std::vector<NodeId>{gone});
}

TEST_F(NodeManagerTest, NothingIsPlacedOnADrainingNode) {
  const NodeId node = JoinAt("tcp:127.0.0.1:1");
  const NodeId other = JoinAt("tcp:127.0.0.1:2");
  sender_.Clear();
  wire::v1::DrainNode order;
  order.set_node_id(node.BinaryString());
  order.set_reason("spot");
  order.set_deadline_ms(17);
  ASSERT_TRUE(nodes_->Drain(order).ok());
  EXPECT_EQ(nodes_->FindRoom({{"CPU", 1}}, kAnywhere, node), other);
  EXPECT_EQ(nodes_->View().size(), 1);
  EXPECT_TRUE(IsAlive(node));
  const auto told = sender_.Take(node, v1::GcsMessage::kDrain);
  ASSERT_EQ(told.size(), 1);
  EXPECT_EQ(told[0].drain().deadline_ms(), 17);
  const auto others = sender_.Take(other, v1::GcsMessage::kNodesChanged);
  ASSERT_EQ(others.size(), 1);
  EXPECT_TRUE(others[0].nodes_changed().nodes(0).draining());
}

TEST_F(NodeManagerTest, AnOrderToDrainSurvivesARestartAndIsGivenAgain) {
  const NodeId node = JoinAt("tcp:127.0.0.1:1");
  wire::v1::DrainNode order;
  order.set_node_id(node.BinaryString());
  order.set_reason("spot");
  ASSERT_TRUE(nodes_->Drain(order).ok());
  Restart();
  sender_.Clear();
  Register(node, "tcp:127.0.0.1:1");
  EXPECT_TRUE(StateOf(node).draining());
  ASSERT_EQ(sender_.Take(node, v1::GcsMessage::kDrain).size(), 1);

  wire::v1::NodeState knows = NodeWith(node, {{"CPU", 1}});
  knows.set_draining(true);
  ASSERT_TRUE(nodes_->Register(node, knows).ok());
  EXPECT_TRUE(sender_.Take(node, v1::GcsMessage::kDrain).empty());
  EXPECT_EQ(nodes_->FindRoom({{"CPU", 1}}, kAnywhere, node), std::nullopt);
}

TEST_F(NodeManagerTest, RefusesToDrainWhatIsNotThereAndTheHead) {
  wire::v1::DrainNode order;
  EXPECT_TRUE(absl::IsInvalidArgument(nodes_->Drain(order)));
  order.set_node_id(NodeId::Random().BinaryString());
  EXPECT_TRUE(absl::IsNotFound(nodes_->Drain(order)));
  order.set_node_id(JoinAt("", /*is_head=*/true).BinaryString());
  EXPECT_TRUE(absl::IsFailedPrecondition(nodes_->Drain(order)));
}

TEST_F(NodeManagerTest, CarriesDemandsToWhoAsksButNotToNodes) {
  const NodeId node = Join(1);
  const NodeId other = Join(1);
  sender_.Clear();
  v1::NodeReport report = ReportOf(1, {{"CPU", 1}}, {});
  for (int i = 0; i < 200; ++i) report.add_demands()->set_count(7);
  report.set_spilled_bytes(5);
  ASSERT_TRUE(nodes_->Report(node, report).ok());
  EXPECT_EQ(StateOf(node).demands_size(), 100);
  EXPECT_EQ(StateOf(node).demands(0).count(), 7);
  EXPECT_EQ(StateOf(node).spilled_bytes(), 5);
  Advance(absl::Milliseconds(100));
  const auto told = sender_.Take(other, v1::GcsMessage::kNodesChanged);
  ASSERT_EQ(told.size(), 1);
  EXPECT_EQ(told[0].nodes_changed().nodes(0).demands_size(), 0);
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
