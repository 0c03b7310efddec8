// A set of bytes as maximal extents, found by place and by size.
//
// Threads: thread-compatible. Errors: none; a broken precondition aborts. O(log n) a touched
// extent.
//
//   EXTENTS-1  members are not empty, do not overlap and do not touch.
//   EXTENTS-2  both indexes hold the same extents, and bytes() is the sum of their sizes.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/functional/function_ref.h"
#include "ray/store/extent.h"

namespace ray::store {

class ExtentSet {
 public:
  // Adds the bytes of `extent`; some may be in the set already.
  void Insert(Extent extent);
  // Takes the bytes of `extent` out; some may not be in the set.
  void Remove(Extent extent);

  // The smallest member of at least this size, the one at the lowest offset among equals.
  std::optional<Extent> SmallestFit(uint64_t size) const;
  // The member that ends highest.
  std::optional<Extent> Last() const;
  uint64_t LargestBytes() const;
  bool ContainsWhole(Extent extent) const;

  // The parts of `extent` that are in the set, in order of place.
  void ForEachWithin(Extent extent, absl::FunctionRef<void(Extent)> visit) const;

  uint64_t bytes() const { return bytes_; }
  bool empty() const { return by_offset_.empty(); }

  void CheckInvariants() const;

 private:
  using ByOffset = absl::btree_map<uint64_t, uint64_t>;  // offset -> size

  // The first member that ends at or behind `offset`.
  ByOffset::const_iterator FirstEndingFrom(uint64_t offset) const;
  void Add(Extent extent);
  ByOffset::iterator Erase(ByOffset::const_iterator member);

  ByOffset by_offset_;
  absl::btree_set<std::pair<uint64_t, uint64_t>> by_size_;  // (size, offset)
  uint64_t bytes_ = 0;
};

}  // namespace ray::store
