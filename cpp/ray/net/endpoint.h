// Endpoints and sockets: "unix:PATH" (mode 0700 directory; same node) and "tcp:HOST:PORT".
// Paths longer than the kernel's 107 bytes are reached through /proc/self/fd of their directory.
// Threads: free functions, thread-safe.   All sockets are close-on-exec and non-blocking.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace ray::net {

// Closes on destruction. Threads: thread-compatible.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    Reset(other.Release());
    return *this;
  }
  ~UniqueFd() { Reset(-1); }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void Reset(int fd);

 private:
  int fd_ = -1;
};

// kInvalidArgument for a malformed endpoint, kUnavailable when nobody listens (the message names
// the endpoint). Blocks at most `timeout` (a Unix socket connects at once).
absl::StatusOr<UniqueFd> Connect(std::string_view endpoint, absl::Duration timeout);

// As Connect, but does not wait for a TCP peer: the socket becomes writable once it is connected,
// or readable with an error. A Connection may be made of it at once. Never blocks for a numeric
// host.
absl::StatusOr<UniqueFd> StartConnect(std::string_view endpoint);

// For tcp port 0, `bound` gets the endpoint with the chosen port. A stale Unix socket file is
// replaced.
struct Listening {
  UniqueFd fd;
  std::string endpoint;
};
absl::StatusOr<Listening> Listen(std::string_view endpoint);

// Whether others than this machine can reach a socket that listens there: TCP, and not on a numeric
// loopback address or localhost.
bool IsReachableFromOutside(std::string_view endpoint);

// Of a socket's errno. kNotFound: nobody listens there, so the process is not there (any more);
// kUnavailable: all else.
absl::Status SocketStatus(int error);

// For a TCP socket: small frames leave at once, and the kernel asks a peer that has nothing to say
// for a sign of life, so that one that vanished while the connection is quiet breaks it after about
// `peer_timeout` (at least three seconds). No effect on a Unix socket.
void SetTcpOptions(int fd, absl::Duration peer_timeout);

// Whether the machine at the other end of the TCP socket has not acknowledged what was sent to it
// for `limit`. The kernel itself gives up after a quarter of an hour; with its TCP_USER_TIMEOUT it
// would also break with a peer that is there but does not read. False for a Unix socket.
bool IsUnanswered(int fd, absl::Duration limit);

}  // namespace ray::net
