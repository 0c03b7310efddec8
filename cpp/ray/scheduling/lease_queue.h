// Who may use this node's resources: queues lease requests, gives resources and a worker to each in
// fair order, and takes them back. Actors hold their resources here too, so that one book is kept.
// Sans-I/O: messages go in through the methods, decisions come out through Actions.
//
// Bundles of placement groups are set aside here too: what PrepareBundles took of the node is a
// pool of its own from then on, with the same devices. A request for a bundle is granted from that
// bundle's pool once it is committed, and never from the node's; it waits as long as its group has
// no bundle here, and is refused when the group is removed.
//
// Order: FIFO within a class (same client, job, environment, resources and place), round robin over
// the classes of one shape (resources and place), round robin over shapes. A decision looks at
// shapes, never at the requests behind a class's head, so that its cost does not grow with the
// queue. A large request is not starved by a stream of small ones: once it has waited longer than
// `patience` it holds younger requests back that want what it lacks, in every other period of that
// length. (Only every other one: what it waits for may itself wait for one of the younger.) That is
// so on the node itself; in a bundle its creator decides what runs beside what.
//
// Owner: LeaseService.   Threads: thread-compatible (the raylet's loop).   Never blocks. Actions
// are called from inside the methods and must not call back into the queue, save that ReleaseWorker
// may call WorkerReady for another lease.
//   LEASE-1  in each pool, the node's and every bundle's: the quantities of its leases (less what
//            blocked ones lent) + of the bundles that are set aside of it + available = total.
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

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/resources/node_resources.h"
#include "ray/scheduling/lease_state.h"

namespace ray::scheduling {

// A bundle of a placement group, or one that its group chooses. Threads: immutable value.
struct BundleRef {
  static constexpr int kAny = -1;
  base::PlacementGroupId group;  // nil: no bundle but the node itself
  int index = kAny;

  bool IsNode() const { return group.IsNil(); }
  friend bool operator==(const BundleRef&, const BundleRef&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const BundleRef& ref) {
    return H::combine(std::move(h), ref.group, ref.index);
  }
};

// What is set aside for one group.
struct HeldBundles {
  base::PlacementGroupId group;
  std::vector<uint32_t> indices;
};

// A connected process that asks for leases; chosen by the caller, never reused.
using ClientId = uint64_t;

// What becomes of a worker when its lease ends.
enum class WorkerAfter {
  kReuse,   // it runs nothing and may serve its job again
  kRetire,  // it runs nothing, but is bound to devices: it should exit in its own time
  kEnd,     // it broke, and may just be exiting: it gets a moment for that
  kKill,    // nobody wants what it runs
};

// How the holder of a lease gives it back.
enum class LeaseEnd {
  kDone,       // its worker runs nothing and may be used again
  kBroken,     // its worker may not
  kOwnerGone,  // nobody wants what its worker may still run
};

struct LeaseRequest {
  ClientId client = 0;
  uint64_t request_id = 0;  // unique among the client's open requests
  resources::ResourceSet resources;
  base::JobId job;
  std::string env_hash;   // runtime environment; "" = default
  std::string task_name;  // for warnings
  BundleRef bundle;
  bool retriable = false;  // what runs under it may be ended and run again
};

// A lease or actor with a worker.
struct RunningLease {
  base::WorkerId worker;
  absl::Time since;  // of the grant
  bool retriable = false;
  base::JobId job;
  bool is_actor = false;
  std::string name;     // of the task that it was first asked for, or of the actor's class
  ClientId client = 0;  // who has the lease; an actor's is nobody's
};

// Whom an actor's resources are for.
struct ActorHolder {
  base::JobId job;
  std::string name;  // of its class
  bool retriable = false;
};

struct LeaseGrant {
  ClientId client = 0;
  uint64_t request_id = 0;
  base::LeaseId lease;
  base::WorkerId worker;
  const resources::ResourceAllocation* allocation = nullptr;  // valid during the call
  bool contended = false;  // requests of other classes wait for resources
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
    absl::Duration infeasible_timeout = absl::InfiniteDuration();
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
    // The placement group of this request is removed: it will never be granted.
    virtual void RefuseLease(ClientId client, uint64_t request_id) = 0;
    // No node can ever grant it, and infeasible_timeout is over; `why` in whole sentences.
    virtual void GiveUp(ClientId client, uint64_t request_id, const std::string& why) = 0;
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
  // As Cancel, but only if it still waits for resources.
  bool Withdraw(ClientId client, uint64_t request_id);
  // kNotFound when the client has no such lease (any more): it may have ended with its worker a
  // moment ago.
  absl::Status Return(ClientId client, const base::LeaseId& lease, LeaseEnd end);
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

