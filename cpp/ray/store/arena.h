// Hands out blocks of a byte range and takes them back. Knows offsets only; layout:
// docs/object_store.md.
//
// Best fit, first among free bytes whose pages are warm (present): the first write to a fresh page
// costs about 20 times one to a warm page. Where no warm run is large enough, best fit among all
// free runs. Blocks are cut from the low end, so that what was ever touched stays together.
//
// Owner: ObjectTable. Threads: thread-compatible.
// Errors: nullopt = no free run is large enough now; nothing has changed.
// O(log n) in the number of free runs, plus the warm runs that one allocation covers.
//
//   ARENA-1  blocks are aligned to kAlignment, lie inside the range and never overlap.
//   ARENA-2  allocated_bytes() + free_bytes() == capacity_bytes().
//   ARENA-3  warm free bytes are free bytes.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "ray/store/extent.h"
#include "ray/store/extent_set.h"

namespace ray::store {

class Arena {
 public:
  static constexpr uint64_t kAlignment = 64;

  // Bytes beyond a multiple of kAlignment are not used.
  explicit Arena(uint64_t capacity_bytes);

  // What a block of this size takes.
  static constexpr uint64_t RoundUp(uint64_t size_bytes) {
    return (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  // Requires size_bytes > 0. The extent's size is RoundUp(size_bytes).
  std::optional<Extent> Allocate(uint64_t size_bytes);
  // Takes the block at `offset` back; its pages are warm now, since it was written.
  void Free(uint64_t offset);

  // The pages of `extent` are present. A hint about bytes that may be in use again.
  void MarkWarm(Extent extent);
  // Allocates up to max_bytes of warm free memory, from the high end, to return its pages to the
  // system.
  std::optional<Extent> TakeWarm(uint64_t max_bytes);
  // Takes a block of TakeWarm back, cold.
  void FreeCold(uint64_t offset);

  uint64_t capacity_bytes() const { return capacity_bytes_; }
  uint64_t allocated_bytes() const { return capacity_bytes_ - free_.bytes(); }
  uint64_t free_bytes() const { return free_.bytes(); }
  uint64_t warm_free_bytes() const { return warm_.bytes(); }
  uint64_t largest_free_bytes() const { return free_.LargestBytes(); }

  // O(n log n).
  void CheckInvariants() const;

 private:
  void Claim(Extent block);
  Extent TakeBack(uint64_t offset);

  const uint64_t capacity_bytes_;
  ExtentSet free_;
  ExtentSet warm_;                                     // the part of free_ that is present
  absl::flat_hash_map<uint64_t, uint64_t> allocated_;  // offset -> size of each block in use
};

}  // namespace ray::store
