// Asks by connecting to the node's TCP endpoint. Nothing is sent.
//
// Owner: GcsServer.   Threads: loop-bound.   Never blocks: a name instead of an address, whose
// look-up could, counts as unknown.
// Errors: none.   PROBE-1  at most one attempt an Ask, given up after `timeout`.
#pragma once

#include <list>
#include <string>

#include "absl/time/time.h"
#include "ray/gcs/node_probe.h"
#include "ray/net/endpoint.h"
#include "ray/net/event_loop.h"

namespace ray::gcs {

class TcpNodeProbe final : public NodeProbe {
 public:
  // `loop` outlives the probe.
  TcpNodeProbe(net::EventLoop* loop, absl::Duration timeout) : loop_(loop), timeout_(timeout) {}
  ~TcpNodeProbe() override;

  void Ask(const std::string& tcp_endpoint, Callback callback) override;

 private:
  struct Attempt {
    net::UniqueFd socket;  // invalid: the outcome was known at once
    net::EventLoop::TimerId timer = 0;
    Callback callback;
  };
  using Attempts = std::list<Attempt>;

  void FinishLater(Attempts::iterator attempt, bool refused);
  void Finish(Attempts::iterator attempt, bool refused);

  net::EventLoop* const loop_;
  const absl::Duration timeout_;
  Attempts attempts_;
};

}  // namespace ray::gcs
