#include "ray/net/tls_channel.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/status_macros.h"
#include "ray/net/endpoint.h"

namespace ray::net {

// The socket as OpenSSL sees it, and what was noticed there.
struct TlsSocket {
  int fd = -1;
  size_t received_max = TlsChannel::kHandshakeMaxBytes;
  size_t received = 0;  // up to received_max
  char first_byte = 0;  // of what was received
  bool more = false;    // another record follows what is sent now
  bool ended = false;
  int error = 0;  // an errno; 0: none
  // What OpenSSL says of its own accord after the handshake (new keys) waits here if the socket is
  // full, and leaves before what is written next: it would not read on before that is sent, and two
  // ends that both wait like that would do so forever.
  bool may_hold = false;
  std::string held;
};

namespace {

// It says 27 bytes at a time.
constexpr size_t kHeldMaxBytes = 1000;
constexpr std::string_view kBindingLabel = "EXPORTER-Channel-Binding";
constexpr size_t kBindingBytes = 32;
// What a peer's certificate and those of its chain may have, in DER.
constexpr long kCertificatesMaxBytes = 32 << 10;
// The first byte of a record (RFC 8446, 5.1).
constexpr char kAlertRecord = 21, kHandshakeRecord = 22;

template <auto free>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    free(object);
  }
};
using Bio = std::unique_ptr<BIO, Free<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;

// --- The socket, without signals

ssize_t SendSome(const TlsSocket& socket, std::string_view bytes) {
  const int flags = MSG_NOSIGNAL | (socket.more ? MSG_MORE : 0);
  while (true) {
    const ssize_t n = send(socket.fd, bytes.data(), bytes.size(), flags);
    if (n >= 0 || errno != EINTR) return n;
  }
}

int WriteSocket(BIO* bio, const char* from, int size) {
  auto* socket = static_cast<TlsSocket*>(BIO_get_data(bio));
  const std::string_view bytes(from, static_cast<size_t>(size));
  BIO_clear_retry_flags(bio);
  ssize_t n = 0;
  while (!socket->held.empty() && n >= 0) {
    n = SendSome(*socket, socket->held);
    if (n > 0) socket->held.erase(0, static_cast<size_t>(n));
  }
  if (socket->held.empty()) n = SendSome(*socket, bytes);
  const bool is_full = n < 0 && errno == EAGAIN;
  if (is_full && socket->may_hold && socket->held.size() + bytes.size() <= kHeldMaxBytes) {
    socket->held += bytes;
    return size;
  }
  if (is_full) {
    BIO_set_retry_write(bio);
  } else if (n < 0) {
    socket->error = errno;
  }
  return static_cast<int>(n);
}

int ReadSocket(BIO* bio, char* into, int size) {
  auto* socket = static_cast<TlsSocket*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (socket->received >= socket->received_max) {
    socket->error = EMSGSIZE;
    return -1;
  }
  ssize_t n;
  do {
    n = recv(socket->fd, into, static_cast<size_t>(size), 0);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EAGAIN) {
    BIO_set_retry_read(bio);
  } else if (n < 0) {
    socket->error = errno;
  } else if (n == 0) {
    socket->ended = true;
  } else if (socket->received_max != SIZE_MAX) {
    if (socket->received == 0) socket->first_byte = into[0];
    socket->received += static_cast<size_t>(n);
  }
  return static_cast<int>(n);
}

// Nothing is buffered there: what OpenSSL asks for besides (to flush) is done.
long ControlSocket(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

const BIO_METHOD* SocketMethod() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    MANTA_CHECK(made != nullptr);
    BIO_meth_set_write(made, WriteSocket);
    BIO_meth_set_read(made, ReadSocket);
    BIO_meth_set_ctrl(made, ControlSocket);
    return made;
  }();
  return method;
}

// --- Certificates

absl::Status Invalid(const char* what) {
  const unsigned long code = ERR_peek_last_error();
  const char* reason = ERR_reason_error_string(code);
  ERR_clear_error();
  return absl::InvalidArgumentError(
      absl::StrCat("TLS: ", what, reason == nullptr ? "" : absl::StrCat(": ", reason)));
}

Bio BytesOf(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Without a question on the terminal: a key with a password is not read.
int NoPassword(char*, int, int, void*) { return 0; }

Certificate NextCertificate(const Bio& text) {
  return Certificate(PEM_read_bio_X509(text.get(), nullptr, NoPassword, nullptr));
}

}  // namespace

