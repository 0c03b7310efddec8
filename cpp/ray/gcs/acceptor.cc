#include "ray/gcs/acceptor.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "ray/base/logging.h"
#include "ray/base/status_macros.h"

namespace ray::gcs {
namespace {

constexpr std::string_view kUnix = "unix:";
constexpr absl::Duration kPause = absl::Milliseconds(100);

}  // namespace

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Create(net::EventLoop* loop,
                                                           const std::string& endpoint,
                                                           OnAccept on_accept) {
  MANTA_ASSIGN_OR_RETURN(net::Listening listening, net::Listen(endpoint));
  return std::unique_ptr<Acceptor>(new Acceptor(loop, std::move(listening), std::move(on_accept)));
}

Acceptor::Acceptor(net::EventLoop* loop, net::Listening listening, OnAccept on_accept)
    : loop_(loop), listening_(std::move(listening)), on_accept_(std::move(on_accept)) {
  Resume();
}

Acceptor::~Acceptor() {
  loop_->Cancel(resume_timer_);
  loop_->Unwatch(listening_.fd.get());
  if (endpoint().starts_with(kUnix)) unlink(endpoint().substr(kUnix.size()).c_str());
}

void Acceptor::Resume() {
  loop_->Watch(listening_.fd.get(), EPOLLIN, [this](uint32_t) { AcceptAvailable(); });
}

void Acceptor::AcceptAvailable() {
  while (true) {
    net::UniqueFd fd(accept4(listening_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      int on = 1;
      setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // refused by Unix sockets
      on_accept_(std::move(fd));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN) return;
    // The peer still waits and would wake the loop at once: leave it alone for a moment.
    MANTA_LOG(kError, "cannot accept on ", endpoint(), ": ", std::strerror(errno));
    loop_->Unwatch(listening_.fd.get());
    resume_timer_ = loop_->RunAfter(kPause, [this] { Resume(); });
    return;
  }
}

}  // namespace ray::gcs
