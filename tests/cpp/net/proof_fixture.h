// Connections whose peers must prove the cluster's token to each other, in plain text and within
// TLS: both ends, or one end and what the test does by hand.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "ray/net/connection.h"
#include "ray/net/connection_testutil.h"
#include "ray/net/event_loop_testutil.h"
#include "ray/net/tls_testutil.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::net {

struct Side {
  std::shared_ptr<Connection> connection;
  std::vector<std::string> frames;
  std::vector<absl::Status> closes;
  std::vector<absl::Status> proofs;

  void Create(EventLoop* loop, UniqueFd fd, const Connection::Options& options,
              Connection::Role role) {
    connection = Connection::Create(loop, std::move(fd), options, role,
                                    [this](const absl::Status& proof) { proofs.push_back(proof); });
  }
  void Start() {
    connection->Start(
        {.on_frame = [this](const auto&,
                            const Frame& frame) { frames.push_back(TextOf(frame.metadata)); },
         .on_close = [this](const auto&, const absl::Status& why) { closes.push_back(why); }});
  }
  void Send(std::string_view text, Connection::Flush flush = Connection::Flush::kNow) {
    connection->Send(wire::v1::ERROR, TextMessage(text), {}, flush);
  }
};

inline std::string AuthenticateFrame(std::string_view message,
                                     uint16_t type = wire::v1::AUTHENTICATE) {
  FrameHeader header;
  header.body_size = header.metadata_size = static_cast<uint32_t>(message.size());
  header.type = type;
  return absl::StrCat(absl::string_view(reinterpret_cast<const char*>(&header), sizeof header),
                      absl::string_view(message.data(), message.size()));
}

inline void Write(const UniqueFd& fd, std::string_view bytes) {
  ASSERT_EQ(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
}

// What can be read at once.
inline std::string ReadAll(const UniqueFd& fd) {
  char bytes[64 << 10];
  const ssize_t n = recv(fd.get(), bytes, sizeof bytes, MSG_DONTWAIT);
  return n <= 0 ? "" : std::string(bytes, static_cast<size_t>(n));
}

// The other end of a Connection, in the hands of the test.
struct Bare {
  UniqueFd fd;
  std::unique_ptr<TlsChannel> tls;
  bool valid() const { return fd.valid(); }
  std::string binding() const { return tls == nullptr ? "" : tls->Binding(); }
};

inline void Write(const Bare& peer, std::string_view bytes) {
  if (peer.tls == nullptr) return Write(peer.fd, bytes);
  ASSERT_EQ(peer.tls->Write(bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
}

inline std::string ReadAll(const Bare& peer) {
  if (peer.tls == nullptr) return ReadAll(peer.fd);
  std::string bytes(64 << 10, '\0');
  const ssize_t n = peer.tls->Read(bytes.data(), bytes.size());
  return n <= 0 ? "" : bytes.substr(0, static_cast<size_t>(n));
}

class ProofBase : public ::testing::Test {
 protected:
  ProofBase() { options_.token = "the token"; }

  void UseTls() { options_.tls = authority_.Context(); }

  void CreateBoth(std::string_view connectors_token, std::string_view acceptors_token) {
    auto [a, b] = MakeSocketPair();
    options_.token = std::string(connectors_token);
    connector_.Create(&loop_, std::move(a), options_, Connection::Role::kConnector);
    options_.token = std::string(acceptors_token);
    acceptor_.Create(&loop_, std::move(b), options_, Connection::Role::kAcceptor);
  }
  // One side is a Connection, the other a bare socket in the hands of the test.
  Bare StartOne(Side* side, Connection::Role role) {
    auto [a, b] = MakeSocketPair();
    side->Create(&loop_, std::move(a), options_, role);
    side->Start();
    Bare peer{.fd = std::move(b)};
    if (options_.tls == nullptr) return peer;
    using TlsSide = TlsContext::Side;
    const TlsSide other =
        role == Connection::Role::kConnector ? TlsSide::kAcceptor : TlsSide::kConnector;
    peer.tls = options_.tls->MakeChannel(peer.fd.get(), other);
    EXPECT_TRUE(Until([&] { return *peer.tls->Handshake(); }));
    while (loop_.Poll(absl::ZeroDuration()) > 0) continue;
    return peer;
  }
  bool Until(absl::FunctionRef<bool()> done) { return PollUntil(&loop_, done); }
  // The bytes of an acceptor's answer to these.
  std::string AnswerTo(const Bare& peer, std::string_view bytes) {
    Write(peer, bytes);
    std::string answer;
    EXPECT_TRUE(Until([&] { return !(answer = ReadAll(peer)).empty(); }));
    return answer;
  }
  void TearDown() override {
    for (Side* side : {&connector_, &acceptor_}) {
      if (side->connection != nullptr) side->connection->Close(absl::CancelledError("test ends"));
    }
    while (loop_.Poll(absl::ZeroDuration()) > 0) continue;
    for (Side* side : {&connector_, &acceptor_}) {
      if (side->connection == nullptr) continue;
      EXPECT_LE(side->closes.size(), 1u);  // CONN-1
      EXPECT_EQ(side->proofs.size(), 1u);
    }
  }

  const TestAuthority authority_;
  EventLoop loop_;
  Connection::Options options_;
  Side connector_;
  Side acceptor_;
};

class ProofTest : public ProofBase, public ::testing::WithParamInterface<bool> {
 protected:
  ProofTest() {
    if (GetParam()) UseTls();
  }
};

inline std::string PlainOrTls(const ::testing::TestParamInfo<bool>& info) {
  return info.param ? "Tls" : "Plain";
}

}  // namespace ray::net
