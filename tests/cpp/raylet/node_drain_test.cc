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
  drain_.Begin("spot", absl::InfiniteFuture());
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
  drain_.Begin("", absl::InfiniteFuture());
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

TEST_F(NodeDrainTest, LeavesAtTheDeadlineWhateverRuns) {
  drain_.Begin("spot", now_ + absl::Seconds(1));
  drain_.Look(now_);
  EXPECT_TRUE(left_.empty());
  drain_.Look(now_ + absl::Seconds(1));
  drain_.Look(now_ + absl::Seconds(2));
  EXPECT_EQ(left_.size(), 1);
}

}  // namespace
}  // namespace ray::raylet
