#include "ray/net/tls_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "ray/net/connection_testutil.h"
#include "ray/net/tls_testutil.h"

namespace ray::net {
namespace {

using ::testing::HasSubstr;
using Side = TlsContext::Side;

// One end of a connection.
struct End {
  UniqueFd fd;
  std::unique_ptr<TlsChannel> channel;
  absl::StatusOr<bool> handshake = false;

  End(UniqueFd socket, const TlsContext& context, Side side)
      : fd(std::move(socket)), channel(context.MakeChannel(fd.get(), side)) {}
  bool AgreesOrFails() {
    if (handshake.ok() && !*handshake) handshake = channel->Handshake();
    return !handshake.ok() || *handshake;
  }
  // What it can read now; why it cannot read on is in errno, or in `over`.
  std::string ReadAll() {
    std::string all;
    char bytes[4096];
    ssize_t n;
    while ((n = channel->Read(bytes, sizeof bytes)) > 0) all.append(bytes, static_cast<size_t>(n));
    over = n == 0;
    return all;
  }
  bool over = false;
};

struct Pair {
  End connector;
  End acceptor;

  explicit Pair(const TlsContext& connectors, const TlsContext& acceptors)
      : Pair(connectors, acceptors, MakeSocketPair()) {}
  Pair(const TlsContext& connectors, const TlsContext& acceptors,
       std::pair<UniqueFd, UniqueFd> sockets)
      : connector(std::move(sockets.first), connectors, Side::kConnector),
        acceptor(std::move(sockets.second), acceptors, Side::kAcceptor) {}

  // Until both are through or one has failed.
  void ShakeHands() {
    bool connected = false, accepted = false;
    for (int i = 0; i < 100 && !(connected && accepted); ++i) {
      connected = connector.AgreesOrFails();
      accepted = acceptor.AgreesOrFails();
    }
  }
  bool agreed() const {
    return connector.handshake.ok() && *connector.handshake && acceptor.handshake.ok() &&
           *acceptor.handshake;
  }
};

class TlsChannelTest : public ::testing::Test {
 protected:
  Pair Agreed() {
    Pair pair(*ours_, *ours_);
    pair.ShakeHands();
    EXPECT_TRUE(pair.agreed());
    return pair;
  }

