// Copies large values into the store with several threads.
//
// The threads are made for one copy and joined before it returns: no pool lives on that a fork
// would lose, and their start (tens of microseconds) is small against the time that the smallest
// parallel copy takes. Large copies bypass the cache (the value is larger than it, and whoever
// reads it runs elsewhere) and first let the kernel map in bulk the pages that this process has not
// used yet: a page fault each would cost more than the copy.
//
// Threads: thread-safe; free function. Blocks for the time of the copy.
// Errors: none; where no thread can be made, the calling thread copies alone.
#pragma once

#include <cstdint>

#include "ray/base/config.h"
#include "ray/store/shared_memory.h"

namespace ray::store {

struct CopyOptions {
  int threads = 2;  // including the calling one
  uint64_t parallel_min_bytes = 8 << 20;

  static CopyOptions FromConfig(const base::Config& config);
};

// Copies size_bytes from `from`, which does not overlap, to `to_offset` of the store's memory. The
// range must lie inside it and belong to the caller.
void CopyInto(const SharedMemory& memory, uint64_t to_offset, const void* from, uint64_t size_bytes,
              const CopyOptions& options);

}  // namespace ray::store
