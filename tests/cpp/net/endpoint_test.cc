#include "ray/net/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "ray/base/temp_folder_testutil.h"
#include "ray/net/connection_testutil.h"
#include "ray/net/event_loop_testutil.h"
#include "ray/net/listener.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::net {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr absl::Duration kPatience = absl::Seconds(20);

class EndpointTest : public ::testing::Test {
 protected:
  void ExpectServes(std::string_view endpoint) {
    std::vector<std::shared_ptr<Connection>> accepted;
    std::string received;
    auto listener =
        Listener::Create(&loop_, endpoint, {}, [&](std::shared_ptr<Connection> connection) {
          connection->Start(
              {.on_frame = [&](const std::shared_ptr<Connection>&,
                               const Frame& frame) { received = TextOf(frame.metadata); },
               .on_close = [](const std::shared_ptr<Connection>&, const absl::Status&) {}});
          accepted.push_back(std::move(connection));
        });
    ASSERT_TRUE(listener.ok()) << listener.status();
    auto fd = Connect((*listener)->endpoint(), kPatience);
    ASSERT_TRUE(fd.ok()) << fd.status();
    const bool is_tcp = endpoint.starts_with("tcp:");
    auto client =
        Connection::Create(&loop_, *std::move(fd), {},
                           is_tcp ? Connection::Role::kConnector : Connection::Role::kTrusted);
    client->Start({.on_frame = [](const auto&, const Frame&) {},
                   .on_close = [](const auto&, const absl::Status&) {}});
    client->Send(wire::v1::ERROR, TextMessage("hi"));
    EXPECT_TRUE(PollUntil(&loop_, [&] { return received == "hi"; }));
  }

  const base::TempFolder folder_;
  EventLoop loop_;
};

TEST_F(EndpointTest, ServesAUnixSocket) { ExpectServes("unix:" + folder_ / "s"); }

TEST_F(EndpointTest, ServesAUnixSocketWithALongPath) {
  std::string deep = folder_ / std::string(100, 'a') + "/" + std::string(100, 'b');
  std::filesystem::create_directories(deep);
  ExpectServes("unix:" + deep + "/s");
}

TEST_F(EndpointTest, ServesTcpOnAChosenPort) {
  auto listening = Listen("tcp:127.0.0.1:0");
  ASSERT_TRUE(listening.ok()) << listening.status();
  EXPECT_THAT(listening->endpoint, StartsWith("tcp:127.0.0.1:"));
  EXPECT_NE(listening->endpoint, "tcp:127.0.0.1:0");
  ExpectServes("tcp:127.0.0.1:0");
}

TEST_F(EndpointTest, UnixSocketIsForItsUserAndGoesWithItsListener) {
  std::string path = folder_ / "s";
  {
    auto listener =
        Listener::Create(&loop_, "unix:" + path, {}, [](std::shared_ptr<Connection>) {});
    ASSERT_TRUE(listener.ok());
    struct stat info;
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0700u);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(EndpointTest, StaleSocketFileIsReplaced) {
  std::string endpoint = "unix:" + folder_ / "s";
  { ASSERT_TRUE(Listen(endpoint).ok()); }  // leaves the file, as a killed process does
  EXPECT_EQ(Connect(endpoint, kPatience).status().code(), absl::StatusCode::kUnavailable);
  ExpectServes(endpoint);
}

TEST_F(EndpointTest, NobodyThereIsUnavailableAndNamed) {
  std::string endpoint = "unix:" + folder_ / "nobody";
  absl::Status status = Connect(endpoint, kPatience).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(endpoint));

  auto listening = Listen("tcp:127.0.0.1:0");
  ASSERT_TRUE(listening.ok());
  listening->fd.Reset(-1);
  EXPECT_EQ(Connect(listening->endpoint, kPatience).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(EndpointTest, MalformedEndpointsAreRefused) {
  for (const char* endpoint : {"", "file", "http://x", "tcp:", "tcp:host",
                               "tcp:host:", "tcp:host:x", "tcp:host:70000", "tcp:host:-1"}) {
    EXPECT_EQ(Connect(endpoint, kPatience).status().code(), absl::StatusCode::kInvalidArgument)
        << endpoint;
    EXPECT_EQ(Listen(endpoint).status().code(), absl::StatusCode::kInvalidArgument) << endpoint;
  }
}

TEST_F(EndpointTest, UnixNameThatNoSocketCanHaveIsRefused) {
  EXPECT_EQ(Listen("unix:" + folder_ / std::string(150, 'n')).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(EndpointTest, FullBacklogIsNoConnection) {
  std::string path = folder_ / "full";
  UniqueFd busy(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(bind(busy.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(busy.get(), 0), 0);
  std::vector<UniqueFd> waiting;
  absl::Status last;
  for (int i = 0; i < 5 && last.ok(); ++i) {
    auto fd = Connect("unix:" + path, absl::Milliseconds(10));
    last = fd.status();
    if (fd.ok()) waiting.push_back(*std::move(fd));
  }
  EXPECT_EQ(last.code(), absl::StatusCode::kUnavailable);
}

TEST(UniqueFd, ClosesWhatItHolds) {
  auto [a, b] = MakeSocketPair();
  UniqueFd moved = std::move(a);
  EXPECT_FALSE(a.valid());
  moved = UniqueFd();
  char byte;
  EXPECT_EQ(recv(b.get(), &byte, 1, MSG_DONTWAIT), 0);  // the other end is closed
  int raw = b.Release();
  EXPECT_FALSE(b.valid());
  UniqueFd owner(raw);
}

}  // namespace
}  // namespace ray::net
