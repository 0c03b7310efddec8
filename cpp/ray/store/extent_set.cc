#include "ray/store/extent_set.h"

#include <algorithm>
#include <iterator>

#include "ray/base/check.h"

namespace ray::store {

ExtentSet::ByOffset::const_iterator ExtentSet::FirstEndingFrom(uint64_t offset) const {
  auto next = by_offset_.upper_bound(offset);
  if (next == by_offset_.begin()) return next;
  auto previous = std::prev(next);
  return previous->first + previous->second >= offset ? previous : next;
}

void ExtentSet::Add(Extent extent) {
  by_offset_.emplace(extent.offset, extent.size);
  by_size_.emplace(extent.size, extent.offset);
  bytes_ += extent.size;
}

ExtentSet::ByOffset::iterator ExtentSet::Erase(ByOffset::const_iterator member) {
  by_size_.erase({member->second, member->first});
  bytes_ -= member->second;
  return by_offset_.erase(member);
}

void ExtentSet::Insert(Extent extent) {
  if (extent.size == 0) return;
  uint64_t begin = extent.offset;
  uint64_t end = extent.end();
  for (auto it = FirstEndingFrom(begin); it != by_offset_.end() && it->first <= end;) {
    begin = std::min(begin, it->first);
    end = std::max(end, it->first + it->second);
    it = Erase(it);
  }
  Add({begin, end - begin});
}

void ExtentSet::Remove(Extent extent) {
  for (auto it = FirstEndingFrom(extent.offset + 1);
       it != by_offset_.end() && it->first < extent.end();) {
    Extent member{it->first, it->second};
    Erase(it);
    if (member.offset < extent.offset) Add({member.offset, extent.offset - member.offset});
    if (member.end() > extent.end()) {
      Add({extent.end(), member.end() - extent.end()});
      return;
    }
    it = by_offset_.lower_bound(member.end());
  }
}

std::optional<Extent> ExtentSet::SmallestFit(uint64_t size) const {
  auto it = by_size_.lower_bound({size, 0});
  if (it == by_size_.end()) return std::nullopt;
  return Extent{it->second, it->first};
}

std::optional<Extent> ExtentSet::Last() const {
  if (by_offset_.empty()) return std::nullopt;
  auto it = std::prev(by_offset_.end());
  return Extent{it->first, it->second};
}

uint64_t ExtentSet::LargestBytes() const {
  return by_size_.empty() ? 0 : std::prev(by_size_.end())->first;
}

bool ExtentSet::ContainsWhole(Extent extent) const {
  auto it = FirstEndingFrom(extent.offset + 1);
  return it != by_offset_.end() && it->first <= extent.offset &&
         it->first + it->second >= extent.end();
}

void ExtentSet::ForEachWithin(Extent extent, absl::FunctionRef<void(Extent)> visit) const {
  for (auto it = FirstEndingFrom(extent.offset + 1);
       it != by_offset_.end() && it->first < extent.end(); ++it) {
    uint64_t begin = std::max(extent.offset, it->first);
    visit({begin, std::min(extent.end(), it->first + it->second) - begin});
  }
}

void ExtentSet::CheckInvariants() const {
  uint64_t sum = 0;
  uint64_t previous_end = 0;
  for (const auto& [offset, size] : by_offset_) {
    MANTA_CHECK_MSG(size > 0, "EXTENTS-1");
    MANTA_CHECK_MSG(sum == 0 || offset > previous_end, "EXTENTS-1");
    MANTA_CHECK_MSG(by_size_.contains({size, offset}), "EXTENTS-2");
    previous_end = offset + size;
    sum += size;
  }
  MANTA_CHECK_MSG(by_size_.size() == by_offset_.size() && sum == bytes_, "EXTENTS-2");
}

}  // namespace ray::store
