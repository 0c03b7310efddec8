#include "ray/scheduling/node_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace ray::scheduling {
namespace {

using base::NodeId;
using resources::ResourceSet;
using ::testing::AnyOf;
using wire::v1::SchedulingStrategy;

class NodeChoiceTest : public ::testing::Test {
 protected:
  NodeId Add(const ResourceSet& total, Labels labels = {}, bool draining = false) {
    const NodeId id = NodeId::Random();
    view_.Update(id, total, total, std::move(labels), draining);
    totals_[id] = total;
    return id;
  }
  void Use(const NodeId& node, const ResourceSet& used) {
    ResourceSet left = totals_[node];
    left -= used;
    view_.SetAvailable(node, left);
  }
  NodeChooser& Chooser(const NodeId& self, double top_k_fraction = 0.2) {
    chooser_ = std::make_unique<NodeChooser>(
        NodeChooser::Options{.self = self, .top_k_fraction = top_k_fraction, .seed = 7}, &view_);
    return *chooser_;
  }
  static SchedulingStrategy::LabelCondition In(const std::string& key, const std::string& value) {
    SchedulingStrategy::LabelCondition condition;
    condition.set_key(key);
    condition.set_kind(SchedulingStrategy::LabelCondition::IN);
    condition.add_values(value);
    return condition;
  }

  ClusterView view_;
  std::map<NodeId, ResourceSet> totals_;
  std::unique_ptr<NodeChooser> chooser_;
  const NodeNeeds one_cpu_{.resources = {{"CPU", 1}}};
};

TEST_F(NodeChoiceTest, FillsThisNodeUpToTheThresholdFirst) {
  const NodeId self = Add({{"CPU", 4}});
  const NodeId other = Add({{"CPU", 4}});
  NodeChooser& chooser = Chooser(self);
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), self);
  Use(self, {{"CPU", 1}});
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), self);
  Use(self, {{"CPU", 2}});
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), other) << "half of this node is in use";
  Use(other, {{"CPU", 3}});
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), self) << "the other is used more";
  Use(self, {{"CPU", 4}});
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), other);
  Use(other, {{"CPU", 4}});
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), std::nullopt);
  EXPECT_TRUE(chooser.IsFeasible(one_cpu_));
}

TEST_F(NodeChoiceTest, TheScarcestResourceCounts) {
  const NodeId self = Add({{"CPU", 10}, {"memory", 100}});
  const NodeId other = Add({{"CPU", 10}, {"memory", 100}});
  Use(self, {{"CPU", 1}, {"memory", 80}});
  EXPECT_EQ(Chooser(self).WithRoom(one_cpu_, false), other);
}

TEST_F(NodeChoiceTest, ChoosesAtRandomAmongTheBestOfALargeCluster) {
  const NodeId self = Add({{"GPU", 1}});
  for (int i = 0; i < 99; ++i) Add({{"CPU", 4}});
  NodeChooser& chooser = Chooser(self, 0.1);
  std::set<NodeId> chosen;
  for (int i = 0; i < 1000; ++i) chosen.insert(*chooser.WithRoom(one_cpu_, false));
  EXPECT_EQ(chosen.size(), 10u);
}

TEST_F(NodeChoiceTest, SpreadTakesAllNodesInTurn) {
  std::map<NodeId, int> chosen;
  const NodeId self = Add({{"CPU", 4}});
  for (int i = 0; i < 99; ++i) Add({{"CPU", 4}});
  const NodeId full = Add({{"CPU", 1}});
  Use(full, {{"CPU", 1}});
  NodeChooser& chooser = Chooser(self);
  for (int i = 0; i < 300; ++i) ++chosen[*chooser.WithRoom(one_cpu_, true)];
  EXPECT_EQ(chosen.size(), 100u);
  for (const auto& [node, times] : chosen) EXPECT_EQ(times, 3);
}

TEST_F(NodeChoiceTest, TasksWithoutGpusLeaveNodesWithGpusAlone) {
  const NodeId self = Add({{"CPU", 4}, {"GPU", 1}});
  const NodeId other = Add({{"CPU", 4}});
  NodeChooser& chooser = Chooser(self, 1.0);
  Use(other, {{"CPU", 3}});
  for (int i = 0; i < 20; ++i) EXPECT_EQ(chooser.WithRoom(one_cpu_, false), other);
  const NodeNeeds gpu{.resources = {{"CPU", 1}, {"GPU", 1}}};
  EXPECT_EQ(chooser.WithRoom(gpu, false), self);
  Use(other, {{"CPU", 4}});
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), self) << "no other has room";
}

