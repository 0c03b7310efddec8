#include "ray/store/arena.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace ray::store {
namespace {

constexpr uint64_t kMiB = 1 << 20;

TEST(Arena, AlignsAndAccountsBlocks) {
  Arena arena(1000);  // 15 x 64 usable
  EXPECT_EQ(arena.capacity_bytes(), 960u);
  auto first = arena.Allocate(1);
  auto second = arena.Allocate(65);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(*first, (Extent{0, 64}));
  EXPECT_EQ(*second, (Extent{64, 128}));
  EXPECT_EQ(arena.allocated_bytes(), 192u);
  EXPECT_EQ(arena.allocated_bytes() + arena.free_bytes(), arena.capacity_bytes());
  arena.CheckInvariants();
}

TEST(Arena, RefusesWhatDoesNotFitAndChangesNothing) {
  Arena arena(kMiB);
  EXPECT_FALSE(arena.Allocate(kMiB + 1));
  EXPECT_FALSE(arena.Allocate(UINT64_MAX));
  EXPECT_EQ(arena.free_bytes(), kMiB);
  EXPECT_TRUE(arena.Allocate(kMiB));
  EXPECT_FALSE(arena.Allocate(1));
}

TEST(Arena, CoalescesNeighboursOnBothSides) {
  Arena arena(3 * 64);
  uint64_t a = arena.Allocate(64)->offset;
  uint64_t b = arena.Allocate(64)->offset;
  uint64_t c = arena.Allocate(64)->offset;
  arena.Free(a);
  arena.Free(c);
  EXPECT_EQ(arena.largest_free_bytes(), 64u);
  arena.Free(b);
  EXPECT_EQ(arena.largest_free_bytes(), 3 * 64u);
  arena.CheckInvariants();
}

TEST(Arena, TakesTheSmallestRunThatFits) {
  Arena arena(kMiB);
  auto large = arena.Allocate(4096);
  auto wall = arena.Allocate(64);
  auto small = arena.Allocate(1024);
  auto wall2 = arena.Allocate(64);
  ASSERT_TRUE(large && wall && small && wall2);
  arena.Free(large->offset);
  arena.Free(small->offset);
  EXPECT_EQ(arena.Allocate(1000)->offset, small->offset);
}

TEST(Arena, PrefersWarmRunsToFreshOnesThatFitBetter) {
  Arena arena(kMiB);
  arena.MarkWarm({512 << 10, 128 << 10});
  EXPECT_EQ(arena.Allocate(64 << 10)->offset, 512u << 10);
  EXPECT_EQ(arena.warm_free_bytes(), 64u << 10);
  // Too large for what is warm: best fit among all free runs, behind and before the block.
  EXPECT_EQ(arena.Allocate(256 << 10)->offset, 576u << 10);
  EXPECT_EQ(arena.Allocate(256 << 10)->offset, 0u);
  arena.CheckInvariants();
}

TEST(Arena, ReusesTheBlockThatWasFreedLast) {
  Arena arena(64 * kMiB);
  auto block = arena.Allocate(8 * kMiB);
  arena.Free(block->offset);
  EXPECT_EQ(arena.warm_free_bytes(), 8 * kMiB);
  EXPECT_EQ(arena.Allocate(8 * kMiB)->offset, block->offset);
}

TEST(Arena, MarkWarmIgnoresBlocksInUse) {
  Arena arena(kMiB);
  auto block = arena.Allocate(4096);
  arena.MarkWarm({0, 8192});
  EXPECT_EQ(arena.warm_free_bytes(), 4096u);
  arena.CheckInvariants();
  arena.Free(block->offset);
  EXPECT_EQ(arena.warm_free_bytes(), 8192u);
}

TEST(Arena, LendsWarmMemoryFromTheHighEndAndTakesItBackCold) {
  Arena arena(kMiB);
  arena.MarkWarm({0, 64 << 10});
  auto lent = arena.TakeWarm(16 << 10);
  ASSERT_TRUE(lent);
  EXPECT_EQ(*lent, (Extent{48 << 10, 16 << 10}));
  EXPECT_EQ(arena.allocated_bytes(), 16u << 10);
  arena.FreeCold(lent->offset);
  EXPECT_EQ(arena.allocated_bytes(), 0u);
  EXPECT_EQ(arena.warm_free_bytes(), 48u << 10);
  EXPECT_FALSE(Arena(kMiB).TakeWarm(4096));
  arena.CheckInvariants();
}

TEST(ArenaDeathTest, AbortsOnADoubleFree) {
  Arena arena(kMiB);
  uint64_t offset = arena.Allocate(64)->offset;
  arena.Free(offset);
  EXPECT_DEATH(arena.Free(offset), "no block begins here");
}

// Random operations against a model that knows the owner of every 64 bytes.
class ArenaProperty : public testing::TestWithParam<uint32_t> {};

TEST_P(ArenaProperty, BlocksNeverOverlapAndAllBytesComeBack) {
  constexpr uint64_t kUnits = 1024;
  std::mt19937 random(GetParam());
  Arena arena(kUnits * Arena::kAlignment);
  std::vector<int> owner(kUnits, 0);
  std::vector<Extent> blocks;
  auto set_owner = [&](Extent block, int from, int to) {
    for (uint64_t unit = block.offset / 64; unit < block.end() / 64; ++unit) {
      ASSERT_EQ(owner[unit], from);
      owner[unit] = to;
    }
  };
  for (int step = 1; step <= 3000; ++step) {
    uint32_t dice = random() % 100;
    if (dice < 50) {
      uint64_t size = 1 + random() % (random() % 10 == 0 ? 20'000 : 500);
      if (auto block = arena.Allocate(size)) {
        set_owner(*block, 0, step);
        blocks.push_back(*block);
      } else {
        ASSERT_LT(arena.largest_free_bytes(), size);
      }
    } else if (dice < 90 && !blocks.empty()) {
      size_t index = random() % blocks.size();
      Extent block = blocks[index];
      blocks[index] = blocks.back();
      blocks.pop_back();
      set_owner(block, owner[block.offset / 64], 0);
      dice % 2 == 0 ? arena.Free(block.offset) : arena.FreeCold(block.offset);
    } else if (dice < 95) {
      uint64_t offset = random() % kUnits * 64;
      arena.MarkWarm({offset, std::min<uint64_t>(random() % 4096, kUnits * 64 - offset) / 64 * 64});
    } else if (auto lent = arena.TakeWarm(random() % 4096)) {
      set_owner(*lent, 0, step);
      blocks.push_back(*lent);
    }
    if (HasFatalFailure()) return;
    arena.CheckInvariants();
  }
  for (Extent block : blocks) arena.Free(block.offset);
  EXPECT_EQ(arena.largest_free_bytes(), arena.capacity_bytes());
  arena.CheckInvariants();
}

INSTANTIATE_TEST_SUITE_P(Seeds, ArenaProperty, testing::Range(1u, 9u));

}  // namespace
}  // namespace ray::store
