#include "ray/scheduling/lease_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ray/base/check.h"

namespace ray::scheduling {

using base::FixedPoint;
using base::JobId;
using base::LeaseId;
using base::WorkerId;
using resources::ResourceAllocation;
using resources::ResourceSet;

// A request that waits for resources.
struct LeaseQueue::Queued {
  uint64_t request_id;
  std::string task_name;
  absl::Time since;
};

// Requests of one client, job, environment and shape. Lives while it has requests or leases.
struct LeaseQueue::Class {
  ClassKey key;
  Shape* shape = nullptr;
  std::list<Queued> queue;
  std::list<Class*>::iterator in_ring;  // valid while the queue is not empty
  size_t leases = 0;
  bool warned_busy = false;                   // until nothing waits any more
  std::optional<uint64_t> warned_infeasible;  // the request that was warned of
};

// Classes that ask for the same resources. Lives while it has classes.
struct LeaseQueue::Shape {
  ResourceSet resources;
  bool feasible = false;
  size_t classes = 0;
  std::list<Class*> ring;                  // classes with requests, next first
  std::list<Shape*>::iterator in_waiting;  // valid while the ring is not empty
  absl::Time waits_since;                  // the last grant, or when the ring filled
};

struct LeaseQueue::Lease {
  LeaseId id;
  LeaseState state = LeaseState::kAwaitingWorker;
  ResourceAllocation allocation;
  WorkerId worker;      // nil while kAwaitingWorker
  FixedPoint lent_cpu;  // while kBlocked
  // Of the request; an actor has none.
  Class* in_class = nullptr;
  uint64_t request_id = 0;
  std::string task_name;
  absl::Time since;
  bool warned = false;

  bool IsActor() const { return in_class == nullptr; }
};

struct LeaseQueue::Client {
  absl::flat_hash_set<Class*> classes;
  absl::flat_hash_set<Lease*> leases;
};

LeaseQueue::LeaseQueue(Options options, resources::NodeResources resources,
                       const base::Clock* clock, Actions* actions)
    : options_(options), resources_(std::move(resources)), clock_(clock), actions_(actions) {}

LeaseQueue::~LeaseQueue() = default;

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
  ClassKey key{request.client, request.job, request.env_hash, request.resources};
  auto [it, is_new] = classes_.try_emplace(key, nullptr);
  if (is_new) {
    it->second = std::make_unique<Class>();
    it->second->key = std::move(key);
    it->second->shape = ShapeOf(request.resources);
    ++it->second->shape->classes;
    clients_[request.client].classes.insert(it->second.get());
  }
  return it->second.get();
}

