#include "ray/raylet/object_handover.h"

#include <algorithm>
#include <utility>

#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"
#include "ray/raylet/relay.h"
#include "ray/wire/v1/objects.pb.h"

namespace ray::raylet {

using base::NodeId;
using base::ObjectId;
using base::WorkerId;
using wire::v1::ObjectCopied;

namespace {

constexpr size_t kMovesAtATime = 16;

ObjectCopied CopiedTo(const ObjectId& id, const NodeId& node) {
  ObjectCopied message;
  message.set_object_id(id.BinaryString());
  message.set_node_id(node.BinaryString());
  return message;
}

}  // namespace

ObjectHandover::ObjectHandover(FrameRouter* router, const ClientRegistry* clients, NodePeers* peers,
                               ObjectService* objects, const OwnerWatch* owners,
                               const NodeIdentity* identity)
    : clients_(clients), peers_(peers), objects_(objects), owners_(owners), identity_(identity) {
  router->Register(wire::v1::OBJECT_COPIED, [this](Client& client, const net::Frame& frame) {
    return OnCopied(client, frame);
  });
}

// --- From here to others

void ObjectHandover::MoveAll(absl::AnyInvocable<void()> done) {
  done_ = std::move(done);
  left_behind_ = 0;
  sent_bytes_.clear();
  for (const ObjectId& id : objects_->store().PrimaryCopies()) {
    std::optional<store::ObjectInfo> info = objects_->store().Find(id);
    if (moved_.contains(id) || owners_->NodeOf(info->owner, identity_->id) == identity_->id) {
      continue;
    }
    waiting_.push_back(std::make_shared<Move>(Move{id, *std::move(info), {}}));
  }
  Advance();
}

void ObjectHandover::Advance() {
  while (under_way_ < kMovesAtATime && !waiting_.empty()) {
    const MovePtr move = std::move(waiting_.front());
    waiting_.pop_front();
    const NodeId node = Choose(*move);
    if (node.IsNil()) {
      ++left_behind_;
      continue;
    }
    move->tried.push_back(node);
    if (peers_->Get(node) == nullptr) {
      waiting_.push_back(move);
      continue;
    }
    ++under_way_;
    sent_bytes_[node] += move->info.size_bytes;
    AskToFetch(move);
  }
  if (under_way_ > 0 || done_ == nullptr) return;
  if (left_behind_ > 0) {
    MANTA_LOG(kWarning, left_behind_,
              " objects stay on this draining node: no other node took them");
  }
  std::exchange(done_, nullptr)();
}

NodeId ObjectHandover::Choose(const Move& move) const {
  NodeId best;
  int64_t most = 0;
  peers_->ForEach([&](const NodeId& node, const wire::v1::NodeState& state) {
    const bool tried = std::count(move.tried.begin(), move.tried.end(), node) > 0;
    if (tried || state.draining()) return;
    auto sent = sent_bytes_.find(node);
    const auto room = static_cast<int64_t>(state.store_capacity_bytes()) -
                      static_cast<int64_t>(state.store_used_bytes()) -
                      static_cast<int64_t>(sent == sent_bytes_.end() ? 0 : sent->second);
    if (!best.IsNil() && room <= most) return;
    best = node;
    most = room;
  });
  return best;
}

template <typename Reply, typename Message>
void ObjectHandover::Ask(const MovePtr& move, wire::v1::FrameType type, const Message& message,
                         absl::AnyInvocable<void(const Reply&)> then) {
  net::Connection* connection = peers_->Get(move->tried.back());
  if (connection == nullptr) return Retry(move);
  connection->Call(type, message,
                   [this, alive = std::weak_ptr<bool>(alive_), move,
                    then = std::move(then)](const absl::StatusOr<net::Frame>& frame) mutable {
                     if (alive.expired()) return;
                     Reply reply;
                     if (!frame.ok() || !net::ParseMetadata(*frame, &reply)) {
                       return Retry(move);
                     }
                     then(reply);
                   });
}

void ObjectHandover::AskToFetch(const MovePtr& move) {
  wire::v1::StoreGet message;
  message.add_object_ids(move->id.BinaryString());
  message.add_sources()->add_node_ids(identity_->id.BinaryString());
  message.set_timeout_ms(-1);
  message.set_prefetch(true);
  Ask<wire::v1::StoreGetReply>(
      move, wire::v1::STORE_GET, message, [this, move](const wire::v1::StoreGetReply& reply) {
        const bool fetched = reply.entries_size() == 1 && reply.entries(0).present();
        fetched ? AskToKeep(move) : Retry(move);
      });
}

void ObjectHandover::AskToKeep(const MovePtr& move) {
  wire::v1::StoreCreate message;
  message.set_object_id(move->id.BinaryString());
  message.set_size_bytes(move->info.size_bytes);
  message.set_note(move->info.note);
  const NodeId owner_node = owners_->NodeOf(move->info.owner, identity_->id);
  message.mutable_owner()->set_worker_id(move->info.owner.BinaryString());
  message.mutable_owner()->set_node_id(owner_node.BinaryString());
  Ask<wire::v1::StoreCreateReply>(
      move, wire::v1::STORE_CREATE, message,
      [this, move](const wire::v1::StoreCreateReply& reply) { OnKept(move, reply); });
}

void ObjectHandover::OnKept(const MovePtr& move, const wire::v1::StoreCreateReply& reply) {
  if (reply.outcome() == wire::v1::StoreCreateReply::EXISTS) return TellOwner(move);
  // It was dropped there before it could be kept.
  if (reply.outcome() == wire::v1::StoreCreateReply::CREATED) {
    wire::v1::StoreAbort abort;
    abort.set_object_id(move->id.BinaryString());
    if (net::Connection* raylet = peers_->Get(move->tried.back()); raylet != nullptr) {
      raylet->Send(wire::v1::STORE_ABORT, abort);
    }
  }
  Retry(move);
}

void ObjectHandover::TellOwner(const MovePtr& move) {
  const NodeId to = move->tried.back();
  if (!objects_->store().Find(move->id).has_value()) {  // freed meanwhile
    wire::v1::StoreIds free;
    free.add_object_ids(move->id.BinaryString());
    if (net::Connection* raylet = peers_->Get(to); raylet != nullptr) {
      raylet->Send(wire::v1::STORE_FREE, free);
    }
    return Finish();
  }
  moved_.insert(move->id);
  net::Connection* raylet = peers_->Get(owners_->NodeOf(move->info.owner, identity_->id));
  if (raylet == nullptr) return Finish();  // the owner is gone
  raylet->Call(
      wire::v1::OBJECT_COPIED, CopiedTo(move->id, to),
      [this, alive = std::weak_ptr<bool>(alive_)](const absl::StatusOr<net::Frame>&) {
        if (!alive.expired()) Finish();
      },
      move->info.owner.Binary());
}

void ObjectHandover::Retry(const MovePtr& move) {
  waiting_.push_back(move);
  Finish();
}

void ObjectHandover::Finish() {
  --under_way_;
  Advance();
}

// --- From others

absl::Status ObjectHandover::OnCopied(Client& client, const net::Frame& frame) {
  ObjectCopied message;
  if (!net::ParseMetadata(frame, &message)) {
    return absl::InvalidArgumentError("an OBJECT_COPIED that does not parse");
  }
  MANTA_ASSIGN_OR_RETURN(const ObjectId id, ObjectId::FromBinary(message.object_id()));
  MANTA_ASSIGN_OR_RETURN(const NodeId node, NodeId::FromBinary(message.node_id()));
  if (client.IsRaylet() && !frame.payload.empty()) {
    MANTA_ASSIGN_OR_RETURN(const WorkerId owner, WorkerId::FromBinary(frame.payload));
    if (Client* process = clients_->FindByWorker(owner); process != nullptr) {
      process->connection->Send(wire::v1::OBJECT_COPIED, message);
    }
    Responder(client.connection, frame).Send(ToStatusReply(absl::OkStatus()));
    return absl::OkStatus();
  }
  if (node == identity_->id) {
    Keep(id);
  } else if (net::Connection* raylet = client.IsRaylet() ? nullptr : peers_->Get(node);
             raylet != nullptr) {
    raylet->Send(wire::v1::OBJECT_COPIED, message);
  }
  return absl::OkStatus();
}

// If it is gone already, who wants it finds out, and its owner after that.
void ObjectHandover::Keep(const ObjectId& id) {
  if (objects_->store().MakePrimary(id)) objects_->Changed();
}

}  // namespace ray::raylet
