// Where objects go when memory is short: the pluggable external storage of the object store. A file
// holds one or more objects that were written together and is removed as a whole.
//
// Owner: the raylet; outlives the ObjectStore that uses it.
// Threads: loop-bound; `done` runs once on the store's loop, never inside the call that took it.
// After the target is destroyed no `done` runs.
//
// Errors, given to `done`: kResourceExhausted = the storage is full; kDataLoss = what is stored is
// not what was written (truncated, changed, gone); others = the operation failed. The message names
// the storage and what to do.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "ray/store/extent.h"

namespace ray::store {

// Chosen by the ObjectStore, never reused.
enum class SpillFileId : uint64_t {};

class SpillTarget {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;
  virtual ~SpillTarget() = default;

  // Writes the bytes of each piece as file `file`. The pieces stay unchanged until `done`. A failed
  // write leaves no file behind.
  virtual void Write(SpillFileId file, std::vector<Extent> pieces, Done done) = 0;

  // Reads the piece at `index` (of Write's pieces) back into `into`, which has its size.
  virtual void Read(SpillFileId file, uint32_t index, Extent into, Done done) = 0;

  // The file is not needed any more. Reads asked for before still complete.
  virtual void Remove(SpillFileId file) = 0;
};

}  // namespace ray::store
