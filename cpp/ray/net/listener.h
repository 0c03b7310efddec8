// Accepts connections on an endpoint and hands each over as a Connection that has not started: as
// one to be trusted from a Unix socket, as one that must prove the token from TCP.
//
// Strangers cost little: no more of them are accepted than unproven_connections_max at a time (the
// next ones wait in the kernel's queue, which has a limit too, until one has proved itself or its
// time is up), a few a turn of the loop, and what they do is logged once a second at most.
// Threads: loop-bound.   Errors: Create reports what Listen reports, and kInvalidArgument for an
// endpoint that others than this machine can reach without a token. When no descriptor is left,
// accepting pauses and is tried again.
//   LISTEN-1  the connections of strangers never are more than unproven_connections_max.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "ray/net/connection.h"
#include "ray/net/log_throttle.h"

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
                                            const Connection::Options& options, OnAccept on_accept);
  ~Listener();
  // With the port that was chosen for "tcp:HOST:0".
  const std::string& endpoint() const { return endpoint_; }

 private:
  Listener(EventLoop* loop, Listening listening, const Connection::Options& options,
           OnAccept on_accept);
  void Resume();
  void Pause();
  void AcceptAvailable();
  bool AcceptOne();
  std::shared_ptr<Connection> MakeStranger(UniqueFd fd, std::string address);
  void OnProof(const absl::Status& proof);
  void LogSometimes(std::string_view what);

  EventLoop* const loop_;
  UniqueFd fd_;
  const std::string endpoint_;
  const bool is_tcp_;
  const Connection::Options options_;
  const OnAccept on_accept_;
  // Strangers may outlive the listener: they see that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  size_t strangers_ = 0;  // accepted over TCP, not proved yet
  bool paused_ = true;
  EventLoop::TimerId resume_timer_ = 0;
  LogThrottle log_throttle_{absl::Seconds(1)};
};

}  // namespace ray::net
