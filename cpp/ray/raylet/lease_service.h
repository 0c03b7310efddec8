// Lease frames: between clients and the lease queue.
//
// Owner: Raylet.   Threads: loop-bound.
// Frames: REQUEST_LEASE, CANCEL_LEASE, RETURN_LEASE, WORKER_BLOCKED in; RECLAIM_LEASES,
// TASK_PENDING_WARNING out.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "ray/accelerators/node_accelerators.h"
#include "ray/base/clock.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/deadline_timer.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/node_identity.h"
#include "ray/raylet/worker_pool.h"
#include "ray/scheduling/lease_queue.h"

namespace ray::raylet {

class LeaseService final : private scheduling::LeaseQueue::Actions {
 public:
  struct Events {
    // The resources in use may have changed.
    std::function<void()> on_change;
    // A request names a group that has no bundle here.
    std::function<void(const base::PlacementGroupId&)> on_group_missing;
  };

  // All pointers outlive the service.
  LeaseService(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
               const ClientRegistry* clients, WorkerPool* pool, const NodeIdentity* identity,
               scheduling::LeaseQueue::Options options, resources::NodeResources resources,
               const accelerators::NodeAccelerators* accelerators, Events events);

  void WorkerReady(const base::LeaseId& lease, const base::WorkerId& worker);
  // The lease waits for a worker that nothing can become: its request is refused.
  void EnvironmentFailed(const base::LeaseId& lease, const std::string& why);
  // The group is gone for good, or never was: what waits for it is refused.
  void GroupRemoved(const base::PlacementGroupId& group);
  // A connection closed: its requests and leases, and the lease or actor of which it was the
  // worker, end.
  void ClientGone(const Client& client);

  scheduling::LeaseQueue& queue() { return queue_; }
  const scheduling::LeaseQueue& queue() const { return queue_; }

 private:
  using RequestKey = std::pair<scheduling::ClientId, uint64_t>;

  absl::Status OnRequest(Client& client, const wire::v1::RequestLease& message,
                         const Responder& responder);
  absl::Status OnCancel(Client& client, const wire::v1::CancelLease& message);
  absl::Status OnReturn(Client& client, const wire::v1::ReturnLease& message);
  void Answer(const RequestKey& request, const wire::v1::RequestLeaseReply& reply);
  void Changed();

  std::optional<base::WorkerId> AcquireWorker(const base::LeaseId& lease, const base::JobId& job,
                                              const std::string& env_hash) override;
  void AbandonWorker(const base::LeaseId& lease) override;
  void ReleaseWorker(const base::WorkerId& worker, scheduling::WorkerAfter after) override;
  void GrantLease(const scheduling::LeaseGrant& grant) override;
  void RefuseLease(scheduling::ClientId client, uint64_t request_id) override;
  void GiveUp(scheduling::ClientId client, uint64_t request_id, const std::string& why) override;
  void ReclaimLeases(scheduling::ClientId client) override;
  void Warn(const scheduling::LeaseWarning& warning) override;

  const ClientRegistry* const clients_;
  WorkerPool* const pool_;
  const NodeIdentity* const identity_;
  const accelerators::NodeAccelerators* const accelerators_;
  const Events events_;
  struct Open {
    Responder responder;
    EnvironmentHandle environment;
  };
  absl::flat_hash_map<RequestKey, Open> open_;  // requests without an answer
  scheduling::LeaseQueue queue_;
  DeadlineTimer timer_;
};

}  // namespace ray::raylet
