// Which node keeps an object when the one that kept it cannot: a draining node's objects move to
// others, and what is left of a lost object stays where a copy is.
//
// A store never drops the primary copy of an object, and may drop all others. To move one, another
// raylet fetches it (STORE_GET with `prefetch`), makes its copy the primary one (STORE_CREATE,
// answered with EXISTS), and the owner hears of it by way of its own raylet (OBJECT_COPIED); only
// then it has moved. The copy here stays. If the owner frees the object meanwhile, the copy that
// was made goes, too.
//
// Owner: Raylet.   Threads: loop-bound.   Never blocks.
// Errors: an object that no node can take stays here, and the log says so.
// Frames: OBJECT_COPIED, from processes of this node (a copy must be kept from now on; passed on to
// the node that has it) and from other raylets (the same, or with the id of an owner as payload:
// tell it).
//   HANDOVER-1  `done` of MoveAll runs once, after the owners of all that moved were told.
//   HANDOVER-2  an object is moved once, and tried at a node once for each MoveAll.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "ray/base/ids.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/node_identity.h"
#include "ray/raylet/node_peers.h"
#include "ray/raylet/object_service.h"
#include "ray/raylet/owner_watch.h"

namespace ray::raylet {

class ObjectHandover {
 public:
  // All pointers outlive the object.
  ObjectHandover(FrameRouter* router, const ClientRegistry* clients, NodePeers* peers,
                 ObjectService* objects, const OwnerWatch* owners, const NodeIdentity* identity);

  // Moves what only this node keeps for owners on other nodes; those of this node end with it.
  // Requires that no earlier call is under way.
  void MoveAll(absl::AnyInvocable<void()> done);

 private:
  struct Move {
    base::ObjectId id;
    store::ObjectInfo info;
    std::vector<base::NodeId> tried;  // the last one is being tried
  };
  using MovePtr = std::shared_ptr<Move>;

  void Advance();
  // The node with the most room of those that were not tried. Nil: none is left.
  base::NodeId Choose(const Move& move) const;
  void AskToFetch(const MovePtr& move);
  void AskToKeep(const MovePtr& move);
  void OnKept(const MovePtr& move, const wire::v1::StoreCreateReply& reply);
  void TellOwner(const MovePtr& move);
  void Retry(const MovePtr& move);
  void Finish();
  // A request to the node that is being tried. One that is not answered is tried elsewhere.
  template <typename Reply, typename Message>
  void Ask(const MovePtr& move, wire::v1::FrameType type, const Message& message,
           absl::AnyInvocable<void(const Reply&)> then);

  absl::Status OnCopied(Client& client, const net::Frame& frame);
  void Keep(const base::ObjectId& id);

  const ClientRegistry* const clients_;
  NodePeers* const peers_;
  ObjectService* const objects_;
  const OwnerWatch* const owners_;
  const NodeIdentity* const identity_;
  // Answers that come after the end see that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  absl::AnyInvocable<void()> done_;  // null: nothing is under way
  std::deque<MovePtr> waiting_;
  size_t under_way_ = 0;
  size_t left_behind_ = 0;
  absl::flat_hash_set<base::ObjectId> moved_;
  absl::flat_hash_map<base::NodeId, uint64_t> sent_bytes_;  // since MoveAll began
};

}  // namespace ray::raylet
