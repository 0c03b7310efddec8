// The checksum by which a spill target tells that what it reads is what it wrote.
// Threads: thread-compatible value. Stable within the process, which is as long as anybody can ask.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"

namespace ray::store {

// Extended by the bytes in order; how they are cut matters: in steps of kStepBytes, the last may be
// shorter.
class Checksum {
 public:
  static constexpr uint64_t kStepBytes = 1 << 20;

  static Checksum Of(const std::byte* bytes, uint64_t size) {
    Checksum checksum;
    for (uint64_t at = 0; at < size; at += kStepBytes) {
      checksum.Extend(bytes + at, std::min(size - at, kStepBytes));
    }
    return checksum;
  }
  void Extend(const std::byte* step, uint64_t size) {
    value_ = absl::HashOf(value_, absl::string_view(reinterpret_cast<const char*>(step), size));
  }
  friend bool operator==(const Checksum&, const Checksum&) = default;

 private:
  uint64_t value_ = 0;
};

}  // namespace ray::store
