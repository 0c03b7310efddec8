#include "ray/store/parallel_copy.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

namespace ray::store {
namespace {

constexpr uint64_t kMiB = 1 << 20;

std::vector<unsigned char> DistinctBytes(size_t size) {
  std::vector<unsigned char> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<unsigned char>(i ^ (i >> 8) ^ (i >> 16));
  return bytes;
}

// Sizes around every threshold, at places that are not aligned to anything.
class ParallelCopy : public testing::TestWithParam<std::tuple<uint64_t, uint64_t, int>> {};

TEST_P(ParallelCopy, CopiesExactlyTheRange) {
  auto [size, offset, threads] = GetParam();
  auto memory = SharedMemory::Create(32 * kMiB);
  ASSERT_TRUE(memory.ok());
  uint64_t before = std::min<uint64_t>(offset, 64);
  std::memset((*memory)->At(offset - before), 0x5a, before);
  std::memset((*memory)->At(offset + size), 0x5a, 64);
  std::vector<unsigned char> source = DistinctBytes(size + 3);
  CopyInto(**memory, offset, source.data() + 3, size,
           {.threads = threads, .parallel_min_bytes = 4 * kMiB});
  EXPECT_EQ(std::memcmp((*memory)->At(offset), source.data() + 3, size), 0);
  auto* bytes = reinterpret_cast<unsigned char*>((*memory)->At(0));
  for (uint64_t i = 1; i <= before; ++i) ASSERT_EQ(bytes[offset - i], 0x5a);
  for (uint64_t i = 0; i < 64; ++i) ASSERT_EQ(bytes[offset + size + i], 0x5a);
}

INSTANTIATE_TEST_SUITE_P(SizesAndPlaces, ParallelCopy,
                         testing::Combine(testing::Values(0, 1, 63, 4096, kMiB - 1, kMiB, kMiB + 65,
                                                          2 * kMiB, 4 * kMiB, 7 * kMiB + 13,
                                                          16 * kMiB),
                                          testing::Values(0, 64, 2 * kMiB - 64, 1001),
                                          testing::Values(1, 2, 5)));

TEST(ParallelCopyOptions, ClampsNonsenseFromTheFlags) {
  base::Config config;
  config.put_copy_threads = -3;
  config.put_parallel_copy_min_bytes = 0;
  CopyOptions options = CopyOptions::FromConfig(config);
  EXPECT_EQ(options.threads, 1);
  EXPECT_EQ(options.parallel_min_bytes, 1u);
}

}  // namespace
}  // namespace ray::store
