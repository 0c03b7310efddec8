// Peers that vanish without a word: their network is cut.
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>
#include <string>
#include <thread>

#include "ray/net/authentication.h"
#include "tests/cpp/net/proof_fixture.h"

namespace ray::net {
namespace {

using Role = Connection::Role;

// Cuts the loopback of this thread's network namespace, or joins it again.
void SetLoopback(bool up) {
  UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", 3);
  ASSERT_EQ(ioctl(fd.get(), SIOCGIFFLAGS, &request), 0);
  request.ifr_flags =
      static_cast<short>(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
  ASSERT_EQ(ioctl(fd.get(), SIOCSIFFLAGS, &request), 0);
}

// Two ends of a proved TCP connection, the acceptor's in the hands of the test.
struct TcpPair {
  EventLoop loop;
  Side connector;
  UniqueFd peer;

  void Connect(const Connection::Options& options) {
    auto listening = Listen("tcp:127.0.0.1:0");
    ASSERT_TRUE(listening.ok());
    auto fd = net::Connect(listening->endpoint, absl::Seconds(5));
    ASSERT_TRUE(fd.ok());
    peer.Reset(accept4(listening->fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    connector.Create(&loop, *std::move(fd), options, Role::kConnector);
    connector.Start();
    Authentication acceptor(Authentication::Side::kAcceptor, options.token);
    while (connector.proofs.empty()) {
      loop.Poll(absl::Milliseconds(1));
      const std::string bytes = ReadAll(peer);
      if (bytes.empty()) continue;
      std::string answer;
      ASSERT_TRUE(acceptor.Receive(bytes.substr(sizeof(FrameHeader)), &answer).ok());
      Write(peer, AuthenticateFrame(answer));
    }
  }
};

TEST(VanishedPeer, BreaksTheConnectionWhetherOrNotItIsQuiet) {
  bool has_privilege = true;
  std::thread([&] {
    if (unshare(CLONE_NEWNET) != 0) {
      has_privilege = false;
      return;
    }
    SetLoopback(true);
    Connection::Options options;
    options.peer_timeout = absl::Seconds(1);
    TcpPair busy, quiet;
    busy.Connect(options);
    quiet.Connect(options);
    SetLoopback(false);
    busy.connector.Send("is anybody there?");
    EXPECT_TRUE(PollUntil(&busy.loop, [&] { return !busy.connector.closes.empty(); }));
    EXPECT_TRUE(PollUntil(&quiet.loop, [&] { return !quiet.connector.closes.empty(); }));
    EXPECT_TRUE(absl::IsUnavailable(busy.connector.closes.at(0)));
    EXPECT_TRUE(absl::IsUnavailable(quiet.connector.closes.at(0)));
  }).join();
  if (!has_privilege) GTEST_SKIP() << "needs the privilege to make a network namespace";
}

TEST(VanishedPeer, PeerThatDoesNotReadIsNotGone) {
  Connection::Options options;
  options.peer_timeout = absl::Milliseconds(200);
  TcpPair pair;
  pair.Connect(options);
  const std::string chunk(1 << 20, 'x');
  for (int i = 0; i < 20; ++i) pair.connector.Send(chunk);
  EXPECT_FALSE(PollUntil(
      &pair.loop, [&] { return !pair.connector.closes.empty(); }, absl::Seconds(1)));
  EXPECT_TRUE(pair.connector.connection->has_buffered());
  pair.connector.connection->Close(absl::CancelledError("test ends"));
  EXPECT_TRUE(PollUntil(&pair.loop, [&] { return !pair.connector.closes.empty(); }));
}

}  // namespace
}  // namespace ray::net
