// The connections of this core worker to others: made on demand, accepted, greeted, and found by
// worker id. A process talks to a given peer over one connection, so that what it says arrives in
// order. Threads: thread-compatible; the core worker's mutex, which is the loop's dispatch mutex.
// Errors: Get returns null when nobody listens at the address (the peer is gone). A peer that
// misbehaves is closed with a logged reason; nothing else is affected.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "ray/core/peer.h"
#include "ray/net/connection.h"
#include "ray/net/listener.h"

namespace ray::core {

class Peers {
 public:
  struct Events {
    std::function<void(const PeerPtr&, const net::Frame&)> on_frame;
    std::function<void(const PeerPtr&, const absl::Status&)> on_lost;
  };

  Peers(net::EventLoop* loop, const net::Connection::Options& options, Events events);
  ~Peers();

  // Begins to listen; `self` is what Hello says of this process.
  absl::Status Listen(std::string_view endpoint, std::string_view token);
  void SetSelf(AddressPtr self) { self_ = std::move(self); }
  const std::string& endpoint() const { return endpoint_; }

  PeerPtr Get(const AddressPtr& address);
  PeerPtr FindConnected(const base::WorkerId& worker) const;
  // Frames that were held back leave; call before waiting for an answer.
  void FlushAll();
  void MarkDirty(const PeerPtr& peer);
  void CloseAll();

 private:
  void OnAccept(std::shared_ptr<net::Connection> connection);
  absl::Status OnHello(const std::shared_ptr<net::Connection>& connection, const net::Frame& frame);
  void Attach(const PeerPtr& peer, const std::shared_ptr<net::Connection>& connection);
  net::Connection::Handlers HandlersOf(const PeerPtr& peer);
  void OnClose(const PeerPtr& peer, const absl::Status& why);

  net::EventLoop* const loop_;
  const net::Connection::Options options_;
  const Events events_;
  AddressPtr self_;
  std::string token_;
  std::string endpoint_;
  std::unique_ptr<net::Listener> listener_;
  absl::flat_hash_map<base::WorkerId, PeerPtr> by_worker_;  // the connection this process sends on
  absl::flat_hash_set<PeerPtr> connected_;                  // every greeted connection
  absl::flat_hash_set<PeerPtr> dirty_;                      // may have frames held back
};

}  // namespace ray::core
