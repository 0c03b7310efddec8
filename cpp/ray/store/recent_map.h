// Remembers what was said of the last so many keys: a bounded memory of things that are gone.
//
// Threads: thread-compatible. O(1) an operation. Errors: none.
//
//   RECENT-1  at most `keys_max` keys are remembered; the oldest is forgotten first.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace ray::store {

template <typename Key, typename Value>
class RecentMap {
 public:
  explicit RecentMap(size_t keys_max) : keys_max_(keys_max) {}

  // Keeps the older value of a key that is remembered. Returns the key that was forgotten for it,
  // if any.
  std::optional<Key> Add(const Key& key, Value value) {
    if (!values_.try_emplace(key, Entry{std::move(value), ++last_number_}).second) {
      return std::nullopt;
    }
    order_.emplace_back(key, last_number_);
    if (order_.size() <= keys_max_) return std::nullopt;
    auto [oldest, number] = order_.front();
    order_.pop_front();
    // A key that was erased, or erased and added again, left a stale place in the order.
    auto it = values_.find(oldest);
    if (it == values_.end() || it->second.number != number) return std::nullopt;
    values_.erase(it);
    return oldest;
  }

  bool Erase(const Key& key) { return values_.erase(key) > 0; }

  // Null: not remembered.
  const Value* Find(const Key& key) const {
    auto it = values_.find(key);
    return it == values_.end() ? nullptr : &it->second.value;
  }

 private:
  struct Entry {
    Value value;
    uint64_t number;
  };
  const size_t keys_max_;
  absl::flat_hash_map<Key, Entry> values_;  // at most keys_max_
  std::deque<std::pair<Key, uint64_t>>
      order_;  // at most keys_max_, oldest first; may name erased keys
  uint64_t last_number_ = 0;
};

}  // namespace ray::store
