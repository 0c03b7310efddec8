// Who may use this node's resources: queues lease requests, gives resources and a worker to each in
// fair order, and takes them back. Actors hold their resources here too, so that one book is kept.
// Sans-I/O: messages go in through the methods, decisions come out through Actions.
//
// Order: FIFO within a class (same client, job, environment and resources), round robin over the
// classes of one resource shape, round robin over shapes. A decision looks at shapes, never at the
// requests behind a class's head, so that its cost does not grow with the queue. A large request is
// not starved by a stream of small ones: once it has waited longer than `patience` it holds younger
// requests back that want what it lacks, in every other period of that length. (Only every other
// one: what it waits for may itself wait for one of the younger.)
//
// Owner: LeaseService.   Threads: thread-compatible (the raylet's loop).   Never blocks. Actions
// are called from inside the methods and must not call back into the queue, save that ReleaseWorker
// may call WorkerReady for another lease.
//   LEASE-1  the quantities of all leases (less what blocked ones lent) + available = total.
//   LEASE-2  a worker has at most one lease, and a request is granted at most once.
//   LEASE-3  after every method, no request at the head of its class fits, unless it is held back.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/resources/node_resources.h"
#include "ray/scheduling/lease_state.h"

namespace ray::scheduling {

// A connected process that asks for leases; chosen by the caller, never reused.
using ClientId = uint64_t;

// What becomes of a worker when its lease ends.
enum class WorkerAfter {
  kReuse,   // it runs nothing and may serve its job again
  kRetire,  // it runs nothing, but is bound to devices: it should exit in its own time
  kEnd,     // it broke, and may just be exiting: it gets a moment for that
  kKill,    // nobody wants what it runs
};

struct LeaseRequest {
  ClientId client = 0;
  uint64_t request_id = 0;  // unique among the client's open requests
  resources::ResourceSet resources;
  base::JobId job;
  std::string env_hash;   // runtime environment; "" = default
  std::string task_name;  // for warnings
};

struct LeaseGrant {
  ClientId client = 0;
  uint64_t request_id = 0;
  base::LeaseId lease;
  base::WorkerId worker;
  const resources::ResourceAllocation* allocation = nullptr;  // valid during the call
};

struct LeaseWarning {
  ClientId client = 0;
  uint64_t request_id = 0;
  std::string task_name;
  bool infeasible = false;
  std::string message;  // whole sentences
};

class LeaseQueue {
 public:
  struct Options {
    absl::Duration warn_after = absl::Seconds(5);
    absl::Duration patience = absl::Seconds(2);
    absl::Duration reclaim_interval = absl::Milliseconds(20);
  };

  class Actions {
   public:
    virtual ~Actions() = default;
    // A worker for this job and environment that belongs to `lease` from now on; or nullopt when
    // none is idle, and WorkerReady(lease, worker) follows once there is one.
    virtual std::optional<base::WorkerId> AcquireWorker(const base::LeaseId& lease,
                                                        const base::JobId& job,
                                                        const std::string& env_hash) = 0;
    // The lease that waits for a worker needs none any more.
    virtual void AbandonWorker(const base::LeaseId& lease) = 0;
    // The lease of this worker ended.
    virtual void ReleaseWorker(const base::WorkerId& worker, WorkerAfter after) = 0;
    virtual void GrantLease(const LeaseGrant& grant) = 0;
    // Others wait: the client should return the leases it does not use. Repeated while they wait.
    virtual void ReclaimLeases(ClientId client) = 0;
    virtual void Warn(const LeaseWarning& warning) = 0;
  };

  // `clock` and `actions` outlive the queue.
  LeaseQueue(Options options, resources::NodeResources resources, const base::Clock* clock,
             Actions* actions);
  ~LeaseQueue();

  // -- From clients.
  // kAlreadyExists when the client's request_id is in use: a protocol violation.
  absl::Status Request(LeaseRequest request);
  // Whether the request was still open; it will then never be granted.
  bool Cancel(ClientId client, uint64_t request_id);
  // kNotFound when the client has no such lease (any more): it may have ended with its worker a
  // moment ago.
  absl::Status Return(ClientId client, const base::LeaseId& lease, bool worker_broken);
  // Drops its requests and ends its leases; their workers may still run its tasks, and are killed.
  void ClientGone(ClientId client);

  // -- From the worker pool.
  // Requires that the lease waits for a worker.
  void WorkerReady(const base::LeaseId& lease, const base::WorkerId& worker);
  // Ends the worker's lease or actor, if it has one.
  void WorkerGone(const base::WorkerId& worker);
  // The worker waits in get (its CPUs go back) or runs again (it takes them, oversubscribing if
  // need be). Harmless for a worker without a lease or when nothing changes.
  void SetBlocked(const base::WorkerId& worker, bool blocked);