  // -- Bundles. Requires indices without repetition.
  // Takes the resources of the bundles from the node: all or none, false for none. Those that are
  // set aside already stay as they are.
  bool PrepareBundles(const base::PlacementGroupId& group,
                      const std::vector<std::pair<uint32_t, resources::ResourceSet>>& bundles);
  // From now on they are granted from. Harmless for those that are not set aside.
  void CommitBundles(const base::PlacementGroupId& group, const std::vector<uint32_t>& indices);
  // Ends the leases in these bundles, in all of the group's if `indices` is empty: their workers
  // are killed, requests that only lacked a worker wait again. What actors hold there goes back to
  // the node when they end, which is the caller's business.
  void ReturnBundles(const base::PlacementGroupId& group, const std::vector<uint32_t>& indices);
  // The group is gone for good: returns its bundles, and refuses the requests that wait for it.
  void RemoveGroup(const base::PlacementGroupId& group);
  // Whether requests for the group can be granted here.
  bool HasCommitted(const base::PlacementGroupId& group) const;
  bool HasCommitted(const BundleRef& bundle) const;
  std::vector<HeldBundles> Bundles() const;

  // -- Actors: resources now or never; the caller finds the worker.
  std::optional<base::LeaseId> AllocateActor(const resources::ResourceSet& quantities,
                                             const BundleRef& bundle = {}, ActorHolder holder = {});
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

  // -- What there is.
  // Whether the request is open.
  bool Has(ClientId client, uint64_t request_id) const;
  // Requests that have their resources and wait for a worker.
  std::vector<std::pair<ClientId, uint64_t>> AwaitingWorkers() const;
  // Requests that wait for resources of this group (nil: of the node itself), with their bundle.
  std::vector<std::pair<std::pair<ClientId, uint64_t>, BundleRef>> WaitingFor(
      const base::PlacementGroupId& group) const;
  std::vector<RunningLease> Running() const;

  // -- Time: warnings, reclaims, and the periods of held-back requests.
  void Tick();
  // When Tick has something to do; InfiniteFuture when nothing waits.
  absl::Time NextTick() const;

  // The node's own, of which bundles that are set aside are not available.
  const resources::NodeResources& resources() const;
  size_t queued() const { return queued_.size(); }
  size_t leases() const { return leases_.size(); }

  // MANTA_CHECKs LEASE-1..3 in O(everything): for tests.
  void CheckInvariants() const;

 private:
  struct Shape;
  struct Class;
  struct Queued;
  struct Lease;
  struct Client {
    absl::flat_hash_set<Class*> classes;
    absl::flat_hash_set<Lease*> leases;
  };
  struct Pool;
  struct Bundle;
  // Bundles of one group, by index.
  using Group = absl::btree_map<uint32_t, std::unique_ptr<Bundle>>;
  // What becomes of a shape, as things are.
  enum class Prospect { kFits, kAwaitsGroup, kNever };
  struct ShapeKey {
    resources::ResourceSet resources;
    BundleRef bundle;
    friend bool operator==(const ShapeKey&, const ShapeKey&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const ShapeKey& key) {
      return H::combine(std::move(h), key.resources, key.bundle);
    }
  };
  using RequestKey = std::pair<ClientId, uint64_t>;
  struct ClassKey {
    ClientId client;
    base::JobId job;
    std::string env_hash;
    ShapeKey shape;
    friend bool operator==(const ClassKey&, const ClassKey&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const ClassKey& key) {
      return H::combine(std::move(h), key.client, key.job, key.env_hash, key.shape);
    }
  };

