#include "ray/store/parallel_copy.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "ray/base/check.h"

namespace ray::store {
namespace {

// Below this a plain copy is as fast, and leaves the value in the cache for a reader.
constexpr uint64_t kStreamMinBytes = 1 << 20;
// Mapped and then copied at a time; also what threads' shares are rounded to.
constexpr uint64_t kStepBytes = 2 << 20;

#if defined(__SSE2__)
// Read ahead of what is copied. The processor's own prefetching ends with each page.
constexpr uint64_t kPrefetchBytes = 2048;

// Copies with stores that bypass the cache: 1.5 to 2 times as fast as memcpy for values larger than
// it.
void StreamCopy(std::byte* to, const std::byte* from, uint64_t size) {
  constexpr uint64_t kLine = 64;
  uint64_t head = std::min(size, (kLine - reinterpret_cast<uintptr_t>(to) % kLine) % kLine);
  std::memcpy(to, from, head);
  uint64_t at = head;
  for (; at + kLine <= size; at += kLine) {
    // May lie behind the end: a prefetch never faults.
    _mm_prefetch(reinterpret_cast<const char*>(from) + at + kPrefetchBytes, _MM_HINT_NTA);
    auto* source = reinterpret_cast<const __m128i*>(from + at);
    auto* target = reinterpret_cast<__m128i*>(to + at);
    __m128i a = _mm_loadu_si128(source);
    __m128i b = _mm_loadu_si128(source + 1);
    __m128i c = _mm_loadu_si128(source + 2);
    __m128i d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
  // Streaming stores are weakly ordered: without the fence, Seal could overtake them.
  _mm_sfence();
  std::memcpy(to + at, from + at, size - at);
}
#else
void StreamCopy(std::byte* to, const std::byte* from, uint64_t size) {
  std::memcpy(to, from, size);
}
#endif

void CopyLarge(const SharedMemory& memory, Extent to, const std::byte* from) {
  for (uint64_t done = 0; done < to.size;) {
    uint64_t at = to.offset + done;
    uint64_t step = std::min(to.size - done, kStepBytes - at % kStepBytes);
    memory.PrepareWrite({at, step});
    StreamCopy(memory.At(at), from + done, step);
    done += step;
  }
}

}  // namespace

CopyOptions CopyOptions::FromConfig(const base::Config& config) {
  return {.threads = static_cast<int>(std::clamp<int64_t>(config.put_copy_threads, 1, 64)),
          .parallel_min_bytes =
              static_cast<uint64_t>(std::max<int64_t>(config.put_parallel_copy_min_bytes, 1))};
}

void CopyInto(const SharedMemory& memory, uint64_t to_offset, const void* from, uint64_t size_bytes,
              const CopyOptions& options) {
  Extent to{to_offset, size_bytes};
  MANTA_CHECK(memory.Contains(to));
  const auto* source = static_cast<const std::byte*>(from);
  if (size_bytes < kStreamMinBytes) {
    if (size_bytes > 0) std::memcpy(memory.At(to_offset), source, size_bytes);
    return;
  }
  int threads = size_bytes < options.parallel_min_bytes ? 1 : std::max(options.threads, 1);
  uint64_t share = (size_bytes / threads / kStepBytes + 1) * kStepBytes;
  std::vector<std::thread> helpers;
  uint64_t at = 0;
  for (; at + share < size_bytes; at += share) {
    try {
      helpers.emplace_back([&memory, to_offset, source, at, share] {
        CopyLarge(memory, {to_offset + at, share}, source + at);
      });
    } catch (const std::system_error&) {
      break;  // no thread to be had: the rest is copied here
    }
  }
  CopyLarge(memory, {to_offset + at, size_bytes - at}, source + at);
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace ray::store
