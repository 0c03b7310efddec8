// Connections between peers that must prove the cluster's token to each other, in plain text and
// within TLS.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/net/authentication.h"
#include "ray/net/connection.h"
#include "ray/net/connection_testutil.h"
#include "ray/net/event_loop_testutil.h"
#include "ray/net/listener.h"
#include "ray/net/tls_testutil.h"

namespace ray::net {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Role = Connection::Role;

constexpr uint16_t kType = wire::v1::ERROR;

struct Side {
  std::shared_ptr<Connection> connection;
  std::vector<std::string> frames;
  std::vector<absl::Status> closes;
  std::vector<absl::Status> proofs;

  void Create(EventLoop* loop, UniqueFd fd, const Connection::Options& options, Role role) {
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
    connection->Send(kType, TextMessage(text), {}, flush);
  }
};

std::string AuthenticateFrame(std::string_view message, uint16_t type = wire::v1::AUTHENTICATE) {
  FrameHeader header;
  header.body_size = header.metadata_size = static_cast<uint32_t>(message.size());
  header.type = type;
  return absl::StrCat(absl::string_view(reinterpret_cast<const char*>(&header), sizeof header),
                      absl::string_view(message.data(), message.size()));
}

void Write(const UniqueFd& fd, std::string_view bytes) {
  ASSERT_EQ(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
}

// What can be read at once.
std::string ReadAll(const UniqueFd& fd) {
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

void Write(const Bare& peer, std::string_view bytes) {
  if (peer.tls == nullptr) return Write(peer.fd, bytes);
  ASSERT_EQ(peer.tls->Write(bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
}

std::string ReadAll(const Bare& peer) {
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
    connector_.Create(&loop_, std::move(a), options_, Role::kConnector);
    options_.token = std::string(acceptors_token);
    acceptor_.Create(&loop_, std::move(b), options_, Role::kAcceptor);
  }
  // One side is a Connection, the other a bare socket in the hands of the test.
  Bare StartOne(Side* side, Role role) {
    auto [a, b] = MakeSocketPair();
    side->Create(&loop_, std::move(a), options_, role);
    side->Start();
    Bare peer{.fd = std::move(b)};
    if (options_.tls == nullptr) return peer;
    using TlsSide = TlsContext::Side;
    const TlsSide other = role == Role::kConnector ? TlsSide::kAcceptor : TlsSide::kConnector;
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

std::string PlainOrTls(const ::testing::TestParamInfo<bool>& info) {
  return info.param ? "Tls" : "Plain";
}

INSTANTIATE_TEST_SUITE_P(Connections, ProofTest, ::testing::Bool(), PlainOrTls);

TEST_P(ProofTest, WhatIsSentMeanwhileIsHeldBackAndKeepsItsOrder) {  // CONN-3, CONN-4
  CreateBoth("same", "same");
  connector_.Send("before start");
  connector_.Start();
  acceptor_.Start();
  std::vector<std::string> replies;
  connector_.connection->Call(kType, TextMessage("call"), [&](absl::StatusOr<Frame> reply) {
    replies.push_back(reply.ok() ? TextOf(reply->metadata) : reply.status().ToString());
  });
  for (int i = 0; i < 100; ++i) {
    connector_.Send(absl::StrCat(i), i % 2 ? Connection::Flush::kNow : Connection::Flush::kDefer);
    acceptor_.Send(absl::StrCat(i));
  }
  connector_.connection->FlushNow();
  ASSERT_TRUE(
      Until([&] { return connector_.frames.size() == 100 && acceptor_.frames.size() == 102; }));
  std::vector<std::string> expected;
  for (int i = 0; i < 100; ++i) expected.push_back(absl::StrCat(i));
  EXPECT_EQ(connector_.frames, expected);
  expected.insert(expected.begin(), {"before start", "call"});
  EXPECT_EQ(acceptor_.frames, expected);
  acceptor_.connection->Reply(kType, 1, TextMessage("reply"));
  ASSERT_TRUE(Until([&] { return !replies.empty(); }));
  EXPECT_THAT(replies, ElementsAre("reply"));
  EXPECT_THAT(connector_.proofs, ElementsAre(absl::OkStatus()));
  EXPECT_THAT(acceptor_.proofs, ElementsAre(absl::OkStatus()));
}

TEST_P(ProofTest, MuchThatWasHeldBackArrivesWhole) {
  CreateBoth("same", "same");
  const std::string large(10 << 20, 'x');
  connector_.Send(large);
  connector_.Send("after");
  connector_.Start();
  acceptor_.Start();
  ASSERT_TRUE(Until([&] { return acceptor_.frames.size() == 2; }));
  EXPECT_TRUE(acceptor_.frames[0] == large);
}

TEST_P(ProofTest, HeldBackOutputHasTheSameLimit) {
  options_.outbuffer_max_bytes = 1000;
  CreateBoth("same", "same");
  connector_.Start();
  connector_.Send(std::string(2000, 'x'));
  EXPECT_TRUE(connector_.connection->closed());
}

TEST_P(ProofTest, AnotherTokenClosesBothSidesAndDeliversNothing) {  // CONN-4
  CreateBoth("mine", "yours");
  connector_.Start();
  acceptor_.Start();
  connector_.Send("secret of the connector");
  acceptor_.Send("secret of the acceptor");
  ASSERT_TRUE(Until([&] { return !connector_.closes.empty() && !acceptor_.closes.empty(); }));
  for (Side* side : {&connector_, &acceptor_}) {
    EXPECT_EQ(side->closes[0].code(), absl::StatusCode::kUnauthenticated) << side->closes[0];
    EXPECT_THAT(side->closes[0].ToString(), HasSubstr("authentication failed"));
    EXPECT_THAT(side->frames, IsEmpty());
    EXPECT_EQ(side->proofs[0].code(), absl::StatusCode::kUnauthenticated);
  }
}

TEST_P(ProofTest, CloseBeforeTheEndDropsWhatWasHeldBack) {  // CONN-4
  Bare peer = StartOne(&connector_, Role::kConnector);
  connector_.Send("secret");
  ASSERT_TRUE(Until([&] { return ReadAll(peer).size() == 61; }));  // HELLO
  connector_.connection->Close(absl::CancelledError("changed my mind"));
  while (loop_.Poll(absl::ZeroDuration()) > 0) continue;
  EXPECT_EQ(ReadAll(peer), "");
}

TEST_P(ProofTest, AnAcceptorIsSilentUntilItIsGreeted) {  // AUTH-1
  Bare peer = StartOne(&acceptor_, Role::kAcceptor);
  acceptor_.Send("secret");
  acceptor_.connection->FlushNow();
  while (loop_.Poll(absl::ZeroDuration()) > 0) continue;
  EXPECT_EQ(ReadAll(peer), "");
}

TEST_P(ProofTest, WhateverElseComesFirstClosesTheAcceptor) {
  const std::string hello = Authentication(Authentication::Side::kConnector, "x").Hello();
  const std::vector<std::string> wrong = {
      "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
      std::string(100, '\0'),
      AuthenticateFrame("", wire::v1::HELLO),                            // too early
      AuthenticateFrame(hello, wire::v1::HELLO),                         // of another type
      AuthenticateFrame(std::string(kAuthenticationMaxBytes + 1, 'x')),  // oversized
      AuthenticateFrame(hello.substr(0, 20)),                            // a short message
      AuthenticateFrame(hello) + AuthenticateFrame(hello),               // twice
  };
  for (const std::string& bytes : wrong) {
    Side side;
    Bare peer = StartOne(&side, Role::kAcceptor);
    side.Send("secret");
    Write(peer, bytes);
    ASSERT_TRUE(Until([&] { return !side.closes.empty(); }));
    EXPECT_EQ(side.closes[0].code(), absl::StatusCode::kInvalidArgument) << side.closes[0];
    EXPECT_LE(ReadAll(peer).size(), 57u);  // a challenge at most
    EXPECT_EQ(side.proofs.size(), 1u);
  }
}

TEST_P(ProofTest, OversizedFrameIsRefusedByItsHeader) {
  options_.frame_max_bytes = 1 << 30;
  Bare peer = StartOne(&acceptor_, Role::kAcceptor);
  FrameHeader header;
  header.type = wire::v1::AUTHENTICATE;
  header.body_size = header.metadata_size = 1 << 20;
  Write(peer, {reinterpret_cast<const char*>(&header), sizeof header});
  ASSERT_TRUE(Until([&] { return !acceptor_.closes.empty(); }));
}

TEST_P(ProofTest, ExchangeThatTricklesInIsFollowed) {
  Bare peer = StartOne(&acceptor_, Role::kAcceptor);
  Authentication client(Authentication::Side::kConnector, options_.token, peer.binding());
  for (char byte : AuthenticateFrame(client.Hello())) {
    Write(peer, {&byte, 1});
    loop_.Poll(absl::ZeroDuration());
  }
  std::string proof, nothing;
  const std::string challenge = ReadAll(peer);
  ASSERT_EQ(challenge.size(), 57u);
  ASSERT_TRUE(client.Receive(challenge.substr(sizeof(FrameHeader)), &proof).ok());
  const std::string answer = AnswerTo(peer, AuthenticateFrame(proof));
  EXPECT_TRUE(client.Receive(answer.substr(sizeof(FrameHeader)), &nothing).ok());
  EXPECT_TRUE(client.proved());
  acceptor_.Send("open");
  EXPECT_GT(ReadAll(peer).size(), 0u);
}

TEST_P(ProofTest, RecordedConnectionPlayedAgainIsRefused) {
  std::string hello, proof;
  {
    Side first;
    Bare peer = StartOne(&first, Role::kAcceptor);
    Authentication client(Authentication::Side::kConnector, options_.token, peer.binding());
    hello = AuthenticateFrame(client.Hello());
    ASSERT_TRUE(client.Receive(AnswerTo(peer, hello).substr(sizeof(FrameHeader)), &proof).ok());
    AnswerTo(peer, AuthenticateFrame(proof));
    EXPECT_THAT(first.proofs, ElementsAre(absl::OkStatus()));
    first.connection->Close(absl::CancelledError("recorded"));
    ASSERT_TRUE(Until([&] { return !first.closes.empty(); }));
  }
  Bare peer = StartOne(&acceptor_, Role::kAcceptor);
  AnswerTo(peer, hello);
  Write(peer, AuthenticateFrame(proof));
  ASSERT_TRUE(Until([&] { return !acceptor_.closes.empty(); }));
  EXPECT_EQ(acceptor_.closes[0].code(), absl::StatusCode::kUnauthenticated);
}

TEST_P(ProofTest, BytesSentBackToTheirSenderProveNothing) {
  Bare peer = StartOne(&connector_, Role::kConnector);
  std::string hello;
  ASSERT_TRUE(Until([&] { return !(hello = ReadAll(peer)).empty(); }));
  const std::string nonce = hello.substr(hello.size() - 32);
  const std::string proof = AnswerTo(peer, AuthenticateFrame(absl::StrCat("\x02", nonce)));
  Write(peer, proof);
  ASSERT_TRUE(Until([&] { return !connector_.closes.empty(); }));
  EXPECT_EQ(connector_.closes[0].code(), absl::StatusCode::kUnauthenticated);
}

TEST_P(ProofTest, OtherVersionIsToldToBothSides) {
  Bare peer = StartOne(&acceptor_, Role::kAcceptor);
  Authentication client(Authentication::Side::kConnector, options_.token, peer.binding(),
                        kProtocolVersion + 1);
  const std::string answer = AnswerTo(peer, AuthenticateFrame(client.Hello()));
  std::string nothing;
  EXPECT_EQ(client.Receive(answer.substr(sizeof(FrameHeader)), &nothing).code(),
            absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(Until([&] { return !acceptor_.closes.empty(); }));
  EXPECT_THAT(acceptor_.closes[0].ToString(),
              HasSubstr(absl::StrCat("version ", kProtocolVersion + 1)));
}

TEST_P(ProofTest, SilentAndSlowPeersAreCutOffInTime) {
  options_.handshake_timeout = absl::Milliseconds(30);
  Bare silent = StartOne(&acceptor_, Role::kAcceptor);
  Bare slow = StartOne(&connector_, Role::kConnector);
  std::vector<std::string> replies;
  connector_.connection->Call(kType, TextMessage("call"), [&](absl::StatusOr<Frame> reply) {
    replies.push_back(reply.status().ToString());
  });
  const std::string challenge = AuthenticateFrame(absl::StrCat("\x02", std::string(32, 'n')));
  size_t sent = 0;
  ASSERT_TRUE(Until([&] {
    if (sent < 40) Write(slow, {&challenge[sent++], 1});
    return !acceptor_.closes.empty() && !connector_.closes.empty();
  }));
  EXPECT_EQ(acceptor_.closes[0].code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(connector_.closes[0].code(), absl::StatusCode::kDeadlineExceeded);
  ASSERT_EQ(replies.size(), 1u);  // CONN-2
  EXPECT_THAT(replies[0], HasSubstr("prove"));
}

TEST_P(ProofTest, ConnectorToADeadPortEndsWithTheReason) {
  auto listening = Listen("tcp:127.0.0.1:0");
  ASSERT_TRUE(listening.ok());
  listening->fd.Reset(-1);
  auto fd = StartConnect(listening->endpoint);
  ASSERT_TRUE(fd.ok()) << fd.status();
  connector_.Create(&loop_, *std::move(fd), options_, Role::kConnector);
  connector_.Start();
  connector_.Send("into the void");
  ASSERT_TRUE(Until([&] { return !connector_.closes.empty(); }));
  EXPECT_EQ(connector_.closes[0].code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(connector_.closes[0].ToString(), HasSubstr("refused"));
}

TEST_P(ProofTest, ConnectThatNeverCompletesEndsInTime) {
  // A listener whose queue is full does not answer any more.
  auto listening = Listen("tcp:127.0.0.1:0");
  ASSERT_TRUE(listening.ok());
  ASSERT_EQ(listen(listening->fd.get(), 0), 0);
  auto taken = Connect(listening->endpoint, absl::Seconds(5));
  ASSERT_TRUE(taken.ok()) << taken.status();
  options_.handshake_timeout = absl::Milliseconds(50);
  auto fd = StartConnect(listening->endpoint);
  ASSERT_TRUE(fd.ok()) << fd.status();
  connector_.Create(&loop_, *std::move(fd), options_, Role::kConnector);
  connector_.Start();
  ASSERT_TRUE(Until([&] { return !connector_.closes.empty(); }));
  EXPECT_EQ(connector_.closes[0].code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_P(ProofTest, NothingHoldsAConnectionThatNobodyStarted) {
  auto [a, b] = MakeSocketPair();
  Side side;
  side.Create(&loop_, std::move(a), options_, Role::kAcceptor);
  side.connection.reset();
  EXPECT_EQ(side.proofs.size(), 1u);
  EXPECT_FALSE(side.proofs[0].ok());
}

// --- Detach

TEST_P(ProofTest, DetachHandsOverTheSocketAndWhatCameAfterTheFrame) {
  CreateBoth("same", "same");
  connector_.Start();
  std::string after;
  Bare detached;
  bool closed = false;
  acceptor_.connection->Start(
      {.on_frame =
           [&](const std::shared_ptr<Connection>& on, const Frame&) {
             auto taken = on->Detach();
             ASSERT_TRUE(taken.ok()) << taken.status();
             detached = {std::move(taken->fd), std::move(taken->tls)};
             after = std::move(taken->already_read);
           },
       .on_close = [&](const auto&, const absl::Status&) { closed = true; }});
  connector_.Send("switch", Connection::Flush::kDefer);
  connector_.Send("rest");
  ASSERT_TRUE(Until([&] { return detached.valid(); }));
  while (loop_.Poll(absl::ZeroDuration()) > 0) continue;
  EXPECT_FALSE(closed);
  EXPECT_TRUE(acceptor_.connection->closed());
  absl::StatusOr<FrameParse> parse = ParseFrame(after, 1000);
  ASSERT_TRUE(parse.ok() && parse->complete);
  EXPECT_EQ(TextOf(parse->frame.metadata), "rest");
  Write(detached, AuthenticateFrame(TextMessage("by hand").SerializeAsString(), kType));
  ASSERT_TRUE(Until([&] { return !connector_.frames.empty(); }));
  EXPECT_THAT(connector_.frames, ElementsAre("by hand"));
}

TEST_P(ProofTest, DetachIsRefusedWhileSomethingIsUnderWay) {
  CreateBoth("same", "same");
  const auto is_refused = [](Side& side) {
    return absl::IsFailedPrecondition(side.connection->Detach().status());
  };
  connector_.Start();
  EXPECT_TRUE(is_refused(connector_));  // the handshake
  acceptor_.Start();
  ASSERT_TRUE(Until([&] { return !connector_.proofs.empty(); }));
  connector_.Send("buffered", Connection::Flush::kDefer);
  EXPECT_TRUE(is_refused(connector_));
  connector_.connection->FlushNow();
  connector_.connection->Call(kType, TextMessage("?"), [](absl::StatusOr<Frame>) {});
  EXPECT_TRUE(is_refused(connector_));
  ASSERT_TRUE(Until([&] { return acceptor_.frames.size() == 2; }));  // and it still works
}

// --- What only TLS has

class TlsConnectionTest : public ProofBase {
 protected:
  TlsConnectionTest() { UseTls(); }

  // Two sides with these contexts, until both are closed.
  void ExpectRefusal(std::shared_ptr<const TlsContext> connectors,
                     std::shared_ptr<const TlsContext> acceptors) {
    auto [a, b] = MakeSocketPair();
    options_.tls = std::move(connectors);
    connector_.Create(&loop_, std::move(a), options_, Role::kConnector);
    options_.tls = std::move(acceptors);
    acceptor_.Create(&loop_, std::move(b), options_, Role::kAcceptor);
    for (Side* side : {&connector_, &acceptor_}) {
      side->Start();
      side->Send("secret");
    }
    ASSERT_TRUE(Until([&] { return !connector_.closes.empty() && !acceptor_.closes.empty(); }));
    for (Side* side : {&connector_, &acceptor_}) {
      EXPECT_THAT(side->frames, IsEmpty());  // CONN-4
      EXPECT_FALSE(side->proofs.at(0).ok());
    }
  }
};

TEST_F(TlsConnectionTest, PlainConnectorIsRefused) {
  ExpectRefusal(nullptr, options_.tls);
  EXPECT_EQ(acceptor_.closes[0].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(acceptor_.closes[0].ToString(), HasSubstr("does not speak TLS"));
  EXPECT_THAT(connector_.closes[0].ToString(), HasSubstr("may ask for TLS"));
}

TEST_F(TlsConnectionTest, PlainAcceptorIsNotTakenInstead) {
  ExpectRefusal(options_.tls, nullptr);
  EXPECT_EQ(acceptor_.closes[0].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(acceptor_.closes[0].ToString(), HasSubstr("the peer speaks TLS"));
  EXPECT_THAT(connector_.closes[0].ToString(), HasSubstr("may not speak TLS"));
}

TEST_F(TlsConnectionTest, CertificateOfAnotherAuthorityIsRefusedAndBothSidesSayWhy) {
  const TestAuthority other;
  TlsCredentials lenient = other.Credentials();
  lenient.authority = authority_.Credentials().authority;
  ExpectRefusal(*TlsContext::Create(lenient), options_.tls);
  for (Side* side : {&connector_, &acceptor_}) {
    EXPECT_EQ(side->closes[0].code(), absl::StatusCode::kUnauthenticated) << side->closes[0];
  }
  EXPECT_THAT(acceptor_.closes[0].ToString(), HasSubstr("certificate is not valid here"));
}

TEST_F(TlsConnectionTest, HandshakeThatStopsHalfWayIsCutOff) {
  options_.handshake_timeout = absl::Milliseconds(30);
  auto [a, b] = MakeSocketPair();
  acceptor_.Create(&loop_, std::move(a), options_, Role::kAcceptor);
  acceptor_.Start();
  Write(b, std::string("\x16\x03\x01\x02\x00\x01", 6));
  ASSERT_TRUE(Until([&] { return !acceptor_.closes.empty(); }));
  EXPECT_EQ(acceptor_.closes[0].code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(acceptor_.closes[0].ToString(), HasSubstr("finish the TLS handshake"));
}

// Who has a certificate and not the token stands between two members and hands on what they say.
TEST_F(TlsConnectionTest, ProofIsNoGoodInAnotherSession) {  // AUTH-2
  Bare to_connector = StartOne(&connector_, Role::kConnector);
  Bare to_acceptor = StartOne(&acceptor_, Role::kAcceptor);
  ASSERT_TRUE(Until([&] {
    if (const std::string bytes = ReadAll(to_connector); !bytes.empty()) Write(to_acceptor, bytes);
    if (const std::string bytes = ReadAll(to_acceptor); !bytes.empty()) Write(to_connector, bytes);
    return !acceptor_.closes.empty() && !connector_.closes.empty();
  }));
  EXPECT_EQ(acceptor_.closes[0].code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(connector_.closes[0].code(), absl::StatusCode::kUnauthenticated);
}

// Much more than a turn reads or the sockets hold, both ways at once.
TEST_F(TlsConnectionTest, MuchInBothDirectionsArrivesInOrder) {  // CONN-3
  CreateBoth("same", "same");
  connector_.Start();
  acceptor_.Start();
  std::vector<std::string> sent;
  for (int i = 0; i < 60; ++i) {
    sent.push_back(std::string(static_cast<size_t>(i % 3 == 0 ? 1'000'003 * (1 + i % 7) : i), 'x'));
  }
  for (const std::string& text : sent) {
    connector_.Send(text);
    acceptor_.Send(text);
    loop_.Poll(absl::ZeroDuration());
  }
  ASSERT_TRUE(Until([&] {
    return connector_.frames.size() == sent.size() && acceptor_.frames.size() == sent.size();
  }));
  EXPECT_TRUE(connector_.frames == sent);
  EXPECT_TRUE(acceptor_.frames == sent);
}

TEST_F(TlsConnectionTest, WhatIsChangedOnTheWayClosesTheConnection) {
  auto [near, far] = MakeSocketPair();
  Side changed;
  changed.Create(&loop_, std::move(near), options_, Role::kAcceptor);
  changed.Start();
  auto [connector_near, connector_far] = MakeSocketPair();
  Side sender;
  sender.Create(&loop_, std::move(connector_near), options_, Role::kConnector);
  sender.Start();
  bool flip = false;
  const auto hand_on = [&] {
    std::string bytes = ReadAll(connector_far);
    if (flip && !bytes.empty()) bytes.back() = static_cast<char>(bytes.back() ^ 1);
    if (!bytes.empty()) Write(far, bytes);
    if (bytes = ReadAll(far); !bytes.empty()) Write(connector_far, bytes);
  };
  ASSERT_TRUE(Until([&] {
    hand_on();
    return !changed.proofs.empty() && !sender.proofs.empty();
  }));
  EXPECT_TRUE(changed.proofs[0].ok() && sender.proofs[0].ok());
  flip = true;
  sender.Send("as it was");
  ASSERT_TRUE(Until([&] {
    hand_on();
    return !changed.closes.empty();
  }));
  EXPECT_THAT(changed.frames, IsEmpty());
  EXPECT_EQ(changed.closes[0].code(), absl::StatusCode::kInvalidArgument);
  sender.connection->Close(absl::CancelledError("test ends"));
}

// --- Listener

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

// --- Peers that vanish

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
