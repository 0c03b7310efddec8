#include "ray/transfer/grant_table.h"

#include <algorithm>

namespace ray::transfer {

using base::NodeId;
using base::ObjectId;
using store::Extent;

bool GrantTable::Grant::Allows(Extent part) const {
  const uint64_t here =
      available_bytes == nullptr ? extent.size : std::min(available_bytes->load(), extent.size);
  return part.offset <= here && part.size <= here - part.offset;
}

void GrantTable::Add(const NodeId& node, const ObjectId& id, std::shared_ptr<const Grant> grant) {
  // What was there before ends after the lock: with the argument.
  absl::MutexLock lock(&mutex_);
  grants_[{node, id}].swap(grant);
}

void GrantTable::Remove(const NodeId& node, const ObjectId& id) {
  std::shared_ptr<const Grant> removed;  // ends after the lock
  absl::MutexLock lock(&mutex_);
  if (auto it = grants_.find({node, id}); it != grants_.end()) {
    removed = std::move(it->second);
    grants_.erase(it);
  }
}

std::shared_ptr<const GrantTable::Grant> GrantTable::Find(const NodeId& node,
                                                          const ObjectId& id) const {
  absl::MutexLock lock(&mutex_);
  auto it = grants_.find({node, id});
  return it == grants_.end() ? nullptr : it->second;
}

}  // namespace ray::transfer
