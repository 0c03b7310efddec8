// An immutable block of bytes, 64-byte aligned so that arrays inside it are too. Shared by
// reference count. Threads: immutable once published.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "ray/base/check.h"

namespace ray::core {

class Buffer {
 public:
  static constexpr size_t kAlignment = 64;

  // Aligned within a plain block: aligned_alloc cuts each block out of a larger one, which takes
  // five times as long for the few bytes of most values and leaves fragments behind.
  explicit Buffer(size_t size)
      : block_(std::malloc(size + kAlignment - alignof(std::max_align_t))), size_(size) {
    MANTA_CHECK(block_ != nullptr);
  }
  ~Buffer() { std::free(block_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  static std::shared_ptr<const Buffer> Copy(std::string_view bytes) {
    auto buffer = std::make_shared<Buffer>(bytes.size());
    if (!bytes.empty()) std::memcpy(buffer->mutable_data(), bytes.data(), bytes.size());
    return buffer;
  }

  uint8_t* mutable_data() { return Aligned(); }
  const uint8_t* data() const { return Aligned(); }
  size_t size() const { return size_; }
  std::string_view view() const { return {reinterpret_cast<const char*>(data()), size_}; }

 private:
  uint8_t* Aligned() const {
    const auto address = reinterpret_cast<uintptr_t>(block_);
    return static_cast<uint8_t*>(block_) + (-address & (kAlignment - 1));
  }

  void* const block_;  // from malloc
  const size_t size_;
};

using BufferPtr = std::shared_ptr<const Buffer>;

}  // namespace ray::core
