#include "ray/net/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ray/base/clock.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"

namespace ray::net {
namespace {

// The peers that are there already have their turn in between.
constexpr int kAcceptsPerTurn = 32;
constexpr absl::Duration kPause = absl::Milliseconds(100);

std::string AddressText(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  uint16_t port = 0;
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    port = v4.sin_port;
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    port = v6.sin6_port;
  }
  return absl::StrCat("peer at ", text, " port ", ntohs(port));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> Listener::Create(EventLoop* loop,
                                                           std::string_view endpoint,
                                                           const Connection::Options& options,
                                                           OnAccept on_accept) {
  if (options.token.empty() && IsReachableFromOutside(endpoint)) {
    return absl::InvalidArgumentError(
        absl::StrCat("listening on ", absl::string_view(endpoint.data(), endpoint.size()),
                     " needs a token: other machines can reach it"));
  }
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
  Resume();
}

Listener::~Listener() {
  loop_->Cancel(resume_timer_);
  loop_->Unwatch(fd_.get());
  constexpr std::string_view kUnix = "unix:";
  if (endpoint_.compare(0, kUnix.size(), kUnix) == 0) unlink(endpoint_.c_str() + kUnix.size());
}

void Listener::Resume() {
  if (!std::exchange(paused_, false)) return;
  loop_->Cancel(std::exchange(resume_timer_, 0));
  loop_->Watch(fd_.get(), EPOLLIN, [this](uint32_t) { AcceptAvailable(); });
}

void Listener::Pause() {
  paused_ = true;
  loop_->Unwatch(fd_.get());
}

void Listener::AcceptAvailable() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    if (strangers_ >= options_.unproven_connections_max) {
      LogSometimes(absl::StrCat(
          strangers_,
          " connections have not proved the cluster's token yet: ", "others have to wait"));
      return Pause();  // until OnProof
    }
    if (!AcceptOne()) return;
  }
}

bool Listener::AcceptOne() {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  UniqueFd fd(accept4(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size,
                      SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (fd.valid()) {
    on_accept_(is_tcp_ ? MakeStranger(std::move(fd), AddressText(address))
                       : Connection::Create(loop_, std::move(fd), options_));
    return true;
  }
  if (errno == EINTR || errno == ECONNABORTED) return true;
  if (errno == EAGAIN) return false;
  // The peer still waits and would wake the loop at once: leave it alone for a moment.
  LogSometimes(absl::StrCat("cannot accept: ", std::strerror(errno)));
  Pause();
  resume_timer_ = loop_->RunAfter(kPause, [this] { Resume(); });
  return false;
}

std::shared_ptr<Connection> Listener::MakeStranger(UniqueFd fd, std::string address) {
  ++strangers_;
  auto connection =
      Connection::Create(loop_, std::move(fd), options_, Connection::Role::kAcceptor,
                         [this, alive = std::weak_ptr<bool>(alive_)](const absl::Status& proof) {
                           if (!alive.expired()) OnProof(proof);
                         });
  connection->set_description(std::move(address));
  return connection;
}

void Listener::OnProof(const absl::Status& proof) {
  --strangers_;
  if (!proof.ok()) LogSometimes(absl::StrCat("a stranger is gone: ", proof.message()));
  if (paused_ && resume_timer_ == 0) Resume();
}

void Listener::LogSometimes(std::string_view what) {
  const std::optional<int64_t> left_out = log_throttle_.Admit(base::MonotonicNanos());
  if (!left_out.has_value()) return;
  MANTA_LOG(kWarning, endpoint_, ": ", absl::string_view(what.data(), what.size()),
            *left_out == 0 ? "" : absl::StrCat(" (and ", *left_out, " messages like it before)"));
}

}  // namespace ray::net
