#include "ray/raylet/task_event_log.h"

#include <gtest/gtest.h>

namespace ray::raylet {
namespace {

class TaskEventLogTest : public ::testing::Test {
 protected:
  void Tell(int events) {
    wire::v1::TaskEvents message;
    for (int i = 0; i < events; ++i) message.add_events();
    const std::string metadata = message.SerializeAsString();
    net::Frame frame;
    frame.type = wire::v1::TASK_EVENTS;
    frame.metadata = metadata;
    ASSERT_TRUE(router_.Route(client_, frame).ok());
  }

  net::EventLoop loop_;
  NodeIdentity identity_;
  net::LastingConnections lasting_{&loop_};
  NodePeers peers_{&loop_, &identity_, &lasting_, {}, {}};
  Client client_;
  FrameRouter router_;
  TaskEventLog log_{&loop_, &router_, &peers_, /*limit=*/100};
};

TEST_F(TaskEventLogTest, KeepsTheLatestEvents) {
  for (int i = 0; i < 1000; ++i) Tell(10);
  EXPECT_EQ(log_.batches(), 10u);
}

TEST_F(TaskEventLogTest, KeepsNoBatchWithoutEvents) {
  for (int i = 0; i < 1000; ++i) Tell(0);
  EXPECT_EQ(log_.batches(), 0u);
}

}  // namespace
}  // namespace ray::raylet
