// The node's table of objects: who writes, reads, owns and waits for which bytes of the shared
// memory. The life of an object, back-pressure and spilling: docs/object_store.md. States:
// object_state.h.
//
// A pure state machine: requests and time in, replies and I/O requests out. It sees extents
// (offsets), never bytes.
//
// Owner: the raylet. Threads: loop-bound (the raylet's loop). Never blocks; each call is O(log n)
// plus what it changes.
//
// Callbacks run on the loop, possibly before the call that took them returns, when the store's
// state is consistent: they may call the store again. Callbacks of a client that is gone never run.
//
// Errors: kInvalidArgument and kFailedPrecondition mean that the client broke the protocol (close
// its connection); nothing has changed then. What the world can cause is an outcome of a reply.
//
//   STORE-1  an object's bytes are written only by its creator before Seal, and never change then.
//   STORE-2  the extent of an object that a client pins is neither freed nor reused.
//   STORE-3  the only copy of an object is dropped only if its owner freed it or died.
//   STORE-4  every request of a living client is answered once.
//   STORE-5  creations get memory in the order they came; restores are tried before creations.
//   STORE-6  the same calls at the same times have the same effects in the same order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ray/base/clock.h"
#include "ray/base/config.h"
#include "ray/base/ids.h"
#include "ray/store/extent.h"
#include "ray/store/page_return.h"
#include "ray/store/spill_target.h"

namespace ray::store {

// One connection of a client; chosen by the caller, never reused.
enum class ClientId : uint64_t {};

struct ObjectStoreOptions {
  uint64_t capacity_bytes = 0;
  absl::Duration full_timeout = absl::Seconds(10);  // how long a request waits for memory
  absl::Duration stuck_delay = absl::Seconds(2);    // without progress: files instead of memory
  absl::Duration file_timeout = absl::Seconds(30);  // how long one waits for a file of its own
  double spilling_threshold = 0.8;  // of the capacity, in bytes that cannot be dropped at once
  uint64_t spill_batch_bytes = 100 << 20;  // objects are fused up to this size
  uint64_t spill_quota_bytes = 0;          // of spilled bytes; 0 = no limit
  int parallel_writes = 1;  // files written at a time: what the spill target has threads for
  uint64_t warm_reserve_bytes = 1 << 30;  // free memory kept present for the next object
  absl::Duration page_return_delay =
      absl::Seconds(10);  // of no allocation, before more than that is returned

  static ObjectStoreOptions FromConfig(const base::Config& config, uint64_t capacity_bytes);
};

struct CreateRequest {
  base::ObjectId id;
  uint64_t size_bytes = 0;
  base::WorkerId owner;    // whose death frees the object
  std::string note;        // what it is, for breakdowns; cut to 100 bytes
  bool secondary = false;  // a copy of another node's object: may be dropped while unpinned, and
                           // gets a file of its own only if it is larger than the store
};

struct CreateReply {
  enum class Outcome {
    kCreated,    // write size_bytes, then Seal; pinned for the creator until Release
    kExists,     // already sealed
    kFull,       // stayed full for full_timeout, and there is no disk to use instead
    kTooLarge,   // larger than the store can ever hold, and there is no disk to use instead
    kOutOfDisk,  // neither: the store's memory cannot hold it, and the disk has no room for it
    kAborted,    // its creator gave up before there was room
  };
  Outcome outcome = Outcome::kFull;
  uint64_t offset = 0;  // in the store's memory; with a path: in that file
  std::string path;     // not empty: the object has a file of its own, which its creator maps
  std::string message;  // kFull, kTooLarge, kOutOfDisk: a readable breakdown
};

struct GetReply {
  enum class Outcome {
    kPresent,   // sealed at `extent`, pinned for the client until Release
    kAbsent,    // not sealed here before the timeout
    kGone,      // freed by its owner, or lost; `reason` says which
    kNoMemory,  // on disk where clients cannot map it, or elsewhere, and there was no memory for
                // it; `reason` is a breakdown
    kLost,      // FailGets said so; `reason` is the one it gave
  };
  struct Entry {
    Outcome outcome = Outcome::kAbsent;
    Extent extent;     // in the store's memory; with a path: in that file
    std::string path;  // as in CreateReply
    std::string reason;
  };
  std::vector<Entry> entries;  // in the order of the request
};

// An object that is here or being written, and not freed.
struct ObjectInfo {
  uint64_t size_bytes = 0;
  base::WorkerId owner;
  std::string note;
  bool sealed = false;
  bool secondary = false;
  bool in_memory = false;  // sealed, and its bytes can be read there now
};

struct StoreStats {
  uint64_t capacity_bytes = 0;
  uint64_t allocated_bytes = 0;  // memory that objects occupy
  uint64_t used_bytes = 0;       // of these, what cannot be dropped at once
  uint64_t pinned_bytes = 0;     // objects that a client writes or reads
  uint64_t warm_free_bytes = 0;  // free memory that is present
  uint64_t objects = 0;          // in memory or on disk
  uint64_t spilled_objects = 0;  // on disk only, mapped by clients or not
  uint64_t disk_bytes = 0;       // size of all spill files, and of files of one object
  uint64_t waiting_creates = 0;  // for memory
  uint64_t waiting_create_bytes = 0;
  uint64_t waiting_gets = 0;  // for objects or for memory to restore them
  // Totals since the start.
  uint64_t evictions = 0;
  uint64_t spilled_bytes_total = 0;
  uint64_t restored_bytes_total = 0;
  uint64_t spill_failures = 0;
};

class ObjectStore {
 public:
  using CreateCallback = absl::AnyInvocable<void(CreateReply)>;
  using GetCallback = absl::AnyInvocable<void(GetReply)>;
  using EvictionCallback = std::function<void(const base::ObjectId&)>;

