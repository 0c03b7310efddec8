// Generator tasks: items in and what was read out (the owner), items out and back-pressure (the
// executing side).
#include <algorithm>
#include <limits>
#include <utility>

#include "ray/core/core_worker.h"
#include "ray/net/parse_frame.h"

namespace ray::core {

using base::ObjectId;
using base::TaskId;

// ----------------------------------------------------------------------------------------------
// the owner

ObjectId CoreWorker::PeekStream(const TaskId& task) {
  absl::MutexLock lock(&mutex_);
  Drain();
  return streams_.Peek(task);
}

StreamTable::Step CoreWorker::AdvanceStream(const TaskId& task, const ObjectId& peeked) {
  absl::MutexLock lock(&mutex_);
  StreamTable::Step step = streams_.Advance(task, peeked);
  if (step == StreamTable::Step::kItem) SendConsumed(task);
  if (step == StreamTable::Step::kEnd) ended_streams_.erase(task);
  return step;
}

void CoreWorker::CloseStream(const TaskId& task) {
  streams_.Close(task);
  SendConsumed(task);  // the producer need not wait for anybody
  ended_streams_.erase(task);
}

void CoreWorker::OnStreamItem(const PeerPtr& peer, const net::Frame& frame) {
  auto item = ParseStreamItem(frame.metadata, frame.payload);
  if (!item.ok()) return peer->connection->Close(item.status());
  StreamTable::Arrival arrival = streams_.OnItem(item->task_id, item->index);
  ObjectId id = StreamItemId(item->task_id, item->index);
  auto task = pending_.find(item->task_id);
  if (task != pending_.end()) {
    task->second->items = std::max(task->second->items, item->index + 1);
  }
  ObjectTable::Entry* entry = objects_.Find(id);
  // It was there and is lost, and its task runs again.
  bool lost = !arrival.wanted && entry != nullptr && entry->state == ObjectState::kPending &&
              arrival.received > item->index;
  if (arrival.wanted || lost) {
    StoreReturn(peer, id, item->item);
  } else {
    TakeContained(peer, ObjectId::Nil(), item->item);  // gives back at once what came with it
    bool stored_again = item->item.kind == ReturnValue::Kind::kInStore;
    if (stored_again && objects_.Find(id) == nullptr) FreeStored(id, peer->address->node_id);
  }
  if (!item->item.contained.empty()) ConfirmTaken(peer, item->task_id);
  if (task == pending_.end()) return;
  task->second->producer = peer->worker_id;
  // Read before it came: a retry says again what the reader already has.
  if (arrival.consumed > item->index) SendConsumed(item->task_id);
}

void CoreWorker::SendConsumed(const TaskId& task) {
  base::WorkerId worker;
  if (auto it = pending_.find(task); it != pending_.end()) {
    if (it->second->task_template->stream_backpressure == 0) return;
    worker = it->second->producer;
  } else if (auto ended = ended_streams_.find(task); ended != ended_streams_.end()) {
    worker = ended->second;
  }
  PeerPtr producer = peers_->FindConnected(worker);
  if (producer == nullptr) return;
  wire::v1::StreamConsumed message;
  message.set_task_id(task.BinaryString());
  message.set_consumed(streams_.ConsumedOf(task));
  producer->connection->Send(wire::v1::STREAM_CONSUMED, message);
}

// ----------------------------------------------------------------------------------------------
// the executing side

void CoreWorker::SendStreamItem(const IncomingCallPtr& call, uint64_t index, ResultValue item) {
  absl::MutexLock lock(&mutex_);
  Drain();
  ProtectContained(call, {item});
  if (UnreadItemsLimit() > 0 && !call->caller->connection->closed()) {
    unread_items_.Sent(call->task_id, call->caller->worker_id, index + 1);
  }
  StreamItemFrame frame;
  frame.task_id = call->task_id;
  frame.index = index;
  frame.item = ToReturnValue(item);
  std::string metadata;
  std::vector<std::string_view> payload;
  PackStreamItem(frame, &metadata, &payload);
  call->caller->connection->SendRaw(wire::v1::STREAM_ITEM, 0, 0, metadata, payload,
                                    net::Connection::Flush::kCoalesce);
  peers_->MarkDirty(call->caller);
}

bool CoreWorker::HasStreamRoom(const IncomingCall& call, uint64_t sent) {
  absl::MutexLock lock(&mutex_);
  return HasRoomForItem(call, sent);
}

bool CoreWorker::HasRoomForItem(const IncomingCall& call, uint64_t sent) const {
  const ReceivedTemplate& of = *call.task_template;
  if (call.cancelled || call.caller->connection->closed()) return true;
  const uint32_t own_limit = of.stream_backpressure;
  if (own_limit > 0 && sent >= own_limit && sent - own_limit >= call.items_consumed) return false;
  const bool has_reader = of.num_returns == kStreamingReturns;
  return !has_reader || UnreadItemsLimit() == 0 || unread_items_.count() < UnreadItemsLimit();
}

void CoreWorker::WaitForStreamRoom(const IncomingCallPtr& call, uint64_t sent,
                                   Interrupted interrupted) {
  if (HasStreamRoom(*call, sent)) return;
  FlushReplies();
  auto has_room = [&] {
    mutex_.AssertHeld();
    return HasRoomForItem(*call, sent);
  };
  WaitBlocked(has_room, kNoDeadline, interrupted);
}

void CoreWorker::OnStreamConsumed(const PeerPtr& peer, const net::Frame& frame) {
  auto message = net::ParseMetadata<wire::v1::StreamConsumed>(frame);
  auto id = message.ok() ? TaskId::FromBinary(message->task_id()) : message.status();
  if (!id.ok()) return peer->connection->Close(id.status());
  unread_items_.Read(*id, peer->worker_id, message->consumed());
  IncomingCallPtr call = receiver_.FindRunning(*id);
  if (call != nullptr && call->caller == peer) {
    call->items_consumed = std::max(call->items_consumed, message->consumed());
  }
  stream_room_changed_ = other_loop_.fd >= 0;
}

}  // namespace ray::core