  // -- Actors: resources now or never; the caller finds the worker.
  std::optional<base::LeaseId> AllocateActor(const resources::ResourceSet& quantities);
  // Requires a lease of AllocateActor without a worker.
  void AttachActorWorker(const base::LeaseId& lease, const base::WorkerId& worker);
  void ShrinkActor(const base::LeaseId& lease, const resources::ResourceSet& keep);
  // Gives the resources back; the worker, if any, stays the caller's. Harmless for an unknown
  // lease.
  void ReleaseActor(const base::LeaseId& lease);
  // The client and request that `lease` was made for, if that waits for a worker.
  std::optional<std::pair<ClientId, uint64_t>> RequestOf(const base::LeaseId& lease) const;
  // Why the client's request still waits, in whole sentences; "" if it does not.
  std::string Explain(ClientId client, uint64_t request_id) const;
  // nullptr for an unknown lease.
  const resources::ResourceAllocation* AllocationOf(const base::LeaseId& lease) const;

  // -- Time: warnings, reclaims, and the periods of held-back requests.
  void Tick();
  // When Tick has something to do; InfiniteFuture when nothing waits.
  absl::Time NextTick() const;

  const resources::NodeResources& resources() const { return resources_; }
  size_t queued() const { return queued_.size(); }
  size_t leases() const { return leases_.size(); }

  // MANTA_CHECKs LEASE-1..3 in O(everything): for tests.
  void CheckInvariants() const;

 private:
  struct Shape;
  struct Class;
  struct Queued;
  struct Lease;
  struct Client;
  using RequestKey = std::pair<ClientId, uint64_t>;
  struct ClassKey {
    ClientId client;
    base::JobId job;
    std::string env_hash;
    resources::ResourceSet resources;
    friend bool operator==(const ClassKey&, const ClassKey&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const ClassKey& key) {
      return H::combine(std::move(h), key.client, key.job, key.env_hash, key.resources);
    }
  };

  // Queueing.
  Class* ClassOf(const LeaseRequest& request);
  Shape* ShapeOf(const resources::ResourceSet& resources);
  void Enqueue(Class* in_class, LeaseRequest request);
  void Unqueue(std::list<Queued>::iterator queued, Class* in_class);
  void RemoveIfUnused(Class* in_class);

  // Deciding.
  void Schedule();
  bool StartNext(Shape* shape);
  Shape* PatientShape() const;
  bool IsHeldBack(const Shape& shape, const Shape* patient) const;
  Lease* NewLease(resources::ResourceAllocation allocation);
  void Grant(Lease* lease, const base::WorkerId& worker);

  // Holding and ending.
  void SetWorker(Lease* lease, const base::WorkerId& worker);
  void LendCpus(Lease* lease);
  void RetakeCpus(Lease* lease);
  void EndLease(Lease* lease, std::optional<WorkerAfter> after);
  void Transition(Lease* lease, LeaseState to);
  Lease* FindLease(const base::LeaseId& lease) const;

  // Time.
  bool SomebodyWaitsForResources() const;
  void ReclaimIfDue();
  void WarnIfDue();
  void WarnHead(Class* in_class);
  std::string ExplainInfeasible(const std::string& task, const resources::ResourceSet& needs) const;
  std::string ExplainBusy(const std::string& task, const resources::ResourceSet& needs) const;

  const Options options_;
  resources::NodeResources resources_;
  resources::ResourceSet held_by_actors_;
  const base::Clock* const clock_;
  Actions* const actions_;

  absl::flat_hash_map<resources::ResourceSet, std::unique_ptr<Shape>> shapes_;
  std::list<Shape*> waiting_shapes_;  // those with requests, next first
  absl::flat_hash_map<ClassKey, std::unique_ptr<Class>> classes_;
  absl::flat_hash_map<RequestKey, std::pair<std::list<Queued>::iterator, Class*>> queued_;
  absl::flat_hash_map<base::LeaseId, std::unique_ptr<Lease>> leases_;
  absl::flat_hash_map<RequestKey, Lease*> awaiting_;  // leases that wait for a worker
  absl::flat_hash_map<base::WorkerId, Lease*> by_worker_;
  absl::flat_hash_map<ClientId, Client> clients_;
  absl::Time last_tick_ = absl::InfinitePast();
  absl::Time last_reclaim_ = absl::InfinitePast();
};

}  // namespace ray::scheduling
