// The numbers under which a peer knows task templates of this process. There are `numbers_max` of
// them; then the template that was announced longest ago gives its number to a new one, and is
// announced again if it is needed again. Frames to a peer stay in order, so what it was sent under
// a number before means the template of that time.
//
// Threads: thread-compatible. O(1).
//   TEMPLATES-1  at most numbers_max templates have a number, and no two the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace ray::core {

class SentTemplates {
 public:
  // A receiver refuses larger ones, so that no peer can fill its memory.
  static constexpr uint32_t kNumbersMax = 1000;

  explicit SentTemplates(uint32_t numbers_max = kNumbersMax) : numbers_max_(numbers_max) {}

  struct Number {
    uint32_t number = 0;  // 1 to numbers_max
    bool is_new = false;  // the peer has to be told
  };
  Number Of(uint64_t uid) {
    if (auto it = numbers_.find(uid); it != numbers_.end()) return {it->second, false};
    if (uids_.size() < numbers_max_) {
      uids_.push_back(uid);
      numbers_[uid] = static_cast<uint32_t>(uids_.size());
    } else {
      numbers_.erase(uids_[oldest_]);
      uids_[oldest_] = uid;
      numbers_[uid] = static_cast<uint32_t>(oldest_ + 1);
      oldest_ = (oldest_ + 1) % numbers_max_;
    }
    return {numbers_[uid], true};
  }

  size_t size() const { return numbers_.size(); }

 private:
  const uint32_t numbers_max_;
  absl::flat_hash_map<uint64_t, uint32_t> numbers_;  // by uid
  std::vector<uint64_t> uids_;                       // of number - 1
  size_t oldest_ = 0;                                // in uids_, once that is full
};

}  // namespace ray::core
