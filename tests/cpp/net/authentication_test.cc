#include "ray/net/authentication.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/base/ids.h"

namespace ray::net {
namespace {

using ::testing::HasSubstr;
using Side = Authentication::Side;

Authentication::Nonce NonceFrom(char first) {
  Authentication::Nonce nonce;
  for (size_t i = 0; i < nonce.size(); ++i) nonce[i] = static_cast<char>(first + i);
  return nonce;
}

// The messages of an exchange in which all goes well.
struct Exchange {
  std::string hello;
  std::string challenge;
  std::string connector_proof;
  std::string acceptor_proof;
};

Exchange Record(Authentication* connector, Authentication* acceptor) {
  Exchange exchange{.hello = connector->Hello()};
  std::string nothing;
  EXPECT_TRUE(acceptor->Receive(exchange.hello, &exchange.challenge).ok());
  EXPECT_FALSE(acceptor->proved());
  EXPECT_TRUE(connector->Receive(exchange.challenge, &exchange.connector_proof).ok());
  EXPECT_FALSE(connector->proved());
  EXPECT_TRUE(acceptor->Receive(exchange.connector_proof, &exchange.acceptor_proof).ok());
  EXPECT_TRUE(acceptor->proved());
  EXPECT_TRUE(connector->Receive(exchange.acceptor_proof, &nothing).ok());
  EXPECT_TRUE(connector->proved());
  EXPECT_EQ(nothing, "");
  return exchange;
}

TEST(Authentication, GoldenBytes) {  // docs/wire.md
  Authentication connector(Side::kConnector, "secret", {}, 1, NonceFrom(0));
  Authentication acceptor(Side::kAcceptor, "secret", {}, 1, NonceFrom('\x80'));
  const Exchange exchange = Record(&connector, &acceptor);
  EXPECT_EQ(base::BytesToHex(exchange.hello),
            "0101000000000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
  EXPECT_EQ(base::BytesToHex(exchange.challenge),
            "02808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
  EXPECT_EQ(base::BytesToHex(exchange.connector_proof),
            "033c42cb10934aee5bd14f9216515db5d4f9147e44e0253bc68994b818d088b7ef");
  EXPECT_EQ(base::BytesToHex(exchange.acceptor_proof),
            "033d5079a0de21509f4bc1fb62b2e2ba2b35b3a455a4a76f50c3680aaae4e4ebcd");
  for (const std::string& message :
       {exchange.hello, exchange.challenge, exchange.connector_proof}) {
    EXPECT_LE(message.size(), kAuthenticationMaxBytes);
  }
}

TEST(Authentication, NoncesDiffer) {
  EXPECT_NE(Authentication::MakeNonce(), Authentication::MakeNonce());
}

TEST(Authentication, WorksWithoutATokenOnBothSides) {
  Authentication connector(Side::kConnector, "");
  Authentication acceptor(Side::kAcceptor, "");
  Record(&connector, &acceptor);
}

class WrongTokens : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(WrongTokens, AreRefusedWithoutAWordMore) {  // AUTH-1
  const auto [connectors, acceptors] = GetParam();
  Authentication connector(Side::kConnector, connectors);
  Authentication acceptor(Side::kAcceptor, acceptors);
  std::string challenge, proof, refusal, nothing;
  ASSERT_TRUE(acceptor.Receive(connector.Hello(), &challenge).ok());
  ASSERT_TRUE(connector.Receive(challenge, &proof).ok());
  const absl::Status refused = acceptor.Receive(proof, &refusal);
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_FALSE(acceptor.proved());
  EXPECT_EQ(base::BytesToHex(refusal), "040201000000");
  const absl::Status told = connector.Receive(refusal, &nothing);
  EXPECT_EQ(told.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(told.message()), HasSubstr("authentication failed"));
  EXPECT_EQ(nothing, "");
  // No second try.
  EXPECT_FALSE(acceptor.Receive(proof, &refusal).ok());
  EXPECT_FALSE(acceptor.Receive(connector.Hello(), &refusal).ok());
  EXPECT_EQ(refusal, "");
}

INSTANTIATE_TEST_SUITE_P(Pairs, WrongTokens,
                         ::testing::Values(std::pair{"wrong", "right"}, std::pair{"", "right"},
                                           std::pair{"right", ""}, std::pair{"righ", "right"}));

TEST(Authentication, AnAcceptorWithAnotherTokenIsLeft) {
  // One that takes any proof, and cannot give its own.
  Authentication connector(Side::kConnector, "right");
  Authentication impostor(Side::kAcceptor, "guessed");
  std::string challenge, proof, refusal, nothing;
  ASSERT_TRUE(impostor.Receive(connector.Hello(), &challenge).ok());
  ASSERT_TRUE(connector.Receive(challenge, &proof).ok());
  const std::string invented = absl::StrCat("\x03", std::string(32, 'x'));
  EXPECT_EQ(connector.Receive(invented, &nothing).code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(nothing, "");
}

TEST(Authentication, ReplayedMessagesProveNothing) {  // AUTH-2
  Authentication connector(Side::kConnector, "token");
  Authentication acceptor(Side::kAcceptor, "token");
  const Exchange recorded = Record(&connector, &acceptor);
  std::string answer;
  Authentication next_acceptor(Side::kAcceptor, "token");
  ASSERT_TRUE(next_acceptor.Receive(recorded.hello, &answer).ok());
  EXPECT_FALSE(next_acceptor.Receive(recorded.connector_proof, &answer).ok());
  Authentication next_connector(Side::kConnector, "token");
  ASSERT_TRUE(next_connector.Receive(recorded.challenge, &answer).ok());
  EXPECT_FALSE(next_connector.Receive(recorded.acceptor_proof, &answer).ok());
}

TEST(Authentication, ReflectedProofIsWrong) {  // AUTH-2
  // Who does not know the token hands both the nonce and the proof of the connector back.
  const Authentication::Nonce nonce = NonceFrom(1);
  Authentication connector(Side::kConnector, "token", {}, 1, nonce);
  std::string proof, answer;
  const std::string challenge = absl::StrCat("\x02", absl::string_view(nonce.data(), nonce.size()));
  ASSERT_TRUE(connector.Receive(challenge, &proof).ok());
  EXPECT_EQ(connector.Receive(proof, &answer).code(), absl::StatusCode::kUnauthenticated);
}

TEST(Authentication, OtherVersionIsNamedOnBothSides) {
  Authentication connector(Side::kConnector, "token", {}, 7);
  Authentication acceptor(Side::kAcceptor, "token", {}, 8);
  std::string refusal, nothing;
  const absl::Status here = acceptor.Receive(connector.Hello(), &refusal);
  const absl::Status there = connector.Receive(refusal, &nothing);
  for (const absl::Status& status : {here, there}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(status.ToString(), HasSubstr("version 7"));
    EXPECT_THAT(status.ToString(), HasSubstr("version 8"));
  }
  EXPECT_EQ(nothing, "");
}

TEST(Authentication, MessagesThatAreMalformedOrOutOfTurnEndIt) {
  const std::string nonce(32, 'n');
  const std::vector<std::string> wrong_for_acceptor = {"",
                                                       "\x01",
                                                       "x",
                                                       absl::StrCat("\x01", nonce),
                                                       absl::StrCat("\x02", nonce),
                                                       absl::StrCat("\x03", nonce),
                                                       absl::StrCat("\x01", nonce, nonce),
                                                       std::string("\x04\x02\x01\x00\x00\x00", 6)};
  for (const std::string& message : wrong_for_acceptor) {
    Authentication acceptor(Side::kAcceptor, "token");
    std::string answer;
    EXPECT_EQ(acceptor.Receive(message, &answer).code(), absl::StatusCode::kInvalidArgument)
        << base::BytesToHex(message);
    EXPECT_EQ(answer, "");
  }
  const std::vector<std::string> wrong_for_connector = {
      "",
      "\x02",
      Authentication(Side::kConnector, "token").Hello(),
      absl::StrCat("\x03", nonce),
      absl::StrCat("\x02", nonce, "x"),
      "\x04\x02"};
  for (const std::string& message : wrong_for_connector) {
    Authentication connector(Side::kConnector, "token");
    std::string answer;
    EXPECT_EQ(connector.Receive(message, &answer).code(), absl::StatusCode::kInvalidArgument)
        << base::BytesToHex(message);
    EXPECT_EQ(answer, "");
  }
}

}  // namespace
}  // namespace ray::net
