#include "ray/net/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "ray/base/clock.h"
#include "ray/base/status_macros.h"

namespace ray::net {
namespace {

constexpr int kBacklog = 1024;
constexpr int kSocketFlags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::Status ErrnoStatus(absl::StatusCode code, std::string_view endpoint, const char* what) {
  return absl::Status(code, absl::StrCat(what, " ", View(endpoint), ": ", std::strerror(errno)));
}

// A Unix socket address, by way of the directory's descriptor when the path is too long for the
// kernel. `directory` must stay open while the address is used.
struct UnixAddress {
  sockaddr_un address{};
  UniqueFd directory;
};

absl::StatusOr<UnixAddress> MakeUnixAddress(const std::string& path) {
  UnixAddress result;
  result.address.sun_family = AF_UNIX;
  std::string usable = path;
  if (path.size() >= sizeof result.address.sun_path) {
    size_t slash = path.rfind('/');
    if (slash == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("socket path too long: ", path));
    }
    result.directory.Reset(open(path.substr(0, slash).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!result.directory.valid()) {
      return ErrnoStatus(absl::StatusCode::kUnavailable, path, "cannot open the directory of");
    }
    usable = absl::StrCat("/proc/self/fd/", result.directory.get(), path.substr(slash));
    if (usable.size() >= sizeof result.address.sun_path) {
      return absl::InvalidArgumentError(absl::StrCat("socket name too long: ", path));
    }
  }
  std::memcpy(result.address.sun_path, usable.c_str(), usable.size() + 1);
  return result;
}

struct HostPort {
  std::string host;
  std::string port;
};

absl::StatusOr<HostPort> SplitHostPort(std::string_view text) {
  size_t colon = text.rfind(':');
  int port = 0;
  if (colon == std::string_view::npos || !absl::SimpleAtoi(View(text.substr(colon + 1)), &port) ||
      port < 0 || port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("'", View(text), "' is not HOST:PORT"));
  }
  std::string host(text.substr(0, colon));
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  return HostPort{std::move(host), std::string(text.substr(colon + 1))};
}

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

absl::StatusOr<AddressList> Resolve(std::string_view host_port, int flags) {
  MANTA_ASSIGN_OR_RETURN(HostPort split, SplitHostPort(host_port));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  int error = getaddrinfo(split.host.c_str(), split.port.c_str(), &hints, &list);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot resolve ", View(host_port), ": ", gai_strerror(error)));
  }
  return AddressList(list, &freeaddrinfo);
}

absl::Status FinishConnect(int fd, std::string_view endpoint, absl::Duration timeout) {
  pollfd waiting{fd, POLLOUT, 0};
  int ready = poll(&waiting, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout)));
  if (ready == 0) {
    return absl::UnavailableError(
        absl::StrCat("no answer from ", View(endpoint), " within ", absl::FormatDuration(timeout)));
  }
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  errno = error;
  if (error != 0) return ErrnoStatus(absl::StatusCode::kUnavailable, endpoint, "cannot connect to");
  return absl::OkStatus();
}

// A Unix socket connects at once or, while the listener's backlog is full, not at all: nothing
// announces room.
absl::Status ConnectUnix(int fd, const sockaddr* address, socklen_t size, std::string_view endpoint,
                         absl::Duration timeout) {
  constexpr int kPauseMs = 1;
  const int64_t deadline = base::MonotonicNanos() + absl::ToInt64Nanoseconds(timeout);
  while (connect(fd, address, size) != 0) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN || base::MonotonicNanos() >= deadline) {
      return ErrnoStatus(absl::StatusCode::kUnavailable, endpoint, "cannot connect to");
    }
    poll(nullptr, 0, kPauseMs);
  }
  return absl::OkStatus();
}

// A TCP socket whose connection may still be under way.
absl::StatusOr<UniqueFd> StartTcp(std::string_view host_port, std::string_view endpoint) {
  MANTA_ASSIGN_OR_RETURN(AddressList list, Resolve(host_port, 0));
  UniqueFd fd(socket(list->ai_family, kSocketFlags, 0));
  if (!fd.valid()) {
    return ErrnoStatus(absl::StatusCode::kResourceExhausted, endpoint, "no socket for");
  }
  int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(fd.get(), list->ai_addr, list->ai_addrlen) != 0 && errno != EINPROGRESS) {
    return ErrnoStatus(absl::StatusCode::kUnavailable, endpoint, "cannot connect to");
  }
  return fd;
}

absl::StatusOr<UniqueFd> ConnectToUnix(std::string_view path, std::string_view endpoint,
                                       absl::Duration timeout) {
  MANTA_ASSIGN_OR_RETURN(UnixAddress address, MakeUnixAddress(std::string(path)));
  UniqueFd fd(socket(AF_UNIX, kSocketFlags, 0));
  if (!fd.valid()) {
    return ErrnoStatus(absl::StatusCode::kResourceExhausted, endpoint, "no socket for");
  }
  MANTA_RETURN_IF_ERROR(ConnectUnix(fd.get(), reinterpret_cast<sockaddr*>(&address.address),
                                    sizeof address.address, endpoint, timeout));
  return fd;
}

