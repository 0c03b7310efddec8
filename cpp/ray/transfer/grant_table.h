// What other nodes may read here.
// Owner: TransferService.   Threads: thread-safe.   Errors: none.
#pragma once

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "ray/base/ids.h"
#include "ray/net/endpoint.h"
#include "ray/store/extent.h"
#include "ray/transfer/offer_table.h"

namespace ray::transfer {

class GrantTable {
 public:
  // What is granted. `unused` runs once it was removed and all that was sent of it acknowledged, on
  // whichever thread that is.
  struct Grant {
    store::Extent extent;
    net::UniqueFd file = {};  // where the extent lies, if not in the store's memory
    OfferTable::AvailableBytes available_bytes = nullptr;  // of a copy in the making; null: all
    absl::AnyInvocable<void()> unused;
    ~Grant() { unused(); }
    bool Allows(store::Extent part) const;
  };
  void Add(const base::NodeId& node, const base::ObjectId& id, std::shared_ptr<const Grant> grant);
  void Remove(const base::NodeId& node, const base::ObjectId& id);

  // Null: not granted. What it names stays while the pointer is held.
  std::shared_ptr<const Grant> Find(const base::NodeId& node, const base::ObjectId& id) const;

 private:
  using Key = std::pair<base::NodeId, base::ObjectId>;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<Key, std::shared_ptr<const Grant>> grants_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ray::transfer
