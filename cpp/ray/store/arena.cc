#include "ray/store/arena.h"

#include <algorithm>

#include "ray/base/check.h"

namespace ray::store {

Arena::Arena(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes / kAlignment * kAlignment) {
  free_.Insert({0, capacity_bytes_});
}

std::optional<Extent> Arena::Allocate(uint64_t size_bytes) {
  MANTA_CHECK(size_bytes > 0);
  if (size_bytes > capacity_bytes_) return std::nullopt;
  uint64_t size = RoundUp(size_bytes);
  std::optional<Extent> run = warm_.SmallestFit(size);
  if (!run) run = free_.SmallestFit(size);
  if (!run) return std::nullopt;
  Extent block{run->offset, size};
  Claim(block);
  return block;
}

void Arena::Free(uint64_t offset) {
  Extent block = TakeBack(offset);
  warm_.Insert(block);
}

void Arena::MarkWarm(Extent extent) {
  free_.ForEachWithin(extent, [this](Extent part) { warm_.Insert(part); });
}

std::optional<Extent> Arena::TakeWarm(uint64_t max_bytes) {
  std::optional<Extent> run = warm_.Last();
  if (!run) return std::nullopt;
  uint64_t size = std::min(run->size, std::max(max_bytes / kAlignment * kAlignment, kAlignment));
  Extent block{run->end() - size, size};
  Claim(block);
  return block;
}

void Arena::FreeCold(uint64_t offset) { TakeBack(offset); }

void Arena::Claim(Extent block) {
  free_.Remove(block);
  warm_.Remove(block);
  allocated_.emplace(block.offset, block.size);
}

Extent Arena::TakeBack(uint64_t offset) {
  auto it = allocated_.find(offset);
  MANTA_CHECK_MSG(it != allocated_.end(), "no block begins here");
  Extent block{offset, it->second};
  allocated_.erase(it);
  free_.Insert(block);
  return block;
}

void Arena::CheckInvariants() const {
  free_.CheckInvariants();
  warm_.CheckInvariants();
  warm_.ForEachWithin({0, capacity_bytes_},
                      [this](Extent run) { MANTA_CHECK_MSG(free_.ContainsWhole(run), "ARENA-3"); });
  ExtentSet all = free_;
  uint64_t allocated = 0;
  for (const auto& [offset, size] : allocated_) {
    MANTA_CHECK_MSG(offset % kAlignment == 0 && size % kAlignment == 0, "ARENA-1");
    allocated += size;
    all.Insert({offset, size});
  }
  // Blocks that overlapped each other or free bytes would leave the sum too small.
  MANTA_CHECK_MSG(all.bytes() == capacity_bytes_ && all.LargestBytes() == capacity_bytes_,
                  "ARENA-1");
  MANTA_CHECK_MSG(allocated == allocated_bytes(), "ARENA-2");
}

}  // namespace ray::store
