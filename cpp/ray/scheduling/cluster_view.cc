#include "ray/scheduling/cluster_view.h"

#include <algorithm>

namespace ray::scheduling {

using base::NodeId;
using resources::ResourceSet;

namespace {

// An index that is further behind is faster made anew.
constexpr size_t kLogPerNode = 2;
constexpr size_t kLogMin = 256;

}  // namespace

ClusterView::Node* ClusterView::Get(const NodeId& id) {
  auto seat = seats_of_.find(id);
  return seat == seats_of_.end() ? nullptr : &nodes_[seat->second];
}

const ClusterView::Node* ClusterView::Find(const NodeId& id) const {
  auto seat = seats_of_.find(id);
  return seat == seats_of_.end() ? nullptr : &nodes_[seat->second];
}

void ClusterView::ForEach(absl::FunctionRef<void(const Node&)> visit) const {
  for (const Node& node : nodes_) {
    if (!node.id.IsNil()) visit(node);
  }
}

void ClusterView::Update(const NodeId& id, ResourceSet total, ResourceSet available, Labels labels,
                         bool draining) {
  auto [it, is_new] = seats_of_.try_emplace(id, 0);
  if (is_new) {
    if (free_seats_.empty()) {
      free_seats_.push_back(seats());
      nodes_.emplace_back();
    }
    it->second = free_seats_.back();
    free_seats_.pop_back();
    nodes_[it->second].id = id;
  }
  Node& node = nodes_[it->second];
  const bool same =
      node.total == total && node.labels == labels && node.draining == draining && !is_new;
  if (!same) {
    node.total = std::move(total);
    node.labels = std::move(labels);
    node.draining = draining;
    node.character = ++last_character_;
  }
  node.reported = available;
  node.available = std::move(available);
  ++node.heard;
  Recount(&node);
  ++gains_;
}

void ClusterView::BelieveReport(const NodeId& id) {
  if (Node* node = Get(id); node != nullptr) SetAvailable(id, node->reported);
  ++gains_;
}

void ClusterView::SetAvailable(const NodeId& id, ResourceSet available) {
  Node* node = Get(id);
  if (node == nullptr || node->available == available) return;
  node->available = std::move(available);
  ++node->heard;
  Recount(node);
}

void ClusterView::SetReachable(const NodeId& id, bool reachable) {
  Node* node = Get(id);
  if (node == nullptr || node->reachable == reachable) return;
  node->reachable = reachable;
  node->character = ++last_character_;
  ++gains_;
  Changed(node);
}

void ClusterView::SetDraining(const NodeId& id) {
  Node* node = Get(id);
  if (node == nullptr || node->draining) return;
  node->draining = true;
  node->character = ++last_character_;
  Changed(node);
}

void ClusterView::Remove(const NodeId& id) {
  auto found = seats_of_.find(id);
  if (found == seats_of_.end()) return;
  const Seat seat = found->second;
  seats_of_.erase(found);
  nodes_[seat] = Node();
  nodes_[seat].character = ++last_character_;
  free_seats_.push_back(seat);
  ++gains_;
  Changed(&nodes_[seat]);
}

void ClusterView::Sent(const NodeId& id, uint64_t ticket, const ResourceSet& quantities) {
  Node* node = Get(id);
  if (node == nullptr) return;
  node->under_way.emplace_back(ticket, quantities);
  node->room -= quantities;
  Changed(node);
}

bool ClusterView::Answered(const NodeId& id, uint64_t ticket, ResourceSet available) {
  Node* node = Get(id);
  if (node == nullptr) return false;
  while (!node->under_way.empty() && node->under_way.front().first <= ticket) {
    node->under_way.pop_front();
  }
  node->available = std::move(available);
  ++node->heard;
  RecountAndCompare(node);
  return node->available != node->reported;
}

void ClusterView::Dropped(const NodeId& id, uint64_t ticket) {
  Node* node = Get(id);
  if (node == nullptr) return;
  auto& all = node->under_way;
  auto found = std::lower_bound(all.begin(), all.end(), ticket,
                                [](const auto& sent, uint64_t t) { return sent.first < t; });
  if (found == all.end() || found->first != ticket) return;
  all.erase(found);
  RecountAndCompare(node);
}

void ClusterView::Reserve(const NodeId& id, const ResourceSet& quantities) {
  Node* node = Get(id);
  if (node == nullptr) return;
  node->reserved += quantities;
  Recount(node);
}

void ClusterView::Unreserve(const NodeId& id, const ResourceSet& quantities) {
  Node* node = Get(id);
  if (node == nullptr) return;
  node->reserved -= quantities;
  RecountAndCompare(node);
}

void ClusterView::RecountAndCompare(Node* node) {
  const ResourceSet before = node->room;
  Recount(node);
  if (!node->room.FitsIn(before)) ++gains_;
}

void ClusterView::Recount(Node* node) {
  node->room = node->available;
  node->room -= node->reserved;
  for (const auto& [ticket, quantities] : node->under_way) node->room -= quantities;
  Changed(node);
}

void ClusterView::Changed(Node* node) {
  log_.push_back(static_cast<Seat>(node - nodes_.data()));
  if (log_.size() <= std::max(kLogMin, kLogPerNode * nodes_.size())) return;
  log_.pop_front();
  ++log_begin_;
}

}  // namespace ray::scheduling
