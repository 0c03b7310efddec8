// The Get requests that wait: who waits for which objects, until when, and whose turn it is to have
// objects restored.
//
// An object is *resolved* when a Get need not wait for it: it is sealed here, or known to be gone.
// The store tells the queue of every change of that. A Get is *ready* once all its objects were
// resolved at one time; ready Gets stay ready. Those that need nothing restored are answered at
// once, the others in the order of their arrival.
//
// Owner: ObjectStore. Threads: thread-compatible. Errors: none.
// O(1) a Get that names the object, O(log n) to add or take a Get besides its ids.
//
//   GETS-1  unresolved of a Get that is not ready == its objects that are neither resolved nor
//           failed, > 0.
//   GETS-2  a waiting Get is found by its objects, client and deadline and, if ready, its turn.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "ray/base/ids.h"
#include "ray/store/object_store.h"

namespace ray::store {

// In the order of arrival.
using GetNumber = uint64_t;

struct WaitingGet {
  ClientId client{};
  std::vector<base::ObjectId> ids;  // as requested, perhaps repeated
  absl::Time deadline;
  ObjectStore::GetCallback callback;
  uint64_t unresolved = 0;  // of the distinct ids
  // Objects that it no longer waits for, and why.
  absl::flat_hash_map<base::ObjectId, GetReply::Entry> failed;
  bool ready() const { return unresolved == 0; }
};

class GetQueue {
 public:
  using IsResolved = absl::FunctionRef<bool(const base::ObjectId&)>;

  GetNumber Add(WaitingGet get, IsResolved is_resolved);
  WaitingGet Take(GetNumber number);
  std::vector<GetNumber> OfClient(ClientId client) const;
  bool Contains(GetNumber number) const { return gets_.contains(number); }
  const WaitingGet& Get(GetNumber number) const { return gets_.at(number); }

  // The object became resolved / is no longer.
  void OnResolved(const base::ObjectId& id);
  void OnUnresolved(const base::ObjectId& id);
  // The Gets that wait for the object now need not; `entry` says why.
  void Fail(const base::ObjectId& id, const GetReply::Entry& entry);

  // The Gets that became ready since the last call; some may have been taken.
  std::vector<GetNumber> TakeNewlyReady() { return std::exchange(newly_ready_, {}); }
  // The ready Get that came first.
  std::optional<GetNumber> FirstReady() const;
  // The Get whose deadline is next.
  std::optional<std::pair<absl::Time, GetNumber>> NextDeadline() const;

  size_t size() const { return gets_.size(); }
  void CheckInvariants(IsResolved is_resolved) const;

 private:
  void MarkReady(GetNumber number);

  absl::btree_map<GetNumber, WaitingGet> gets_;
  absl::flat_hash_map<base::ObjectId, absl::btree_set<GetNumber>> by_object_;  // no empty sets
  absl::flat_hash_map<ClientId, absl::btree_set<GetNumber>> by_client_;        // no empty sets
  absl::btree_set<std::pair<absl::Time, GetNumber>> by_deadline_;
  absl::btree_set<GetNumber> ready_;
  std::vector<GetNumber> newly_ready_;
  GetNumber last_number_ = 0;
};

}  // namespace ray::store
