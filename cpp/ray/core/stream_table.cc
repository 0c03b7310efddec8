#include "ray/core/stream_table.h"

#include <limits>

#include "ray/core/serialized_value.h"

namespace ray::core {

using base::ObjectId;
using base::TaskId;

namespace {

constexpr uint32_t kFirstItem = 2;  // among the returns
constexpr uint64_t kEverything = std::numeric_limits<uint64_t>::max();

BufferPtr EndMark() {
  SystemError mark;
  mark.code = "STREAM_ENDED";
  mark.message = "the generator has no more items";
  return SerializeSystemError(mark);
}

}  // namespace

ObjectId StreamItemId(const TaskId& task, uint64_t index) {
  return base::ReturnObjectId(task, static_cast<uint32_t>(index) + kFirstItem);
}

void StreamTable::Open(const TaskId& task, bool has_reader) {
  streams_[task].has_reader = has_reader;
}

StreamTable::Arrival StreamTable::OnItem(const TaskId& task, uint64_t index) {
  auto it = streams_.find(task);
  if (it == streams_.end()) return {false, kEverything, kEverything};
  Stream& stream = it->second;
  bool wanted = index == stream.received && !stream.ended;
  if (wanted) Arrive(task, &stream);
  return {wanted, ConsumedOf(task), stream.received};
}

void StreamTable::Arrive(const TaskId& task, Stream* stream) {
  ObjectId id = StreamItemId(task, stream->received++);
  ObjectTable::Entry* peeked = objects_->Find(id);
  ObjectTable::Entry& entry = peeked != nullptr ? *peeked : objects_->AddOwned(id);
  ++entry.local;
}

void StreamTable::End(const TaskId& task, const BufferPtr& error) {
  auto it = streams_.find(task);
  if (it == streams_.end() || it->second.ended) return;
  Stream& stream = it->second;
  stream.ended = true;
  if (!stream.has_reader) {
    DropUnread(task, stream);  // what return 1 contains has other holds now
    streams_.erase(it);
    return;
  }
  if (error != nullptr) {
    ObjectId id = StreamItemId(task, stream.received);
    Arrive(task, &stream);
    objects_->SetInline(id, error);
  }
  objects_->SetInline(StreamItemId(task, stream.received), EndMark());
}

ObjectId StreamTable::Peek(const TaskId& task) {
  auto it = streams_.find(task);
  bool ended = it == streams_.end() || (it->second.ended && it->second.read == it->second.received);
  ObjectId id = StreamItemId(task, it == streams_.end() ? 0 : it->second.read);
  ObjectTable::Entry* known = objects_->Find(id);
  ++(known != nullptr ? *known : objects_->AddOwned(id)).local;
  if (ended) objects_->SetInline(id, EndMark());
  return id;
}

StreamTable::Step StreamTable::Advance(const TaskId& task, const ObjectId& peeked) {
  auto it = streams_.find(task);
  if (it == streams_.end()) return Step::kEnd;
  Stream& stream = it->second;
  if (StreamItemId(task, stream.read) != peeked) return Step::kNotYet;
  if (stream.read == stream.received) return stream.ended ? Step::kEnd : Step::kNotYet;
  objects_->RemoveLocal(StreamItemId(task, stream.read++));
  return Step::kItem;
}

void StreamTable::Close(const TaskId& task) {
  auto it = streams_.find(task);
  if (it == streams_.end()) return;
  Stream stream = it->second;
  streams_.erase(it);
  DropUnread(task, stream);
}

void StreamTable::DropUnread(const TaskId& task, const Stream& stream) {
  for (uint64_t i = stream.read; i < stream.received; ++i) {
    objects_->RemoveLocal(StreamItemId(task, i));
  }
}

uint64_t StreamTable::ConsumedOf(const TaskId& task) const {
  auto it = streams_.find(task);
  return it == streams_.end() || !it->second.has_reader ? kEverything : it->second.read;
}

}  // namespace ray::core
