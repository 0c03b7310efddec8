#include "ray/base/clock.h"

#include <gtest/gtest.h>

namespace ray::base {
namespace {

TEST(Clock, RealTimeDoesNotGoBack) {
  int64_t nanos = MonotonicNanos();
  absl::Time time = RealClock::Get()->Now();
  EXPECT_GE(absl::ToUnixNanos(time), nanos);
  EXPECT_GE(RealClock::Get()->Now(), time);
}

TEST(Clock, VirtualTimeMovesOnlyWhenTold) {
  VirtualClock clock;
  absl::Time start = clock.Now();
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(absl::Seconds(3));
  EXPECT_EQ(clock.Now() - start, absl::Seconds(3));
}

}  // namespace
}  // namespace ray::base
