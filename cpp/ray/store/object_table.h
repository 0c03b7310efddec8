// The objects of a node and the memory they occupy: states, pins, and which of them may make room.
//
// Owner: ObjectStore. Threads: thread-compatible. Pure: asks nobody, tells its listener.
// Errors: none; a broken precondition aborts.
//
//   TABLE-1  objects in memory hold distinct blocks of the arena, others none.
//   TABLE-2  a pinned object has memory or a file that clients map.
//   TABLE-3  droppable() holds exactly the unpinned objects in memory of which another copy exists.
//   TABLE-4  spillable() holds exactly the other unpinned objects in memory.
//   TABLE-5  file_copies() holds exactly the unpinned secondary copies in files of their own.
//   TABLE-6  a freed object that nobody pins and no I/O uses is not in the table.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "ray/base/ids.h"
#include "ray/store/arena.h"
#include "ray/store/extent.h"
#include "ray/store/object_state.h"
#include "ray/store/object_store.h"
#include "ray/store/spill_target.h"

namespace ray::store {

// Where an object's bytes are on disk.
struct SpillPlace {
  SpillFileId file;
  uint32_t index;
};

// Fields change only through ObjectTable.
struct Object {
  base::ObjectId id;
  base::WorkerId owner;
  std::string note;
  uint64_t size_bytes = 0;
  bool secondary = false;
  ClientId creator{};  // meaningful while kWriting
  ObjectState state = ObjectState::kWriting;
  Extent block;                    // of the arena, at least size_bytes; only if HasMemory(state)
  std::optional<SpillPlace> disk;  // its bytes are on disk, perhaps in memory too
  MappedPlace mapped;              // kWritingFile, kInFile: what clients map
  bool freed = false;              // by its owner; gone for new readers
  uint32_t pins = 0;
  uint64_t idle_number = 0;  // its key in one of the three lists below; 0 = in none

  bool Readable() const { return !freed && IsReadable(state); }
};

// Unpinned objects, the one that was unpinned first in front.
// Threads: thread-compatible.
class IdleObjects {
 public:
  void Add(uint64_t number, Object* object) {
    objects_.emplace(number, object);
    bytes_ += object->block.size;
  }
  void Remove(uint64_t number) {
    auto it = objects_.find(number);
    bytes_ -= it->second->block.size;
    objects_.erase(it);
  }
  bool empty() const { return objects_.empty(); }
  Object& front() const { return *objects_.begin()->second; }
  uint64_t bytes() const { return bytes_; }
  bool Contains(uint64_t number) const { return objects_.contains(number); }
  auto begin() const { return objects_.begin(); }
  auto end() const { return objects_.end(); }

 private:
  absl::btree_map<uint64_t, Object*> objects_;
  uint64_t bytes_ = 0;
};

class ObjectTable {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // The object is about to leave the table. Must not change the table.
    virtual void OnDelete(const Object& object) = 0;
  };

  // `listener` outlives the table.
  ObjectTable(uint64_t capacity_bytes, Listener* listener);

  Object* Find(const base::ObjectId& id);
  const Object* Find(const base::ObjectId& id) const;
  const absl::node_hash_map<base::ObjectId, Object>& objects() const { return objects_; }

  // A block for size_bytes; drops idle objects of which another copy exists, oldest first, if that
  // makes room.
  std::optional<Extent> Allocate(uint64_t size_bytes);

  // A new object, kWriting, pinned once for its creator. Its id must be new.
  Object& Add(const CreateRequest& request, ClientId creator, Extent block);
  // The same with a file of its own, kWritingFile.
  Object& AddInFile(const CreateRequest& request, ClientId creator, SpillPlace file,
                    MappedPlace mapped);

  // Moves along the transition table. To kInMemory from kWriting, kSpilling or kRestoring; to
  // kInFile from kWritingFile; to kSpilling from kInMemory; to kChecking from kOnDisk and back. May
  // delete the object if it was freed.
  void Move(Object& object, ObjectState to);
  // kSpilling -> kInMemory, with a copy on disk.
  void MoveSpilled(Object& object, SpillPlace place);
  // kChecking -> kInFile. May delete the object if it was freed.
  void MoveMapped(Object& object, MappedPlace mapped);
  // kOnDisk -> kRestoring.
  void MoveRestoring(Object& object, Extent block);
  // From the states that may be deleted, whatever pins there are.
  void Delete(Object& object);

  void Pin(Object& object);
  // May delete the object if it was freed.
  void Unpin(Object& object);
  // May delete the object.
  void Free(Object& object);
  // Undoes Free.
  void Revive(Object& object);
  // Makes a secondary copy the primary one.
  void Promote(Object& object);
  // Drops its bytes from memory, or from the file of its own. Of droppable() and file_copies().
  void Evict(Object& object);

  const absl::btree_set<base::ObjectId>& OwnedBy(const base::WorkerId& owner) const;

  const IdleObjects& droppable() const { return droppable_; }
  const IdleObjects& spillable() const { return spillable_; }
  const IdleObjects& file_copies() const { return file_copies_; }
  uint64_t object_bytes() const { return object_bytes_; }  // of all blocks of objects
  uint64_t used_bytes() const { return object_bytes_ - droppable_.bytes(); }
  uint64_t pinned_bytes() const { return pinned_bytes_; }
  uint64_t evictions() const { return evictions_; }
  Arena& arena() { return arena_; }
  const Arena& arena() const { return arena_; }

  void CheckInvariants() const;

 private:
  Object& AddNew(const CreateRequest& request, ClientId creator);
  void SetState(Object& object, ObjectState to);
  void DropMemory(Object& object);
  // Puts the object into the list it belongs to now, or deletes it if its time has come.
  void Settle(Object& object);
  void LeaveIdle(Object& object);
  IdleObjects* IdleListOf(const Object& object);

  Listener* const listener_;
  Arena arena_;
  absl::node_hash_map<base::ObjectId, Object> objects_;
  absl::flat_hash_map<base::WorkerId, absl::btree_set<base::ObjectId>> by_owner_;  // no empty sets
  IdleObjects droppable_;
  IdleObjects spillable_;
  IdleObjects file_copies_;
  uint64_t last_idle_number_ = 0;
  uint64_t object_bytes_ = 0;
  uint64_t pinned_bytes_ = 0;
  uint64_t evictions_ = 0;
};

}  // namespace ray::store