  // Queueing.
  Class* ClassOf(const LeaseRequest& request);
  Shape* ShapeOf(const ShapeKey& key);
  void Enqueue(Class* in_class, LeaseRequest request);
  void Unqueue(std::list<Queued>::iterator queued, Class* in_class);
  void RemoveIfUnused(Class* in_class);

  // Deciding.
  void Schedule();
  bool StartNext(Shape* shape);
  absl::InlinedVector<Pool*, 2> PoolsOf(const BundleRef& bundle) const;
  std::optional<std::pair<Pool*, resources::ResourceAllocation>> Allocate(
      const resources::ResourceSet& quantities, const BundleRef& bundle);
  Prospect ProspectOf(const Shape& shape) const;
  Shape* PatientShape() const;
  bool IsHeldBack(const Shape& shape, const Shape* patient) const;
  Lease* NewLease(Pool* pool, resources::ResourceAllocation allocation);
  void Grant(Lease* lease, const base::WorkerId& worker);

  // Bundles.
  void ReturnBundle(std::unique_ptr<Bundle> bundle);
  void Requeue(const Lease& lease);
  void ReleaseIfDrained(Pool* pool);
  void RefuseRequestsFor(const base::PlacementGroupId& group);

  // Holding and ending.
  void SetWorker(Lease* lease, const base::WorkerId& worker);
  void LendCpus(Lease* lease);
  void RetakeCpus(Lease* lease);
  static WorkerAfter AfterReturn(const Lease& lease, LeaseEnd end);
  void EndLease(Lease* lease, std::optional<WorkerAfter> after);
  void Transition(Lease* lease, LeaseState to);
  Lease* FindLease(const base::LeaseId& lease) const;

  // Time.
  bool SomebodyWaitsForResources() const;
  // The class whose requests alone wait; null: none does, or several do.
  const Class* OnlyWaitingClass() const;
  void ReclaimIfDue();
  void WarnIfDue();
  void GiveUpIfDue();
  void WarnHead(Class* in_class);
  std::string ExplainInfeasible(const std::string& task, const ShapeKey& needs) const;
  std::string ExplainBusy(const std::string& task, const ShapeKey& needs) const;
  static std::string Describe(const ShapeKey& needs);
  std::string StateOf(const ShapeKey& needs) const;

  void CheckPools() const;

  const Options options_;
  const std::unique_ptr<Pool> node_;
  // Of the node's: what actors and bundles hold, which may never end.
  resources::ResourceSet held_for_long_;
  const base::Clock* const clock_;
  Actions* const actions_;

  absl::flat_hash_map<base::PlacementGroupId, Group> groups_;
  std::vector<std::unique_ptr<Bundle>> draining_;  // returned, but actors still hold some of them
  absl::flat_hash_map<ShapeKey, std::unique_ptr<Shape>> shapes_;
  std::list<Shape*> waiting_shapes_;  // those with requests, next first
  absl::flat_hash_map<ClassKey, std::unique_ptr<Class>> classes_;
  absl::flat_hash_map<RequestKey, std::pair<std::list<Queued>::iterator, Class*>> queued_;
  absl::flat_hash_map<base::LeaseId, std::unique_ptr<Lease>> leases_;
  absl::flat_hash_map<RequestKey, Lease*> awaiting_;  // leases that wait for a worker
  absl::flat_hash_map<base::WorkerId, Lease*> by_worker_;
  absl::btree_map<ClientId, Client> clients_;
  absl::Time last_tick_ = absl::InfinitePast();
  absl::Time last_reclaim_ = absl::InfinitePast();
};

}  // namespace ray::scheduling
