#include "ray/scheduling/bundle_placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace ray::scheduling {
namespace {

using base::NodeId;
using resources::ResourceSet;
using ::testing::Each;

LabelCondition In(const std::string& key, const std::string& value) {
  LabelCondition condition;
  condition.set_key(key);
  condition.set_kind(LabelCondition::IN);
  condition.add_values(value);
  return condition;
}

BundleDemand Cpus(double cpus) { return {{{"CPU", cpus}}, {}}; }

NodeView Node(const ResourceSet& total, Labels labels = {}) {
  return {NodeId::Random(), total, total, std::move(labels), 0};
}
std::vector<NodeView> Nodes(int count, double cpus) {
  std::vector<NodeView> nodes;
  for (int i = 0; i < count; ++i) nodes.push_back(Node({{"CPU", cpus}}));
  return nodes;
}

std::map<NodeId, int> Counts(const std::vector<NodeId>& placed) {
  std::map<NodeId, int> counts;
  for (const NodeId& node : placed) ++counts[node];
  return counts;
}

// What every placement must obey, whatever its strategy.
void ExpectItFits(const std::vector<BundleDemand>& bundles, std::vector<NodeView> nodes,
                  const std::vector<NodeId>& placed) {
  ASSERT_EQ(placed.size(), bundles.size());
  for (size_t i = 0; i < bundles.size(); ++i) {
    auto node = std::find_if(nodes.begin(), nodes.end(),
                             [&](const NodeView& view) { return view.id == placed[i]; });
    ASSERT_NE(node, nodes.end());
    EXPECT_TRUE(bundles[i].resources.FitsIn(node->room));
    EXPECT_TRUE(MatchesAll(bundles[i].labels, node->labels));
    node->room -= bundles[i].resources;
  }
}

TEST(BundlePlacement, PackUsesOneNodeIfOneHasRoom) {
  const auto nodes = Nodes(100, 8);
  const std::vector<BundleDemand> bundles(8, Cpus(1));
  auto placed = PlaceBundles(wire::v1::PACK, bundles, nodes, NodeId());
  ASSERT_TRUE(placed.has_value());
  EXPECT_EQ(Counts(*placed).size(), 1u);
}

TEST(BundlePlacement, PackUsesFewNodesIfOneHasNotEnough) {
  auto nodes = Nodes(50, 2);
  for (NodeView& large : Nodes(2, 16)) nodes.push_back(large);
  const std::vector<BundleDemand> bundles(32, Cpus(1));
  auto placed = PlaceBundles(wire::v1::PACK, bundles, nodes, NodeId());
  ASSERT_TRUE(placed.has_value());
  EXPECT_EQ(Counts(*placed).size(), 2u);
  ExpectItFits(bundles, nodes, *placed);
}

TEST(BundlePlacement, PackJoinsTheBundlesThatAreThere) {
  auto nodes = Nodes(10, 4);
  nodes[7].bundles = 1;
  auto placed = PlaceBundles(wire::v1::PACK, {Cpus(1)}, nodes, NodeId());
  ASSERT_TRUE(placed.has_value());
  EXPECT_EQ(placed->at(0), nodes[7].id);
}

TEST(BundlePlacement, ServesTheBundleThatIsHardestToPlaceFirst) {
  // In the order given the first bundle would take the only node that has a GPU.
  std::vector<NodeView> nodes = {Node({{"CPU", 1}, {"GPU", 1}}), Node({{"CPU", 1}})};
  const std::vector<BundleDemand> bundles = {Cpus(1), {{{"CPU", 1}, {"GPU", 1}}, {}}};
  for (auto strategy : {wire::v1::PACK, wire::v1::SPREAD, wire::v1::STRICT_SPREAD}) {
    auto placed = PlaceBundles(strategy, bundles, nodes, NodeId());
    ASSERT_TRUE(placed.has_value()) << strategy;
    ExpectItFits(bundles, nodes, *placed);
  }
}

TEST(BundlePlacement, SpreadIsEven) {
  const auto nodes = Nodes(10, 8);
  const std::vector<BundleDemand> bundles(20, Cpus(1));
  auto placed = PlaceBundles(wire::v1::SPREAD, bundles, nodes, NodeId());
  ASSERT_TRUE(placed.has_value());
  const auto counts = Counts(*placed);
  EXPECT_EQ(counts.size(), 10u);
  for (const auto& [node, count] : counts) EXPECT_EQ(count, 2);
}

TEST(BundlePlacement, SpreadFallsBackToWhatFits) {
  auto placed =
      PlaceBundles(wire::v1::SPREAD, std::vector<BundleDemand>(5, Cpus(1)), Nodes(2, 4), NodeId());
  ASSERT_TRUE(placed.has_value());
  EXPECT_EQ(Counts(*placed).size(), 2u);
}

TEST(BundlePlacement, StrictPackNeedsOneNodeForAll) {
  auto nodes = Nodes(3, 4);
  const std::vector<BundleDemand> bundles(2, Cpus(2));
  nodes[0].room = ResourceSet{{"CPU", 3}};
  auto placed = PlaceBundles(wire::v1::STRICT_PACK, bundles, nodes, nodes[2].id);
  ASSERT_TRUE(placed.has_value());
  EXPECT_THAT(*placed, Each(nodes[2].id));
  EXPECT_FALSE(
      PlaceBundles(wire::v1::STRICT_PACK, std::vector<BundleDemand>(3, Cpus(2)), nodes, NodeId()));
}

TEST(BundlePlacement, StrictPackLeavesEmptyNodesToLargerGroups) {
  auto nodes = Nodes(5, 8);
  nodes[3].room = ResourceSet{{"CPU", 2}};
  auto placed = PlaceBundles(wire::v1::STRICT_PACK, {Cpus(2)}, nodes, NodeId());
  ASSERT_TRUE(placed.has_value());
  EXPECT_EQ(placed->at(0), nodes[3].id);
}

TEST(BundlePlacement, StrictSpreadNeedsANodeForEach) {
  const auto nodes = Nodes(3, 4);
  auto placed =
      PlaceBundles(wire::v1::STRICT_SPREAD, std::vector<BundleDemand>(3, Cpus(1)), nodes, NodeId());
  ASSERT_TRUE(placed.has_value());
  EXPECT_EQ(Counts(*placed).size(), 3u);
  EXPECT_FALSE(PlaceBundles(wire::v1::STRICT_SPREAD, std::vector<BundleDemand>(4, Cpus(0.1)), nodes,
                            NodeId()));
}

TEST(BundlePlacement, StrictSpreadAvoidsNodesWithBundlesOfTheGroup) {
  auto nodes = Nodes(2, 4);
  nodes[0].bundles = 1;
  auto placed = PlaceBundles(wire::v1::STRICT_SPREAD, {Cpus(1)}, nodes, NodeId());
  ASSERT_TRUE(placed.has_value());
  EXPECT_EQ(placed->at(0), nodes[1].id);
  EXPECT_FALSE(PlaceBundles(wire::v1::STRICT_SPREAD, {Cpus(1), Cpus(1)}, nodes, NodeId()));
}

TEST(BundlePlacement, LabelsChooseNodes) {
  std::vector<NodeView> nodes = {Node({{"CPU", 8}}, {{"zone", "a"}}),
                                 Node({{"CPU", 8}}, {{"zone", "b"}})};
  std::vector<BundleDemand> bundles = {Cpus(1), Cpus(1)};
  bundles[0].labels.Add(In("zone", "b"));
  bundles[1].labels.Add(In("zone", "a"));
  auto placed = PlaceBundles(wire::v1::PACK, bundles, nodes, NodeId());
  ASSERT_TRUE(placed.has_value());
  EXPECT_EQ(*placed, (std::vector<NodeId>{nodes[1].id, nodes[0].id}));
  EXPECT_FALSE(PlaceBundles(wire::v1::STRICT_PACK, bundles, nodes, NodeId()));
  bundles[0].labels.Add(In("disk", "ssd"));
  EXPECT_FALSE(PlaceBundles(wire::v1::SPREAD, bundles, nodes, NodeId()));
}

// Against the definition: trying every assignment.
bool SomeStrictSpread(const std::vector<BundleDemand>& bundles,
                      const std::vector<NodeView>& nodes) {
  std::vector<size_t> order(nodes.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  if (bundles.size() > nodes.size()) return false;
  do {
    bool all = true;
    for (size_t i = 0; i < bundles.size(); ++i) {
      all = all && bundles[i].resources.FitsIn(nodes[order[i]].room);
    }
    if (all) return true;
  } while (std::next_permutation(order.begin(), order.end()));
  return false;
}

TEST(BundlePlacement, StrictSpreadFindsAPlacementIfThereIsOne) {
  std::mt19937 random(7);
  auto any = [&](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  int possible = 0;
  for (int round = 0; round < 500; ++round) {
    std::vector<NodeView> nodes;
    for (int i = 0; i < 5; ++i) {
      nodes.push_back(Node({{"CPU", 1 + any(4)}, {any(2) == 0 ? "GPU" : "TPU", any(3)}}));
    }
    std::vector<BundleDemand> bundles;
    for (int i = 0; i < 2 + any(4); ++i) {
      bundles.push_back({{{"CPU", 1 + any(4)}, {any(2) == 0 ? "GPU" : "TPU", any(2)}}, {}});
    }
    auto placed = PlaceBundles(wire::v1::STRICT_SPREAD, bundles, nodes, NodeId());
    ASSERT_EQ(placed.has_value(), SomeStrictSpread(bundles, nodes));
    if (!placed.has_value()) continue;
    ++possible;
    ExpectItFits(bundles, nodes, *placed);
    EXPECT_EQ(Counts(*placed).size(), bundles.size());
  }
  EXPECT_GT(possible, 50);
}

TEST(BundlePlacement, EveryPlacementFits) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    std::vector<NodeView> nodes;
    for (int i = 0; i < 20; ++i) {
      nodes.push_back(Node({{"CPU", 1 + random() % 8}, {"GPU", random() % 3}}));
    }
    std::vector<BundleDemand> bundles;
    for (unsigned i = 0; i < 1 + random() % 30; ++i) {
      bundles.push_back({{{"CPU", 0.5 + random() % 3}, {"GPU", 0.5 * (random() % 3)}}, {}});
    }
    for (auto strategy : {wire::v1::PACK, wire::v1::SPREAD}) {
      auto placed = PlaceBundles(strategy, bundles, nodes, NodeId());
      if (placed.has_value()) ExpectItFits(bundles, nodes, *placed);
    }
  }
}

// The cost must not be felt with many nodes.
TEST(BundlePlacement, PlacesHundredsOfBundlesOnAThousandNodes) {
  const auto nodes = Nodes(1000, 8);
  const std::vector<BundleDemand> bundles(500, Cpus(8));
  for (auto strategy : {wire::v1::PACK, wire::v1::SPREAD, wire::v1::STRICT_SPREAD}) {
    auto placed = PlaceBundles(strategy, bundles, nodes, NodeId());
    ASSERT_TRUE(placed.has_value());
    EXPECT_EQ(Counts(*placed).size(), 500u);
  }
}

}  // namespace
}  // namespace ray::scheduling
