#include "ray/gcs/tcp_node_probe.h"

#include <netdb.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"

namespace ray::gcs {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// Of "tcp:127.0.0.1:6379" or "tcp:[::1]:6379". Null for anything else; looks nothing up.
AddressList NumericAddress(const std::string& endpoint) {
  AddressList none(nullptr, freeaddrinfo);
  const size_t begin = endpoint.find(':');
  const size_t end = endpoint.rfind(':');
  int port = 0;
  if (!endpoint.starts_with("tcp:") || begin == end ||
      !absl::SimpleAtoi(endpoint.substr(end + 1), &port) || port <= 0 || port > 65535) {
    return none;
  }
  std::string host = endpoint.substr(begin + 1, end - begin - 1);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), endpoint.c_str() + end + 1, &hints, &found) != 0) return none;
  return AddressList(found, freeaddrinfo);
}

int ErrorOf(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

}  // namespace

TcpNodeProbe::~TcpNodeProbe() {
  for (const Attempt& attempt : attempts_) {
    loop_->Cancel(attempt.timer);
    if (attempt.socket.valid()) loop_->Unwatch(attempt.socket.get());
  }
}

void TcpNodeProbe::Ask(const std::string& tcp_endpoint, Callback callback) {
  const auto attempt = attempts_.insert(attempts_.end(), Attempt{.callback = std::move(callback)});
  const AddressList address = NumericAddress(tcp_endpoint);
  if (address == nullptr) return FinishLater(attempt, false);
  const int kind = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  attempt->socket.Reset(socket(address->ai_family, kind, 0));
  const int fd = attempt->socket.get();
  if (fd < 0) return FinishLater(attempt, false);
  if (connect(fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS) {
    const bool refused = errno == ECONNREFUSED;
    attempt->socket.Reset(-1);
    return FinishLater(attempt, refused);
  }
  attempt->timer = loop_->RunAfter(timeout_, [this, attempt] { Finish(attempt, false); });
  loop_->Watch(fd, EPOLLOUT,
               [this, attempt, fd](uint32_t) { Finish(attempt, ErrorOf(fd) == ECONNREFUSED); });
}

void TcpNodeProbe::FinishLater(Attempts::iterator attempt, bool refused) {
  attempt->timer =
      loop_->RunAfter(absl::ZeroDuration(), [this, attempt, refused] { Finish(attempt, refused); });
}

void TcpNodeProbe::Finish(Attempts::iterator attempt, bool refused) {
  loop_->Cancel(attempt->timer);
  if (attempt->socket.valid()) loop_->Unwatch(attempt->socket.get());
  Callback callback = std::move(attempt->callback);
  attempts_.erase(attempt);
  callback(refused);
}

}  // namespace ray::gcs
