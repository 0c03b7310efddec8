#include "ray/gcs/deadlines.h"

#include <gtest/gtest.h>

#include <string>

namespace ray::gcs {
namespace {

TEST(Deadlines, RunsWhatIsDueInOrder) {
  base::VirtualClock clock;
  Deadlines deadlines(&clock);
  std::string ran;
  deadlines.After(absl::Seconds(2), [&] { ran += "c"; });
  deadlines.After(absl::Seconds(1), [&] { ran += "a"; });
  deadlines.After(absl::Seconds(1), [&] { ran += "b"; });
  EXPECT_EQ(deadlines.Next(), clock.Now() + absl::Seconds(1));
  deadlines.RunDue();
  EXPECT_EQ(ran, "");
  clock.Advance(absl::Seconds(1));
  deadlines.RunDue();
  EXPECT_EQ(ran, "ab");
  clock.Advance(absl::Seconds(1));
  deadlines.RunDue();
  EXPECT_EQ(ran, "abc");
  EXPECT_EQ(deadlines.Next(), absl::InfiniteFuture());
}

TEST(Deadlines, LeavesATaskThatATaskAddedForLaterToLater) {
  base::VirtualClock clock;
  Deadlines deadlines(&clock);
  int ran = 0;
  deadlines.After(absl::ZeroDuration(), [&] {
    ++ran;
    deadlines.After(absl::Seconds(1), [&] { ++ran; });
    deadlines.After(absl::ZeroDuration(), [&] { ++ran; });
  });
  deadlines.RunDue();
  EXPECT_EQ(ran, 2);
}

}  // namespace
}  // namespace ray::gcs
