#include "ray/transfer/push_table.h"

#include <algorithm>

#include "ray/base/check.h"

namespace ray::transfer {

using base::NodeId;
using base::ObjectId;

PushTable::Verdict PushTable::Begin(const NodeId& node, const ObjectId& id) {
  absl::btree_set<NodeId>& nodes = by_object_[id];
  if (nodes.contains(node)) return {};
  if (nodes.size() < fanout_max_) {
    nodes.insert(node);
    by_node_[node].insert(id);
    ++grants_;
    return {.granted = true};
  }
  Verdict verdict;
  if (const std::vector<NodeId>* copies = copies_.Find(id); copies != nullptr) {
    verdict.other_nodes.assign(copies->rbegin(), copies->rend());
    std::erase(verdict.other_nodes, node);
  }
  return verdict;
}

bool PushTable::IsGranted(const NodeId& node, const ObjectId& id) const {
  auto nodes = by_object_.find(id);
  return nodes != by_object_.end() && nodes->second.contains(node);
}

bool PushTable::End(const NodeId& node, const ObjectId& id, bool fetched) {
  auto nodes = by_object_.find(id);
  if (nodes == by_object_.end() || nodes->second.erase(node) == 0) return false;
  if (nodes->second.empty()) by_object_.erase(nodes);
  auto objects = by_node_.find(node);
  objects->second.erase(id);
  if (objects->second.empty()) by_node_.erase(objects);
  --grants_;
  if (!fetched) return true;
  std::vector<NodeId> copies;
  if (const std::vector<NodeId>* before = copies_.Find(id); before != nullptr) copies = *before;
  std::erase(copies, node);
  if (copies.size() >= kCopiesRemembered) copies.erase(copies.begin());
  copies.push_back(node);
  copies_.Erase(id);
  copies_.Add(id, std::move(copies));
  return true;
}

std::vector<ObjectId> PushTable::Disconnected(const NodeId& node) {
  auto objects = by_node_.find(node);
  if (objects == by_node_.end()) return {};
  const std::vector<ObjectId> ids(objects->second.begin(), objects->second.end());
  for (const ObjectId& id : ids) End(node, id, false);
  return ids;
}

void PushTable::CheckInvariants() const {
  size_t grants = 0;
  for (const auto& [id, nodes] : by_object_) {
    MANTA_CHECK_MSG(!nodes.empty() && nodes.size() <= fanout_max_, "PUSH-1");
    for (const NodeId& node : nodes) MANTA_CHECK_MSG(by_node_.at(node).contains(id), "PUSH-1");
    grants += nodes.size();
  }
  size_t by_node = 0;
  for (const auto& [node, ids] : by_node_) by_node += ids.size();
  MANTA_CHECK_MSG(grants == grants_ && by_node == grants_, "PUSH-1");
}

}  // namespace ray::transfer
