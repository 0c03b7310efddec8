#include "ray/transfer/push_table.h"

#include <algorithm>

#include "ray/base/check.h"

namespace ray::transfer {

using base::NodeId;
using base::ObjectId;

PushTable::Verdict PushTable::Begin(const NodeId& node, const ObjectId& id, PushKind kind) {
  absl::btree_set<NodeId>& nodes = by_object_[id];
  if (nodes.contains(node)) return {};
  Verdict verdict;
  verdict.granted = nodes.size() < GrantsMax(kind);
  if (verdict.granted) {
    nodes.insert(node);
    by_node_[node].insert(id);
    ++grants_;
  } else {
    if (const std::vector<NodeId>* askers = askers_.Find(id); askers != nullptr) {
      verdict.other_nodes.assign(askers->rbegin(), askers->rend());
      std::erase(verdict.other_nodes, node);
    }
    for (const NodeId& fetching : nodes) {
      if (std::ranges::find(verdict.other_nodes, fetching) == verdict.other_nodes.end()) {
        verdict.other_nodes.push_back(fetching);
      }
    }
  }
  Remember(node, id, true);
  return verdict;
}

size_t PushTable::GrantsMax(PushKind kind) const {
  switch (kind) {
    case PushKind::kSmall:
      return fanout_max_;
    case PushKind::kLarge:
      return 1;
    case PushKind::kResumed:
      break;
  }
  return SIZE_MAX;
}

void PushTable::Remember(const NodeId& node, const ObjectId& id, bool asks) {
  std::vector<NodeId> askers;
  if (const std::vector<NodeId>* before = askers_.Find(id); before != nullptr) askers = *before;
  const bool known = std::ranges::find(askers, node) != askers.end();
  if (known == asks) return;
  if (asks) {
    // Who was sent away asks again: that must not push out those that have it by now.
    if (askers.size() >= kAskersRemembered) askers.erase(askers.begin());
    askers.push_back(node);
  } else {
    std::erase(askers, node);
  }
  askers_.Erase(id);
  if (!askers.empty()) askers_.Add(id, std::move(askers));
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
  Remember(node, id, fetched);
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
    MANTA_CHECK_MSG(!nodes.empty(), "PUSH-1");
    for (const NodeId& node : nodes) MANTA_CHECK_MSG(by_node_.at(node).contains(id), "PUSH-1");
    grants += nodes.size();
  }
  size_t by_node = 0;
  for (const auto& [node, ids] : by_node_) by_node += ids.size();
  MANTA_CHECK_MSG(grants == grants_ && by_node == grants_, "PUSH-1");
}

}  // namespace ray::transfer
