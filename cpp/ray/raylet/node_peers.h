// This raylet's connections to the other raylets: one to each, made when it is first needed and
// kept while the node lives. What this raylet asks another one goes over these; what others ask
// comes in as frames of a Client of kind RAYLET (client_registry.h).
//
// A connection outlives its sockets (net/lasting_connections.h): it is lost when the node is dead,
// its raylet has ended, or it stayed out of reach for long.
//
// Owner: Raylet.   Threads: loop-bound.   Never blocks: a connection may still be under way when it
// is used. Errors: a request on a connection that is lost is answered with the reason; the next
// Get connects again.
//   PEERS-1  on_lost runs once for each connection that is lost, after its requests were answered.
//   PEERS-2  a node that is dead is never connected to again, and on_dead has run once for it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "ray/base/ids.h"
#include "ray/net/connection.h"
#include "ray/net/event_loop.h"
#include "ray/net/lasting_connections.h"
#include "ray/raylet/node_identity.h"
#include "ray/wire/v1/cluster.pb.h"

namespace ray::raylet {

class NodePeers {
 public:
  struct Events {
    // A node that was not there before; on_changed follows. Neither is of this node or a dead one.
    std::function<void(const base::NodeId&)> on_joined;
    // What the GCS says of a node, new or not.
    std::function<void(const wire::v1::NodeState&)> on_changed;
    // The GCS has declared it dead.
    std::function<void(const base::NodeId&, const std::string& reason)> on_dead;
    // What the other raylet sends of its own accord: RECLAIM_LEASES, TASK_PENDING_WARNING,
    // WORKER_GONE, LOG_LINES.
    std::function<void(const base::NodeId&, const net::Frame&)> on_frame;
    // What was sent has not been answered for a while, and may be at any time. Said every second.
    std::function<void(const base::NodeId&)> on_silent;
    std::function<void(const base::NodeId&, const absl::Status& why)> on_lost;
  };

  // All pointers outlive the peers.
  NodePeers(net::EventLoop* loop, const NodeIdentity* identity, net::LastingConnections* lasting,
            net::Connection::Options options, Events events);
  ~NodePeers();

  // What the GCS says of a node.
  void Update(const wire::v1::NodeState& state);

  // The connection to that node's raylet, perhaps a new one. Null: no such node is alive.
  net::Connection* Get(const base::NodeId& node);
  // Null: unknown or dead.
  const wire::v1::NodeState* Find(const base::NodeId& node) const;
  void ForEach(
      absl::FunctionRef<void(const base::NodeId&, const wire::v1::NodeState&)> visit) const;
  bool IsDead(const base::NodeId& node) const { return dead_.contains(node); }

 private:
  struct Peer {
    wire::v1::NodeState state;
    std::shared_ptr<net::Connection> connection;
  };

  void Connect(const base::NodeId& node, Peer* peer);
  // kNotFound: no such node is alive.
  absl::StatusOr<std::shared_ptr<net::Connection>> Open(const base::NodeId& node) const;
  void OnClose(const base::NodeId& node, const std::shared_ptr<net::Connection>& connection,
               const absl::Status& why);

  net::EventLoop* const loop_;
  const NodeIdentity* const identity_;
  net::LastingConnections* const lasting_;
  const net::Connection::Options options_;
  const Events events_;
  // Callbacks that come after the end see that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  absl::flat_hash_map<base::NodeId, Peer> peers_;
  absl::flat_hash_set<base::NodeId> dead_;
};

}  // namespace ray::raylet
