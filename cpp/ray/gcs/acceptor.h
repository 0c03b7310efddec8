// Listens on one endpoint and hands over the accepted descriptors: what net::Listener is for the
// wire, for gRPC.
//
// Owner: GcsServer.   Threads: loop-bound.   Never blocks. A Unix socket's file goes when the
// acceptor does.
// Errors: Create reports what net::Listen reports. When no descriptor is left, accepting pauses and
// is tried again.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "ray/net/endpoint.h"
#include "ray/net/event_loop.h"

namespace ray::gcs {

class Acceptor {
 public:
  using OnAccept = std::function<void(net::UniqueFd)>;

  static absl::StatusOr<std::unique_ptr<Acceptor>> Create(net::EventLoop* loop,
                                                          const std::string& endpoint,
                                                          OnAccept on_accept);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  const std::string& endpoint() const { return listening_.endpoint; }

 private:
  Acceptor(net::EventLoop* loop, net::Listening listening, OnAccept on_accept);
  void Resume();
  void AcceptAvailable();

  net::EventLoop* const loop_;
  const net::Listening listening_;
  const OnAccept on_accept_;
  net::EventLoop::TimerId resume_timer_ = 0;
};

}  // namespace ray::gcs
