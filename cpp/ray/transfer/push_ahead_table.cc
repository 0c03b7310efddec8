#include "ray/transfer/push_ahead_table.h"

#include "ray/base/check.h"

namespace ray::transfer {

using base::NodeId;
using base::ObjectId;

bool PushAheadTable::Begin(const NodeId& node, const ObjectId& id, uint64_t size_bytes) {
  if (size_bytes == 0 || size_bytes > options_.object_bytes_max) return false;
  if (sent_.Find({node, id}) != nullptr) return false;
  auto way = on_their_way_.find(node);
  const uint64_t before = way == on_their_way_.end() ? 0 : way->second;
  if (before + size_bytes > options_.node_bytes_max) return false;
  on_their_way_[node] = before + size_bytes;
  sent_.Add({node, id}, true);
  return true;
}

void PushAheadTable::End(const NodeId& node, uint64_t size_bytes) {
  auto way = on_their_way_.find(node);
  MANTA_CHECK(way != on_their_way_.end() && way->second >= size_bytes);
  way->second -= size_bytes;
  if (way->second == 0) on_their_way_.erase(way);
}

uint64_t PushAheadTable::bytes_on_their_way() const {
  uint64_t bytes = 0;
  for (const auto& [node, on_their_way] : on_their_way_) bytes += on_their_way;
  return bytes;
}

}  // namespace ray::transfer