  // All pointers outlive the store. spill_target may be null: then a full store only applies
  // back-pressure. page_returner may be null: then memory once touched stays with the store.
  ObjectStore(const ObjectStoreOptions& options, const base::Clock* clock,
              SpillTarget* spill_target, PageReturner* page_returner);
  ~ObjectStore();  // drops all requests without a reply
  ObjectStore(const ObjectStore&) = delete;
  ObjectStore& operator=(const ObjectStore&) = delete;

  // Answers at once if there is memory, or after eviction or spilling made room. An object that is
  // larger than the store, or finds no room for full_timeout, gets a file of its own. While another
  // client writes the object, waits for the outcome: kExists, or a creation of its own if that
  // client gives up or dies. A secondary copy becomes the primary one by the creation of the
  // object, which is answered with kExists. kInvalidArgument: no bytes; kFailedPrecondition: this
  // client is writing it already.
  absl::Status Create(ClientId client, CreateRequest request, CreateCallback callback);

  // kFailedPrecondition unless `client` is writing the object.
  absl::Status Seal(ClientId client, const base::ObjectId& id);
  // Drops what `client` is writing; a creation that still waits ends with kAborted. Nothing happens
  // if there is neither: the creation may just have been refused.
  void Abort(ClientId client, const base::ObjectId& id);

  // Answers when every object is sealed (restored if it was spilled) or gone, or after `timeout`
  // (InfiniteDuration: no limit) with what is in memory then. Each entry that is present is one
  // pin. A Get that waits pins nothing, unless it is its turn to have objects restored: one at a
  // time.
  void Get(ClientId client, std::vector<base::ObjectId> ids, absl::Duration timeout,
           GetCallback callback);

  // Takes one pin of the client (of a creation or a Get) away. kFailedPrecondition: it has none.
  absl::Status Release(ClientId client, const base::ObjectId& id);

  // By the owner: the object is gone for later requests at once; its bytes go when no client pins
  // them.
  void Free(absl::Span<const base::ObjectId> ids);

  // An object that was freed here has been made once more on another node: requests wait for its
  // copy, rather than hear that it is gone.
  void MadeElsewhere(const base::ObjectId& id);

  // Those that wait for the object now, and not for memory, need not wait for it any longer; unless
  // it comes meanwhile, their entry is this outcome. Later ones wait as before.
  void FailGets(const base::ObjectId& id, GetReply::Outcome outcome, std::string reason);

  // Runs for each secondary copy that was dropped to make room.
  void OnEviction(EvictionCallback callback);

  std::optional<ObjectInfo> Find(const base::ObjectId& id) const;
  bool HasObjectsOf(const base::WorkerId& owner) const;
  // Sealed, and not freed. O(objects).
  std::vector<base::ObjectId> PrimaryCopies() const;
  // The copy here, if there is a sealed one, is not dropped from now on before its owner frees it.
  // False: there is none.
  bool MakePrimary(const base::ObjectId& id);
  // Whose creation is first in the line for memory; nullopt: none waits.
  std::optional<ClientId> FirstWaitingCreator() const;

  // Whether the object is sealed here, in memory or on disk.
  bool Contains(const base::ObjectId& id) const;

  // For breakdowns: "driver 1234". Optional.
  void NameClient(ClientId client, std::string name);
  // Drops its pins and waiting requests, aborts what it was writing.
  void ClientGone(ClientId client);
  // Frees its objects, also those that are created on its behalf later.
  void OwnerGone(const base::WorkerId& owner);

  // Pages of this extent are present now (a hint from the page warmer).
  void MarkWarm(Extent extent);

  // Runs what is due. Call it at NextDeadline() or any time.
  void Tick();
  absl::Time NextDeadline() const;  // InfiniteFuture: nothing waits for time

  uint64_t capacity_bytes() const;
  // What resource reports call used: memory that cannot be dropped at once. O(1).
  uint64_t used_bytes() const;
  // What its files take on disk (or elsewhere). O(1).
  uint64_t disk_bytes() const;
  StoreStats Stats() const;       // O(objects)
  std::string Breakdown() const;  // readable: who holds what. O(objects)

  // For tests: aborts on a broken invariant. O(everything).
  void CheckInvariants() const;

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace ray::store
