// What only connections within TLS have to stand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/cpp/net/proof_fixture.h"

namespace ray::net {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Role = Connection::Role;

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
  ASSERT_TRUE(Until([&] { return !sender.closes.empty(); }));  // not after this frame is gone
}

}  // namespace
}  // namespace ray::net