absl::StatusOr<Listening> ListenUnix(const std::string& path, std::string_view endpoint) {
  MANTA_ASSIGN_OR_RETURN(UnixAddress address, MakeUnixAddress(path));
  unlink(path.c_str());
  UniqueFd fd(socket(AF_UNIX, kSocketFlags, 0));
  if (!fd.valid() ||
      bind(fd.get(), reinterpret_cast<sockaddr*>(&address.address), sizeof address.address) != 0 ||
      chmod(path.c_str(), 0700) != 0 || listen(fd.get(), kBacklog) != 0) {
    return ErrnoStatus(absl::StatusCode::kUnavailable, endpoint, "cannot listen on");
  }
  return Listening{std::move(fd), std::string(endpoint)};
}

absl::StatusOr<Listening> ListenTcp(std::string_view host_port, std::string_view endpoint) {
  MANTA_ASSIGN_OR_RETURN(HostPort split, SplitHostPort(host_port));
  MANTA_ASSIGN_OR_RETURN(AddressList list, Resolve(host_port, AI_PASSIVE));
  UniqueFd fd(socket(list->ai_family, kSocketFlags, 0));
  int on = 1;
  if (!fd.valid() || setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(fd.get(), list->ai_addr, list->ai_addrlen) != 0 || listen(fd.get(), kBacklog) != 0) {
    return ErrnoStatus(absl::StatusCode::kUnavailable, endpoint, "cannot listen on");
  }
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &size);
  int port = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                               : reinterpret_cast<sockaddr_in&>(bound).sin_port);
  return Listening{std::move(fd), absl::StrCat("tcp:", split.host, ":", port)};
}

}  // namespace

void UniqueFd::Reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

absl::StatusOr<UniqueFd> Connect(std::string_view endpoint, absl::Duration timeout) {
  absl::string_view rest = View(endpoint);
  if (absl::ConsumePrefix(&rest, "unix:")) {
    return ConnectToUnix({rest.data(), rest.size()}, endpoint, timeout);
  }
  MANTA_ASSIGN_OR_RETURN(UniqueFd fd, StartConnect(endpoint));
  MANTA_RETURN_IF_ERROR(FinishConnect(fd.get(), endpoint, timeout));
  return fd;
}

absl::StatusOr<UniqueFd> StartConnect(std::string_view endpoint) {
  absl::string_view rest = View(endpoint);
  if (absl::ConsumePrefix(&rest, "unix:")) {
    return ConnectToUnix({rest.data(), rest.size()}, endpoint, absl::Seconds(5));
  }
  if (absl::ConsumePrefix(&rest, "tcp:")) return StartTcp({rest.data(), rest.size()}, endpoint);
  return absl::InvalidArgumentError(
      absl::StrCat("'", View(endpoint), "' is neither unix:PATH nor tcp:HOST:PORT"));
}

absl::StatusOr<Listening> Listen(std::string_view endpoint) {
  absl::string_view rest = View(endpoint);
  if (absl::ConsumePrefix(&rest, "unix:")) return ListenUnix(std::string(rest), endpoint);
  if (absl::ConsumePrefix(&rest, "tcp:")) return ListenTcp({rest.data(), rest.size()}, endpoint);
  return absl::InvalidArgumentError(
      absl::StrCat("'", View(endpoint), "' is neither unix:PATH nor tcp:HOST:PORT"));
}

bool IsReachableFromOutside(std::string_view endpoint) {
  const absl::string_view text = View(endpoint);
  if (!absl::StartsWith(text, "tcp:")) return false;
  for (absl::string_view local : {"tcp:127.", "tcp:localhost:", "tcp:[::1]:"}) {
    if (absl::StartsWith(text, local)) return false;
  }
  return true;
}

absl::Status SocketStatus(int error) {
  if (error == ECONNREFUSED) {
    return absl::NotFoundError("connection refused: nobody listens there");
  }
  return absl::UnavailableError(std::strerror(error));
}

void SetTcpOptions(int fd, absl::Duration peer_timeout) {
  const int kProbes = 3;
  const int seconds = static_cast<int>(absl::ToInt64Seconds(peer_timeout));
  const int on = 1;
  const int quiet_s = std::max(1, seconds / 2);
  const int interval_s = std::max(1, (seconds - quiet_s) / kProbes);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &quiet_s, sizeof quiet_s);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &kProbes, sizeof kProbes);
}

bool IsUnanswered(int fd, absl::Duration limit) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  // A peer that is there acknowledges whatever is sent again, and answers probes of its window.
  const bool repeats = (info.tcpi_unacked > 0 && info.tcpi_retransmits > 0) || info.tcpi_probes > 1;
  return repeats && absl::Milliseconds(info.tcpi_last_ack_recv) >= limit;
}

}  // namespace ray::net
