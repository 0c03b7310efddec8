#include "ray/store/object_table.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "ray/base/check.h"

namespace ray::store {

ObjectTable::ObjectTable(uint64_t capacity_bytes, Listener* listener)
    : listener_(listener), arena_(capacity_bytes) {}

Object* ObjectTable::Find(const base::ObjectId& id) {
  auto it = objects_.find(id);
  return it == objects_.end() ? nullptr : &it->second;
}

const Object* ObjectTable::Find(const base::ObjectId& id) const {
  auto it = objects_.find(id);
  return it == objects_.end() ? nullptr : &it->second;
}

std::optional<Extent> ObjectTable::Allocate(uint64_t size_bytes) {
  std::optional<Extent> block = arena_.Allocate(size_bytes);
  // What cannot help is not dropped: restoring it later would cost a read.
  if (!block && arena_.free_bytes() + droppable_.bytes() < Arena::RoundUp(size_bytes)) return block;
  while (!block && !droppable_.empty()) {
    Evict(droppable_.front());
    block = arena_.Allocate(size_bytes);
  }
  return block;
}

Object& ObjectTable::AddNew(const CreateRequest& request, ClientId creator) {
  auto [it, is_new] = objects_.try_emplace(request.id);
  MANTA_CHECK(is_new);
  Object& object = it->second;
  object.id = request.id;
  object.owner = request.owner;
  object.note = request.note;
  object.size_bytes = request.size_bytes;
  object.secondary = request.secondary;
  object.creator = creator;
  by_owner_[request.owner].insert(request.id);
  return object;
}

Object& ObjectTable::Add(const CreateRequest& request, ClientId creator, Extent block) {
  Object& object = AddNew(request, creator);
  object.block = block;
  object_bytes_ += block.size;
  Pin(object);
  return object;
}

Object& ObjectTable::AddInFile(const CreateRequest& request, ClientId creator, SpillPlace file,
                               MappedPlace mapped) {
  Object& object = AddNew(request, creator);
  object.state = ObjectState::kWritingFile;
  object.disk = file;
  object.mapped = std::move(mapped);
  Pin(object);
  return object;
}

void ObjectTable::Move(Object& object, ObjectState to) {
  LeaveIdle(object);
  SetState(object, to);
  Settle(object);
}

void ObjectTable::MoveSpilled(Object& object, SpillPlace place) {
  object.disk = place;
  Move(object, ObjectState::kInMemory);
}

void ObjectTable::MoveMapped(Object& object, MappedPlace mapped) {
  object.mapped = std::move(mapped);
  Move(object, ObjectState::kInFile);
}

void ObjectTable::MoveRestoring(Object& object, Extent block) {
  SetState(object, ObjectState::kRestoring);
  object.block = block;
  object_bytes_ += block.size;
}

void ObjectTable::Delete(Object& object) {
  listener_->OnDelete(object);
  LeaveIdle(object);
  bool had_memory = HasMemory(object.state);
  SetState(object, ObjectState::kDeleted);
  if (object.pins > 0) pinned_bytes_ -= object.block.size;
  if (had_memory) DropMemory(object);
  auto owned = by_owner_.find(object.owner);
  owned->second.erase(object.id);
  if (owned->second.empty()) by_owner_.erase(owned);
  // By iterator: the key that erase() would compare is part of what it destroys.
  objects_.erase(objects_.find(object.id));
}

void ObjectTable::Pin(Object& object) {
  MANTA_CHECK(IsPinnable(object.state));
  LeaveIdle(object);
  if (object.pins++ == 0) pinned_bytes_ += object.block.size;
}

void ObjectTable::Unpin(Object& object) {
  MANTA_CHECK(object.pins > 0);
  if (--object.pins > 0) return;
  pinned_bytes_ -= object.block.size;
  Settle(object);
}

void ObjectTable::Free(Object& object) {
  object.freed = true;
  LeaveIdle(object);
  Settle(object);
}

void ObjectTable::Revive(Object& object) {
  object.freed = false;
  Settle(object);
}

void ObjectTable::Promote(Object& object) {
  LeaveIdle(object);
  object.secondary = false;
  Settle(object);
}

const absl::btree_set<base::ObjectId>& ObjectTable::OwnedBy(const base::WorkerId& owner) const {
  static const absl::btree_set<base::ObjectId> kNone;
  auto it = by_owner_.find(owner);
  return it == by_owner_.end() ? kNone : it->second;
}

void ObjectTable::SetState(Object& object, ObjectState to) {
  MANTA_CHECK_MSG(MayMove(object.state, to), "no such move in object_state.h");
  object.state = to;
}

void ObjectTable::DropMemory(Object& object) {
  object_bytes_ -= object.block.size;
  arena_.Free(object.block.offset);
  object.block = {};
}

void ObjectTable::Evict(Object& object) {
  ++evictions_;
  if (!object.disk || object.state == ObjectState::kInFile) {
    Delete(object);
    return;
  }
  LeaveIdle(object);
  SetState(object, ObjectState::kOnDisk);
  DropMemory(object);
}

void ObjectTable::Settle(Object& object) {
  if (object.pins > 0) return;
  if (object.freed && IsResting(object.state)) {
    Delete(object);
    return;
  }
  if (IdleObjects* list = IdleListOf(object); list != nullptr && object.idle_number == 0) {
    object.idle_number = ++last_idle_number_;
    list->Add(object.idle_number, &object);
  }
}

void ObjectTable::LeaveIdle(Object& object) {
  if (object.idle_number == 0) return;
  IdleListOf(object)->Remove(object.idle_number);
  object.idle_number = 0;
}

IdleObjects* ObjectTable::IdleListOf(const Object& object) {
  if (object.state == ObjectState::kInFile && object.secondary) return &file_copies_;
  if (object.state != ObjectState::kInMemory) return nullptr;
  return object.disk || object.secondary ? &droppable_ : &spillable_;
}

void ObjectTable::CheckInvariants() const {
  arena_.CheckInvariants();
  uint64_t object_bytes = 0;
  uint64_t pinned_bytes = 0;
  uint64_t droppable_bytes = 0;
  uint64_t spillable_bytes = 0;
  absl::flat_hash_set<uint64_t> offsets;
  for (const auto& [id, object] : objects_) {
    bool has_memory = HasMemory(object.state);
    MANTA_CHECK_MSG(object.id == id && has_memory == (object.block.size > 0), "TABLE-1");
    MANTA_CHECK_MSG(!has_memory || offsets.insert(object.block.offset).second, "TABLE-1");
    MANTA_CHECK_MSG(object.pins == 0 || IsPinnable(object.state), "TABLE-2");
    bool idle = object.pins == 0 && object.state == ObjectState::kInMemory;
    bool has_copy = object.disk || object.secondary;
    MANTA_CHECK_MSG(droppable_.Contains(object.idle_number) == (idle && has_copy), "TABLE-3");
    MANTA_CHECK_MSG(spillable_.Contains(object.idle_number) == (idle && !has_copy), "TABLE-4");
    bool file_copy = object.pins == 0 && object.state == ObjectState::kInFile && object.secondary;
    MANTA_CHECK_MSG(file_copies_.Contains(object.idle_number) == file_copy, "TABLE-5");
    MANTA_CHECK_MSG(!object.freed || object.pins > 0 || !IsResting(object.state), "TABLE-6");
    MANTA_CHECK(by_owner_.at(object.owner).contains(id));
    object_bytes += object.block.size;
    if (object.pins > 0) pinned_bytes += object.block.size;
    if (idle) (has_copy ? droppable_bytes : spillable_bytes) += object.block.size;
  }
  MANTA_CHECK(object_bytes == object_bytes_ && pinned_bytes == pinned_bytes_);
  MANTA_CHECK_MSG(droppable_bytes == droppable_.bytes(), "TABLE-3");
  MANTA_CHECK_MSG(spillable_bytes == spillable_.bytes(), "TABLE-4");
}

}  // namespace ray::store
