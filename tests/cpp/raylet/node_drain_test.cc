#include "ray/raylet/node_drain.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace ray::raylet {
namespace {

class NodeDrainTest : public testing::Test {
 protected:
  const absl::Time now_ = absl::UnixEpoch();
  bool idle_ = false;
  std::vector<NodeDrain::Done> moves_;
  std::vector<std::string> left_;
  NodeDrain drain_{
      {.is_idle = [this] { return idle_; },
       .move_objects = [this](NodeDrain::Done done) { moves_.push_back(std::move(done)); },
       .leave = [this](const std::string& reason) { left_.push_back(reason); }}};
};

TEST_F(NodeDrainTest, DoesNothingUnlessItIsTold) {
  idle_ = true;
  drain_.Look(now_);
  EXPECT_FALSE(drain_.draining());
  EXPECT_TRUE(moves_.empty());
}

TEST_F(NodeDrainTest, WaitsUntilNothingRunsThenMovesObjectsThenLeavesOnce) {
  drain_.Begin("spot", absl::InfiniteFuture(), now_);
  drain_.Look(now_);
  EXPECT_TRUE(drain_.draining());
  EXPECT_TRUE(moves_.empty());
  idle_ = true;
  drain_.Look(now_);
  drain_.Look(now_);
  ASSERT_EQ(moves_.size(), 1);
  EXPECT_TRUE(left_.empty());
  moves_[0]();
  drain_.Look(now_);
  EXPECT_EQ(left_, std::vector<std::string>{"it was drained: spot"});
}

TEST_F(NodeDrainTest, StaysForWhoCameWhileObjectsWereMoved) {
  drain_.Begin("", absl::InfiniteFuture(), now_);
  idle_ = true;
  drain_.Look(now_);
  idle_ = false;
  moves_.at(0)();
  EXPECT_TRUE(left_.empty());
  idle_ = true;
  drain_.Look(now_);
  moves_.at(1)();
  EXPECT_EQ(left_, std::vector<std::string>{"it was drained"});
}

TEST_F(NodeDrainTest, WhatRunsUntilTheDeadlineKeepsNoObjectsFromMoving) {
  drain_.Begin("spot", now_ + absl::Seconds(60), now_);
  drain_.Look(now_ + absl::Seconds(49));
  EXPECT_TRUE(moves_.empty());
  drain_.Look(now_ + absl::Seconds(50));
  ASSERT_EQ(moves_.size(), 1) << "ahead of the deadline";
  moves_[0]();
  drain_.Look(now_ + absl::Seconds(55));
  EXPECT_EQ(moves_.size(), 1) << "once";
  EXPECT_TRUE(left_.empty());
  drain_.Look(now_ + absl::Seconds(60));
  ASSERT_EQ(moves_.size(), 2) << "what was made since";
  drain_.Look(now_ + absl::Seconds(61));
  EXPECT_TRUE(left_.empty());
  moves_[1]();
  drain_.Look(now_ + absl::Seconds(62));
  EXPECT_EQ(left_.size(), 1);
}

TEST_F(NodeDrainTest, LeavesSoonAfterTheDeadlineWhateverIsLeft) {
  drain_.Begin("spot", now_ + absl::Seconds(1), now_);
  drain_.Look(now_ + absl::Milliseconds(500));
  ASSERT_EQ(moves_.size(), 1) << "half of a short time is left to what runs";
  drain_.Look(now_ + absl::Seconds(5));
  EXPECT_EQ(moves_.size(), 1) << "one at a time";
  EXPECT_TRUE(left_.empty());
  drain_.Look(now_ + absl::Seconds(11));
  drain_.Look(now_ + absl::Seconds(12));
  EXPECT_EQ(left_.size(), 1) << "DRAIN-3";
  moves_[0]();
  EXPECT_EQ(left_.size(), 1) << "DRAIN-1";
}

TEST_F(NodeDrainTest, LeavesAtOnceWhenAllHasEndedAfterAnEarlyMove) {
  drain_.Begin("spot", now_ + absl::Seconds(60), now_);
  drain_.Look(now_ + absl::Seconds(50));
  idle_ = true;
  moves_.at(0)();
  EXPECT_EQ(left_.size(), 1);
}

}  // namespace
}  // namespace ray::raylet