// --- TlsContext

TlsContext::TlsContext(Context context, uint64_t records_per_key)
    : records_per_key_(records_per_key), context_(std::move(context)) {}

absl::StatusOr<std::shared_ptr<TlsContext>> TlsContext::Create(const TlsCredentials& credentials,
                                                               uint64_t records_per_key) {
  MANTA_ASSIGN_OR_RETURN(Context context, Make(credentials));
  return std::shared_ptr<TlsContext>(new TlsContext(std::move(context), records_per_key));
}

absl::Status TlsContext::Replace(const TlsCredentials& credentials) {
  MANTA_ASSIGN_OR_RETURN(Context context, Make(credentials));
  absl::MutexLock lock(&mutex_);
  context_.swap(context);  // what was there ends after the lock
  return absl::OkStatus();
}

absl::StatusOr<TlsContext::Context> TlsContext::Make(const TlsCredentials& credentials) {
  ERR_clear_error();
  const Context context(SSL_CTX_new(TLS_method()), SSL_CTX_free);
  SSL_CTX* const made = context.get();
  MANTA_CHECK(made != nullptr);
  SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(made, TLS1_3_VERSION);
  // The cheapest first; all are good.
  SSL_CTX_set_ciphersuites(
      made, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
  SSL_CTX_set_options(made, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_num_tickets(made, 0);
  SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(made, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_max_cert_list(made, kCertificatesMaxBytes);
  SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                             SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(made, 1);  // a record with one recv
  MANTA_RETURN_IF_ERROR(Use(credentials, made));
  return context;
}

absl::Status TlsContext::Use(const TlsCredentials& credentials, ssl_ctx_st* context) {
  const Bio chain = BytesOf(credentials.certificate);
  const Certificate own = NextCertificate(chain);
  if (own == nullptr || SSL_CTX_use_certificate(context, own.get()) != 1) {
    return Invalid("the certificate cannot be used");
  }
  while (Certificate further = NextCertificate(chain)) {
    if (SSL_CTX_add1_chain_cert(context, further.get()) != 1) {
      return Invalid("a certificate above the own one cannot be used");
    }
  }
  const Key key(
      PEM_read_bio_PrivateKey(BytesOf(credentials.key).get(), nullptr, NoPassword, nullptr));
  if (key == nullptr || SSL_CTX_use_PrivateKey(context, key.get()) != 1) {
    return Invalid("the key cannot be used with the certificate (it must have no password)");
  }
  const Bio authorities = BytesOf(credentials.authority);
  X509_STORE* const trusted = SSL_CTX_get_cert_store(context);
  int count = 0;
  while (Certificate authority = NextCertificate(authorities)) {
    if (X509_STORE_add_cert(trusted, authority.get()) != 1) {
      return Invalid("the certificate of the authority cannot be used");
    }
    ++count;
  }
  if (count == 0) return Invalid("the certificate of the authority cannot be used");
  ERR_clear_error();  // the ends of the texts
  return absl::OkStatus();
}

std::unique_ptr<TlsChannel> TlsContext::MakeChannel(int fd, Side side) const {
  ERR_clear_error();
  auto socket = std::make_unique<TlsSocket>();
  socket->fd = fd;
  SSL* ssl = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    ssl = SSL_new(context_.get());  // which keeps it
  }
  BIO* bio = BIO_new(SocketMethod());
  MANTA_CHECK(ssl != nullptr && bio != nullptr);
  BIO_set_data(bio, socket.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  if (side == Side::kConnector) {
    SSL_set_connect_state(ssl);
  } else {
    SSL_set_accept_state(ssl);
  }
  return std::unique_ptr<TlsChannel>(new TlsChannel(ssl, std::move(socket), records_per_key_));
}

// --- TlsChannel

TlsChannel::TlsChannel(ssl_st* ssl, std::unique_ptr<TlsSocket> socket, uint64_t records_per_key)
    : ssl_(ssl), socket_(std::move(socket)), records_per_key_(records_per_key) {}

TlsChannel::~TlsChannel() { SSL_free(ssl_); }

absl::StatusOr<bool> TlsChannel::Handshake() {
  if (!error_.ok()) return error_;
  ERR_clear_error();
  blocked_ = wants_write_ = false;
  const int result = SSL_do_handshake(ssl_);
  if (result == 1) {
    socket_->received_max = SIZE_MAX;
    return true;
  }
  const int code = Stop(result);
  wants_write_ = code == SSL_ERROR_WANT_WRITE;
  blocked_ = wants_write_ || code == SSL_ERROR_WANT_READ;
  if (blocked_) return false;
  const bool left = ended_ || socket_->error == ECONNRESET || socket_->error == EPIPE;
  if (left) {
    error_ = absl::UnavailableError(
        "the peer broke the connection off in the TLS handshake (it may not speak TLS)");
  }
  return error_;
}

ssize_t TlsChannel::Read(void* into, size_t size) {
  blocked_ = false;
  size_t done = 0;
  socket_->may_hold = true;
  while (done < size && !blocked_ && !ended_ && error_.ok()) {
    ERR_clear_error();
    size_t n = 0;
    const int result = SSL_read_ex(ssl_, static_cast<char*>(into) + done, size - done, &n);
    done += n;
    if (result == 1) continue;
    const int code = Stop(result);
    blocked_ = code == SSL_ERROR_WANT_READ;
    if (code == SSL_ERROR_WANT_WRITE) {
      error_ = absl::InvalidArgumentError("the peer asks for new keys and does not take them");
    }
  }
  socket_->may_hold = false;
  if (done > 0) return static_cast<ssize_t>(done);
  errno = blocked_ ? EAGAIN : EPROTO;
  return ended_ ? 0 : -1;
}

ssize_t TlsChannel::Write(const void* bytes, size_t size) {
  size_t done = 0;
  while (done < size) {
    if (!error_.ok()) {
      errno = EPROTO;
      return -1;
    }
    ERR_clear_error();
    size_t n = 0;
    socket_->more = size - done > SSL3_RT_MAX_PLAIN_LENGTH;
    const int result = SSL_write_ex(ssl_, static_cast<const char*>(bytes) + done, size - done, &n);
    if (result == 1) {
      done += n;
      if (++records_ == records_per_key_) ChangeKey();
    } else if (Stop(result) == SSL_ERROR_WANT_WRITE) {
      if (done > 0) break;
      errno = EAGAIN;
      return -1;
    } else if (error_.ok()) {
      error_ = absl::UnavailableError("the peer has closed the connection");
    }
  }
  return static_cast<ssize_t>(done);
}

void TlsChannel::ChangeKey() {
  records_ = 0;
  socket_->may_hold = true;
  SSL_key_update(ssl_, SSL_KEY_UPDATE_NOT_REQUESTED);
  if (const int result = SSL_do_handshake(ssl_); result != 1) Stop(result);
  socket_->may_hold = false;
}

int TlsChannel::Stop(int result) {
  const int code = SSL_get_error(ssl_, result);
  if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) return code;
  ended_ = socket_->error == 0 && (code == SSL_ERROR_ZERO_RETURN || socket_->ended);
  if (!ended_) error_ = Failure();
  ERR_clear_error();
  return code;
}

absl::Status TlsChannel::Failure() const {
  if (socket_->error == EMSGSIZE) {
    return absl::InvalidArgumentError("the peer's TLS handshake is too long");
  }
  if (socket_->error != 0) return SocketStatus(socket_->error);
  if (socket_->first_byte != kHandshakeRecord && socket_->first_byte != kAlertRecord) {
    return absl::InvalidArgumentError(
        "the peer does not speak TLS, without which this node talks to nobody: start all nodes of "
        "the cluster with TLS");
  }
  const unsigned long error = ERR_peek_last_error();
  const int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
  if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
    return absl::UnauthenticatedError("the peer shows no certificate");
  }
  if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    return absl::UnauthenticatedError(
        absl::StrCat("the peer's certificate is not valid here: ",
                     X509_verify_cert_error_string(SSL_get_verify_result(ssl_))));
  }
  const char* text = ERR_reason_error_string(error);
  if (text == nullptr) text = "an error without a name";
  if (reason >= SSL_AD_REASON_OFFSET) {
    return absl::UnauthenticatedError(absl::StrCat("the peer ended the TLS session: ", text));
  }
  return absl::InvalidArgumentError(absl::StrCat("the peer does not follow TLS: ", text));
}

std::string TlsChannel::Binding() const {
  std::string binding(kBindingBytes, '\0');
  const int made = SSL_export_keying_material(
      ssl_, reinterpret_cast<unsigned char*>(binding.data()), binding.size(), kBindingLabel.data(),
      kBindingLabel.size(), nullptr, 0, 0);
  MANTA_CHECK(made == 1);
  return binding;
}

}  // namespace ray::net
