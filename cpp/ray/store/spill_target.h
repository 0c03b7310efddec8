// Where objects go when memory is short: the pluggable external storage of the object store. A file
// holds one or more objects that were written together, or one that never was in the store's memory
// and that clients map, and is removed as a whole.
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
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ray/store/extent.h"

namespace ray::store {

// Chosen by the ObjectStore, never reused.
enum class SpillFileId : uint64_t {};

// Where a process of this node finds an object's bytes if not in the store's memory.
struct MappedPlace {
  std::string path;     // can be opened while a client pins the object; then the mapping suffices
  uint64_t offset = 0;  // in that file; a multiple of the page size
};

class SpillTarget {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;
  using MapDone = absl::AnyInvocable<void(absl::StatusOr<MappedPlace>)>;
  virtual ~SpillTarget() = default;

  // Writes the bytes of each piece as file `file`. The pieces stay unchanged until `done`. A failed
  // write leaves no file behind.
  virtual void Write(SpillFileId file, std::vector<Extent> pieces, Done done) = 0;

  // Reads the piece at `index` (of Write's pieces) back into `into`, which has its size.
  virtual void Read(SpillFileId file, uint32_t index, Extent into, Done done) = 0;

  // Lets clients map the piece at `index` instead of reading it into memory. It is checked as Read
  // does. kUnimplemented: they have no access to the storage.
  virtual void Map(SpillFileId file, uint32_t index, MapDone done) = 0;

  // Makes a file of zeros for clients to map and fill: an object that the store's memory cannot
  // hold. Its blocks on disk are reserved, so that no access to the mapping can fail for want of
  // them. A failure leaves no file behind.
  virtual void Make(SpillFileId file, uint64_t size_bytes, MapDone done) = 0;

  // The file is not needed any more. Reads asked for before still complete, and
  // mappings of it stay valid.
  virtual void Remove(SpillFileId file) = 0;
};

}  // namespace ray::store
