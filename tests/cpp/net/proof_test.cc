// The proof of the cluster's token, in plain text and within TLS, and what follows it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/net/authentication.h"
#include "tests/cpp/net/proof_fixture.h"

namespace ray::net {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Role = Connection::Role;

constexpr uint16_t kType = wire::v1::ERROR;

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
  EXPECT_EQ(connector_.closes[0].code(), absl::StatusCode::kNotFound);
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

}  // namespace
}  // namespace ray::net
