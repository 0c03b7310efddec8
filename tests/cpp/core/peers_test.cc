// Connections that outlive their sockets, through a proxy that breaks them.
#include "ray/core/peers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "ray/base/clock.h"
#include "ray/net/connection_testutil.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::core {
namespace {

using net::TextMessage;
using net::UniqueFd;
using testing::IsEmpty;
using testing::SizeIs;

constexpr uint16_t kType = wire::v1::OBJECT_COPIED;  // what the tests send is no such thing

// Passes bytes on, a few at a time, and resets what it passes on when it is told to.
class Proxy {
 public:
  explicit Proxy(std::string target) : target_(std::move(target)) {
    listening_ = *net::Listen("tcp:127.0.0.1:0");
  }
  const std::string& endpoint() const { return listening_.endpoint; }

  void Step() {
    UniqueFd accepted(accept4(listening_.fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (accepted.valid()) {
      auto onward = net::Connect(target_, absl::Seconds(1));
      if (onward.ok()) links_.push_back({std::move(accepted), *std::move(onward)});
    }
    for (Link& link : links_) {
      Pass(link.a, link.b);
      if (!answers_held_back) Pass(link.b, link.a);
    }
  }

  void ResetAll() {
    for (Link& link : links_) {
      for (UniqueFd* fd : {&link.a, &link.b}) {
        const linger at_once{1, 0};
        setsockopt(fd->get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
      }
    }
    resets_ += links_.size();
    links_.clear();
  }
  void StopListening() { listening_.fd.Reset(-1); }
  size_t resets() const { return resets_; }
  std::mt19937_64 random{7};
  bool answers_held_back = false;

 private:
  struct Link {
    UniqueFd a;
    UniqueFd b;
  };
  void Pass(const UniqueFd& from, const UniqueFd& to) {
    char bytes[4096];
    const size_t most = 1 + random() % sizeof bytes;
    const ssize_t n = recv(from.get(), bytes, most, MSG_DONTWAIT);
    if (n > 0) {
      EXPECT_EQ(send(to.get(), bytes, static_cast<size_t>(n), MSG_NOSIGNAL), n);
    } else if (n == 0) {
      shutdown(to.get(), SHUT_WR);
    }
  }

  const std::string target_;
  net::Listening listening_;
  std::vector<Link> links_;
  size_t resets_ = 0;
};

// A process, as far as its peers go.
struct Process {
  std::vector<std::string> frames;
  std::vector<PeerPtr> seen;
  int lost = 0;
  int interrupted = 0;
  std::unique_ptr<Peers> peers;

  explicit Process(net::EventLoop* loop) {
    net::Connection::Options options;
    options.token = "token";
    peers = std::make_unique<Peers>(
        loop, options,
        Peers::Events{[this](const PeerPtr& peer, const net::Frame& frame) {
                        frames.push_back(net::TextOf(frame.metadata));
                        seen.push_back(peer);
                        if (frame.correlation_id == 0) return;
                        peer->connection->Reply(frame.type, frame.correlation_id,
                                                TextMessage("re:" + frames.back()));
                      },
                      [this](const PeerPtr&, const absl::Status&) { ++lost; },
                      [this](const PeerPtr&) { ++interrupted; }});
  }
};

class PeersTest : public testing::Test {
 protected:
  PeersTest() {
    Listen(&b_);
    proxy_.emplace(b_.peers->tcp_endpoint());
    Listen(&a_);
    address_ = Named(proxy_->endpoint());
  }
  ~PeersTest() override {
    a_.peers->CloseAll();
    b_.peers->CloseAll();
    while (loop_.Poll(absl::ZeroDuration()) > 0) continue;
  }

  static AddressPtr Named(const std::string& tcp_endpoint) {
    auto address = std::make_shared<WorkerAddress>();
    address->node_id = base::NodeId::Random();
    address->worker_id = base::WorkerId::Random();
    address->tcp_endpoint = tcp_endpoint;
    wire::v1::Address message;
    address->ToProto(&message);
    address->serialized = message.SerializeAsString();
    return address;
  }
  void Listen(Process* process) {
    process->peers->SetSelf(Named("tcp:127.0.0.1:1"));
    ASSERT_TRUE(process->peers->ListenTcp("127.0.0.1", "token", {}).ok());
  }

  bool Until(absl::FunctionRef<bool()> done) {
    const int64_t end = base::MonotonicNanos() + 20'000'000'000;
    while (!done() && base::MonotonicNanos() < end) {
      proxy_->Step();
      loop_.Poll(absl::Microseconds(200));
    }
    return done();
  }
  // A connection that both know.
  PeerPtr Connected() {
    PeerPtr peer = a_.peers->Get(address_);
    peer->connection->Send(kType, TextMessage("first"));
    EXPECT_TRUE(Until([&] { return b_.frames.size() == 1; }));
    b_.frames.clear();
    return peer;
  }

  net::EventLoop loop_;
  Process a_{&loop_};
  Process b_{&loop_};
  std::optional<Proxy> proxy_;
  AddressPtr address_;
};

TEST_F(PeersTest, AcrossBreaksEachFrameArrivesOnceAndInOrder) {  // CONN-5, PEERS-1
  constexpr int kFrames = 3000;
  std::vector<std::string> sent;
  std::vector<std::string> replies;
  PeerPtr peer = a_.peers->Get(address_);
  for (int i = 0; i < kFrames; ++i) {
    sent.push_back(std::to_string(i) + std::string(proxy_->random() % 300, 'x'));
    peer->connection->Call(kType, TextMessage(sent.back()), [&](absl::StatusOr<net::Frame> reply) {
      ASSERT_TRUE(reply.ok()) << reply.status();
      replies.push_back(net::TextOf(reply->metadata));
    });
    if (i % 3 != 0) continue;
    proxy_->Step();
    loop_.Poll(absl::ZeroDuration());
    if (proxy_->random() % 40 == 0) proxy_->ResetAll();
  }
  ASSERT_TRUE(Until([&] { return replies.size() == kFrames; }));
  EXPECT_EQ(b_.frames, sent);
  for (int i = 0; i < kFrames; ++i) ASSERT_EQ(replies[i], "re:" + sent[i]);
  EXPECT_GE(proxy_->resets(), 3u);
  EXPECT_EQ(a_.lost + b_.lost, 0);
  for (const PeerPtr& seen : b_.seen) ASSERT_EQ(seen, b_.seen[0]);
}

TEST_F(PeersTest, WhatWasConfirmedIsKeptNoLonger) {
  PeerPtr peer = Connected();
  const std::string text(1000, 'x');
  for (int i = 0; i < 2000; ++i) peer->connection->Send(kType, TextMessage(text));
  ASSERT_TRUE(Until([&] { return b_.frames.size() == 2000; }));
  // All but what the peer says once a second.
  ASSERT_TRUE(Until([&] { return peer->connection->confirmed_bytes() > 2'000'000 - (128 << 10); }));
  proxy_->ResetAll();
  peer->connection->Send(kType, TextMessage("last"));
  ASSERT_TRUE(Until([&] { return b_.frames.size() == 2001; }));
  EXPECT_EQ(b_.frames.back(), "last");
}

// Lost with the socket, it comes after the exchange of what was received, which says more.
TEST_F(PeersTest, AConfirmationThatIsSentAgainIsOldNews) {
  PeerPtr peer = Connected();
  const std::string text(1000, 'x');
  proxy_->answers_held_back = true;
  for (int i = 0; i < 200; ++i) peer->connection->Send(kType, TextMessage(text));
  ASSERT_TRUE(Until([&] { return b_.frames.size() == 200; }));  // confirmed once, in between
  proxy_->ResetAll();
  proxy_->answers_held_back = false;
  std::optional<absl::Status> answer;
  peer->connection->Call(kType, TextMessage("last"),
                         [&](absl::StatusOr<net::Frame> reply) { answer = reply.status(); });
  ASSERT_TRUE(Until([&] { return answer.has_value(); }));
  EXPECT_EQ(*answer, absl::OkStatus());
  EXPECT_EQ(b_.frames.size(), 201u);
  EXPECT_EQ(a_.lost + b_.lost, 0);
}

TEST_F(PeersTest, APeerWhereNobodyListensIsLost) {
  PeerPtr peer = Connected();
  bool failed = false;
  peer->connection->Call(kType, TextMessage("x"),
                         [&](absl::StatusOr<net::Frame> reply) { failed = !reply.ok(); });
  proxy_->StopListening();
  proxy_->ResetAll();
  EXPECT_TRUE(Until([&] { return a_.lost == 1; }));
  EXPECT_TRUE(failed);
}

TEST_F(PeersTest, WhoAcceptedTheConnectionSaysThatItIsInterrupted) {
  PeerPtr peer = Connected();
  PeerPtr accepted = b_.seen.at(0);
  proxy_->StopListening();
  proxy_->ResetAll();
  ASSERT_TRUE(Until([&] { return b_.interrupted > 0; }));
  EXPECT_EQ(b_.lost, 0);
  EXPECT_FALSE(accepted->connection->closed());
  b_.peers->Forget(accepted);
  EXPECT_TRUE(Until([&] { return b_.lost == 1; }));
}

TEST_F(PeersTest, AConnectionThatThePeerHasGivenUpIsLost) {
  PeerPtr peer = Connected();
  // So that it is not taken for one whose first frames were lost.
  peer->connection->Call(kType, TextMessage("x"), [](absl::StatusOr<net::Frame>) {});
  ASSERT_TRUE(Until([&] { return peer->connection->received_bytes() > 0; }));
  b_.seen.at(0)->connection->Interrupt(absl::UnavailableError("test"));
  b_.peers->Forget(b_.seen.at(0));
  EXPECT_TRUE(Until([&] { return a_.lost == 1; }));
  EXPECT_THAT(a_.frames, IsEmpty());
}

TEST_F(PeersTest, ADeadNodesConnectionsAreLostEvenIfInterrupted) {
  PeerPtr peer = Connected();
  proxy_->StopListening();
  proxy_->ResetAll();
  a_.peers->NodeGone(address_->node_id);
  EXPECT_TRUE(Until([&] { return a_.lost == 1; }));
}

}  // namespace
}  // namespace ray::core