  const TestAuthority authority_;
  const std::shared_ptr<const TlsContext> ours_ = authority_.Context();
};

std::string RandomBytes(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

void Put(const UniqueFd& fd, std::string_view bytes) {
  ASSERT_EQ(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
}

std::string Take(const UniqueFd& fd) {
  std::string bytes(1 << 20, '\0');
  const ssize_t n = recv(fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  bytes.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return bytes;
}

TEST_F(TlsChannelTest, BytesArriveAsTheyWereSent) {
  Pair pair = Agreed();
  EXPECT_EQ(pair.connector.channel->Write("question", 8), 8);
  EXPECT_EQ(pair.acceptor.channel->Write("answer", 6), 6);
  EXPECT_EQ(pair.acceptor.ReadAll(), "question");
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_FALSE(pair.acceptor.channel->has_more());
  EXPECT_EQ(pair.connector.ReadAll(), "answer");
}

TEST_F(TlsChannelTest, NothingOfThemIsOnTheWire) {
  Pair pair = Agreed();
  const std::string secret = "the secret, which is long enough to be found";
  pair.connector.channel->Write(secret.data(), secret.size());
  const std::string seen = Take(pair.acceptor.fd);
  EXPECT_GT(seen.size(), secret.size());
  EXPECT_EQ(seen.find(secret.substr(0, 10)), std::string::npos);
}

TEST_F(TlsChannelTest, BothSidesKnowTheSameBindingAndNoOtherSessionHasIt) {
  Pair first = Agreed();
  Pair second = Agreed();
  EXPECT_EQ(first.connector.channel->Binding().size(), 32u);
  EXPECT_EQ(first.connector.channel->Binding(), first.acceptor.channel->Binding());
  EXPECT_NE(first.connector.channel->Binding(), second.connector.channel->Binding());
}

TEST_F(TlsChannelTest, WriteTakesWhatTheSocketTakes) {
  Pair pair = Agreed();
  const std::string sent = RandomBytes(5 << 20, 1);
  std::string received;
  size_t at = 0;
  int stops = 0;
  while (received.size() < sent.size()) {
    // From elsewhere each time, as a buffer that has grown.
    const std::string rest = sent.substr(at);
    const ssize_t n = rest.empty() ? 0 : pair.connector.channel->Write(rest.data(), rest.size());
    if (n > 0) at += static_cast<size_t>(n);
    if (static_cast<size_t>(std::max<ssize_t>(n, 0)) < rest.size()) {
      EXPECT_TRUE(n >= 0 || errno == EAGAIN);
      ++stops;
    }
    received += pair.acceptor.ReadAll();
  }
  EXPECT_GT(stops, 1);
  EXPECT_TRUE(received == sent);
}

TEST_F(TlsChannelTest, ReadFillsTheBufferAndSaysThatThereIsMore) {
  Pair pair = Agreed();
  const std::string sent = RandomBytes(20'000, 1);
  ASSERT_EQ(pair.connector.channel->Write(sent.data(), sent.size()), 20'000);
  std::string into(18'000, '\0');
  EXPECT_EQ(pair.acceptor.channel->Read(into.data(), into.size()), 18'000);
  EXPECT_TRUE(into == sent.substr(0, 18'000));
  // The socket is empty by now: it is with OpenSSL.
  EXPECT_EQ(Take(pair.acceptor.fd), "");
  EXPECT_TRUE(pair.acceptor.channel->has_more());
  EXPECT_TRUE(pair.acceptor.ReadAll() == sent.substr(18'000));
  EXPECT_FALSE(pair.acceptor.channel->has_more());
}

// Both ends send much at the same time, in pieces of any size, and change their keys on the way.
TEST_F(TlsChannelTest, MuchInBothDirectionsInPiecesOfAnySize) {  // TLS-3
  const auto context = *TlsContext::Create(authority_.Credentials(), /*records_per_key=*/7);
  for (unsigned seed = 0; seed < 20; ++seed) {
    Pair pair(*context, *context);
    pair.ShakeHands();
    ASSERT_TRUE(pair.agreed());
    std::mt19937 random(seed);
    End* ends[2] = {&pair.connector, &pair.acceptor};
    const std::string sent[2] = {RandomBytes(2 << 20, 2 * seed),
                                 RandomBytes(3 << 20, 2 * seed + 1)};
    size_t at[2] = {0, 0};
    size_t refused[2] = {0, 0};  // comes again, perhaps with more behind it
    std::string received[2];
    while (received[0].size() < sent[1].size() || received[1].size() < sent[0].size()) {
      const auto who = static_cast<size_t>(random() % 2);
      const size_t size = 1 + (random() % 3 == 0 ? random() % 200'000 : random() % 1000);
      if (random() % 2 == 0 && at[who] < sent[who].size()) {
        const std::string piece = sent[who].substr(at[who], std::max(size, refused[who]));
        const ssize_t n = ends[who]->channel->Write(piece.data(), piece.size());
        ASSERT_TRUE(n >= 0 || errno == EAGAIN) << ends[who]->channel->error();
        const auto taken = static_cast<size_t>(std::max<ssize_t>(n, 0));
        at[who] += taken;
        refused[who] = piece.size() - taken;
      } else {
        std::string into(size, '\0');
        const ssize_t n = ends[who]->channel->Read(into.data(), into.size());
        ASSERT_TRUE(n > 0 || (n < 0 && errno == EAGAIN)) << ends[who]->channel->error();
        if (n > 0) received[who].append(into, 0, static_cast<size_t>(n));
      }
    }
    EXPECT_TRUE(received[0] == sent[1]);
    EXPECT_TRUE(received[1] == sent[0]);
  }
}

TEST_F(TlsChannelTest, HandshakeThatTricklesInIsFollowed) {
  auto [connector_fd, connector_far] = MakeSocketPair();
  auto [acceptor_fd, acceptor_far] = MakeSocketPair();
  End connector(std::move(connector_fd), *ours_, Side::kConnector);
  End acceptor(std::move(acceptor_fd), *ours_, Side::kAcceptor);
  // A byte at a time, both ways.
  std::string to_acceptor, to_connector;
  for (int i = 0; i < 100'000; ++i) {
    const bool done = connector.AgreesOrFails() & acceptor.AgreesOrFails();
    to_acceptor += Take(connector_far);
    to_connector += Take(acceptor_far);
    if (done && to_acceptor.empty() && to_connector.empty()) break;
    if (!to_acceptor.empty()) Put(acceptor_far, to_acceptor.substr(0, 1));
    if (!to_connector.empty()) Put(connector_far, to_connector.substr(0, 1));
    to_acceptor.erase(0, 1);
    to_connector.erase(0, 1);
  }
  ASSERT_TRUE(connector.handshake.ok() && *connector.handshake) << connector.handshake.status();
  ASSERT_TRUE(acceptor.handshake.ok() && *acceptor.handshake) << acceptor.handshake.status();
  EXPECT_EQ(connector.channel->Binding(), acceptor.channel->Binding());
}

TEST_F(TlsChannelTest, OnABlockingSocketAllIsSentAndReceived) {
  Pair pair = Agreed();
  for (End* end : {&pair.connector, &pair.acceptor}) fcntl(end->fd.get(), F_SETFL, 0);
  const std::string sent = RandomBytes(10 << 20, 1);
  std::thread writer([&] {
    EXPECT_EQ(pair.connector.channel->Write(sent.data(), sent.size()),
              static_cast<ssize_t>(sent.size()));
  });
  std::string received(sent.size(), '\0');
  EXPECT_EQ(pair.acceptor.channel->Read(received.data(), received.size()),
            static_cast<ssize_t>(sent.size()));
  writer.join();
  EXPECT_TRUE(received == sent);
}

TEST_F(TlsChannelTest, PeerThatLeavesIsTheEnd) {
  Pair pair = Agreed();
  pair.connector.channel->Write("last word", 9);
  pair.connector.fd.Reset(-1);
  EXPECT_EQ(pair.acceptor.ReadAll(), "last word");
  EXPECT_TRUE(pair.acceptor.over);
  EXPECT_EQ(pair.acceptor.channel->Write("x", 1), -1);  // no SIGPIPE (TLS-2)
  EXPECT_NE(errno, EAGAIN);
  EXPECT_TRUE(absl::IsUnavailable(pair.acceptor.channel->error()));
}

TEST_F(TlsChannelTest, StreamThatIsCutInARecordIsTheEnd) {
  auto [connector_fd, far] = MakeSocketPair();
  Pair pair = Agreed();
  const std::string sent(1000, 'x');
  pair.connector.channel->Write(sent.data(), sent.size());
  const std::string record = Take(pair.acceptor.fd);
  // What is left of it, as if the connector had died in the middle.
  Put(pair.connector.fd, record.substr(0, record.size() / 2));
  pair.connector.fd.Reset(-1);
  EXPECT_EQ(pair.acceptor.ReadAll(), "");
  EXPECT_TRUE(pair.acceptor.over);
}

TEST_F(TlsChannelTest, ByteThatWasChangedIsAnError) {
  for (size_t at : {size_t{0}, size_t{3}, size_t{7}, size_t{500}}) {
    Pair pair = Agreed();
    const std::string sent(1000, 'x');
    pair.connector.channel->Write(sent.data(), sent.size());
    std::string record = Take(pair.acceptor.fd);
    record[at] = static_cast<char>(record[at] ^ 1);
    Put(pair.connector.fd, record);
    EXPECT_EQ(pair.acceptor.ReadAll(), "");
    if (at == 3) continue;  // a longer record, whose end never comes
    EXPECT_FALSE(pair.acceptor.over);
    EXPECT_EQ(errno, EPROTO);
    EXPECT_TRUE(absl::IsInvalidArgument(pair.acceptor.channel->error()))
        << pair.acceptor.channel->error();
    EXPECT_TRUE(pair.acceptor.channel->has_more());
    EXPECT_EQ(pair.acceptor.ReadAll(), "");  // it stays so
    EXPECT_EQ(errno, EPROTO);
  }
}

TEST_F(TlsChannelTest, ReplayedRecordIsAnError) {
  Pair pair = Agreed();
  pair.connector.channel->Write("pay", 3);
  const std::string record = Take(pair.acceptor.fd);
  Put(pair.connector.fd, record + record);
  EXPECT_EQ(pair.acceptor.ReadAll(), "pay");
  EXPECT_EQ(errno, EPROTO);
}

// --- Who does not get in (TLS-1)

TEST_F(TlsChannelTest, AnotherAuthorityIsRefusedByEitherSide) {
  for (const char* name : {"another one", "authority"}) {
    const TestAuthority other(name);
    const auto theirs = other.Context();
    {
      Pair pair(*theirs, *ours_);
      pair.ShakeHands();
      EXPECT_EQ(pair.connector.handshake.status().code(), absl::StatusCode::kUnauthenticated);
      EXPECT_FALSE(pair.agreed());
    }
    // A connector that would take us: the acceptor refuses it.
    TlsCredentials mixed = other.Credentials();
    mixed.authority = authority_.Credentials().authority;
    const auto lenient = *TlsContext::Create(mixed);
    Pair pair(*lenient, *ours_);
    pair.ShakeHands();
    EXPECT_EQ(pair.acceptor.handshake.status().code(), absl::StatusCode::kUnauthenticated);
    EXPECT_THAT(pair.acceptor.handshake.status().ToString(), HasSubstr("not valid here"));
    // It is told so when it reads.
    EXPECT_EQ(pair.connector.ReadAll(), "");
    EXPECT_FALSE(pair.connector.over);
    EXPECT_EQ(pair.connector.channel->error().code(), absl::StatusCode::kUnauthenticated);
    EXPECT_THAT(pair.connector.channel->error().ToString(), HasSubstr("alert"));
  }
}

// A client of OpenSSL's own, that takes any server; without credentials, without a certificate.
class Stranger {
 public:
  explicit Stranger(int version = TLS1_3_VERSION, const TlsCredentials& credentials = {})
      : context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_max_proto_version(context_, version);
    if (credentials.enabled()) {
      BIO* certificate = BIO_new_mem_buf(credentials.certificate.data(), -1);
      BIO* key = BIO_new_mem_buf(credentials.key.data(), -1);
      X509* read_certificate = PEM_read_bio_X509(certificate, nullptr, nullptr, nullptr);
      EVP_PKEY* read_key = PEM_read_bio_PrivateKey(key, nullptr, nullptr, nullptr);
      SSL_CTX_use_certificate(context_, read_certificate);
      SSL_CTX_use_PrivateKey(context_, read_key);
      X509_free(read_certificate);
      EVP_PKEY_free(read_key);
      BIO_free(certificate);
      BIO_free(key);
    }
    ssl = SSL_new(context_);
  }
  ~Stranger() {
    SSL_free(ssl);
    SSL_CTX_free(context_);
  }
  void Connect(End* acceptor, int fd) const {
    SSL_set_fd(ssl, fd);
    bool connected = false, accepted = false;
    for (int i = 0; i < 100 && !(connected && accepted); ++i) {
      connected = SSL_connect(ssl) == 1;
      accepted = acceptor->AgreesOrFails();
    }
  }

  SSL* ssl;

 private:
  SSL_CTX* const context_;
};

absl::Status AnswerToStranger(const TlsContext& context, int version) {
  auto [near, far] = MakeSocketPair();
  End acceptor(std::move(near), context, Side::kAcceptor);
  Stranger(version).Connect(&acceptor, far.get());
  return acceptor.handshake.status();
}

// Ours never do that.
TEST_F(TlsChannelTest, PeerMayAskForNewKeys) {
  auto [near, far] = MakeSocketPair();
  End acceptor(std::move(near), *ours_, Side::kAcceptor);
  const Stranger peer(TLS1_3_VERSION, authority_.Credentials());
  peer.Connect(&acceptor, far.get());
  ASSERT_TRUE(acceptor.handshake.ok() && *acceptor.handshake) << acceptor.handshake.status();
  const auto ask = [&] {
    ASSERT_EQ(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    ASSERT_EQ(SSL_do_handshake(peer.ssl), 1);
    ASSERT_EQ(SSL_write(peer.ssl, "x", 1), 1);
  };
  char byte = 0;
  for (int i = 0; i < 5; ++i) {
    ask();
    EXPECT_EQ(acceptor.ReadAll(), "x");
    EXPECT_EQ(errno, EAGAIN);
    ASSERT_EQ(acceptor.channel->Write("y", 1), 1);
    ASSERT_EQ(SSL_read(peer.ssl, &byte, 1), 1);
    EXPECT_EQ(byte, 'y');
  }
  // With our record half in a full socket OpenSSL may be unable to answer: an end, but no wait.
  const std::string much(4 << 20, 'z');
  while (acceptor.channel->Write(much.data(), much.size()) > 0) continue;
  EXPECT_EQ(errno, EAGAIN);
  ask();
  const std::string read = acceptor.ReadAll();
  EXPECT_TRUE(read == "x" || absl::IsInvalidArgument(acceptor.channel->error()));
}

TEST_F(TlsChannelTest, NoCertificateIsRefused) {
  const absl::Status refusal = AnswerToStranger(*ours_, TLS1_3_VERSION);
  EXPECT_EQ(refusal.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(refusal.ToString(), HasSubstr("no certificate"));
}

TEST_F(TlsChannelTest, EarlierVersionsAreRefused) {
  const absl::Status refusal = AnswerToStranger(*ours_, TLS1_2_VERSION);
  EXPECT_EQ(refusal.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(refusal.ToString(), HasSubstr("unsupported protocol"));
}

TEST_F(TlsChannelTest, CertificateThatIsNotValidNowIsRefused) {
  const std::pair<long, long> times[] = {{-7200, -3600}, {3600, 7200}};
  for (const auto& [from_s, until_s] : times) {
    const auto invalid = *TlsContext::Create(authority_.Credentials(from_s, until_s));
    Pair pair(*ours_, *invalid);
    pair.ShakeHands();
    EXPECT_EQ(pair.connector.handshake.status().code(), absl::StatusCode::kUnauthenticated);
    EXPECT_THAT(pair.connector.handshake.status().ToString(),
                HasSubstr(until_s < 0 ? "expired" : "not yet valid"));
  }
}

TEST_F(TlsChannelTest, PlainPeerIsToldApart) {
  const std::string plain[] = {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", std::string(100, '\0'),
                               std::string("\x25\0\0\0\x25\0\0\0\x03\0\0\0MNT1", 16)};
  for (const std::string& bytes : plain) {
    for (Side side : {Side::kAcceptor, Side::kConnector}) {
      auto [near, far] = MakeSocketPair();
      End end(std::move(near), *ours_, side);
      Put(far, bytes);
      while (!end.AgreesOrFails()) continue;
      EXPECT_EQ(end.handshake.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(end.handshake.status().ToString(), HasSubstr("does not speak TLS"));
      if (side == Side::kConnector) continue;
      EXPECT_EQ(Take(far), "");  // nothing is said to it
    }
  }
}

TEST_F(TlsChannelTest, GarbageAfterTheFirstByteIsRefused) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    auto [near, far] = MakeSocketPair();
    End end(std::move(near), *ours_, Side::kAcceptor);
    Put(far, "\x16\x03\x01" + RandomBytes(1000, seed));
    const bool failed = end.AgreesOrFails();
    far.Reset(-1);
    EXPECT_TRUE(failed || end.AgreesOrFails());
    EXPECT_FALSE(end.handshake.ok());
  }
}

TEST_F(TlsChannelTest, HandshakeThatIsBrokenOffIsTheEnd) {
  for (size_t kept : {0, 1, 100}) {
    auto [connector_fd, connector_far] = MakeSocketPair();
    End connector(std::move(connector_fd), *ours_, Side::kConnector);
    EXPECT_FALSE(connector.AgreesOrFails());
    auto [acceptor_fd, acceptor_far] = MakeSocketPair();
    End acceptor(std::move(acceptor_fd), *ours_, Side::kAcceptor);
    Put(acceptor_far, Take(connector_far).substr(0, kept));
    EXPECT_FALSE(acceptor.AgreesOrFails());
    acceptor_far.Reset(-1);
    EXPECT_TRUE(acceptor.AgreesOrFails());
    EXPECT_TRUE(absl::IsUnavailable(acceptor.handshake.status())) << acceptor.handshake.status();
    EXPECT_FALSE(acceptor.channel->Handshake().ok());
  }
}

TEST_F(TlsChannelTest, HandshakeHasALimit) {  // TLS-2
  auto [near, far] = MakeSocketPair();
  End end(std::move(near), *ours_, Side::kAcceptor);
  // A message of a handshake in many records that is announced as one of 120 kB.
  std::string message(120'000, 'x');
  message.replace(0, 4, std::string("\x01\x01\xd4\xbc", 4));
  size_t taken = 0;
  while (taken < message.size() && !end.AgreesOrFails()) {
    const size_t size = std::min<size_t>(16'000, message.size() - taken);
    std::string record = std::string("\x16\x03\x01", 3);
    record += static_cast<char>(size >> 8);
    record += static_cast<char>(size & 0xff);
    Put(far, record + message.substr(taken, size));
    taken += size;
  }
  EXPECT_LE(taken, TlsChannel::kHandshakeMaxBytes + 32'000);
  EXPECT_EQ(end.handshake.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(end.handshake.status().ToString(), HasSubstr("too long"));
}

// --- What a context is made of

TEST_F(TlsChannelTest, CredentialsThatAreNoneAreNamed) {
  const TlsCredentials good = authority_.Credentials();
  const std::string pem = "-----BEGIN CERTIFICATE-----\nnonsense\n";
  for (const auto& [credentials, word] :
       std::initializer_list<std::pair<TlsCredentials, const char*>>{
           {{pem, good.key, good.authority}, "certificate"},
           {{good.certificate, pem, good.authority}, "key"},
           {{good.certificate, authority_.Credentials().key, good.authority}, "key"},
           {{good.certificate, good.key, pem}, "authority"}}) {
    const auto context = TlsContext::Create(credentials);
    EXPECT_EQ(context.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(context.status().ToString(), HasSubstr(word));
  }
}

TEST_F(TlsChannelTest, NewCredentialsCountForNewChannels) {
  const TestAuthority other("another one");
  const auto context = *TlsContext::Create(authority_.Credentials());
  Pair before(*context, *ours_);
  before.ShakeHands();
  ASSERT_TRUE(before.agreed());
  ASSERT_TRUE(context->Replace(other.Credentials()).ok());
  Pair after(*context, *other.Context());
  after.ShakeHands();
  EXPECT_TRUE(after.agreed());
  Pair refused(*context, *ours_);
  refused.ShakeHands();
  EXPECT_FALSE(refused.agreed());
  const TlsCredentials mixed{.certificate = authority_.Credentials().certificate,
                             .key = other.Credentials().key,
                             .authority = authority_.Credentials().authority};
  EXPECT_EQ(context->Replace(mixed).code(), absl::StatusCode::kInvalidArgument);
  Pair still(*context, *other.Context());
  still.ShakeHands();
  EXPECT_TRUE(still.agreed()) << "nothing has changed";
}

TEST_F(TlsChannelTest, SeveralAuthoritiesAreTrusted) {
  const TestAuthority other("another one");
  TlsCredentials both = authority_.Credentials();
  both.authority += other.Credentials().authority;
  TlsCredentials theirs = other.Credentials();
  theirs.authority += authority_.Credentials().authority;
  Pair pair(**TlsContext::Create(both), **TlsContext::Create(theirs));
  pair.ShakeHands();
  EXPECT_TRUE(pair.agreed());
}

}  // namespace
}  // namespace ray::net
