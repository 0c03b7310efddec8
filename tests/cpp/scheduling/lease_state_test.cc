#include "ray/scheduling/lease_state.h"

#include <gtest/gtest.h>

namespace ray::scheduling {
namespace {

TEST(LeaseState, EndsFromEverywhereAndStaysEnded) {
  for (LeaseState from :
       {LeaseState::kAwaitingWorker, LeaseState::kRunning, LeaseState::kBlocked}) {
    EXPECT_TRUE(MayFollow(from, LeaseState::kEnded));
    EXPECT_FALSE(MayFollow(LeaseState::kEnded, from));
  }
}

TEST(LeaseState, NeedsAWorkerToRunAndRunsToBlock) {
  EXPECT_TRUE(MayFollow(LeaseState::kAwaitingWorker, LeaseState::kRunning));
  EXPECT_FALSE(MayFollow(LeaseState::kAwaitingWorker, LeaseState::kBlocked));
  EXPECT_TRUE(MayFollow(LeaseState::kRunning, LeaseState::kBlocked));
  EXPECT_TRUE(MayFollow(LeaseState::kBlocked, LeaseState::kRunning));
  EXPECT_FALSE(MayFollow(LeaseState::kRunning, LeaseState::kRunning));
}

}  // namespace
}  // namespace ray::scheduling
