// The connections of this core worker to others: made on demand, accepted, greeted, and found by
// worker id; over Unix sockets on this node, over TCP to others. A process talks to a given peer
// over one connection, so that what it says arrives in order. Threads: thread-compatible; the core
// worker's mutex, which is the loop's dispatch mutex. Errors: Get returns null when nobody listens
// at the address (the peer is gone); to another node a connection may still be under way, and if it
// fails it is lost like any other. A peer that misbehaves is closed with a logged reason; nothing
// else is affected.
//
// A connection to another node outlives its sockets (net/lasting_connections.h), until the peer is
// known to be gone: nobody listens there; its node is dead; Forget.
//   PEERS-1  what was sent to a peer arrives once and in order, or the peer is lost.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "ray/core/peer.h"
#include "ray/net/connection.h"
#include "ray/net/lasting_connections.h"
#include "ray/net/listener.h"

namespace ray::core {

class Peers {
 public:
  struct Events {
    std::function<void(const PeerPtr&, const net::Frame&)> on_frame;
    std::function<void(const PeerPtr&, const absl::Status&)> on_lost;
    // The socket broke, and the peer may live or not. Said again every second. Whoever knows better
    // calls Forget or NodeGone.
    std::function<void(const PeerPtr&)> on_interrupted;
  };

  Peers(net::EventLoop* loop, const net::Connection::Options& options, Events events);
  ~Peers();

  // Begins to listen for processes of this node.
  absl::Status Listen(std::string_view endpoint);
  // Takes a TCP port, and accepts nobody yet.
  absl::Status BindTcp(std::string_view host);
  // Begins to listen for processes of other nodes, which must prove the token, and speak TLS if
  // there are credentials for it; on the port that was taken before, if one was.
  absl::Status ListenTcp(std::string_view host, std::string_view token,
                         const net::TlsCredentials& tls);
  // The node has other credentials from now on.
  absl::Status UseTls(const net::TlsCredentials& tls);
  // What Hello says of this process.
  void SetSelf(AddressPtr self);
  const std::string& endpoint() const { return endpoint_; }
  const std::string& tcp_endpoint() const { return tcp_endpoint_; }

  PeerPtr Get(const AddressPtr& address);
  PeerPtr FindConnected(const base::WorkerId& worker) const;
  // Frames that were held back leave; call before waiting for an answer.
  void FlushAll();
  void MarkDirty(const PeerPtr& peer);
  // The process has ended: an interrupted connection to it is lost.
  void Forget(const PeerPtr& peer);
  // Closes the connections to a dead node; no new ones are made.
  void NodeGone(const base::NodeId& node);
  void CloseAll();

 private:
  absl::StatusOr<std::shared_ptr<net::Connection>> Connect(const WorkerAddress& address);
  void OnAccept(std::shared_ptr<net::Connection> connection);
  absl::Status OnHello(const std::shared_ptr<net::Connection>& connection, const net::Frame& frame);
  void Attach(const PeerPtr& peer, const std::shared_ptr<net::Connection>& connection);
  net::Connection::Handlers HandlersOf(const PeerPtr& peer);
  net::LastingConnections::OnInterrupted InterruptedOf(const PeerPtr& peer);
  void OnClose(const PeerPtr& peer, const absl::Status& why);

  net::EventLoop* const loop_;
  net::Connection::Options options_;
  std::shared_ptr<net::TlsContext> tls_;  // of the options; null: no TLS
  const Events events_;
  AddressPtr self_;
  std::string endpoint_;
  std::string tcp_endpoint_;
  net::Listening bound_;  // until ListenTcp
  std::unique_ptr<net::Listener> listener_;
  std::unique_ptr<net::Listener> tcp_listener_;
  net::LastingConnections lasting_;
  absl::flat_hash_set<base::NodeId> dead_nodes_;
  absl::flat_hash_map<base::WorkerId, PeerPtr> by_worker_;  // the connection this process sends on
  absl::flat_hash_set<PeerPtr> connected_;                  // every greeted connection
  absl::flat_hash_set<PeerPtr> dirty_;                      // may have frames held back
};

}  // namespace ray::core
