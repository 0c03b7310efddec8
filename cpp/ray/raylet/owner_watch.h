// Which owners of objects live on other nodes, and which owners here others ask about: an owner's
// death frees its objects wherever they are.
//
// An owner on another node is watched at that node's raylet (WATCH_WORKER), which says when it is
// gone (WORKER_GONE). The owners of a node die with it. What cannot be asked yet, because a node
// has not joined for this one or a connection broke, is asked later.
//
// Owner: Raylet.   Threads: loop-bound.   Errors: none.
// Frames: WATCH_WORKER from other raylets, WORKER_GONE from them (by way of Raylet).
//   OWNERS-1  each watched owner is asked about again after every connection to its node that
//   broke. OWNERS-2  who asked about a process here is told once when it goes, at once if it is not
//   here.
#pragma once

#include <functional>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "ray/base/ids.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/node_peers.h"
#include "ray/store/object_store.h"
#include "ray/wire/v1/workers.pb.h"

namespace ray::raylet {

class OwnerWatch {
 public:
  // All pointers outlive the watch.
  OwnerWatch(net::EventLoop* loop, FrameRouter* router, const ClientRegistry* clients,
             NodePeers* peers, store::ObjectStore* store);

  // An object is here of an owner on that node.
  void Watch(const base::WorkerId& owner, const base::NodeId& node);
  // This node if it is not watched elsewhere.
  base::NodeId NodeOf(const base::WorkerId& owner, const base::NodeId& self) const;

  // Events.
  void NodeJoined(const base::NodeId& node) { Ask(node); }
  void NodeLost(const base::NodeId& node);
  void NodeDead(const base::NodeId& node);
  void WorkerGone(const base::NodeId& node, const net::Frame& frame);
  void ClientGone(const Client& client);

 private:
  absl::Status OnWatch(Client& client, const wire::v1::WatchWorker& message);
  void Ask(const base::NodeId& node);
  void AskAbout(net::Connection* connection, const base::WorkerId& owner) const;
  void Gone(const base::WorkerId& owner);
  void ForgetIdle();

  net::EventLoop* const loop_;
  const ClientRegistry* const clients_;
  NodePeers* const peers_;
  store::ObjectStore* const store_;
  // Timers that fire after the end see that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  absl::flat_hash_map<base::WorkerId, base::NodeId> node_of_;
  absl::flat_hash_map<base::NodeId, absl::flat_hash_set<base::WorkerId>> owners_;  // no empty sets
  size_t forget_at_ = 64;  // so many owners: time to see which have nothing here any more
  // Processes of this node, and the raylets that asked about them.
  absl::flat_hash_map<base::WorkerId, absl::flat_hash_set<scheduling::ClientId>> watchers_;
};

}  // namespace ray::raylet
