#include "ray/net/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"

namespace ray::net {

absl::StatusOr<std::unique_ptr<Listener>> Listener::Create(EventLoop* loop,
                                                           std::string_view endpoint,
                                                           const Connection::Options& options,
                                                           OnAccept on_accept) {
  MANTA_ASSIGN_OR_RETURN(Listening listening, Listen(endpoint));
  return CreateOn(loop, std::move(listening), options, std::move(on_accept));
}

std::unique_ptr<Listener> Listener::CreateOn(EventLoop* loop, Listening listening,
                                             const Connection::Options& options,
                                             OnAccept on_accept) {
  return std::unique_ptr<Listener>(
      new Listener(loop, std::move(listening), options, std::move(on_accept)));
}

Listener::Listener(EventLoop* loop, Listening listening, const Connection::Options& options,
                   OnAccept on_accept)
    : loop_(loop),
      fd_(std::move(listening.fd)),
      endpoint_(std::move(listening.endpoint)),
      is_tcp_(absl::StartsWith(endpoint_, "tcp:")),
      options_(options),
      on_accept_(std::move(on_accept)) {
  loop_->Watch(fd_.get(), EPOLLIN, [this](uint32_t) { AcceptAvailable(); });
}

Listener::~Listener() {
  loop_->Unwatch(fd_.get());
  constexpr std::string_view kUnix = "unix:";
  if (endpoint_.compare(0, kUnix.size(), kUnix) == 0) unlink(endpoint_.c_str() + kUnix.size());
}

void Listener::AcceptAvailable() {
  while (true) {
    UniqueFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        MANTA_LOG(kWarning, "accept on ", endpoint_, ": ", std::strerror(errno));
      }
      return;
    }
    if (!is_tcp_) {
      on_accept_(Connection::Create(loop_, std::move(fd), options_));
      continue;
    }
    int on = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    on_accept_(
        Connection::Create(loop_, std::move(fd), options_, Connection::Role::kAcceptor));
  }
}

}  // namespace ray::net
