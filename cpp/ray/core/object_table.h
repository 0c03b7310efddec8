// The objects that this process owns or borrows: value or location, and who still needs them.
// Sans-I/O.
//
// An object has one owner: the process that submitted its task or put it. Everybody else who holds
// a reference is a borrower, and the owner knows every borrower that could outlive the task through
// which it got the reference.
//
// Counts of an entry, all in this process: `local` handles; `pins` of tasks in flight that carry it
// as (or inside) an argument, and of replies under way; `containers`, objects known here whose
// value contains it. The owner adds `registrations` by borrower. When all are zero the entry goes,
// unless `lineage` says that a task which can be run again would need it: then only its value in
// the store goes, and is computed again when somebody asks (Actions::Recover). A value that nothing
// could compute again, as of a put, stays for the lineage (KeptValues), up to a bound.
//
// A value in the store lies on a node, its primary copy, and perhaps on others. A copy that turns
// out to be gone is struck out; without any the value is pending again, and is recovered.
//
// How a borrow never loses its object:
//   REF-1  A reference that arrives is protected by whoever sent it: by the caller's pins until the
//   task's reply, by the
//          object that contained it, or by a registration that the sender, being the owner, made in
//          the receiver's name.
//   REF-2  A borrow that is not yet registered is registered, and the owner's answer awaited,
//   before this process sends
//          anything that could end that protection: the reply of a task, or the release of another
//          borrow. (UnregisteredBorrows, Actions::RegisterBorrow, OnBorrowRegistered.)
//   REF-3  Registrations are counted, because the owner may register a receiver while the
//   receiver's release of an
//          earlier one is under way. A release carries the count it gives back.
//   REF-4  A borrower whose connection ends (core/peers.h) loses all its registrations.
//
// Threads: thread-compatible; the core worker's mutex.   Errors: none; unknown ids are reported by
// Find. Actions are called inline and must not re-enter the table.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "ray/base/ids.h"
#include "ray/core/buffer.h"
#include "ray/core/kept_values.h"
#include "ray/core/worker_address.h"

namespace ray::core {

enum class ObjectState : uint8_t {
  kPending,  // no value yet
  kInline,   // `value` holds it (a value or an error)
  kInStore,  // in the object store of `node`
};

struct ContainedObject {
  base::ObjectId id;
  AddressPtr owner;
};

class ObjectTable {
 public:
  struct Waiter {
    absl::AnyInvocable<void()> ready;
    bool until_end;  // the end of the session is news to it, too
  };

  struct Entry {
    ObjectState state = ObjectState::kPending;
    bool owned = true;
    bool fetching = false;  // borrowed and pending: the owner has been asked
    bool released = false;  // owned and pending: the value was let go, and can be computed again
    uint32_t local = 0;
    uint32_t pins = 0;
    uint32_t containers = 0;
    uint32_t registrations = 0;  // borrowed: how often the owner counts this process
    uint32_t registering = 0;    // borrowed: RegisterBorrow under way
    uint32_t lineage = 0;        // owned: tasks kept in the lineage that have it as an argument
    BufferPtr value;
    uint64_t size_bytes = 0;  // kInStore, owned
    base::NodeId node;        // kInStore: of the primary copy
    // kInStore: further nodes that may have it. Allocated on the first.
    std::unique_ptr<std::vector<base::NodeId>> copies;
    AddressPtr owner;  // null: this process
    std::vector<ContainedObject> contains;
    std::vector<Waiter> waiters;
    uint64_t last_wait = 0;  // the number of the last CoreWorker::Wait that names it
    // Owned: registrations by borrower. Allocated on the first.
    std::unique_ptr<absl::flat_hash_map<base::WorkerId, uint32_t>> borrowers;

    // kInStore: where it may be, the primary copy first.
    std::vector<base::NodeId> Locations() const;
  };

  class Actions {
   public:
    virtual ~Actions() = default;
    // Ask the owner to count this process once more; answer with OnBorrowRegistered.
    virtual void RegisterBorrow(const base::ObjectId& id, const AddressPtr& owner) = 0;
    virtual void ReleaseBorrow(const base::ObjectId& id, const AddressPtr& owner,
                               uint32_t registrations) = 0;
    // Ask the owner for value or location; answer with SetInline or SetInStore.
    virtual void FetchFromOwner(const base::ObjectId& id, const AddressPtr& owner) = 0;
    // Compute an owned value again that was released; answer as the task does, later.
    virtual void Recover(const base::ObjectId& id) = 0;
    // Whether Recover would find something that computes it.
    virtual bool CanRecover(const base::ObjectId& id) = 0;
    // The owner's copy in the store is not needed any more.
    virtual void FreeStored(const base::ObjectId& id, const base::NodeId& node) = 0;
    // The primary copy of an owned object is lost: the one at `node` must be kept now.
    virtual void KeepCopy(const base::ObjectId& id, const base::NodeId& node) = 0;
    // An owned object is gone for good (its task's lineage, an actor's last handle).
    virtual void OwnedObjectGone(const base::ObjectId& id) = 0;
  };

  // `actions` outlives the table.
  explicit ObjectTable(Actions* actions) : actions_(actions) {}

