#include "ray/gcs/tcp_node_probe.h"

#include <gtest/gtest.h>

#include <optional>

#include "absl/strings/str_cat.h"

namespace ray::gcs {
namespace {

class TcpNodeProbeTest : public testing::Test {
 protected:
  bool Ask(const std::string& endpoint) {
    std::optional<bool> outcome;
    probe_.Ask(endpoint, [&](bool refused) { outcome = refused; });
    EXPECT_FALSE(outcome.has_value()) << "called back inside Ask";
    while (!outcome.has_value()) loop_.Poll(absl::InfiniteDuration());
    return *outcome;
  }

  net::EventLoop loop_;
  TcpNodeProbe probe_{&loop_, absl::Milliseconds(200)};
};

TEST_F(TcpNodeProbeTest, TellsAListenerFromAnEndedOne) {
  for (const char* host : {"127.0.0.1", "[::1]"}) {
    auto listening = net::Listen(absl::StrCat("tcp:", host, ":0"));
    if (!listening.ok()) continue;  // a machine without IPv6
    EXPECT_FALSE(Ask(listening->endpoint)) << host;
    listening->fd.Reset(-1);
    EXPECT_TRUE(Ask(listening->endpoint)) << host;
  }
}

TEST_F(TcpNodeProbeTest, WhatCannotBeAskedIsNotRefused) {
  for (const char* endpoint : {"", "tcp:", "tcp:127.0.0.1", "tcp:nowhere.invalid:1", "unix:/x",
                               "tcp:127.0.0.1:", "tcp:127.0.0.1:name", "tcp:127.0.0.1:99999999"}) {
    EXPECT_FALSE(Ask(endpoint)) << endpoint;
  }
}

TEST_F(TcpNodeProbeTest, AnEndedProbeDoesNotCallBack) {
  auto listening = net::Listen("tcp:127.0.0.1:0");
  ASSERT_TRUE(listening.ok());
  {
    TcpNodeProbe probe(&loop_, absl::Milliseconds(10));
    probe.Ask(listening->endpoint, [](bool) { FAIL(); });
    probe.Ask("", [](bool) { FAIL(); });
  }
  loop_.Poll(absl::Milliseconds(30));
}

}  // namespace
}  // namespace ray::gcs
