#include "ray/core/kept_values.h"

namespace ray::core {

using base::ObjectId;

std::vector<ObjectId> KeptValues::Add(const ObjectId& id, uint64_t bytes) {
  auto [it, inserted] = kept_.try_emplace(id);
  if (!inserted) return {};
  it->second = {bytes, by_age_.insert(by_age_.end(), id)};
  bytes_ += bytes;
  std::vector<ObjectId> let_go;
  while (bytes_ > bytes_max_) {
    let_go.push_back(by_age_.front());
    Remove(let_go.back());
  }
  return let_go;
}

void KeptValues::Remove(const ObjectId& id) {
  if (kept_.empty()) return;
  auto it = kept_.find(id);
  if (it == kept_.end()) return;
  bytes_ -= it->second.bytes;
  by_age_.erase(it->second.age);
  kept_.erase(it);
}

}  // namespace ray::core
