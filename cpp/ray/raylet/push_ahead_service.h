// Arguments that are sent to the node of a call before it asks, and those that come here in that
// way (docs/adr/0012-arguments-sent-ahead.md): PushAheadTable with its connections and memory.
//
// Sending ahead only saves time: what is not sent, not taken or dropped again is pulled
// (transfer_service.h).
//
// Owner: Raylet.   Threads: loop-bound.   Errors: none; what cannot be sent or taken is not.
// Frames: STORE_PUSH, from clients of this node; PUSH_OBJECT, from other raylets.
#pragma once

#include <memory>
#include <string_view>

#include "ray/base/config.h"
#include "ray/net/frame.h"
#include "ray/raylet/client.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/node_identity.h"
#include "ray/raylet/node_peers.h"
#include "ray/raylet/object_service.h"
#include "ray/raylet/owner_watch.h"
#include "ray/transfer/pull_manager.h"
#include "ray/transfer/push_ahead_table.h"
#include "ray/wire/v1/store.pb.h"

namespace ray::raylet {

class PushAheadService {
 public:
  // All pointers outlive the service.
  PushAheadService(FrameRouter* router, NodePeers* peers, ObjectService* objects,
                   OwnerWatch* owners, const NodeIdentity* identity, const base::Config& config);

 private:
  absl::Status OnStorePush(Client& client, const wire::v1::StorePush& message);
  void PushAhead(const base::NodeId& node, const base::ObjectId& id);
  void SendPushed(const base::NodeId& node, const base::ObjectId& id,
                  const store::GetReply::Entry& entry);
  absl::Status OnPushObject(Client& client, const net::Frame& frame);
  // Whether what comes unasked may take that much memory: if that costs nobody else any.
  bool HasRoomUnasked(uint64_t size_bytes) const;
  // False: the object was not taken.
  bool TakePushed(const base::ObjectId& id, const transfer::ObjectFacts& facts,
                  std::string_view bytes);

  NodePeers* const peers_;
  ObjectService* const objects_;
  store::ObjectStore* const store_;
  OwnerWatch* const owners_;
  const NodeIdentity* const identity_;
  // What comes back after the end sees that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  const double unasked_fraction_;  // of the store, that may be in use for more to come unasked
  transfer::PushAheadTable ahead_;
};

}  // namespace ray::raylet
