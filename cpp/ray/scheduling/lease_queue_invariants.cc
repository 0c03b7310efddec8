// The invariants of the lease queue, checked.
#include <algorithm>

#include "ray/base/check.h"
#include "ray/scheduling/lease_queue.h"
#include "ray/scheduling/lease_queue_parts.h"

namespace ray::scheduling {

using base::FixedPoint;
using resources::NodeResources;
using resources::ResourceSet;

// LEASE-1 and what follows from it.
void LeaseQueue::CheckPools() const {
  std::vector<const Bundle*> bundles;
  for (const auto& [id, group] : groups_) {
    MANTA_CHECK(!group.empty());
    for (const auto& [index, bundle] : group) bundles.push_back(bundle.get());
  }
  for (const auto& bundle : draining_) {
    MANTA_CHECK(!bundle->leases.empty());
    bundles.push_back(bundle.get());
  }
  size_t leases = 0;
  ResourceSet for_long;
  auto check = [&](const Pool& pool, ResourceSet held) {
    pool.resources.CheckInvariants();
    held += pool.resources.available();
    for (const Lease* lease : pool.leases) {
      held += lease->allocation.quantities();
      held.Add(resources::kCpu, FixedPoint() - lease->lent_cpu);
      if (lease->IsActor() && &pool == node_.get()) for_long += lease->allocation.quantities();
    }
    MANTA_CHECK_MSG(held == pool.resources.total(), "LEASE-1");
    leases += pool.leases.size();
  };
  for (const Bundle* bundle : bundles) {
    for_long += bundle->reserved.quantities();
    check(*bundle, {});
  }
  check(*node_, for_long);
  MANTA_CHECK(leases == leases_.size());
  MANTA_CHECK(for_long == held_for_long_);
}

void LeaseQueue::CheckInvariants() const {
  CheckPools();
  size_t of_classes = 0;
  for (const auto& [id, lease] : leases_) {
    MANTA_CHECK(lease->pool->leases.contains(lease.get()));
    const bool has_worker = lease->state != LeaseState::kAwaitingWorker;
    MANTA_CHECK(lease->state != LeaseState::kEnded);
    MANTA_CHECK(has_worker == !lease->worker.IsNil());
    MANTA_CHECK(!has_worker || by_worker_.at(lease->worker) == lease.get());
    MANTA_CHECK(lease->lent_cpu.IsZero() || lease->state == LeaseState::kBlocked);
    if (lease->IsActor()) continue;
    ++of_classes;
    const RequestKey key{lease->in_class->key.client, lease->request_id};
    MANTA_CHECK(clients_.at(key.first).leases.contains(lease.get()));
    MANTA_CHECK(awaiting_.contains(key) == !has_worker);
    MANTA_CHECK(!queued_.contains(key) || has_worker);
  }

  size_t queued = 0;
  size_t leased = 0;
  size_t waiting = 0;
  for (const auto& [key, in_class] : classes_) {
    queued += in_class->queue.size();
    leased += in_class->leases;
    waiting += in_class->queue.empty() ? 0 : 1;
    MANTA_CHECK(!in_class->queue.empty() || in_class->leases > 0);
  }
  MANTA_CHECK(queued == queued_.size());
  MANTA_CHECK(leased == of_classes);
  // What is not in use is not kept.
  size_t of_shapes = 0;
  for (const auto& [key, shape] : shapes_) of_shapes += shape->classes;
  MANTA_CHECK(of_shapes == classes_.size() && shapes_.size() <= classes_.size());
  size_t of_clients = 0;
  for (const auto& [id, client] : clients_) {
    MANTA_CHECK(!client.classes.empty());
    of_clients += client.classes.size();
  }
  MANTA_CHECK(of_clients == classes_.size());

  const Shape* patient = PatientShape();
  for (const Shape* shape : waiting_shapes_) {
    waiting -= shape->ring.size();
    const auto pools = PoolsOf(shape->key.bundle);
    const bool fits = std::any_of(pools.begin(), pools.end(), [&](const Pool* pool) {
      NodeResources probe = pool->resources;
      return probe.Allocate(shape->key.resources).has_value();
    });
    MANTA_CHECK_MSG(!fits || IsHeldBack(*shape, patient), "LEASE-3");
  }
  MANTA_CHECK(waiting == 0);
}

}  // namespace ray::scheduling
