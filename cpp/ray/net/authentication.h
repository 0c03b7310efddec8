// The mutual proof of the cluster's token with which every TCP connection begins: four small
// AUTHENTICATE frames, after which both sides know that the other one has the token. Neither the
// token nor anything that could be used again crosses the wire: a proof is an HMAC-SHA256 keyed
// with the token over who proves, the protocol's version and a nonce of each side.
//
//   connector                          acceptor
//      | -- HELLO: version, nonce -----> |   another version: REFUSED
//      | <---------- CHALLENGE: nonce -- |   all that it says to a stranger
//      | -- PROOF ---------------------> |   a wrong one: REFUSED
//      | <---------------------- PROOF -- |   a wrong one: the connector leaves
//
// The connection is not encrypted by it: that is what TLS is for (tls_channel.h). Within a session
// of TLS the proof also covers what only the two ends of that session know, the channel binding, so
// that nobody who stands between two sessions can hand proofs on.
//
// Sans-I/O: messages go in and out as bytes; docs/wire.md has their layout and golden bytes.
// Owner: Connection.   Threads: thread-compatible.   Never blocks.
// Errors: kInvalidArgument for a message that is malformed or out of turn, kFailedPrecondition for
// another version, kUnauthenticated for a wrong proof or a refusal. Any error is final.
//   AUTH-1  an acceptor that has not seen the right proof has said nothing but CHALLENGE or
//   REFUSED.
//   AUTH-2  a proof is good for one connection and one direction: it depends on both nonces, on who
//   gives it, and on the channel binding.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "ray/net/frame.h"

namespace ray::net {

// No message is larger than this.
inline constexpr size_t kAuthenticationMaxBytes = 64;

class Authentication {
 public:
  enum class Side : uint8_t { kConnector = 1, kAcceptor = 2 };
  using Nonce = std::array<char, 32>;

  // Random bytes of the kernel.
  static Nonce MakeNonce();

  // An empty token is one as any other. `channel_binding`: "" without TLS. `version` and `nonce`
  // are arguments for tests.
  Authentication(Side side, std::string token, std::string channel_binding = {},
                 uint32_t version = kProtocolVersion, const Nonce& nonce = MakeNonce());

  // What a connector sends first. An acceptor sends nothing of its own accord.
  std::string Hello() const;

  // Takes the peer's next message. `answer` gets what is to be sent to it, "" for nothing; after an
  // error, too.
  absl::Status Receive(std::string_view message, std::string* answer);

  // The peer has the token.
  bool proved() const { return state_ == State::kProved; }

 private:
  enum class State { kAwaitsHello, kAwaitsChallenge, kAwaitsProof, kProved, kFailed };

  absl::Status Handle(std::string_view message, std::string* answer);
  absl::Status HandleHello(std::string_view body, std::string* answer);
  absl::Status HandleProof(std::string_view body, std::string* answer);
  absl::Status RefusalOf(std::string_view body) const;
  std::string Proof(Side prover) const;

  const Side side_;
  const std::string token_;
  const std::string channel_binding_;
  const uint32_t version_;
  const Nonce nonce_;
  Nonce peer_nonce_{};
  State state_;
};

}  // namespace ray::net
