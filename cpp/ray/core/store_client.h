// This process's view of the node's object store: objects pinned and mapped, and new ones to write.
//
// A pin that ended may rest here for a moment, so that the next get of the object costs no round
// trip:
//   REST-1  A pin rests only while nothing here uses it, and goes back to the raylet at most
//   kRestMax after it was taken from there, however often it was used meanwhile: what waits for the
//   object's memory gets its turn.
//   REST-2  All that rests is given back before this process asks the store for anything (an object
//   that it does not hold, memory for a new one), and with its object when that is freed.
//   REST-3  At most kRestingMax rest.
//
// Threads: StoreClient is thread-compatible (the core worker's mutex). A PinnedObject may be read
// and dropped anywhere: its end only pushes to the release queue. Errors: a missing object is a
// null pin with a reason; a full store is kResourceExhausted and a full disk kOutOfRange, with the
// raylet's breakdown.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/core/release_queue.h"
#include "ray/core/worker_address.h"
#include "ray/net/connection.h"
#include "ray/store/shared_memory.h"
#include "ray/wire/v1/store.pb.h"

namespace ray::core {

// Keeps one object's memory in place while it lives: one pin at the raylet.
class PinnedObject {
 public:
  using OnRelease = std::function<void(const base::ObjectId&)>;
  PinnedObject(const base::ObjectId& id, std::string_view bytes,
               std::shared_ptr<store::SharedMemory> memory, OnRelease on_release)
      : id_(id), bytes_(bytes), memory_(std::move(memory)), on_release_(std::move(on_release)) {}
  ~PinnedObject() { on_release_(id_); }
  PinnedObject(const PinnedObject&) = delete;
  PinnedObject& operator=(const PinnedObject&) = delete;

  const base::ObjectId& id() const { return id_; }
  std::string_view view() const { return bytes_; }

 private:
  const base::ObjectId id_;
  const std::string_view bytes_;
  const std::shared_ptr<store::SharedMemory> memory_;
  const OnRelease on_release_;
};
using PinnedObjectPtr = std::shared_ptr<const PinnedObject>;

// An object in a store.
struct StoredObject {
  base::ObjectId id;
  std::vector<base::NodeId> sources;  // where it may be; none: on this node
};

// An object that was asked for: its pin, or why there is none.
struct FetchedObject {
  PinnedObjectPtr pin;
  // It is on disk or on another node, and the store stayed too full to bring it here; else it is
  // gone.
  bool no_memory = false;
  std::string reason;
};

class StoreClient {
 public:
  // One a requested id, in order.
  using OnFetched = absl::AnyInvocable<void(std::vector<FetchedObject>)>;
  // Where to write an object: at `offset` of the store's memory, or of a file of its own.
  struct Destination {
    std::shared_ptr<store::SharedMemory> memory;
    uint64_t offset = 0;
  };
  // kAlreadyExists when it is there and sealed.
  using OnCreated = absl::AnyInvocable<void(absl::StatusOr<Destination>)>;

  static constexpr absl::Duration kRestMax = absl::Milliseconds(10);
  static constexpr size_t kRestingMax = 16;

  // `clock` outlives it. `on_release` must be callable from any thread, at any time.
  StoreClient(std::shared_ptr<net::Connection> raylet, std::shared_ptr<store::SharedMemory> memory,
              const base::NodeId& node, const base::Clock* clock,
              PinnedObject::OnRelease on_release);

  // What this process already holds is answered at once, without asking the raylet. Never answered
  // when the raylet is lost: that ends the session, and says nothing of the objects.
  void Fetch(const std::vector<StoredObject>& objects, OnFetched done);
  // Brings the object to this node, without a pin. `done`: null, or why it did not come; as
  // Fetch, not if the raylet is lost.
  using OnHere = absl::AnyInvocable<void(const FetchedObject* failed)>;
  void Prefetch(const StoredObject& object, OnHere done);
  void Create(const base::ObjectId& id, uint64_t size_bytes, const WorkerAddress& owner,
              std::string_view note, OnCreated done);
  // Publishes what was written and gives the creator's pin up.
  void Seal(const base::ObjectId& id);
  void Abort(const base::ObjectId& id);
  void Free(const base::ObjectId& id, const base::NodeId& node);
  // A pin has ended. It may rest where `may_rest`: then true, and EndRests is due at times.
  bool Release(const base::ObjectId& id, bool may_rest);
  // Gives back what has rested long enough. True: something rests still.
  bool EndRests();
  // Sends what Free, Release and EndRests gathered.
  void Flush();

  const std::shared_ptr<store::SharedMemory>& memory() const { return memory_; }

 private:
  // What this process holds of the store: a pin of the raylet's.
  struct Holding {
    std::weak_ptr<const PinnedObject> pin;
    std::string_view bytes;
    std::shared_ptr<store::SharedMemory> memory;
    absl::Time taken;
    bool rests = false;
  };

  PinnedObjectPtr Held(const base::ObjectId& id);
  PinnedObjectPtr NewPin(const base::ObjectId& id, Holding* holding);
  void EndRest(base::ObjectId id);
  void EndAllRests();
  PinnedObjectPtr MakePin(const base::ObjectId& id, const wire::v1::StoreGetReply::Entry& entry,
                          std::string* reason);
  absl::StatusOr<Destination> MapCreated(const wire::v1::StoreCreateReply& reply,
                                         uint64_t size_bytes) const;

  const std::shared_ptr<net::Connection> raylet_;
  const std::shared_ptr<store::SharedMemory> memory_;
  const base::NodeId node_;  // this one
  const base::Clock* const clock_;
  const PinnedObject::OnRelease on_release_;
  absl::flat_hash_map<base::ObjectId, Holding> held_;
  std::vector<base::ObjectId> resting_;  // of these; the first has rested longest
  absl::flat_hash_map<base::NodeId, std::vector<base::ObjectId>> to_free_;
  std::vector<base::ObjectId> to_release_;
};

}  // namespace ray::core
