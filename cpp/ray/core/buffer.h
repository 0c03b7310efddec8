// An immutable block of bytes, 64-byte aligned so that arrays inside it are too. Shared by
// reference count. Threads: immutable once published.
#pragma once

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

  explicit Buffer(size_t size) : size_(size) {
    size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
    data_ =
        static_cast<uint8_t*>(std::aligned_alloc(kAlignment, rounded == 0 ? kAlignment : rounded));
    MANTA_CHECK(data_ != nullptr);
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  static std::shared_ptr<const Buffer> Copy(std::string_view bytes) {
    auto buffer = std::make_shared<Buffer>(bytes.size());
    if (!bytes.empty()) std::memcpy(buffer->data_, bytes.data(), bytes.size());
    return buffer;
  }

  uint8_t* mutable_data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view view() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  uint8_t* data_;
  const size_t size_;
};

using BufferPtr = std::shared_ptr<const Buffer>;

}  // namespace ray::core
