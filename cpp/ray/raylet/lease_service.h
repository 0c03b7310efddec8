// Lease frames: between clients, the router of requests, the lease queue, and other raylets.
//
// What a process of this node asks for goes where the router says. What another raylet asks for is
// for the own queue. What an other raylet says of a lease or request there is passed on to whom it
// concerns.
//
// Owner: Raylet.   Threads: loop-bound.
// Frames: REQUEST_LEASE, CANCEL_LEASE, RETURN_LEASE, EXPLAIN_LEASE, WORKER_BLOCKED in;
// RECLAIM_LEASES, TASK_PENDING_WARNING out. Between raylets all but WORKER_BLOCKED, both ways.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "ray/accelerators/node_accelerators.h"
#include "ray/base/clock.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/deadline_timer.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/node_peers.h"
#include "ray/raylet/worker_pool.h"
#include "ray/scheduling/lease_queue.h"
#include "ray/scheduling/lease_router.h"

namespace ray::raylet {

class LeaseService final : private scheduling::LeaseQueue::Actions,
                           private scheduling::LeaseRouter::Actions {
 public:
  struct Options {
    scheduling::LeaseQueue::Options queue;
    scheduling::LeaseRouter::Options router;
    resources::NodeResources resources;
  };
  struct Events {
    // The resources in use may have changed.
    std::function<void()> on_change;
    // It must be known where the bundles of a group are: GroupPlaced or GroupRemoved follows.
    std::function<void(const base::PlacementGroupId&)> on_group_unknown;
  };

  // All pointers outlive the service.
  LeaseService(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
               const ClientRegistry* clients, NodePeers* peers, WorkerPool* pool,
               const accelerators::NodeAccelerators* accelerators, Options options, Events events);

  void WorkerReady(const base::LeaseId& lease, const base::WorkerId& worker);
  // The lease waits for a worker that nothing can become: its request is refused.
  void EnvironmentFailed(const base::LeaseId& lease, const std::string& why);

  // -- Groups.
  void GroupPlaced(const wire::v1::PlacementGroupInfo& info);
  // It is gone for good, or never was: what waits for it is refused.
  void GroupRemoved(const base::PlacementGroupId& group);
  // Bundles of it came to this node, or went.
  void BundlesChanged(const base::PlacementGroupId& group);

  // -- Nodes. After NodeChanged: NodesSettled.
  void NodeChanged(const wire::v1::NodeState& state) { router_.NodeChanged(state); }
  void NodesSettled();
  void NodeDead(const base::NodeId& node);
  // The connection to its raylet broke.
  void NodeLost(const base::NodeId& node);
  void NodeSilent(const base::NodeId& node);
  // Of those that other raylets send of their own accord: RECLAIM_LEASES, TASK_PENDING_WARNING.
  void OnPeerFrame(const base::NodeId& node, const net::Frame& frame);
  // Nothing new is to run on this node.
  void Drain();
  // The requests that wait, for the node's reports.
  std::vector<wire::v1::Demand> Demands();

  // A connection closed: its requests and leases, and the lease or actor of which it was the
  // worker, end.
  void ClientGone(const Client& client);

  scheduling::LeaseQueue& queue() { return queue_; }
  const scheduling::LeaseQueue& queue() const { return queue_; }
  void CheckInvariants() {
    queue_.CheckInvariants();
    router_.CheckInvariants();
  }

 private:
  using RequestKey = std::pair<scheduling::ClientId, uint64_t>;

  absl::Status OnRequest(Client& client, const wire::v1::RequestLease& message,
                         const Responder& responder);
  absl::Status OnCancel(Client& client, const wire::v1::CancelLease& message);
  absl::Status OnReturn(Client& client, const wire::v1::ReturnLease& message);
  absl::Status OnExplain(Client& client, const wire::v1::ExplainLease& message,
                         const Responder& responder);
  void OnForwardedReply(const base::NodeId& node, uint64_t forward_id,
                        const absl::StatusOr<net::Frame>& frame);
  // The queue has decided.
  void Settle(scheduling::ClientId client, uint64_t request_id,
              const wire::v1::RequestLeaseReply& reply);
  void Changed();

  std::optional<base::WorkerId> AcquireWorker(const base::LeaseId& lease, const base::JobId& job,
                                              const std::string& env_hash) override;
  void AbandonWorker(const base::LeaseId& lease) override;
  void ReleaseWorker(const base::WorkerId& worker, scheduling::WorkerAfter after) override;
  void GrantLease(const scheduling::LeaseGrant& grant) override;
  void RefuseLease(scheduling::ClientId client, uint64_t request_id) override;
  void GiveUp(scheduling::ClientId client, uint64_t request_id, const std::string& why) override;
  void ReclaimLeases(scheduling::ClientId client) override;
  void Warn(const scheduling::LeaseWarning& warning) override;  // of both

  void Answer(scheduling::ClientId client, uint64_t request_id,
              const wire::v1::RequestLeaseReply& reply) override;
  bool Forward(const base::NodeId& node, const wire::v1::RequestLease& request) override;
  void CancelForwarded(const base::NodeId& node, uint64_t forward_id) override;
  void ReturnLease(const base::NodeId& node, const base::LeaseId& lease,
                   scheduling::LeaseEnd end) override;
  void WatchGroup(const base::PlacementGroupId& group) override;

  const ClientRegistry* const clients_;
  NodePeers* const peers_;
  WorkerPool* const pool_;
  const accelerators::NodeAccelerators* const accelerators_;
  const Events events_;
  struct Open {
    Responder responder;
    EnvironmentHandle environment;
  };
  absl::flat_hash_map<RequestKey, Open> open_;  // requests without an answer
  // Callbacks that come after the service's end see that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  scheduling::LeaseQueue queue_;
  scheduling::LeaseRouter router_;
  DeadlineTimer timer_;
};

}  // namespace ray::raylet
