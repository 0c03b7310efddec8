// What a router says of its requests: demands, why one waits, why one is refused.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/scheduling/infeasibility.h"
#include "ray/scheduling/lease_router_parts.h"
#include "ray/scheduling/strategy.h"

namespace ray::scheduling {

using base::NodeId;
using resources::ResourceSet;

// The node that it names has had no room for too long.
void LeaseRouter::GiveUpWaiting(Entry* entry) {
  switch (entry->place) {
    case Entry::Place::kQueue:
      if (!Withdraw(entry)) return;
      break;
    case Entry::Place::kAsked:
    case Entry::Place::kWaitingThere:
      return CancelThere(entry, Then::kRefuse);
    case Entry::Place::kNowhere:
    case Entry::Place::kHeld:
      break;
  }
  Refuse(entry, WhyUnavailable(entry->in_class->key));
}

// Only the oldest is warned of: what waits behind it waits for the same.
void LeaseRouter::WarnAndGiveUp(Class* in_class) {
  const absl::Time now = clock_->Now();
  while (!in_class->held.empty()) {
    Entry* oldest = in_class->held.begin()->second;
    const bool infeasible = IsInfeasible(in_class->key);
    if (infeasible && now - oldest->since >= options_.infeasible_timeout) {
      Refuse(oldest, ExplainHeld(*oldest));
      continue;
    }
    if (now - oldest->since < options_.warn_after || in_class->warned == oldest->sequence) return;
    in_class->warned = oldest->sequence;
    return actions_->Warn({oldest->key.first, oldest->key.second, oldest->ask.task_name, infeasible,
                           ExplainHeld(*oldest)});
  }
}

bool LeaseRouter::IsInfeasible(const ClassKey& key) {
  if (key.bundle.IsNode()) return !chooser_.IsFeasible(key.needs);
  auto group = groups_.find(key.bundle.group);
  if (group == groups_.end() || group->second.bundles.empty()) return false;
  const std::vector<Group::Place>& bundles = group->second.bundles;
  return std::none_of(bundles.begin(), bundles.end(), [&](const Group::Place& place) {
    return key.needs.resources.FitsIn(place.resources);
  });
}

std::optional<std::pair<NodeId, uint64_t>> LeaseRouter::WaitsAt(ClientId client,
                                                                uint64_t request_id) const {
  auto found = requests_.find({client, request_id});
  if (found == requests_.end() || found->second->forward_id == 0) return std::nullopt;
  return std::make_pair(found->second->node, found->second->forward_id);
}

std::string LeaseRouter::Explain(ClientId client, uint64_t request_id) {
  auto found = requests_.find({client, request_id});
  if (found == requests_.end() || found->second->place != Entry::Place::kHeld) {
    return queue_->Explain(client, request_id);
  }
  return ExplainHeld(*found->second);
}

std::string LeaseRouter::ExplainHeld(const Entry& entry) {
  const ClassKey& key = entry.in_class->key;
  const bool infeasible = IsInfeasible(key);
  if (!key.bundle.IsNode()) {
    return infeasible ? ExplainSmallBundles(entry.ask.task_name, key.bundle.group, key.needs)
                      : ExplainUnplacedGroup(entry.ask.task_name, key.bundle.group);
  }
  if (infeasible) return ExplainInfeasible(entry.ask.task_name, key.needs, view_);
  return absl::StrCat("The task ", entry.ask.task_name, " waits for ",
                      key.needs.resources.ToString(),
                      ": all nodes that could run it are in use, or cannot be reached. It runs "
                      "once other tasks and actors give enough back.");
}

std::vector<wire::v1::Demand> LeaseRouter::Demands(size_t kinds_max) {
  struct Waiting {
    uint64_t count = 0;
    const Entry* oldest = nullptr;
    bool infeasible = false;
  };
  absl::flat_hash_map<const Class*, uint64_t> starting;  // has its resources, waits for a worker
  for (const RequestKey& key : queue_->AwaitingWorkers()) {
    auto found = requests_.find(key);
    if (found != requests_.end()) ++starting[found->second->in_class];
  }
  std::vector<ResourceSet> order;
  absl::flat_hash_map<ResourceSet, Waiting> by_resources;
  for (const auto& [number, in_class] : classes_) {
    if (!in_class->key.bundle.IsNode()) continue;
    uint64_t count = in_class->held.size() + in_class->queued.size() + in_class->there.size();
    const Entry* oldest = NextToMove(*in_class);
    if (auto gone = starting.find(in_class.get()); gone != starting.end()) {
      count -= std::min(count, gone->second);
    }
    if (count == 0) continue;
    const ResourceSet& resources = in_class->key.needs.resources;
    if (!by_resources.contains(resources)) {
      if (order.size() == kinds_max) continue;
      order.push_back(resources);
    }
    Waiting& waiting = by_resources[resources];
    waiting.count += std::max<uint64_t>(count, in_class->backlog);
    waiting.infeasible |= IsInfeasible(in_class->key);
    if (waiting.oldest == nullptr || oldest->sequence < waiting.oldest->sequence) {
      waiting.oldest = oldest;
    }
  }
  std::vector<wire::v1::Demand> demands;
  for (const ResourceSet& resources : order) {
    const Waiting& waiting = by_resources.at(resources);
    wire::v1::Demand& demand = demands.emplace_back();
    *demand.mutable_resources() = resources.ToWire();
    demand.set_count(waiting.count);
    demand.set_infeasible(waiting.infeasible);
    demand.set_reason(ReasonOf(*waiting.oldest));
  }
  return demands;
}

std::string LeaseRouter::ReasonOf(const Entry& entry) {
  if (entry.place == Entry::Place::kHeld) return ExplainHeld(entry);
  if (entry.place == Entry::Place::kQueue)
    return queue_->Explain(entry.key.first, entry.key.second);
  return absl::StrCat("The task ", entry.ask.task_name, " waits for ",
                      entry.ask.resources.ToString(), " at node ", entry.node.Hex(), ".");
}

std::string LeaseRouter::WhyRefused(const ClassKey& key) const {
  const std::string start =
      absl::StrCat("its NodeAffinitySchedulingStrategy with soft=False names the node ",
                   key.affinity.node.Hex());
  const ClusterView::Node* node = view_.Find(key.affinity.node);
  if (node == nullptr) {
    return absl::StrCat(start,
                        ", which is not in the cluster. Name a node of ray.nodes() that is "
                        "alive, or pass soft=True.");
  }
  if (node->draining) {
    return absl::StrCat(start,
                        ", which is being drained: nothing new is placed there. Name another "
                        "node, or pass soft=True.");
  }
  return absl::StrCat(start, ", which can never hold the ", key.needs.resources.ToString(),
                      " that it asks for: it has ", node->total.ToString(),
                      " in total. Name another node, ask for less, or pass soft=True.");
}

std::string LeaseRouter::WhyUnavailable(const ClassKey& key) {
  return absl::StrCat(
      "its NodeAffinitySchedulingStrategy with _fail_on_unavailable=True names the "
      "node ",
      key.affinity.node.Hex(), ", which does not have the ", key.needs.resources.ToString(),
      " that it asks for free now. Try again when other tasks and actors there "
      "have ended, or wait for it without _fail_on_unavailable.");
}

}  // namespace ray::scheduling
