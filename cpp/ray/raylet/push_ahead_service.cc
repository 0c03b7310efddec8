#include "ray/raylet/push_ahead_service.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "ray/base/check.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"
#include "ray/store/parallel_copy.h"
#include "ray/wire/v1/transfer.pb.h"

namespace ray::raylet {

using base::NodeId;
using base::ObjectId;
using base::WorkerId;
using store::CreateReply;
using store::GetReply;
using transfer::ObjectFacts;
using wire::v1::PushObject;
using wire::v1::StorePush;

namespace {

// Of the store: who writes what comes, and pins for a moment what is sent. Clients have small
// numbers; transfer_service.cc has other large ones.
constexpr store::ClientId kPushed{UINT64_MAX - 2};

transfer::PushAheadTable::Options AheadOptions(const base::Config& config) {
  // To a node that is slow to take them; they share the way with requests.
  constexpr uint64_t kObjectsOnTheirWay = 8;
  const auto bytes = static_cast<uint64_t>(std::max<int64_t>(config.object_push_max_bytes, 0));
  return {.object_bytes_max = bytes, .node_bytes_max = kObjectsOnTheirWay * bytes};
}

}  // namespace

PushAheadService::PushAheadService(FrameRouter* router, NodePeers* peers, ObjectService* objects,
                                   OwnerWatch* owners, const NodeIdentity* identity,
                                   const base::Config& config)
    : peers_(peers),
      objects_(objects),
      store_(&objects->store()),
      owners_(owners),
      identity_(identity),
      unasked_fraction_(config.object_spilling_threshold),
      ahead_(AheadOptions(config)) {
  store_->NameClient(kPushed, "arguments that came ahead of their calls");
  router->On<StorePush>(wire::v1::STORE_PUSH,
                        [this](Client& client, const StorePush& message, const Responder&) {
                          return OnStorePush(client, message);
                        });
  router->Register(wire::v1::PUSH_OBJECT, [this](Client& client, const net::Frame& frame) {
    return OnPushObject(client, frame);
  });
}

absl::Status PushAheadService::OnStorePush(Client& client, const StorePush& message) {
  if (client.IsRaylet()) return absl::PermissionDeniedError("raylets push objects themselves");
  MANTA_ASSIGN_OR_RETURN(const NodeId node, NodeId::FromBinary(message.node_id()));
  MANTA_ASSIGN_OR_RETURN(const std::vector<ObjectId> ids,
                         net::ParseIds<ObjectId>(message.object_ids()));
  for (const ObjectId& id : ids) PushAhead(node, id);
  return absl::OkStatus();
}

void PushAheadService::PushAhead(const NodeId& node, const ObjectId& id) {
  const std::optional<store::ObjectInfo> info = store_->Find(id);
  const bool at_hand = info.has_value() && info->in_memory;
  if (!at_hand || peers_->Get(node) == nullptr) return;
  if (!ahead_.Begin(node, id, info->size_bytes)) return;
  // What is in memory is given at once.
  store_->Get(kPushed, {id}, absl::ZeroDuration(),
              [this, node, id](const GetReply& got) { SendPushed(node, id, got.entries.front()); });
}

void PushAheadService::SendPushed(const NodeId& node, const ObjectId& id,
                                  const GetReply::Entry& entry) {
  MANTA_CHECK(entry.outcome == GetReply::Outcome::kPresent && entry.path.empty());
  const store::ObjectInfo info = *store_->Find(id);
  PushObject message;
  message.set_object_id(id.BinaryString());
  message.set_note(info.note);
  message.mutable_owner()->set_worker_id(info.owner.BinaryString());
  message.mutable_owner()->set_node_id(owners_->NodeOf(info.owner, identity_->id).BinaryString());
  const char* bytes = reinterpret_cast<const char*>(objects_->memory().At(entry.extent.offset));
  peers_->Get(node)->Call(wire::v1::PUSH_OBJECT, message,
                          [this, alive = std::weak_ptr<bool>(alive_), node,
                           size = entry.extent.size](const absl::StatusOr<net::Frame>&) {
                            if (!alive.expired()) ahead_.End(node, size);
                          },
                          {bytes, entry.extent.size});
  // The bytes are copied or with the kernel.
  MANTA_CHECK(store_->Release(kPushed, id).ok());
}

absl::Status PushAheadService::OnPushObject(Client& client, const net::Frame& frame) {
  if (!client.IsRaylet()) return absl::PermissionDeniedError("only raylets push objects");
  PushObject message;
  if (!net::ParseMetadata(frame, &message)) {
    return absl::InvalidArgumentError("a PUSH_OBJECT that does not parse");
  }
  MANTA_ASSIGN_OR_RETURN(const ObjectId id, ObjectId::FromBinary(message.object_id()));
  ObjectFacts facts{.size_bytes = frame.payload.size(), .note = message.note()};
  MANTA_ASSIGN_OR_RETURN(facts.owner, WorkerId::FromBinary(message.owner().worker_id()));
  MANTA_ASSIGN_OR_RETURN(facts.owner_node, NodeId::FromBinary(message.owner().node_id()));
  if (TakePushed(id, facts, frame.payload)) {
    if (facts.owner_node != identity_->id) owners_->Watch(facts.owner, facts.owner_node);
    objects_->Changed();
  }
  Responder(client.connection, frame).Send(wire::v1::PushObjectReply());
  return absl::OkStatus();
}

bool PushAheadService::HasRoomUnasked(uint64_t size_bytes) const {
  const auto most = unasked_fraction_ * static_cast<double>(store_->capacity_bytes());
  return size_bytes > 0 && !store_->FirstWaitingCreator().has_value() &&
         static_cast<double>(store_->used_bytes() + size_bytes) <= most;
}

bool PushAheadService::TakePushed(const ObjectId& id, const ObjectFacts& facts,
                                  std::string_view bytes) {
  if (store_->Find(id).has_value() || !HasRoomUnasked(bytes.size())) return false;
  const auto offset = std::make_shared<std::optional<uint64_t>>();
  const absl::Status status = store_->Create(kPushed,
                                             {.id = id,
                                              .size_bytes = bytes.size(),
                                              .owner = facts.owner,
                                              .note = facts.note,
                                              .secondary = true},
                                             [offset](const CreateReply& reply) {
                                               if (reply.outcome == CreateReply::Outcome::kCreated)
                                                 *offset = reply.offset;
                                             });
  if (!status.ok() || !offset->has_value()) {
    store_->Abort(kPushed, id);  // it does not wait
    return false;
  }
  store::CopyInto(objects_->memory(), **offset, bytes.data(), bytes.size(), {.threads = 1});
  // Now nobody pins it: it may be dropped, and is pulled then.
  MANTA_CHECK(store_->Seal(kPushed, id).ok() && store_->Release(kPushed, id).ok());
  return true;
}

}  // namespace ray::raylet
