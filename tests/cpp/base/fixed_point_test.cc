#include "ray/base/fixed_point.h"

#include <gtest/gtest.h>

namespace ray::base {
namespace {

TEST(FixedPoint, TenthsAddUpExactly) {
  FixedPoint sum = FixedPoint::FromDouble(0.1) + FixedPoint::FromDouble(0.2);
  EXPECT_TRUE((sum - FixedPoint::FromDouble(0.3)).IsZero());
}

TEST(FixedPoint, RoundsToTheNearestUnit) {
  EXPECT_EQ(FixedPoint::FromDouble(0.00004).raw(), 0);
  EXPECT_EQ(FixedPoint::FromDouble(0.00006).raw(), 1);
  EXPECT_EQ(FixedPoint::FromDouble(-0.00006).raw(), -1);
  EXPECT_EQ(FixedPoint::FromDouble(1.0 / 3).raw(), 3333);
}

TEST(FixedPoint, ConvertsBothWays) {
  EXPECT_EQ(FixedPoint::FromInt(3).raw(), 3 * FixedPoint::kUnit);
  EXPECT_EQ(FixedPoint::FromRaw(2500).ToDouble(), 0.25);
  EXPECT_EQ(FixedPoint::FromDouble(FixedPoint::FromRaw(12345).ToDouble()),
            FixedPoint::FromRaw(12345));
}

TEST(FixedPoint, ComparesByValue) {
  EXPECT_LT(FixedPoint::FromDouble(0.5), FixedPoint::FromInt(1));
  EXPECT_EQ(FixedPoint::FromDouble(1.0), FixedPoint::FromInt(1));
  EXPECT_EQ(FixedPoint(), FixedPoint::FromInt(0));
}

}  // namespace
}  // namespace ray::base
