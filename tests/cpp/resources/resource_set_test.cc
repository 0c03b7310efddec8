#include "ray/resources/resource_set.h"

#include <gtest/gtest.h>

#include "absl/hash/hash_testing.h"
#include "ray/wire/v1/resources.pb.h"

namespace ray::resources {
namespace {

using base::FixedPoint;

TEST(ResourceSet, AddsTenthsExactly) {
  ResourceSet set{{"CPU", 0.1}};
  set += ResourceSet{{"CPU", 0.2}};
  set -= ResourceSet{{"CPU", 0.3}};
  EXPECT_TRUE(set.IsEmpty());
}

TEST(ResourceSet, DropsZerosSoThatEqualSetsAreEqual) {
  EXPECT_EQ((ResourceSet{{"CPU", 1}, {"GPU", 0}}), (ResourceSet{{"CPU", 1}}));
  EXPECT_EQ((ResourceSet{{"a", 1}, {"b", 2}}), (ResourceSet{{"b", 2}, {"a", 1}}));
  EXPECT_TRUE(absl::VerifyTypeImplementsAbslHashCorrectly({ResourceSet{}, ResourceSet{{"a", 1}},
                                                           ResourceSet{{"a", 2}},
                                                           ResourceSet{{"a", 1}, {"b", 1}}}));
}

TEST(ResourceSet, FitsInComparesEachName) {
  const ResourceSet pool{{"CPU", 2}, {"GPU", 0.5}};
  EXPECT_TRUE(ResourceSet{}.FitsIn(pool));
  EXPECT_TRUE((ResourceSet{{"CPU", 2}, {"GPU", 0.5}}).FitsIn(pool));
  EXPECT_FALSE((ResourceSet{{"CPU", 2.0001}}).FitsIn(pool));
  EXPECT_FALSE((ResourceSet{{"CPU", 1}, {"custom", 1}}).FitsIn(pool));
}

TEST(ResourceSet, RestrictKeepsWhatTheOtherNames) {
  const ResourceSet all{{"CPU", 2}, {"GPU", 1}, {"memory", 5}};
  EXPECT_EQ(all.Restrict({{"GPU", 9}, {"TPU", 1}}), (ResourceSet{{"GPU", 1}}));
}

TEST(ResourceSet, MaxTakesTheLargerOfEachName) {
  EXPECT_EQ(ResourceSet::Max({{"CPU", 1}, {"GPU", 1}}, {{"CPU", 2}, {"memory", 5}}),
            (ResourceSet{{"CPU", 2}, {"GPU", 1}, {"memory", 5}}));
}

TEST(ResourceSet, TravelsOverTheWire) {
  const ResourceSet set{{"CPU", 1.5}, {"memory", 1e9}};
  const auto back = ResourceSet::FromWire(set.ToWire());
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, set);
}

TEST(ResourceSet, SendsAnOversubscribedQuantityAsNone) {
  ResourceSet set{{"CPU", -1}, {"GPU", 1}};
  EXPECT_EQ(set.ToWire().quantities_size(), 1);
}

TEST(ResourceSet, RefusesNegativeQuantitiesAndEmptyNamesOfPeers) {
  wire::v1::ResourceSet negative;
  (*negative.mutable_quantities())["CPU"] = -1;
  EXPECT_EQ(ResourceSet::FromWire(negative).status().code(), absl::StatusCode::kInvalidArgument);
  wire::v1::ResourceSet nameless;
  (*nameless.mutable_quantities())[""] = 1;
  EXPECT_EQ(ResourceSet::FromWire(nameless).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ResourceSet, PrintsForPeople) {
  EXPECT_EQ((ResourceSet{{"GPU", 0.5}, {"CPU", 1}}).ToString(), "{CPU: 1, GPU: 0.5}");
  EXPECT_EQ(FormatQuantity(FixedPoint::FromInt(17'693'551'412)), "17693551412");
  EXPECT_EQ(FormatQuantity(FixedPoint::FromRaw(-10'203)), "-1.0203");
  EXPECT_EQ(FormatQuantity(FixedPoint()), "0");
}

}  // namespace
}  // namespace ray::resources
