// The values in the stores that are kept for the lineage alone: arguments of tasks that may run
// again, which nothing could compute again (a put; the result of a task without retries). Together
// at most `bytes_max`; beyond that the oldest are let go. Sans-I/O.
//
// An object that somebody refers to again stays in here until it goes, or its turn comes.
//
// Threads: thread-compatible; the object table's owner.   Errors: none.
#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"

namespace ray::core {

class KeptValues {
 public:
  explicit KeptValues(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  // Returns those that are let go for it, maybe this one. Harmless for one that is kept already.
  std::vector<base::ObjectId> Add(const base::ObjectId& id, uint64_t bytes);
  void Remove(const base::ObjectId& id);

  uint64_t bytes() const { return bytes_; }

 private:
  struct Kept {
    uint64_t bytes;
    std::list<base::ObjectId>::iterator age;
  };

  uint64_t bytes_max_;
  uint64_t bytes_ = 0;
  absl::flat_hash_map<base::ObjectId, Kept> kept_;
  std::list<base::ObjectId> by_age_;  // oldest first
};

}  // namespace ray::core
