// Accepts connections on an endpoint and hands each over as a Connection that has not started: as one
// to be trusted from a Unix socket, as one that must prove the token from TCP.
// Threads: loop-bound.   Errors: Create reports what Listen reports; a failed accept is logged and
// retried.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "ray/net/connection.h"

namespace ray::net {

class Listener {
 public:
  using OnAccept = std::function<void(std::shared_ptr<Connection>)>;
  static absl::StatusOr<std::unique_ptr<Listener>> Create(EventLoop* loop,
                                                          std::string_view endpoint,
                                                          const Connection::Options& options,
                                                          OnAccept on_accept);
  // On a socket that Listen has bound.
  static std::unique_ptr<Listener> CreateOn(EventLoop* loop, Listening listening,
                                            const Connection::Options& options,
                                            OnAccept on_accept);
  ~Listener();
  // With the port that was chosen for "tcp:HOST:0".
  const std::string& endpoint() const { return endpoint_; }

 private:
  Listener(EventLoop* loop, Listening listening, const Connection::Options& options,
           OnAccept on_accept);
  void AcceptAvailable();

  EventLoop* const loop_;
  UniqueFd fd_;
  const std::string endpoint_;
  const bool is_tcp_;
  const Connection::Options options_;
  const OnAccept on_accept_;
};

}  // namespace ray::net
