// Requests for bundles: where the bundles of groups are, and rounds over all bundles of one.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/scheduling/lease_router_parts.h"
#include "ray/scheduling/strategy.h"

namespace ray::scheduling {

using base::NodeId;
using base::PlacementGroupId;
using resources::ResourceSet;
using wire::v1::RequestLeaseReply;

namespace {

// Between two rounds over the bundles of a group: first, and at most.
constexpr absl::Duration kRoundPause = absl::Milliseconds(50);
constexpr absl::Duration kRoundPauseMax = absl::Seconds(1);
// Groups that are remembered, though nothing waits for them.
constexpr size_t kGroupsMax = 1000;
// Between two questions where a group's bundles are.
constexpr absl::Duration kWatchPause = absl::Milliseconds(100);

}  // namespace

// Served requests for bundles that are not here any more are placed anew where they came from.
void LeaseRouter::SpillServed(const PlacementGroupId& group) {
  for (const auto& [key, bundle] : queue_->WaitingFor(group)) {
    if (requests_.contains(key) || queue_->HasCommitted(bundle)) continue;
    if (IsPlacedHere(bundle)) continue;
    if (queue_->Withdraw(key.first, key.second)) {
      actions_->Answer(key.first, key.second, ReplyOf(RequestLeaseReply::SPILLBACK));
    }
  }
}

// By what the GCS says, which may be ahead of what is committed.
bool LeaseRouter::IsPlacedHere(const BundleRef& bundle) const {
  auto group = groups_.find(bundle.group);
  if (group == groups_.end()) return true;  // nobody knows better
  const auto& bundles = group->second.bundles;
  if (bundles.empty()) return true;
  for (size_t i = 0; i < bundles.size(); ++i) {
    const bool is_meant = bundle.index == BundleRef::kAny || static_cast<size_t>(bundle.index) == i;
    if (is_meant && bundles[i].node == options_.self) return true;
  }
  return false;
}

void LeaseRouter::PlaceInGroup(Entry* entry) {
  const ClassKey& key = entry->in_class->key;
  const BundleRef& bundle = key.bundle;
  if (bundle.index == BundleRef::kAny) return PlaceInAnyBundle(entry);
  if (queue_->HasCommitted(bundle)) {
    Enqueue(entry);
    return;
  }
  const Group& group = groups_[bundle.group];
  const auto index = static_cast<size_t>(bundle.index);
  if (!group.bundles.empty() && index >= group.bundles.size()) {
    return Refuse(entry, absl::StrCat("its placement group ", bundle.group.Hex(), " has ",
                                      group.bundles.size(), " bundles, and it asks for bundle ",
                                      bundle.index, ", counted from 0. Ask for one of them."));
  }
  const NodeId node = group.bundles.empty() ? NodeId::Nil() : group.bundles[index].node;
  const ClusterView::Node* known = view_.Find(node);
  if (known != nullptr && known->reachable && node != options_.self) {
    return Send(entry, node, /*now_or_never=*/false);
  }
  Hold(entry);
  Watch(bundle.group);
}

// First every node with bundles of the group is asked once; then the request waits at one of them
// for a while, and so on.
void LeaseRouter::PlaceInAnyBundle(Entry* entry) {
  const BundleRef& bundle = entry->in_class->key.bundle;
  const std::vector<NodeId> nodes = NodesOf(bundle, entry->ask.resources);
  if (nodes.empty()) {
    const PlacementGroupId group = bundle.group;
    const bool never = IsInfeasible(entry->in_class->key);
    if (queue_->HasCommitted(bundle)) {
      Enqueue(entry);
    } else {
      Hold(entry);
    }
    if (!never) Watch(group);
    return;
  }
  while (nodes.size() > 1 && entry->tried < nodes.size()) {
    const NodeId& node = nodes[(entry->sequence + entry->tried++) % nodes.size()];
    if (node != options_.self) return Send(entry, node, /*now_or_never=*/true);
    if (!Enqueue(entry) || !Withdraw(entry)) return;
  }
  entry->tried = 0;
  const NodeId node = nodes[(entry->sequence + entry->turn++) % nodes.size()];
  if (nodes.size() > 1) {
    entry->pause = std::clamp(entry->pause * 2, kRoundPause, kRoundPauseMax);
    entry->round_at = clock_->Now() + entry->pause;
    rounds_.emplace(entry->round_at, entry->key);
  }
  if (node == options_.self) {
    Enqueue(entry);
  } else {
    Send(entry, node, /*now_or_never=*/false);
  }
}

// Those that hold a bundle of the group that is large enough, and can be asked.
std::vector<NodeId> LeaseRouter::NodesOf(const BundleRef& bundle,
                                         const ResourceSet& resources) const {
  std::vector<NodeId> nodes;
  auto group = groups_.find(bundle.group);
  if (group == groups_.end()) return nodes;
  for (const Group::Place& place : group->second.bundles) {
    const ClusterView::Node* node = view_.Find(place.node);
    if (node == nullptr || !node->reachable || !resources.FitsIn(place.resources)) continue;
    if (place.node == options_.self && !queue_->HasCommitted(bundle)) continue;
    if (std::find(nodes.begin(), nodes.end(), place.node) == nodes.end()) {
      nodes.push_back(place.node);
    }
  }
  return nodes;
}

void LeaseRouter::Watch(const PlacementGroupId& id) {
  Group& group = groups_[id];
  const absl::Time now = clock_->Now();
  if (group.watching || now - group.watched < kWatchPause) return;
  group.watching = true;
  group.watched = now;
  if (groups_.size() > kGroupsMax) ForgetUnusedGroups();
  actions_->WatchGroup(id);
}

void LeaseRouter::ForgetUnusedGroups() {
  absl::flat_hash_set<PlacementGroupId> used;
  for (const auto& [number, in_class] : classes_) used.insert(in_class->key.bundle.group);
  absl::erase_if(groups_, [&](const auto& entry) {
    return !entry.second.watching && !used.contains(entry.first);
  });
}

void LeaseRouter::GroupPlaced(const wire::v1::PlacementGroupInfo& info) {
  const absl::StatusOr<PlacementGroupId> id =
      PlacementGroupId::FromBinary(info.spec().placement_group_id());
  if (!id.ok()) return;
  Group& group = groups_[*id];
  group.watching = false;
  group.bundles.clear();
  for (const wire::v1::Bundle& bundle : info.spec().bundles()) {
    const absl::StatusOr<NodeId> node = NodeId::FromBinary(bundle.node_id());
    absl::StatusOr<ResourceSet> resources = ResourceSet::FromWire(bundle.resources());
    group.bundles.push_back({node.ok() ? *node : NodeId::Nil(),
                             resources.ok() ? *std::move(resources) : ResourceSet()});
  }
  SpillServed(*id);
  PlaceAgain(*id);
}

void LeaseRouter::BundlesChanged(const PlacementGroupId& group) {
  // What went from here may be elsewhere, or gone for good.
  if (auto known = groups_.find(group); known != groups_.end()) {
    std::vector<Group::Place>& bundles = known->second.bundles;
    for (size_t i = 0; i < bundles.size(); ++i) {
      const bool went =
          bundles[i].node == options_.self && !queue_->HasCommitted({group, static_cast<int>(i)});
      if (went) bundles[i].node = NodeId::Nil();
    }
  }
  PlaceAgain(group);
}

// Those of the group that wait here or in the own queue.
void LeaseRouter::PlaceAgain(const PlacementGroupId& group) {
  std::vector<RequestKey> waiting;
  for (const auto& [number, in_class] : classes_) {
    if (in_class->key.bundle.group != group) continue;
    for (const RequestKey& key : KeysOf(in_class->held)) waiting.push_back(key);
    for (const RequestKey& key : KeysOf(in_class->queued)) waiting.push_back(key);
  }
  PlaceAgain(waiting);
  // Served requests that wait for what is not here: perhaps it is elsewhere now.
  for (const auto& [key, bundle] : queue_->WaitingFor(group)) {
    if (!requests_.contains(key) && !queue_->HasCommitted(bundle)) return Watch(group);
  }
}

void LeaseRouter::GroupRemoved(const PlacementGroupId& group) {
  groups_.erase(group);
  std::vector<RequestKey> held;
  for (const auto& [number, in_class] : classes_) {
    if (in_class->key.bundle.group != group) continue;
    for (const RequestKey& key : KeysOf(in_class->held)) held.push_back(key);
  }
  for (const RequestKey& key : held) {
    Finish(requests_.at(key).get(), ReplyOf(RequestLeaseReply::GROUP_REMOVED));
  }
}

void LeaseRouter::NextRound(RequestKey key) {
  Entry* entry = requests_.at(key).get();
  rounds_.erase({entry->round_at, key});
  entry->round_at = absl::InfiniteFuture();
  if (entry->in_class->key.affinity.kind == Affinity::Kind::kFail) return GiveUpWaiting(entry);
  if (entry->place == Entry::Place::kQueue) {
    if (Withdraw(entry)) Place(entry);
  } else if (entry->place == Entry::Place::kWaitingThere) {
    CancelThere(entry, Then::kPlaceAgain);
  }
}

}  // namespace ray::scheduling