LeaseQueue::Shape* LeaseQueue::ShapeOf(const ResourceSet& resources) {
  auto [it, is_new] = shapes_.try_emplace(resources, nullptr);
  if (is_new) {
    it->second = std::make_unique<Shape>();
    it->second->resources = resources;
    it->second->feasible = resources_.IsFeasible(resources);
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
  auto queued = in_class->queue.insert(in_class->queue.end(),
                                       {request.request_id, std::move(request.task_name), now});
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
  if (--shape->classes == 0) shapes_.erase(ResourceSet(shape->resources));
}

bool LeaseQueue::Cancel(ClientId client, uint64_t request_id) {
  const RequestKey key{client, request_id};
  if (auto it = queued_.find(key); it != queued_.end()) {
    auto [queued, in_class] = it->second;
    Unqueue(queued, in_class);
    RemoveIfUnused(in_class);
  } else if (auto awaiting = awaiting_.find(key); awaiting != awaiting_.end()) {
    EndLease(awaiting->second, std::nullopt);
  } else {
    return false;
  }
  Schedule();
  return true;
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
  std::optional<ResourceAllocation> allocation = resources_.Allocate(shape->resources);
  if (!allocation.has_value()) return false;
  shape->waits_since = clock_->Now();

  Class* in_class = shape->ring.front();
  shape->ring.splice(shape->ring.end(), shape->ring, shape->ring.begin());
  Lease* lease = NewLease(*std::move(allocation));
  Queued& request = in_class->queue.front();
  lease->in_class = in_class;
  lease->request_id = request.request_id;
  lease->task_name = std::move(request.task_name);
  lease->since = request.since;
  ++in_class->leases;
  clients_[in_class->key.client].leases.insert(lease);
  awaiting_[{in_class->key.client, lease->request_id}] = lease;
  Unqueue(in_class->queue.begin(), in_class);

  auto worker = actions_->AcquireWorker(lease->id, in_class->key.job, in_class->key.env_hash);
  if (worker.has_value()) Grant(lease, *worker);
  return true;
}

// The shape that has waited longest, if it has waited for longer than its patience, is not
// infeasible and does not wait for what actors hold: leases end, actors may never.
LeaseQueue::Shape* LeaseQueue::PatientShape() const {
  if (waiting_shapes_.size() < 2) return nullptr;  // nobody to hold back
  ResourceSet leasable = resources_.total();
  leasable -= held_by_actors_;
  Shape* oldest = nullptr;
  for (Shape* shape : waiting_shapes_) {
    if (!shape->resources.FitsIn(leasable)) continue;
    if (oldest == nullptr || shape->waits_since < oldest->waits_since) oldest = shape;
  }
  if (oldest == nullptr) return nullptr;
  absl::Duration waited = clock_->Now() - oldest->waits_since;
  const int64_t periods = absl::IDivDuration(waited, options_.patience, &waited);
  return periods % 2 == 1 ? oldest : nullptr;
}

bool LeaseQueue::IsHeldBack(const Shape& shape, const Shape* patient) const {
  if (patient == nullptr || patient == &shape) return false;
  return std::any_of(patient->resources.begin(), patient->resources.end(),
                     [&](const ResourceSet::Entry& entry) {
                       const auto& [name, needed] = entry;
                       const bool lacks = resources_.available().Get(name) < needed;
                       return lacks && !shape.resources.Get(name).IsZero();
                     });
}

LeaseQueue::Lease* LeaseQueue::NewLease(ResourceAllocation allocation) {
  auto lease = std::make_unique<Lease>();
  lease->id = LeaseId::Random();
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
  actions_->GrantLease({client, lease->request_id, lease->id, worker, &lease->allocation});
}

// --- Holding and ending

void LeaseQueue::SetWorker(Lease* lease, const WorkerId& worker) {
  Transition(lease, LeaseState::kRunning);
  lease->worker = worker;
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
  resources_.Lend(resources::kCpu, lease->lent_cpu);
}

void LeaseQueue::RetakeCpus(Lease* lease) {
  resources_.Retake(resources::kCpu, lease->lent_cpu);
  lease->lent_cpu = FixedPoint();
}

absl::Status LeaseQueue::Return(ClientId client, const LeaseId& lease, bool worker_broken) {
  Lease* held = FindLease(lease);
  const bool is_theirs = held != nullptr && !held->IsActor() &&
                         held->in_class->key.client == client &&
                         held->state != LeaseState::kAwaitingWorker;
  if (!is_theirs) return absl::NotFoundError(absl::StrCat("no lease ", lease.Hex()));
  // That its worker is blocked means nothing: it runs again, but its own word comes another way and
  // may still be under way.
  const bool used_devices = !held->allocation.instances().empty();
  EndLease(held, worker_broken  ? WorkerAfter::kEnd
                 : used_devices ? WorkerAfter::kRetire
                                : WorkerAfter::kReuse);
  Schedule();
  return absl::OkStatus();
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
  if (is_actor) held_by_actors_ -= lease->allocation.quantities();
  resources_.Release(&lease->allocation);
  if (!awaited_worker) by_worker_.erase(worker);
  if (Class* in_class = lease->in_class; in_class != nullptr) {
    const ClientId client = in_class->key.client;
    if (awaited_worker) awaiting_.erase({client, lease->request_id});
    clients_[client].leases.erase(lease);
    --in_class->leases;
    RemoveIfUnused(in_class);
  }
  leases_.erase(id);

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

std::optional<LeaseId> LeaseQueue::AllocateActor(const ResourceSet& quantities) {
  std::optional<ResourceAllocation> allocation = resources_.Allocate(quantities);
  if (!allocation.has_value()) return std::nullopt;
  held_by_actors_ += quantities;
  return NewLease(*std::move(allocation))->id;
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
  held_by_actors_ -= actor->allocation.quantities();
  resources_.ShrinkTo(&actor->allocation, keep);
  held_by_actors_ += actor->allocation.quantities();
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
}

bool LeaseQueue::SomebodyWaitsForResources() const {
  return std::any_of(waiting_shapes_.begin(), waiting_shapes_.end(),
                     [](const Shape* shape) { return shape->feasible; });
}

// Asks the holders of leases for those they do not use. A client whose leases are all of the one
// class that waits uses them, or it would not wait.
void LeaseQueue::ReclaimIfDue() {
  const absl::Time now = clock_->Now();
  if (!SomebodyWaitsForResources() || now - last_reclaim_ < options_.reclaim_interval) return;
  last_reclaim_ = now;
  const bool one_class = waiting_shapes_.size() == 1 && waiting_shapes_.front()->ring.size() == 1;
  const Class* only = one_class ? waiting_shapes_.front()->ring.front() : nullptr;
  for (const auto& [id, client] : clients_) {
    const bool may_spare =
        std::any_of(client.classes.begin(), client.classes.end(),
                    [&](const Class* held) { return held->leases > 0 && held != only; });
    if (may_spare) actions_->ReclaimLeases(id);
  }
}

void LeaseQueue::WarnIfDue() {
  const absl::Time before = clock_->Now() - options_.warn_after;
  for (const auto& [key, in_class] : classes_) {
    if (!in_class->queue.empty() && in_class->queue.front().since <= before) {
      WarnHead(in_class.get());
    }
  }
  for (const auto& [key, lease] : awaiting_) {
    if (lease->warned || lease->since > before) continue;
    lease->warned = true;
    actions_->Warn({key.first, lease->request_id, lease->task_name, /*infeasible=*/false,
                    absl::StrCat("The task ", lease->task_name,
                                 " has its resources but still waits for a worker process to start "
                                 "on this node. See worker-*.err and zygote.err in the session's "
                                 "log folder if this goes on.")});
  }
}

// Only the head of a class is warned of: what waits behind it waits for the same.
void LeaseQueue::WarnHead(Class* in_class) {
  const Queued& head = in_class->queue.front();
  const ResourceSet& needs = in_class->key.resources;
  if (!in_class->shape->feasible) {
    if (in_class->warned_infeasible == head.request_id) return;
    in_class->warned_infeasible = head.request_id;
    actions_->Warn({in_class->key.client, head.request_id, head.task_name, /*infeasible=*/true,
                    ExplainInfeasible(head.task_name, needs)});
  } else if (!in_class->warned_busy) {
    in_class->warned_busy = true;
    actions_->Warn({in_class->key.client, head.request_id, head.task_name, /*infeasible=*/false,
                    ExplainBusy(head.task_name, needs)});
  }
}

std::string LeaseQueue::ExplainInfeasible(const std::string& task, const ResourceSet& needs) const {
  const ResourceSet& total = resources_.total();
  std::vector<std::string> missing;
  for (const auto& [name, quantity] : needs) {
    if (quantity <= total.Get(name)) continue;
    missing.push_back(absl::StrCat(resources::FormatQuantity(quantity), " ", name,
                                   " (this node has ", resources::FormatQuantity(total.Get(name)),
                                   ")"));
  }
  return absl::StrCat("No node of the cluster can run the task ", task, ": it needs ",
                      absl::StrJoin(missing, " and "), ". This node has ", total.ToString(),
                      " in total. The task stays pending until a node with enough of it joins; "
                      "cancel it, or ask for less, if none will.");
}

std::string LeaseQueue::ExplainBusy(const std::string& task, const ResourceSet& needs) const {
  return absl::StrCat("The task ", task, " has waited for ", needs.ToString(), " for ",
                      absl::FormatDuration(options_.warn_after), " or longer: of ",
                      resources_.total().ToString(), " in total, ",
                      resources_.available().ToString(),
                      " is free. It runs once other tasks and actors give enough back.");
}

std::string LeaseQueue::Explain(ClientId client, uint64_t request_id) const {
  if (awaiting_.contains({client, request_id})) {
    return "It has its resources and waits for a worker process: one is being started, or its "
           "runtime environment is being set up.";
  }
  auto it = queued_.find({client, request_id});
  if (it == queued_.end()) return "";
  const ResourceSet& needs = it->second.second->shape->resources;
  const std::string& task = it->second.first->task_name;
  if (!resources_.IsFeasible(needs)) return ExplainInfeasible(task, needs);
  return absl::StrCat("The task ", task, " waits for ", needs.ToString(), ": of ",
                      resources_.total().ToString(), " in total, ",
                      resources_.available().ToString(),
                      " is free. It runs once other tasks and actors give enough back.");
}

std::optional<std::pair<ClientId, uint64_t>> LeaseQueue::RequestOf(const LeaseId& lease) const {
  const Lease* found = FindLease(lease);
  const bool waits =
      found != nullptr && !found->IsActor() && found->state == LeaseState::kAwaitingWorker;
  if (!waits) return std::nullopt;
  return std::make_pair(found->in_class->key.client, found->request_id);
}

// --- Invariants

void LeaseQueue::CheckInvariants() const {
  resources_.CheckInvariants();
  ResourceSet held = resources_.available();
  ResourceSet of_actors;
  size_t of_classes = 0;
  for (const auto& [id, lease] : leases_) {
    held += lease->allocation.quantities();
    held.Add(resources::kCpu, FixedPoint() - lease->lent_cpu);
    const bool has_worker = lease->state != LeaseState::kAwaitingWorker;
    MANTA_CHECK(lease->state != LeaseState::kEnded);
    MANTA_CHECK(has_worker == !lease->worker.IsNil());
    MANTA_CHECK(!has_worker || by_worker_.at(lease->worker) == lease.get());
    MANTA_CHECK(lease->lent_cpu.IsZero() || lease->state == LeaseState::kBlocked);
    if (lease->IsActor()) {
      of_actors += lease->allocation.quantities();
      continue;
    }
    ++of_classes;
    const RequestKey key{lease->in_class->key.client, lease->request_id};
    MANTA_CHECK(clients_.at(key.first).leases.contains(lease.get()));
    MANTA_CHECK(awaiting_.contains(key) == !has_worker);
    MANTA_CHECK(!queued_.contains(key) || has_worker);
  }
  MANTA_CHECK_MSG(held == resources_.total(), "LEASE-1");
  MANTA_CHECK(of_actors == held_by_actors_);

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

  const Shape* patient = PatientShape();
  for (const Shape* shape : waiting_shapes_) {
    waiting -= shape->ring.size();
    resources::NodeResources probe = resources_;
    const bool fits = probe.Allocate(shape->resources).has_value();
    MANTA_CHECK_MSG(!fits || IsHeldBack(*shape, patient), "LEASE-3");
  }
  MANTA_CHECK(waiting == 0);
}

}  // namespace ray::scheduling
