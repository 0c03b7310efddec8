#include "ray/scheduling/lease_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/scheduling/lease_queue_parts.h"

namespace ray::scheduling {

using base::FixedPoint;
using base::LeaseId;
using base::PlacementGroupId;
using base::WorkerId;
using resources::NodeResources;
using resources::ResourceAllocation;
using resources::ResourceSet;

LeaseQueue::LeaseQueue(Options options, resources::NodeResources resources,
                       const base::Clock* clock, Actions* actions)
    : options_(options),
      node_(std::make_unique<Pool>(std::move(resources))),
      clock_(clock),
      actions_(actions) {}

LeaseQueue::~LeaseQueue() = default;

const resources::NodeResources& LeaseQueue::resources() const { return node_->resources; }

// --- Queueing

absl::Status LeaseQueue::Request(LeaseRequest request) {
  const RequestKey key{request.client, request.request_id};
  if (queued_.contains(key) || awaiting_.contains(key)) {
    return absl::AlreadyExistsError(
        absl::StrCat("lease request ", request.request_id, " is still open"));
  }
  Class* in_class = ClassOf(request);
  // A request behind another one of its class changes nothing.
  const bool is_head = in_class->queue.empty();
  Enqueue(in_class, std::move(request));
  if (is_head) {
    Schedule();
    ReclaimIfDue();
  }
  return absl::OkStatus();
}

LeaseQueue::Class* LeaseQueue::ClassOf(const LeaseRequest& request) {
  ClassKey key{request.client, request.job, request.env_hash, {request.resources, request.bundle}};
  auto [it, is_new] = classes_.try_emplace(key, nullptr);
  if (is_new) {
    it->second = std::make_unique<Class>();
    it->second->shape = ShapeOf(key.shape);
    it->second->key = std::move(key);
    ++it->second->shape->classes;
    clients_[request.client].classes.insert(it->second.get());
  }
  return it->second.get();
}

LeaseQueue::Shape* LeaseQueue::ShapeOf(const ShapeKey& key) {
  auto [it, is_new] = shapes_.try_emplace(key, nullptr);
  if (is_new) {
    it->second = std::make_unique<Shape>();
    it->second->key = key;
  }
  return it->second.get();
}

void LeaseQueue::Enqueue(Class* in_class, LeaseRequest request) {
  Shape* shape = in_class->shape;
  const absl::Time now = clock_->Now();
  if (shape->ring.empty()) {
    shape->waits_since = now;
    shape->in_waiting = waiting_shapes_.insert(waiting_shapes_.end(), shape);
  }
  if (in_class->queue.empty()) {
    in_class->in_ring = shape->ring.insert(shape->ring.end(), in_class);
  }
  auto queued = in_class->queue.insert(
      in_class->queue.end(),
      {request.request_id, std::move(request.task_name), request.retriable, now});
  queued_.emplace(RequestKey{request.client, request.request_id}, std::make_pair(queued, in_class));
}

void LeaseQueue::Unqueue(std::list<Queued>::iterator queued, Class* in_class) {
  queued_.erase({in_class->key.client, queued->request_id});
  in_class->queue.erase(queued);
  if (!in_class->queue.empty()) return;
  Shape* shape = in_class->shape;
  shape->ring.erase(in_class->in_ring);
  in_class->warned_busy = false;
  if (shape->ring.empty()) waiting_shapes_.erase(shape->in_waiting);
}

void LeaseQueue::RemoveIfUnused(Class* in_class) {
  if (!in_class->queue.empty() || in_class->leases > 0) return;
  auto client = clients_.find(in_class->key.client);
  client->second.classes.erase(in_class);
  if (client->second.classes.empty()) clients_.erase(client);
  Shape* shape = in_class->shape;
  classes_.erase(ClassKey(in_class->key));
  if (--shape->classes == 0) shapes_.erase(ShapeKey(shape->key));
}

bool LeaseQueue::Cancel(ClientId client, uint64_t request_id) {
  if (Withdraw(client, request_id)) return true;
  auto awaiting = awaiting_.find({client, request_id});
  if (awaiting == awaiting_.end()) return false;
  EndLease(awaiting->second, std::nullopt);
  Schedule();
  return true;
}

bool LeaseQueue::Withdraw(ClientId client, uint64_t request_id) {
  auto it = queued_.find({client, request_id});
  if (it == queued_.end()) return false;
  auto [queued, in_class] = it->second;
  Unqueue(queued, in_class);
  RemoveIfUnused(in_class);
  Schedule();
  return true;
}

bool LeaseQueue::Has(ClientId client, uint64_t request_id) const {
  const RequestKey key{client, request_id};
  return queued_.contains(key) || awaiting_.contains(key);
}

std::vector<std::pair<ClientId, uint64_t>> LeaseQueue::AwaitingWorkers() const {
  std::vector<RequestKey> keys;
  for (const auto& [key, lease] : awaiting_) keys.push_back(key);
  return keys;
}

std::vector<std::pair<std::pair<ClientId, uint64_t>, BundleRef>> LeaseQueue::WaitingFor(
    const PlacementGroupId& group) const {
  std::vector<std::pair<RequestKey, BundleRef>> waiting;
  for (const auto& [key, in_class] : classes_) {
    if (key.shape.bundle.group != group) continue;
    for (const Queued& queued : in_class->queue) {
      waiting.emplace_back(RequestKey{key.client, queued.request_id}, key.shape.bundle);
    }
  }
  std::sort(waiting.begin(), waiting.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return waiting;
}

std::vector<RunningLease> LeaseQueue::Running() const {
  std::vector<RunningLease> running;
  for (const auto& [worker, lease] : by_worker_) {
    running.push_back({.worker = worker,
                       .since = lease->granted,
                       .retriable = lease->retriable,
                       .job = lease->job,
                       .is_actor = lease->IsActor(),
                       .name = lease->name,
                       .client = lease->IsActor() ? 0 : lease->in_class->key.client});
  }
  return running;
}

void LeaseQueue::ClientGone(ClientId client) {
  auto it = clients_.find(client);
  if (it == clients_.end()) return;
  // Copies: what follows takes classes and leases out of the sets.
  const std::vector<Lease*> leases(it->second.leases.begin(), it->second.leases.end());
  const std::vector<Class*> classes(it->second.classes.begin(), it->second.classes.end());
  for (Class* in_class : classes) {
    while (!in_class->queue.empty()) Unqueue(in_class->queue.begin(), in_class);
    RemoveIfUnused(in_class);
  }
  for (Lease* lease : leases) EndLease(lease, WorkerAfter::kKill);
  Schedule();
}

// --- Deciding

void LeaseQueue::Schedule() {
  Shape* patient = PatientShape();
  size_t misses = 0;
  while (misses < waiting_shapes_.size()) {
    Shape* shape = waiting_shapes_.front();
    waiting_shapes_.splice(waiting_shapes_.end(), waiting_shapes_, waiting_shapes_.begin());
    if (IsHeldBack(*shape, patient) || !StartNext(shape)) {
      ++misses;
      continue;
    }
    misses = 0;
    if (shape == patient) patient = PatientShape();
  }
}

// Gives resources to the next request of this shape, and a worker if one is idle.
bool LeaseQueue::StartNext(Shape* shape) {
  auto allocated = Allocate(shape->key.resources, shape->key.bundle);
  if (!allocated.has_value()) return false;
  shape->waits_since = clock_->Now();

  Class* in_class = shape->ring.front();
  shape->ring.splice(shape->ring.end(), shape->ring, shape->ring.begin());
  Lease* lease = NewLease(allocated->first, std::move(allocated->second));
  Queued& request = in_class->queue.front();
  lease->in_class = in_class;
  lease->request_id = request.request_id;
  lease->job = in_class->key.job;
  lease->name = std::move(request.task_name);
  lease->retriable = request.retriable;
  lease->since = request.since;
  ++in_class->leases;
  clients_[in_class->key.client].leases.insert(lease);
  awaiting_[{in_class->key.client, lease->request_id}] = lease;
  Unqueue(in_class->queue.begin(), in_class);

  auto worker = actions_->AcquireWorker(lease->id, in_class->key.job, in_class->key.env_hash);
  if (worker.has_value()) Grant(lease, *worker);
  return true;
}

// The pools that may serve a place, in the order in which they are tried.
absl::InlinedVector<LeaseQueue::Pool*, 2> LeaseQueue::PoolsOf(const BundleRef& bundle) const {
  absl::InlinedVector<Pool*, 2> pools;
  if (bundle.IsNode()) {
    pools.push_back(node_.get());
    return pools;
  }
  auto group = groups_.find(bundle.group);
  if (group == groups_.end()) return pools;
  for (const auto& [index, of_group] : group->second) {
    const bool is_meant =
        bundle.index == BundleRef::kAny || bundle.index == static_cast<int>(index);
    if (is_meant && of_group->committed) pools.push_back(of_group.get());
  }
  return pools;
}

std::optional<std::pair<LeaseQueue::Pool*, ResourceAllocation>> LeaseQueue::Allocate(
    const ResourceSet& quantities, const BundleRef& bundle) {
  for (Pool* pool : PoolsOf(bundle)) {
    std::optional<ResourceAllocation> allocation = pool->resources.Allocate(quantities);
    if (allocation.has_value()) return std::make_pair(pool, *std::move(allocation));
  }
  return std::nullopt;
}

LeaseQueue::Prospect LeaseQueue::ProspectOf(const Shape& shape) const {
  const auto pools = PoolsOf(shape.key.bundle);
  if (pools.empty()) return Prospect::kAwaitsGroup;
  const bool fits = std::any_of(pools.begin(), pools.end(), [&](const Pool* pool) {
    return pool->resources.IsFeasible(shape.key.resources);
  });
  return fits ? Prospect::kFits : Prospect::kNever;
}

// The shape that has waited longest for the node itself, if it has waited for longer than its
// patience, is not infeasible and does not wait for what actors and bundles hold: leases end, those
// may never.
LeaseQueue::Shape* LeaseQueue::PatientShape() const {
  if (waiting_shapes_.size() < 2) return nullptr;  // nobody to hold back
  ResourceSet leasable = resources().total();
  leasable -= held_for_long_;
  Shape* oldest = nullptr;
  for (Shape* shape : waiting_shapes_) {
    if (!shape->key.bundle.IsNode()) continue;
    if (!shape->key.resources.FitsIn(leasable)) continue;
    if (oldest == nullptr || shape->waits_since < oldest->waits_since) oldest = shape;
  }
  if (oldest == nullptr) return nullptr;
  absl::Duration waited = clock_->Now() - oldest->waits_since;
  const int64_t periods = absl::IDivDuration(waited, options_.patience, &waited);
  return periods % 2 == 1 ? oldest : nullptr;
}

bool LeaseQueue::IsHeldBack(const Shape& shape, const Shape* patient) const {
  if (patient == nullptr || patient == &shape || !shape.key.bundle.IsNode()) return false;
  const ResourceSet& wanted = patient->key.resources;
  return std::any_of(wanted.begin(), wanted.end(), [&](const ResourceSet::Entry& entry) {
    const auto& [name, needed] = entry;
    const bool lacks = resources().available().Get(name) < needed;
    return lacks && !shape.key.resources.Get(name).IsZero();
  });
}

LeaseQueue::Lease* LeaseQueue::NewLease(Pool* pool, ResourceAllocation allocation) {
  auto lease = std::make_unique<Lease>();
  lease->id = LeaseId::Random();
  lease->pool = pool;
  pool->leases.insert(lease.get());
  lease->allocation = std::move(allocation);
  Lease* raw = lease.get();
  leases_.emplace(raw->id, std::move(lease));
  return raw;
}

void LeaseQueue::WorkerReady(const LeaseId& lease, const WorkerId& worker) {
  Lease* awaiting = FindLease(lease);
  MANTA_CHECK(awaiting != nullptr && !awaiting->IsActor());
  Grant(awaiting, worker);
}

void LeaseQueue::Grant(Lease* lease, const WorkerId& worker) {
  SetWorker(lease, worker);
  const ClientId client = lease->in_class->key.client;
  awaiting_.erase({client, lease->request_id});
  const bool contended = OnlyWaitingClass() != lease->in_class && SomebodyWaitsForResources();
  actions_->GrantLease(
      {client, lease->request_id, lease->id, worker, &lease->allocation, contended});
}

// --- Holding and ending

void LeaseQueue::SetWorker(Lease* lease, const WorkerId& worker) {
  Transition(lease, LeaseState::kRunning);
  lease->worker = worker;
  lease->granted = clock_->Now();
  MANTA_CHECK_MSG(by_worker_.emplace(worker, lease).second, "LEASE-2");
}

void LeaseQueue::SetBlocked(const WorkerId& worker, bool blocked) {
  auto it = by_worker_.find(worker);
  if (it == by_worker_.end()) return;
  Lease* lease = it->second;
  if (blocked && lease->state == LeaseState::kRunning) {
    Transition(lease, LeaseState::kBlocked);
    LendCpus(lease);
    Schedule();
  } else if (!blocked && lease->state == LeaseState::kBlocked) {
    Transition(lease, LeaseState::kRunning);
    RetakeCpus(lease);
  }
}

void LeaseQueue::LendCpus(Lease* lease) {
  lease->lent_cpu = lease->allocation.quantities().Get(resources::kCpu);
  lease->pool->resources.Lend(resources::kCpu, lease->lent_cpu);
}

void LeaseQueue::RetakeCpus(Lease* lease) {
  lease->pool->resources.Retake(resources::kCpu, lease->lent_cpu);
  lease->lent_cpu = FixedPoint();
}

absl::Status LeaseQueue::Return(ClientId client, const LeaseId& lease, LeaseEnd end) {
  Lease* held = FindLease(lease);
  const bool is_theirs = held != nullptr && !held->IsActor() &&
                         held->in_class->key.client == client &&
                         held->state != LeaseState::kAwaitingWorker;
  if (!is_theirs) return absl::NotFoundError(absl::StrCat("no lease ", lease.Hex()));
  // That its worker is blocked means nothing: it runs again, but its own word comes another way and
  // may still be under way.
  EndLease(held, AfterReturn(*held, end));
  Schedule();
  return absl::OkStatus();
}

WorkerAfter LeaseQueue::AfterReturn(const Lease& lease, LeaseEnd end) {
  if (end == LeaseEnd::kBroken) return WorkerAfter::kEnd;
  if (end == LeaseEnd::kOwnerGone) return WorkerAfter::kKill;
  return lease.allocation.instances().empty() ? WorkerAfter::kReuse : WorkerAfter::kRetire;
}

void LeaseQueue::WorkerGone(const WorkerId& worker) {
  auto it = by_worker_.find(worker);
  if (it == by_worker_.end()) return;
  EndLease(it->second, std::nullopt);
  Schedule();
}

// Without `after`, there is no worker to release.
void LeaseQueue::EndLease(Lease* lease, std::optional<WorkerAfter> after) {
  const LeaseId id = lease->id;
  const WorkerId worker = lease->worker;
  const bool is_actor = lease->IsActor();
  const bool awaited_worker = lease->state == LeaseState::kAwaitingWorker;

  Transition(lease, LeaseState::kEnded);
  RetakeCpus(lease);
  Pool* const pool = lease->pool;
  if (is_actor && pool == node_.get()) held_for_long_ -= lease->allocation.quantities();
  pool->resources.Release(&lease->allocation);
  pool->leases.erase(lease);
  if (!awaited_worker) by_worker_.erase(worker);
  if (Class* in_class = lease->in_class; in_class != nullptr) {
    const ClientId client = in_class->key.client;
    if (awaited_worker) awaiting_.erase({client, lease->request_id});
    clients_[client].leases.erase(lease);
    --in_class->leases;
    RemoveIfUnused(in_class);
  }
  leases_.erase(id);
  ReleaseIfDrained(pool);

  // Last, when all is consistent: the pool may have another lease for the worker.
  if (is_actor) return;
  if (awaited_worker) {
    actions_->AbandonWorker(id);
  } else if (after.has_value()) {
    actions_->ReleaseWorker(worker, *after);
  }
}

void LeaseQueue::Transition(Lease* lease, LeaseState to) {
  MANTA_CHECK(MayFollow(lease->state, to));
  lease->state = to;
}

LeaseQueue::Lease* LeaseQueue::FindLease(const LeaseId& lease) const {
  auto it = leases_.find(lease);
  return it == leases_.end() ? nullptr : it->second.get();
}

// --- Actors

std::optional<LeaseId> LeaseQueue::AllocateActor(const ResourceSet& quantities,
                                                 const BundleRef& bundle, ActorHolder holder) {
  auto allocated = Allocate(quantities, bundle);
  if (!allocated.has_value()) return std::nullopt;
  if (bundle.IsNode()) held_for_long_ += quantities;
  Lease* actor = NewLease(allocated->first, std::move(allocated->second));
  actor->job = holder.job;
  actor->name = std::move(holder.name);
  actor->retriable = holder.retriable;
  return actor->id;
}

void LeaseQueue::AttachActorWorker(const LeaseId& lease, const WorkerId& worker) {
  Lease* actor = FindLease(lease);
  MANTA_CHECK(actor != nullptr && actor->IsActor());
  SetWorker(actor, worker);
}

void LeaseQueue::ShrinkActor(const LeaseId& lease, const ResourceSet& keep) {
  Lease* actor = FindLease(lease);
  MANTA_CHECK(actor != nullptr && actor->IsActor());
  RetakeCpus(actor);
  const bool of_node = actor->pool == node_.get();
  if (of_node) held_for_long_ -= actor->allocation.quantities();
  actor->pool->resources.ShrinkTo(&actor->allocation, keep);
  if (of_node) held_for_long_ += actor->allocation.quantities();
  if (actor->state == LeaseState::kBlocked) LendCpus(actor);
  Schedule();
}

void LeaseQueue::ReleaseActor(const LeaseId& lease) {
  Lease* actor = FindLease(lease);
  if (actor == nullptr) return;
  MANTA_CHECK(actor->IsActor());
  EndLease(actor, std::nullopt);
  Schedule();
}

const ResourceAllocation* LeaseQueue::AllocationOf(const LeaseId& lease) const {
  const Lease* found = FindLease(lease);
  return found == nullptr ? nullptr : &found->allocation;
}

// --- Time

absl::Time LeaseQueue::NextTick() const {
  if (queued_.empty() && awaiting_.empty()) return absl::InfiniteFuture();
  const absl::Duration interval =
      SomebodyWaitsForResources() ? options_.reclaim_interval
                                  : std::max(options_.reclaim_interval, options_.warn_after / 8);
  return last_tick_ + interval;
}

void LeaseQueue::Tick() {
  last_tick_ = clock_->Now();
  Schedule();
  ReclaimIfDue();
  WarnIfDue();
  GiveUpIfDue();
}

bool LeaseQueue::SomebodyWaitsForResources() const {
  return std::any_of(waiting_shapes_.begin(), waiting_shapes_.end(),
                     [&](const Shape* shape) { return ProspectOf(*shape) == Prospect::kFits; });
}

const LeaseQueue::Class* LeaseQueue::OnlyWaitingClass() const {
  const bool one = waiting_shapes_.size() == 1 && waiting_shapes_.front()->ring.size() == 1;
  return one ? waiting_shapes_.front()->ring.front() : nullptr;
}

// Asks the holders of leases for those they do not use. A client whose leases are all of the one
// class that waits uses them, or it would not wait.
void LeaseQueue::ReclaimIfDue() {
  const absl::Time now = clock_->Now();
  if (!SomebodyWaitsForResources() || now - last_reclaim_ < options_.reclaim_interval) return;
  last_reclaim_ = now;
  const Class* only = OnlyWaitingClass();
  for (const auto& [id, client] : clients_) {
    const bool may_spare =
        std::any_of(client.classes.begin(), client.classes.end(),
                    [&](const Class* held) { return held->leases > 0 && held != only; });
    if (may_spare) actions_->ReclaimLeases(id);
  }
}

std::optional<std::pair<ClientId, uint64_t>> LeaseQueue::RequestOf(const LeaseId& lease) const {
  const Lease* found = FindLease(lease);
  const bool waits =
      found != nullptr && !found->IsActor() && found->state == LeaseState::kAwaitingWorker;
  if (!waits) return std::nullopt;
  return std::make_pair(found->in_class->key.client, found->request_id);
}

}  // namespace ray::scheduling
