// Bundles of placement groups in the lease queue.
#include <utility>

#include "ray/scheduling/lease_queue.h"
#include "ray/scheduling/lease_queue_parts.h"

namespace ray::scheduling {

using base::PlacementGroupId;
using resources::ResourceAllocation;
using resources::ResourceSet;

bool LeaseQueue::PrepareBundles(const PlacementGroupId& group,
                                const std::vector<std::pair<uint32_t, ResourceSet>>& bundles) {
  Group& held = groups_[group];
  std::vector<std::pair<uint32_t, ResourceAllocation>> taken;
  for (const auto& [index, quantities] : bundles) {
    if (held.contains(index)) continue;
    std::optional<ResourceAllocation> allocation = node_->resources.Allocate(quantities);
    if (!allocation.has_value()) {
      for (auto& [prepared, back] : taken) node_->resources.Release(&back);
      if (held.empty()) groups_.erase(group);
      return false;
    }
    taken.emplace_back(index, *std::move(allocation));
  }
  for (auto& [index, allocation] : taken) {
    held_for_long_ += allocation.quantities();
    held.emplace(index, std::make_unique<Bundle>(std::move(allocation)));
  }
  return true;
}

void LeaseQueue::CommitBundles(const PlacementGroupId& group,
                               const std::vector<uint32_t>& indices) {
  auto held = groups_.find(group);
  if (held == groups_.end()) return;
  for (uint32_t index : indices) {
    if (auto bundle = held->second.find(index); bundle != held->second.end()) {
      bundle->second->committed = true;
    }
  }
  Schedule();
}

void LeaseQueue::ReturnBundles(const PlacementGroupId& group,
                               const std::vector<uint32_t>& indices) {
  auto held = groups_.find(group);
  if (held == groups_.end()) return;
  Group returned;
  if (indices.empty()) {
    returned = std::move(held->second);
    held->second.clear();
  }
  for (uint32_t index : indices) {
    if (auto bundle = held->second.extract(index); !bundle.empty()) {
      returned.insert(std::move(bundle));
    }
  }
  if (held->second.empty()) groups_.erase(held);
  for (auto& [index, bundle] : returned) ReturnBundle(std::move(bundle));
  Schedule();
}

void LeaseQueue::ReturnBundle(std::unique_ptr<Bundle> bundle) {
  Bundle* raw = bundle.get();
  draining_.push_back(std::move(bundle));
  const std::vector<Lease*> leases(raw->leases.begin(), raw->leases.end());
  for (Lease* lease : leases) {
    if (lease->IsActor()) continue;
    if (lease->state == LeaseState::kAwaitingWorker) Requeue(*lease);
    EndLease(lease, WorkerAfter::kKill);
  }
  if (leases.empty()) ReleaseIfDrained(raw);
}

// What was not granted yet waits again.
void LeaseQueue::Requeue(const Lease& lease) {
  Class* in_class = lease.in_class;
  LeaseRequest request;
  request.client = in_class->key.client;
  request.request_id = lease.request_id;
  request.task_name = lease.name;
  request.retriable = lease.retriable;
  Enqueue(in_class, std::move(request));
}

// Gives a returned bundle back to the node once nobody holds anything of it.
void LeaseQueue::ReleaseIfDrained(Pool* pool) {
  if (!pool->leases.empty()) return;
  auto drained = std::find_if(draining_.begin(), draining_.end(),
                              [&](const auto& bundle) { return bundle.get() == pool; });
  if (drained == draining_.end()) return;
  held_for_long_ -= (*drained)->reserved.quantities();
  node_->resources.Release(&(*drained)->reserved);
  draining_.erase(drained);
}

void LeaseQueue::RemoveGroup(const PlacementGroupId& group) {
  ReturnBundles(group, {});
  RefuseRequestsFor(group);
}

void LeaseQueue::RefuseRequestsFor(const PlacementGroupId& group) {
  std::vector<Class*> refused;
  for (const auto& [key, in_class] : classes_) {
    if (key.shape.bundle.group == group && !in_class->queue.empty())
      refused.push_back(in_class.get());
  }
  for (Class* in_class : refused) {
    const ClientId client = in_class->key.client;
    while (!in_class->queue.empty()) {
      const uint64_t request_id = in_class->queue.front().request_id;
      Unqueue(in_class->queue.begin(), in_class);
      actions_->RefuseLease(client, request_id);
    }
    RemoveIfUnused(in_class);
  }
}

bool LeaseQueue::HasCommitted(const PlacementGroupId& group) const {
  return HasCommitted({group, BundleRef::kAny});
}

bool LeaseQueue::HasCommitted(const BundleRef& bundle) const { return !PoolsOf(bundle).empty(); }

std::vector<HeldBundles> LeaseQueue::Bundles() const {
  std::vector<HeldBundles> all;
  for (const auto& [id, group] : groups_) {
    HeldBundles& held = all.emplace_back(HeldBundles{id, {}});
    for (const auto& [index, bundle] : group) held.indices.push_back(index);
  }
  return all;
}

}  // namespace ray::scheduling
