#include "ray/raylet/death_records.h"

#include <gtest/gtest.h>

namespace ray::raylet {
namespace {

class DeathRecordsTest : public ::testing::Test {
 protected:
  static WorkerDeath OfSomebody() { return {.worker = base::WorkerId::Random()}; }

  net::EventLoop loop_;
  FrameRouter router_;
};

TEST_F(DeathRecordsTest, RemembersTheLatest) {
  DeathRecords records(&loop_, &router_, /*pool=*/nullptr, /*clients=*/nullptr, /*peers=*/nullptr,
                       /*limit=*/10);
  for (int i = 0; i < 1000; ++i) records.WorkerDied(OfSomebody(), "it ended");
  EXPECT_EQ(records.size(), 10u);
}

TEST_F(DeathRecordsTest, MayRememberNone) {
  DeathRecords records(&loop_, &router_, /*pool=*/nullptr, /*clients=*/nullptr, /*peers=*/nullptr,
                       /*limit=*/0);
  for (int i = 0; i < 10; ++i) records.WorkerDied(OfSomebody(), "it ended");
  EXPECT_EQ(records.size(), 0u);
}

TEST_F(DeathRecordsTest, LeavesOutThoseThatNobodyKnew) {
  DeathRecords records(&loop_, &router_, /*pool=*/nullptr, /*clients=*/nullptr, /*peers=*/nullptr,
                       /*limit=*/10);
  records.WorkerDied({}, "it never came up");
  EXPECT_EQ(records.size(), 0u);
}

}  // namespace
}  // namespace ray::raylet