  // -- owner's side
  Entry& AddOwned(const base::ObjectId& id);  // pending, no counts; requires that it is new
  void AddBorrower(const base::ObjectId& id, const base::WorkerId& borrower, uint32_t count);
  void RemoveBorrower(const base::ObjectId& id, const base::WorkerId& borrower, uint32_t count);
  void BorrowerGone(const base::WorkerId& borrower);

  // -- both
  Entry* Find(const base::ObjectId& id);
  // A reference arrived here (unpickled, or inside a value). `owner` null or self means owned.
  // Returns the entry, new or not; the caller adds its count.
  Entry& FindOrAddReference(const base::ObjectId& id, const AddressPtr& owner);
  void AddLocal(const base::ObjectId& id, const AddressPtr& owner);
  void RemoveLocal(const base::ObjectId& id);
  void Pin(const base::ObjectId& id, const AddressPtr& owner);
  void Unpin(const base::ObjectId& id);

  // The value of `id` contains these references; they live as long as it does. `registered_by` is
  // the process that has already registered this one with the owner, if it is the owner (REF-1).
  void SetContains(const base::ObjectId& id, std::vector<ContainedObject> contains,
                   const base::WorkerId& registered_by);

  // First value wins: a second one (a retried task's) is ignored.
  void SetInline(const base::ObjectId& id, BufferPtr value);
  void SetInStore(const base::ObjectId& id, const base::NodeId& node, uint64_t size_bytes);

  // -- copies in the store
  // One more node has it. Harmless for what is not in the store.
  void AddCopy(const base::ObjectId& id, const base::NodeId& node);
  // The copy at that node is the primary one now; the former one may still be there. False: the
  // object is not in the store.
  bool MovePrimary(const base::ObjectId& id, const base::NodeId& node);
  // Strikes nodes out. False: none is left, and the object is pending again.
  bool DropCopies(const base::ObjectId& id, const std::vector<base::NodeId>& nodes);
  // Strikes a dead node out everywhere. Returns the owned objects that have no copy left and are
  // pending again.
  std::vector<base::ObjectId> NodeGone(const base::NodeId& node);
  // A task in the lineage needs it, or does not any more. Only of owned objects.
  void PinLineage(const base::ObjectId& id);
  void UnpinLineage(const base::ObjectId& id);

  // Runs `ready` when the object has a value (at once if it has one). Starts a fetch for a borrowed
  // one, and the recovery of a released one.
  void WhenReady(const base::ObjectId& id, absl::AnyInvocable<void()> ready);
  // The same, but `ready` also runs if EndWaits comes first. It does not call the table.
  void WhenReadyOrEnded(const base::ObjectId& id, absl::AnyInvocable<void()> ready);
  void EndWaits();
  void EnsureFetch(const base::ObjectId& id, Entry& entry);

  // Borrows with counts that the owner does not know of. RegisterUnregistered asks for all of them.
  void RegisterUnregistered();
  bool registrations_under_way() const { return registering_ > 0; }
  void OnBorrowRegistered(const base::ObjectId& id, bool known_to_owner);

  uint64_t ready_count() const { return ready_count_; }  // grows whenever an object becomes ready
  size_t size() const { return entries_.size(); }
  // Some other process borrows an object of this one: the object would die with this process.
  bool AnyBorrowedByOthers() const;
  void ForEach(absl::FunctionRef<void(const base::ObjectId&, const Entry&)> visit) const;

  // Of the stores, for what only the lineage holds and nothing can compute again.
  void set_kept_bytes_max(uint64_t bytes) { kept_ = KeptValues(bytes); }
  void set_self(const base::WorkerId& self) { self_ = self; }
  // REF-2 etc.; for tests and simulation.
  void CheckInvariants() const;

 private:
  void MaybeRemove(const base::ObjectId& id);
  void AddWaiter(const base::ObjectId& id, Waiter waiter);
  void RunWaiters(Entry& entry);
  void FreeCopies(const base::ObjectId& id, const Entry& entry);
  static bool IsReferenced(const Entry& entry);
  void LeaveToLineage(const base::ObjectId& id, Entry& entry,
                      std::vector<base::ObjectId>* candidates);
  void ReleaseValue(const base::ObjectId& id, Entry& entry,
                    std::vector<base::ObjectId>* candidates);
  void ReleaseContained(const std::vector<ContainedObject>& contains,
                        std::vector<base::ObjectId>* candidates);
  void FlushReleases();

  Actions* const actions_;
  base::WorkerId self_;
  absl::flat_hash_map<base::ObjectId, std::unique_ptr<Entry>> entries_;
  KeptValues kept_{UINT64_MAX};
  absl::flat_hash_set<base::ObjectId> unregistered_;  // borrowed, registrations + registering == 0
  struct Release {
    base::ObjectId id;
    AddressPtr owner;
    uint32_t registrations;
  };
  std::vector<Release> held_releases_;  // wait for registrations under way (REF-2)
  uint32_t registering_ = 0;
  uint64_t ready_count_ = 0;
};

// A reference that somebody holds, and that `local` counts: its entry stays where it is for as long
// as that is so, and need be looked up once only.
struct HeldReference {
  const base::ObjectId id;
  ObjectTable::Entry* entry = nullptr;  // null: not looked up yet. Guarded like the table.
};

}  // namespace ray::core
