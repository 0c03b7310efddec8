// Connections of this process to others, and of others to it, that outlive their sockets
// (docs/adr/0013).
//
// When a socket breaks, the process that opened the connection opens the next one, and says with
// RESUME which connection goes on over it and how far it got; the other answers with its own count,
// and each sends the rest again (net/connection.h). That goes on until somebody closes the
// connection because the peer is known to be gone, nobody listens there any more, or kPatience is
// over.
//
// Threads: loop-bound.   Never blocks.
// Errors: a connection that cannot go on is closed with the reason, as any other.
//   LASTING-1  what was sent over such a connection arrives once and in order, or it is closed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/net/connection.h"
#include "ray/net/event_loop.h"

namespace ray::net {

class LastingConnections {
 public:
  // Another connection to the same place, not started. kNotFound: the peer is gone for good.
  using Open = std::function<absl::StatusOr<std::shared_ptr<Connection>>()>;
  // The socket broke, so long ago, and the peer may live or not. Said at once, and every second
  // until the connection goes on or is closed; whoever knows better closes it.
  using OnInterrupted = std::function<void(absl::Duration)>;

  explicit LastingConnections(EventLoop* loop) : loop_(loop) {}

  // How this process calls itself to those that it opens connections to, in RESUME as in HELLO.
  void SetSelf(std::string id) { self_ = std::move(id); }

  // From now on this connection, which was opened here and has not started, lasts. Returns what its
  // HELLO has to call it.
  uint64_t Opened(const std::shared_ptr<Connection>& connection, Open open,
                  OnInterrupted on_interrupted);
  // The same of an accepted one, whose HELLO comes from `peer` and calls it `session`.
  void Accepted(const std::shared_ptr<Connection>& connection, std::string peer, uint64_t session,
                OnInterrupted on_interrupted);
  // The first frame of an accepted connection is RESUME. Its socket is handed over (and it counts
  // as closed) if the connection that is named is here; if not, HELLO comes next, or nothing.
  absl::Status OnResume(const std::shared_ptr<Connection>& connection, const Frame& frame);
  // Call it when a connection has closed, whichever.
  void Ended(const Connection& connection, const absl::Status& why);

 private:
  struct Link {
    std::shared_ptr<Connection> connection;
    std::string opener;  // who calls it `session`
    uint64_t session = 0;
    Open open;  // null: the peer opened it
    OnInterrupted on_interrupted;
    std::shared_ptr<Connection> next_socket;  // is to become the connection's
    uint64_t breaks = 0;
  };
  using LinkPtr = std::shared_ptr<Link>;

  void Keep(const LinkPtr& link);
  void Interrupted(const LinkPtr& link);
  void Say(const LinkPtr& link, uint64_t breaks, absl::Duration lasted);
  void OpenNextSocket(const LinkPtr& link);
  void OpenNextSocketLater(const LinkPtr& link);
  void OnResumeReply(const LinkPtr& link, const Frame& frame);

  EventLoop* const loop_;
  std::string self_;
  uint64_t last_session_ = 0;
  absl::flat_hash_map<const Connection*, LinkPtr> links_;
  absl::flat_hash_map<std::pair<std::string, uint64_t>, LinkPtr> accepted_;
  // Timers that fire after the end see that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace ray::net
