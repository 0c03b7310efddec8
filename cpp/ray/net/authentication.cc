#include "ray/net/authentication.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"

namespace ray::net {
namespace {

// The first byte of a message. All have a fixed size.
enum Kind : char { kHello = 1, kChallenge = 2, kProof = 3, kRefused = 4 };
// Of kRefused.
enum Reason : char { kOtherVersion = 1, kFailed = 2 };

constexpr size_t kProofBytes = 32;
constexpr size_t kVersionBytes = sizeof(uint32_t);
constexpr std::string_view kLabel = "manta authentication";

std::string Pack(uint32_t version) {  // little endian, as all of the wire
  std::string bytes(kVersionBytes, '\0');
  std::memcpy(bytes.data(), &version, kVersionBytes);
  return bytes;
}

uint32_t UnpackVersion(std::string_view bytes) {
  uint32_t version;
  std::memcpy(&version, bytes.data(), kVersionBytes);
  return version;
}

absl::string_view View(const Authentication::Nonce& nonce) { return {nonce.data(), nonce.size()}; }

std::string Refused(Reason reason, uint32_t version) {
  return absl::StrCat(std::string{kRefused, reason}, Pack(version));
}

absl::Status OtherVersion(uint32_t ours, uint32_t theirs) {
  return absl::FailedPreconditionError(
      absl::StrCat("this side speaks version ", ours, " of the protocol, the peer speaks version ",
                   theirs, ": install the same version on all nodes"));
}

absl::Status OtherToken() {
  return absl::UnauthenticatedError(
      "authentication failed: the peer does not have this cluster's token");
}

}  // namespace

Authentication::Nonce Authentication::MakeNonce() {
  Nonce nonce;
  ssize_t n;
  do {
    n = getrandom(nonce.data(), nonce.size(), 0);
  } while (n < 0 && errno == EINTR);
  MANTA_CHECK(n == ssize_t{sizeof nonce});
  return nonce;
}

Authentication::Authentication(Side side, std::string token, std::string channel_binding,
                               uint32_t version, const Nonce& nonce)
    : side_(side),
      token_(std::move(token)),
      channel_binding_(std::move(channel_binding)),
      version_(version),
      nonce_(nonce),
      state_(side == Side::kConnector ? State::kAwaitsChallenge : State::kAwaitsHello) {}

std::string Authentication::Hello() const {
  return absl::StrCat(std::string{kHello}, Pack(version_), View(nonce_));
}

absl::Status Authentication::Receive(std::string_view message, std::string* answer) {
  answer->clear();
  absl::Status status = Handle(message, answer);
  if (!status.ok()) state_ = State::kFailed;
  return status;
}

absl::Status Authentication::Handle(std::string_view message, std::string* answer) {
  const char kind = message.empty() ? '\0' : message[0];
  const std::string_view body = message.substr(message.empty() ? 0 : 1);
  if (kind == kHello && state_ == State::kAwaitsHello &&
      body.size() == kVersionBytes + nonce_.size()) {
    return HandleHello(body, answer);
  }
  if (kind == kChallenge && state_ == State::kAwaitsChallenge && body.size() == nonce_.size()) {
    std::memcpy(peer_nonce_.data(), body.data(), body.size());
    state_ = State::kAwaitsProof;
    *answer = absl::StrCat(std::string{kProof}, Proof(side_));
    return absl::OkStatus();
  }
  if (kind == kProof && state_ == State::kAwaitsProof && body.size() == kProofBytes) {
    return HandleProof(body, answer);
  }
  if (kind == kRefused && side_ == Side::kConnector && body.size() == 1 + kVersionBytes) {
    return RefusalOf(body);
  }
  return absl::InvalidArgumentError(absl::StrCat("a message of kind ", int{kind}, " with ",
                                                 message.size(),
                                                 " bytes does not belong to the authentication"));
}

absl::Status Authentication::HandleHello(std::string_view body, std::string* answer) {
  if (const uint32_t theirs = UnpackVersion(body); theirs != version_) {
    *answer = Refused(kOtherVersion, version_);
    return OtherVersion(version_, theirs);
  }
  std::memcpy(peer_nonce_.data(), body.data() + kVersionBytes, peer_nonce_.size());
  state_ = State::kAwaitsProof;
  *answer = absl::StrCat(std::string{kChallenge}, View(nonce_));
  return absl::OkStatus();
}

absl::Status Authentication::HandleProof(std::string_view body, std::string* answer) {
  const bool is_acceptor = side_ == Side::kAcceptor;
  const std::string expected = Proof(is_acceptor ? Side::kConnector : Side::kAcceptor);
  if (CRYPTO_memcmp(body.data(), expected.data(), expected.size()) != 0) {
    if (is_acceptor) *answer = Refused(kFailed, version_);
    return OtherToken();
  }
  if (is_acceptor) *answer = absl::StrCat(std::string{kProof}, Proof(side_));
  state_ = State::kProved;
  return absl::OkStatus();
}

absl::Status Authentication::RefusalOf(std::string_view body) const {
  if (body[0] == kOtherVersion) return OtherVersion(version_, UnpackVersion(body.substr(1)));
  return OtherToken();
}

std::string Authentication::Proof(Side prover) const {
  const bool connects = side_ == Side::kConnector;
  const std::string statement = absl::StrCat(
      absl::string_view(kLabel.data(), kLabel.size()), std::string{static_cast<char>(prover)},
      Pack(version_), View(connects ? nonce_ : peer_nonce_), View(connects ? peer_nonce_ : nonce_),
      channel_binding_);
  std::string proof(kProofBytes, '\0');
  unsigned size = 0;
  const unsigned char* made =
      HMAC(EVP_sha256(), token_.data(), static_cast<int>(token_.size()),
           reinterpret_cast<const unsigned char*>(statement.data()), statement.size(),
           reinterpret_cast<unsigned char*>(proof.data()), &size);
  MANTA_CHECK(made != nullptr && size == kProofBytes);
  return proof;
}

}  // namespace ray::net