TEST_F(NodeChoiceTest, RequiredLabelsThenPreferredOnesDecide) {
  const NodeId self = Add({{"CPU", 4}});
  const NodeId a = Add({{"CPU", 4}}, {{"zone", "a"}});
  const NodeId fast = Add({{"CPU", 4}}, {{"zone", "a"}, {"disk", "ssd"}});
  SchedulingStrategy strategy;
  *strategy.add_required_labels() = In("zone", "a");
  *strategy.add_preferred_labels() = In("disk", "ssd");
  const NodeNeeds needs = NodeNeeds::Of({{"CPU", 1}}, strategy);
  NodeChooser& chooser = Chooser(self, 1.0);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(chooser.WithRoom(needs, false), fast);
  Use(fast, {{"CPU", 4}});
  EXPECT_EQ(chooser.WithRoom(needs, false), a);
  Use(a, {{"CPU", 4}});
  EXPECT_EQ(chooser.WithRoom(needs, false), std::nullopt);
  EXPECT_FALSE(chooser.MayWaitAt(needs, self));
  EXPECT_TRUE(chooser.MayWaitAt(needs, a));
}

TEST_F(NodeChoiceTest, FallbacksCountWhenNoNodeMeetsWhatComesBefore) {
  const NodeId self = Add({{"CPU", 4}});
  const NodeId b = Add({{"CPU", 4}}, {{"zone", "b"}});
  SchedulingStrategy strategy;
  *strategy.add_required_labels() = In("zone", "a");
  *strategy.add_fallback_labels()->add_conditions() = In("zone", "b");
  const NodeNeeds needs = NodeNeeds::Of({{"CPU", 1}}, strategy);
  NodeChooser& chooser = Chooser(self);
  EXPECT_EQ(chooser.WithRoom(needs, false), b);
  const NodeId a = Add({{"CPU", 1}}, {{"zone", "a"}});
  EXPECT_EQ(chooser.WithRoom(needs, false), a);
  Use(a, {{"CPU", 1}});
  EXPECT_EQ(chooser.WithRoom(needs, false), std::nullopt) << "a node of the first choice is there";
  view_.Remove(a);
  EXPECT_EQ(chooser.WithRoom(needs, false), b);
  chooser.CheckInvariants();
}

TEST_F(NodeChoiceTest, DrainingDeadAndUnreachableNodesAreNotChosen) {
  const NodeId self = Add({{"CPU", 4}}, {}, /*draining=*/true);
  const NodeId other = Add({{"CPU", 4}});
  NodeChooser& chooser = Chooser(self);
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), other);
  view_.SetReachable(other, false);
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), std::nullopt);
  EXPECT_TRUE(chooser.IsFeasible(one_cpu_)) << "it may come back";
  view_.SetReachable(other, true);
  EXPECT_EQ(chooser.WithRoom(one_cpu_, true), other);
  view_.SetDraining(other);
  EXPECT_FALSE(chooser.IsFeasible(one_cpu_));
  view_.Remove(other);
  EXPECT_FALSE(chooser.IsFeasible(one_cpu_));
}

TEST_F(NodeChoiceTest, ARefusalCountsUntilTheNodeIsHeardOf) {
  const NodeId self = Add({{"CPU", 1}});
  const NodeId other = Add({{"CPU", 4}});
  Use(self, {{"CPU", 1}});
  NodeChooser& chooser = Chooser(self);
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), other);
  chooser.Refused(one_cpu_, other);
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), std::nullopt);
  view_.Sent(other, 1, {{"CPU", 1}});
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), std::nullopt) << "nothing new";
  Use(other, {{"CPU", 2}});
  EXPECT_EQ(chooser.WithRoom(one_cpu_, false), other);
}

TEST_F(NodeChoiceTest, WaitsWhereFewWait) {
  const NodeId self = Add({});
  const NodeId a = Add({{"CPU", 1}});
  const NodeId b = Add({{"CPU", 1}});
  NodeChooser& chooser = Chooser(self);
  std::map<NodeId, size_t> waiting;
  auto at = [&](const NodeId& node) { return waiting[node]; };
  for (int i = 0; i < 4; ++i) ++waiting[*chooser.ToWaitAt(one_cpu_, 2, at)];
  EXPECT_EQ(waiting[a], 2u);
  EXPECT_EQ(waiting[b], 2u);
  EXPECT_EQ(chooser.ToWaitAt(one_cpu_, 2, at), std::nullopt);
}

