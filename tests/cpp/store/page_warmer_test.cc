#include "ray/store/page_warmer.h"

#include <sys/stat.h>

#include <cstring>
#include <optional>
#include <vector>

#include "gtest/gtest.h"
#include "ray/store/extent_set.h"
#include "tests/cpp/store/posted_functions.h"

namespace ray::store {
namespace {

constexpr uint64_t kMiB = 1 << 20;

uint64_t PresentBytes(const SharedMemory& memory) {
  struct stat file;
  EXPECT_EQ(fstat(memory.fd(), &file), 0);
  return static_cast<uint64_t>(file.st_blocks) * 512;
}

TEST(PageWarmer, TouchesTheFirstBytesAndReportsThem) {
  auto memory = SharedMemory::Create(64 * kMiB);
  ASSERT_TRUE(memory.ok());
  std::memset((*memory)->At(kMiB), 3, kMiB);
  PostedFunctions loop;
  ExtentSet warm;
  PageWarmer warmer(memory->get(), 10 * kMiB, loop.Post(),
                    [&](Extent extent) { warm.Insert(extent); });
  ASSERT_TRUE(loop.RunUntil([&] { return warm.bytes() == 10 * kMiB; }));
  EXPECT_TRUE(warm.ContainsWhole({0, 10 * kMiB}));
  EXPECT_EQ(PresentBytes(**memory), 10 * kMiB);
  EXPECT_EQ(std::to_integer<int>(*(*memory)->At(2 * kMiB - 1)), 3);  // WARM-1
}

TEST(PageWarmer, TouchesNoMoreThanThereIs) {
  auto memory = SharedMemory::Create(3 * kMiB);
  ASSERT_TRUE(memory.ok());
  PostedFunctions loop;
  ExtentSet warm;
  PageWarmer warmer(memory->get(), 100 * kMiB, loop.Post(),
                    [&](Extent extent) { warm.Insert(extent); });
  EXPECT_TRUE(loop.RunUntil([&] { return warm.bytes() == 3 * kMiB; }));
}

TEST(PageWarmer, ReturnsPagesAndSaysWhen) {
  auto memory = SharedMemory::Create(16 * kMiB);
  ASSERT_TRUE(memory.ok());
  std::memset((*memory)->At(0), 1, 16 * kMiB);
  PostedFunctions loop;
  PageWarmer warmer(memory->get(), 0, loop.Post(), [](Extent) { FAIL(); });
  bool done = false;
  warmer.ReturnPages({4096, 8 * kMiB}, [&] { done = true; });
  ASSERT_TRUE(loop.RunUntil([&] { return done; }));
  EXPECT_EQ(PresentBytes(**memory), 8 * kMiB);
}

TEST(PageWarmer, StopsAtOnceAndRunsNothingAfterDestruction) {
  auto memory = SharedMemory::Create(uint64_t{4} << 30);
  ASSERT_TRUE(memory.ok());
  PostedFunctions loop;
  bool alive = true;
  {
    PageWarmer warmer(memory->get(), uint64_t{4} << 30, loop.Post(),
                      [&](Extent) { EXPECT_TRUE(alive); });
    warmer.ReturnPages({0, 4096}, [&] { EXPECT_TRUE(alive); });
  }
  alive = false;
  loop.RunAll();
  EXPECT_LT(PresentBytes(**memory), uint64_t{1} << 30);  // WARM-2: long before the end
}

}  // namespace
}  // namespace ray::store
