// How many strangers a listener takes, and how loudly it complains of them.
#include "ray/net/listener.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/cpp/net/proof_fixture.h"

namespace ray::net {
namespace {

using Role = Connection::Role;

class ListenerTest : public ProofTest {
 protected:
  void StartListener(size_t unproven_max) {
    options_.unproven_connections_max = unproven_max;
    auto listener = Listener::Create(&loop_, "tcp:127.0.0.1:0", options_, [this](auto connection) {
      auto side = std::make_unique<Side>();
      side->connection = std::move(connection);
      side->Start();
      accepted_.push_back(std::move(side));
    });
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
  }
  UniqueFd ConnectToIt() {
    auto fd = Connect(listener_->endpoint(), absl::Seconds(5));
    EXPECT_TRUE(fd.ok()) << fd.status();
    return *std::move(fd);
  }

  std::unique_ptr<Listener> listener_;
  std::vector<std::unique_ptr<Side>> accepted_;
};

INSTANTIATE_TEST_SUITE_P(Connections, ListenerTest, ::testing::Bool(), PlainOrTls);

TEST_P(ListenerTest, AcceptsNoMoreStrangersThanAllowedUntilOneIsGone) {  // LISTEN-1
  StartListener(3);
  std::vector<UniqueFd> strangers;
  for (int i = 0; i < 10; ++i) strangers.push_back(ConnectToIt());
  for (int i = 0; i < 100; ++i) loop_.Poll(absl::ZeroDuration());
  EXPECT_EQ(accepted_.size(), 3u);
  strangers[0].Reset(-1);
  strangers[1].Reset(-1);
  ASSERT_TRUE(Until([&] { return accepted_.size() == 5; }));
  for (int i = 0; i < 100; ++i) loop_.Poll(absl::ZeroDuration());
  EXPECT_EQ(accepted_.size(), 5u);
}

TEST_P(ListenerTest, PeersThatProveThemselvesMakeRoom) {
  StartListener(2);
  std::vector<std::unique_ptr<Side>> peers;
  for (int i = 0; i < 20; ++i) {
    auto fd = StartConnect(listener_->endpoint());
    ASSERT_TRUE(fd.ok());
    peers.push_back(std::make_unique<Side>());
    peers.back()->Create(&loop_, *std::move(fd), options_, Role::kConnector);
    peers.back()->Start();
    peers.back()->Send("hi");
  }
  ASSERT_TRUE(Until([&] {
    size_t heard = 0;
    for (const auto& side : accepted_) heard += side->frames.size();
    return heard == peers.size();
  }));
}

TEST_P(ListenerTest, SlowStrangersGiveWayInTime) {
  options_.handshake_timeout = absl::Milliseconds(30);
  StartListener(2);
  std::vector<UniqueFd> strangers;
  for (int i = 0; i < 6; ++i) strangers.push_back(ConnectToIt());
  ASSERT_TRUE(Until([&] { return accepted_.size() == 6 && !accepted_.back()->closes.empty(); }));
}

TEST_P(ListenerTest, StrangersMayOutliveIt) {
  StartListener(2);
  UniqueFd stranger = ConnectToIt();
  ASSERT_TRUE(Until([&] { return accepted_.size() == 1; }));
  listener_.reset();
  stranger.Reset(-1);
  ASSERT_TRUE(Until([&] { return !accepted_[0]->closes.empty(); }));
}

TEST_P(ListenerTest, RefusesAnAddressOfOthersWithoutAToken) {
  options_.token = "";
  for (const char* endpoint : {"tcp:0.0.0.0:0", "tcp:[::]:0", "tcp:10.0.0.1:0"}) {
    EXPECT_EQ(Listener::Create(&loop_, endpoint, options_, {}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(Listener::Create(&loop_, "tcp:127.0.0.1:0", options_, {}).ok());
}

TEST(LogThrottle, LetsOneThroughAnIntervalAndCountsTheRest) {
  LogThrottle throttle(absl::Nanoseconds(10));
  EXPECT_EQ(throttle.Admit(100), 0);
  EXPECT_EQ(throttle.Admit(101), std::nullopt);
  EXPECT_EQ(throttle.Admit(109), std::nullopt);
  EXPECT_EQ(throttle.Admit(110), 2);
  EXPECT_EQ(throttle.Admit(120), 0);
}

}  // namespace
}  // namespace ray::net
