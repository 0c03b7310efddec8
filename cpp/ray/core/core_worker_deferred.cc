// Objects that get their value only when somebody asks for it.
#include <utility>

#include "ray/core/core_worker.h"

namespace ray::core {

using base::ObjectId;

ObjectId CoreWorker::Defer(DeferredEvents events) {
  absl::MutexLock lock(&mutex_);
  Drain();
  const ObjectId id = base::PutObjectId(put_task_, ++put_index_);
  ObjectTable::Entry& entry = objects_.AddOwned(id);
  entry.local = 1;
  if (events.wanted == nullptr) return id;
  entry.released = true;  // whoever asks first has it computed
  deferred_.emplace(id, std::move(events));
  return id;
}

absl::Status CoreWorker::Fulfil(const ObjectId& id, const ValueParts& parts,
                                std::vector<ContainedObject> contained, std::string_view note,
                                Interrupted interrupted) {
  const uint64_t size = SerializedSize(parts);
  if (size <= static_cast<uint64_t>(config_.inline_object_max_bytes)) {
    BufferPtr value = Serialize(parts);
    absl::MutexLock lock(&mutex_);
    objects_.SetContains(id, std::move(contained), {});
    objects_.SetInline(id, std::move(value));
    return absl::OkStatus();
  }
  auto stored = PutInStore(parts, id, self_, note, {}, interrupted);
  if (!stored.ok()) return stored.status();
  absl::MutexLock lock(&mutex_);
  if (objects_.Find(id) == nullptr) {  // nobody wants it any more
    FreeStored(id, self_->node_id);
    return absl::OkStatus();
  }
  objects_.SetContains(id, std::move(contained), {});
  objects_.SetInStore(id, self_->node_id, size);
  return absl::OkStatus();
}

// False: it is not a deferred object.
bool CoreWorker::AskForDeferred(const ObjectId& id) {
  auto it = deferred_.find(id);
  if (it == deferred_.end()) return false;
  it->second.wanted();
  return true;
}

}  // namespace ray::core