TEST(ClusterViewTest, AnAnswerKnowsWhatWasSentBefore) {
  ClusterView view;
  const NodeId node = NodeId::Random();
  view.Update(node, {{"CPU", 8}}, {{"CPU", 8}}, {}, false);
  for (uint64_t ticket : {1, 2, 3}) view.Sent(node, ticket, {{"CPU", 2}});
  EXPECT_EQ(view.Find(node)->room, (ResourceSet{{"CPU", 2}}));
  // The node had given 1 and 2 their resources when it answered 2.
  view.Answered(node, 2, {{"CPU", 4}});
  EXPECT_EQ(view.Find(node)->room, (ResourceSet{{"CPU", 2}}));
  view.Dropped(node, 3);
  EXPECT_EQ(view.Find(node)->room, (ResourceSet{{"CPU", 4}}));
  view.Dropped(node, 3);
  view.Reserve(node, {{"CPU", 1}});
  EXPECT_EQ(view.Find(node)->room, (ResourceSet{{"CPU", 3}}));
  view.Unreserve(node, {{"CPU", 1}});
  EXPECT_EQ(view.Find(node)->room, view.Find(node)->available);
}

// The indexes are what a scan of the view would say, whatever happens to it.
TEST(NodeChoiceRandomTest, IndexesFollowTheView) {
  std::mt19937_64 random(42);
  auto any = [&](uint64_t below) { return random() % below; };
  ClusterView view;
  const NodeId self = NodeId::Random();
  view.Update(self, {{"CPU", 4}}, {{"CPU", 4}}, {}, false);
  NodeChooser chooser({.self = self, .seed = 1, .kinds_max = 4}, &view);
  std::vector<NodeId> nodes;
  SchedulingStrategy labelled;
  *labelled.add_required_labels() = [] {
    SchedulingStrategy::LabelCondition condition;
    condition.set_key("zone");
    condition.set_kind(SchedulingStrategy::LabelCondition::EXISTS);
    return condition;
  }();
  const NodeNeeds kinds[] = {
      NodeNeeds::Of({{"CPU", 1}}, {}),       NodeNeeds::Of({{"CPU", 3}}, {}),
      NodeNeeds::Of({{"GPU", 1}}, {}),       NodeNeeds::Of({}, {}),
      NodeNeeds::Of({{"CPU", 1}}, labelled), NodeNeeds::Of({{"TPU", 1}}, {})};
  uint64_t ticket = 0;
  for (int step = 0; step < 5000; ++step) {
    const NodeId node = nodes.empty() || any(20) == 0 ? NodeId::Random() : nodes[any(nodes.size())];
    switch (any(8)) {
      case 0:
        if (view.Find(node) == nullptr) nodes.push_back(node);
        view.Update(node, {{"CPU", 4}, {"GPU", static_cast<double>(any(2))}},
                    {{"CPU", static_cast<double>(any(5))}},
                    any(2) == 0 ? Labels{{"zone", "a"}} : Labels{}, any(10) == 0);
        break;
      case 1:
        if (any(10) == 0) {
          view.Remove(node);
          std::erase(nodes, node);
        }
        break;
      case 2:
        view.SetReachable(node, any(2) == 0);
        break;
      case 3:
        view.Sent(node, ++ticket, {{"CPU", 1}});
        break;
      case 4:
        view.Answered(node, ticket, {{"CPU", static_cast<double>(any(5))}});
        break;
      case 5:
        chooser.Refused(kinds[any(6)], node);
        break;
      default:
        const NodeNeeds& needs = kinds[any(6)];
        const bool spread = any(2) == 0;
        const NodeId other = any(3) == 0 ? node : NodeId::Nil();
        const auto chosen = chooser.WithRoom(needs, spread, other);
        if (chosen.has_value()) {
          EXPECT_NE(*chosen, other);
          EXPECT_TRUE(needs.resources.FitsIn(view.Find(*chosen)->room));
          EXPECT_FALSE(view.Find(*chosen)->draining);
        }
    }
    if (step % 10 == 0) chooser.CheckInvariants();
  }
}

}  // namespace
}  // namespace ray::scheduling
