#include "ray/resources/node_resources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "ray/wire/v1/actors.pb.h"

namespace ray::resources {
namespace {

using base::FixedPoint;
using ::testing::ElementsAre;

InstanceShare Share(uint32_t index, double quantity) {
  return {index, FixedPoint::FromDouble(quantity)};
}

class NodeResourcesTest : public ::testing::Test {
 protected:
  ResourceAllocation Take(const ResourceSet& request) {
    auto allocation = node_.Allocate(request);
    EXPECT_TRUE(allocation.has_value()) << request.ToString();
    node_.CheckInvariants();
    return allocation.value_or(ResourceAllocation());
  }
  const std::vector<InstanceShare>& Gpus(const ResourceAllocation& allocation) {
    return allocation.instances().at("GPU");
  }

  NodeResources node_{ResourceSet{{"CPU", 4}, {"GPU", 3}, {"memory", 100}}};
};

TEST_F(NodeResourcesTest, TakesAndGivesBack) {
  ResourceAllocation allocation = Take({{"CPU", 1.5}, {"memory", 40}});
  EXPECT_EQ(node_.available(), (ResourceSet{{"CPU", 2.5}, {"GPU", 3}, {"memory", 60}}));
  node_.Release(&allocation);
  EXPECT_EQ(node_.available(), node_.total());
  EXPECT_TRUE(allocation.quantities().IsEmpty());
}

TEST_F(NodeResourcesTest, TakesNothingWhenOnePartDoesNotFit) {
  EXPECT_FALSE(node_.Allocate({{"CPU", 1}, {"memory", 101}}).has_value());
  EXPECT_EQ(node_.available(), node_.total());
}

TEST_F(NodeResourcesTest, PutsFractionsOnTheFullestDeviceThatHasRoom) {
  EXPECT_THAT(Gpus(Take({{"GPU", 0.5}})), ElementsAre(Share(0, 0.5)));
  EXPECT_THAT(Gpus(Take({{"GPU", 0.6}})), ElementsAre(Share(1, 0.6)));
  // 0.4 are free on device 1, 0.5 on device 0.
  EXPECT_THAT(Gpus(Take({{"GPU", 0.3}})), ElementsAre(Share(1, 0.3)));
  EXPECT_THAT(Gpus(Take({{"GPU", 0.5}})), ElementsAre(Share(0, 0.5)));
}

TEST_F(NodeResourcesTest, GivesWholeUnitsAsWholeDevices) {
  Take({{"GPU", 0.5}});
  EXPECT_THAT(Gpus(Take({{"GPU", 2}})), ElementsAre(Share(1, 1), Share(2, 1)));
  EXPECT_FALSE(node_.Allocate({{"GPU", 1}}).has_value());
  EXPECT_TRUE(node_.Allocate({{"GPU", 0.5}}).has_value());
}

TEST_F(NodeResourcesTest, RefusesAWholeDeviceWhenOnlyFractionsAreFree) {
  for (int i = 0; i < 3; ++i) Take({{"GPU", 0.6}});
  EXPECT_EQ(node_.available().Get("GPU"), FixedPoint::FromDouble(1.2));
  EXPECT_FALSE(node_.Allocate({{"GPU", 1}}).has_value());
}

TEST_F(NodeResourcesTest, ShrinkGivesBackTheExcessOnly) {
  ResourceAllocation allocation = Take({{"CPU", 1}, {"GPU", 2}});
  node_.ShrinkTo(&allocation, {{"GPU", 1}, {"memory", 7}});
  EXPECT_EQ(allocation.quantities(), (ResourceSet{{"GPU", 1}}));
  EXPECT_THAT(Gpus(allocation), ElementsAre(Share(0, 1)));
  EXPECT_EQ(node_.available(), (ResourceSet{{"CPU", 4}, {"GPU", 2}, {"memory", 100}}));
  node_.CheckInvariants();
}

TEST_F(NodeResourcesTest, RetakingMayOversubscribe) {
  ResourceAllocation first = Take({{"CPU", 4}});
  node_.Lend("CPU", FixedPoint::FromInt(4));
  ResourceAllocation second = Take({{"CPU", 3}});
  node_.Retake("CPU", FixedPoint::FromInt(4));
  EXPECT_EQ(node_.available().Get("CPU"), FixedPoint::FromInt(-3));
  EXPECT_FALSE(node_.Allocate({{"CPU", 0.1}}).has_value());
  EXPECT_TRUE(node_.Allocate({{"memory", 1}}).has_value());
  node_.Release(&second);
  node_.Release(&first);
  EXPECT_EQ(node_.available().Get("CPU"), FixedPoint::FromInt(4));
}

TEST_F(NodeResourcesTest, FeasibleMeansThatTheEmptyNodeCould) {
  Take({{"CPU", 4}});
  EXPECT_TRUE(node_.IsFeasible({{"CPU", 4}}));
  EXPECT_FALSE(node_.IsFeasible({{"CPU", 5}}));
  EXPECT_FALSE(node_.IsFeasible({{"TPU", 1}}));
}

TEST_F(NodeResourcesTest, TellsTheWireWhichDevices) {
  wire::v1::CreateActor message;
  Take({{"GPU", 1.5}, {"CPU", 1}}).ToWire(message.mutable_instances());
  ASSERT_EQ(message.instances_size(), 1);
  const auto& gpus = message.instances().at("GPU");
  EXPECT_THAT(gpus.indices(), ElementsAre(0, 1));
  EXPECT_THAT(gpus.quantities(), ElementsAre(10000, 5000));
}

TEST(NodeResources, KeepsItsBooksThroughRandomUse) {
  std::mt19937 random(17);
  NodeResources node(ResourceSet{{"CPU", 8}, {"GPU", 4}, {"memory", 1000}});
  std::vector<ResourceAllocation> held;
  for (int step = 0; step < 20'000; ++step) {
    if (random() % 2 == 0 || held.empty()) {
      const double gpus = random() % 3 == 0 ? random() % 4 : random() % 10 / 10.0;
      auto allocation = node.Allocate(
          {{"CPU", random() % 30 / 10.0}, {"GPU", gpus}, {"memory", 1.0 * (random() % 300)}});
      if (allocation.has_value()) held.push_back(*std::move(allocation));
    } else {
      std::swap(held[random() % held.size()], held.back());
      if (random() % 4 == 0) {
        node.ShrinkTo(&held.back(), {{"GPU", 0.5}});
      } else {
        node.Release(&held.back());
        held.pop_back();
      }
    }
    node.CheckInvariants();
    ResourceSet sum = node.available();
    for (const ResourceAllocation& allocation : held) sum += allocation.quantities();
    ASSERT_EQ(sum, node.total()) << "NRES-1 at step " << step;
  }
}

}  // namespace
}  // namespace ray::resources
