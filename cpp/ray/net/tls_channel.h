// TLS over one TCP socket between members of a cluster, by OpenSSL. Version 1.3 only, nothing of an
// earlier session is used again, and both sides show a certificate that the cluster's authority has
// signed. Names in certificates are not looked at: an address says nothing of a process here, and
// members trust each other alike. Who is there is said by the proof of the token that follows
// (authentication.h), which Binding() ties to this one session.
//
// The end of a stream is the end of the socket: frames and answers say themselves where they end,
// so that a stream that was cut is noticed, and there are no farewells.
//   TLS-1  no byte of the owner leaves, and none is given to it, before the peer's certificate was
//   checked. TLS-2  nothing that the peer sends raises a signal, and until the handshake is over it
//   may have kHandshakeMaxBytes read and no more.
//   TLS-3  one key encrypts no more than records_per_key records.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "ray/net/tls_credentials.h"

struct ssl_ctx_st;
struct ssl_st;

namespace ray::net {

struct TlsSocket;

// Owner: Connection, then whoever it is handed over to.   Threads: thread-compatible.
// Blocks as the socket does. Errors: final, and error() says what happened: kUnauthenticated when
// either side does not take the other's certificate, kInvalidArgument for bytes that are no TLS,
// kUnavailable when the socket broke.
class TlsChannel {
 public:
  static constexpr size_t kHandshakeMaxBytes = 64 << 10;

  ~TlsChannel();

  // True: it is over. False: the socket would block; to be called again once it is readable, or
  // writable where wants_write(). The peer's refusal of our certificate may come with the first
  // Read only.
  absl::StatusOr<bool> Handshake();

  // After the handshake. As recv and send: -1 with EAGAIN when the socket would block, -1 at an
  // error, 0 when the peer has closed. Both do as much as they can: what comes after fewer bytes
  // than asked is EAGAIN, an end or an error.
  ssize_t Read(void* into, size_t size);
  // After EAGAIN the same bytes come first (from elsewhere, if need be) in the next call.
  ssize_t Write(const void* bytes, size_t size);

  // Read may have something to say without the socket becoming readable: bytes that are here
  // already, an end or an error.
  bool has_more() const { return !blocked_; }
  // The last Handshake waits until the socket is writable.
  bool wants_write() const { return wants_write_; }
  const absl::Status& error() const { return error_; }

  // 32 bytes that only the two ends of this session know: "tls-exporter" of RFC 9266.
  std::string Binding() const;

 private:
  friend class TlsContext;
  TlsChannel(ssl_st* ssl, std::unique_ptr<TlsSocket> socket, uint64_t records_per_key);
  // A call that did not succeed: ended_ or error_ is set, unless the socket would block. Returns
  // OpenSSL's name for it.
  int Stop(int result);
  void ChangeKey();
  absl::Status Failure() const;

  ssl_st* const ssl_;
  const std::unique_ptr<TlsSocket> socket_;
  const uint64_t records_per_key_;
  uint64_t records_ = 0;  // written with the present key
  bool blocked_ = false;  // the last Handshake or Read
  bool wants_write_ = false;
  bool ended_ = false;
  absl::Status error_;
};

// What the channels of a process share: who it is, and whom it takes.
// Owner: shared_ptr.   Threads: thread-safe.
class TlsContext {
 public:
  enum class Side { kConnector, kAcceptor };

  // Far below what AES-GCM allows for one key (RFC 8446, 5.5).
  static constexpr uint64_t kRecordsPerKey = uint64_t{1} << 23;

  // kInvalidArgument for what is no certificate or key, or a key that belongs to another one.
  // `records_per_key` is an argument for tests.
  static absl::StatusOr<std::shared_ptr<TlsContext>> Create(
      const TlsCredentials& credentials, uint64_t records_per_key = kRecordsPerKey);
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // For the channels that are made from now on; those that are there stay as they are. Errors: as
  // Create, and nothing has changed.
  absl::Status Replace(const TlsCredentials& credentials);

  // `fd` stays the caller's, and open for as long as the channel is used. It may be made blocking
  // later.
  std::unique_ptr<TlsChannel> MakeChannel(int fd, Side side) const;

 private:
  using Context = std::shared_ptr<ssl_ctx_st>;

  TlsContext(Context context, uint64_t records_per_key);
  static absl::StatusOr<Context> Make(const TlsCredentials& credentials);
  static absl::Status Use(const TlsCredentials& credentials, ssl_ctx_st* context);

  const uint64_t records_per_key_;
  mutable absl::Mutex mutex_;
  Context context_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ray::net
