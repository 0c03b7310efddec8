// How the object store gives memory back to the system: it lends an extent that no object uses, and
// gets it back cold.
#pragma once

#include "absl/functional/any_invocable.h"
#include "ray/store/extent.h"

namespace ray::store {

// Owner: the raylet; outlives the ObjectStore. Threads: loop-bound; `done` runs once on the store's
// loop, never inside the call. After destruction no `done` runs.
class PageReturner {
 public:
  virtual ~PageReturner() = default;
  virtual void ReturnPages(Extent extent, absl::AnyInvocable<void()> done) = 0;
};

}  // namespace ray::store
