// A range of bytes of the arena. Offsets, never pointers: each process maps the arena elsewhere.
// Threads: immutable value.
#pragma once

#include <cstdint>

namespace ray::store {

struct Extent {
  uint64_t offset = 0;
  uint64_t size = 0;

  constexpr uint64_t end() const { return offset + size; }
  friend constexpr bool operator==(const Extent&, const Extent&) = default;
};

}  // namespace ray::store
