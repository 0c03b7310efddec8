#include "ray/raylet/worker_pool.h"

#include <algorithm>
#include <utility>

#include "ray/base/check.h"

namespace ray::raylet {

using base::JobId;
using base::LeaseId;
using base::WorkerId;

namespace {

constexpr absl::Duration kForkDelayMax = absl::Seconds(5);

}  // namespace

struct WorkerPool::Worker {
  StartupToken token = 0;
  WorkerState state = WorkerState::kStarting;
  std::string env_hash;
  WorkerId id;    // nil until HELLO
  pid_t pid = 0;  // 0 until the zygote or HELLO told
  JobId job;      // nil until its first use
  absl::Time idle_since;
  absl::Time deadline = absl::InfiniteFuture();
  // Its end.
  bool connected = false;
  bool exited = false;
  std::optional<ExitStatus> status;
  bool intended = false;
  std::string reason;
  bool out_of_memory = false;
};

WorkerPool::Options WorkerPool::Options::FromConfig(const base::Config& config, size_t num_cpus) {
  Options options;
  options.num_cpus = num_cpus;
  options.prestart = std::min<size_t>(num_cpus, std::max<int64_t>(config.worker_prestart_max, 0));
  options.starting_max = std::max<int64_t>(config.workers_starting_max, 1);
  options.idle_age_max = absl::Milliseconds(config.idle_worker_max_age_ms);
  options.register_timeout = absl::Milliseconds(config.worker_register_timeout_ms);
  options.environment_timeout = absl::Milliseconds(config.runtime_env_setup_timeout_ms);
  options.exit_grace = absl::Milliseconds(config.worker_exit_grace_ms);
  return options;
}

WorkerPool::WorkerPool(Options options, const base::Clock* clock, Actions* actions)
    : options_(options), clock_(clock), actions_(actions) {}

WorkerPool::~WorkerPool() = default;

void WorkerPool::Start() {
  for (size_t i = 0; i < options_.prestart; ++i) Fork(/*env_hash=*/"");
  Settle();
}

EnvironmentHandle WorkerPool::Learn(const std::string& env_hash, const std::string& environment) {
  if (env_hash.empty()) return nullptr;
  if (environments_.size() >= environments_sweep_at_) {
    absl::erase_if(environments_, [](const auto& entry) { return entry.second.expired(); });
    environments_sweep_at_ = std::max(kEnvironmentsKept, 2 * environments_.size());
  }
  std::weak_ptr<const std::string>& slot = environments_[env_hash];
  if (EnvironmentHandle known = slot.lock(); known != nullptr) return known;
  auto learned = std::make_shared<const std::string>(environment);
  slot = learned;
  return learned;
}

// --- Leases and actors

std::optional<WorkerId> WorkerPool::Acquire(Use use, const LeaseId& lease, const JobId& job,
                                            const std::string& env_hash) {
  if (Worker* worker = PickIdle(use, env_hash, job); worker != nullptr) {
    Assign(worker, use, job);
    Settle();
    return worker->id;
  }
  Key key{env_hash, job};
  WaitingList& list = waiting_lists_[key];
  auto it = list.insert(list.end(), {next_order_++, use, lease});
  waiting_.emplace(lease, std::make_pair(std::move(key), it));
  Settle();
  return std::nullopt;
}

void WorkerPool::Abandon(const LeaseId& lease) {
  auto it = waiting_.find(lease);
  if (it == waiting_.end()) return;
  auto [key, waiting] = it->second;
  TakeWaiting(key, waiting);
}

void WorkerPool::Release(const WorkerId& worker) {
  Worker* released = FindById(worker);
  if (released == nullptr || released->state == WorkerState::kExiting) return;
  BecomeIdle(released);
  ServeWaiting(released);
  Settle();
}

// A task goes to a worker that is warm for its job; an actor, which ends the worker's other use, to
// a fresh one.
WorkerPool::Worker* WorkerPool::PickIdle(Use use, const std::string& env_hash, const JobId& job) {
  const Key of_job{env_hash, job};
  const Key fresh{env_hash, JobId::Nil()};
  Worker* worker = NewestIdle(use == Use::kTask ? of_job : fresh);
  return worker != nullptr ? worker : NewestIdle(use == Use::kTask ? fresh : of_job);
}

WorkerPool::Worker* WorkerPool::NewestIdle(const Key& key) {
  auto it = idle_.find(key);
  return it == idle_.end() ? nullptr : FindByToken(it->second.rbegin()->second);
}

void WorkerPool::RemoveFromIdle(Worker* worker) {
  auto it = idle_.find({worker->env_hash, worker->job});
  it->second.erase({worker->idle_since, worker->token});
  if (it->second.empty()) idle_.erase(it);
  --idle_count_;
}

void WorkerPool::Assign(Worker* worker, Use use, const JobId& job) {
  RemoveFromIdle(worker);
  Transition(worker, use == Use::kTask ? WorkerState::kLeased : WorkerState::kActor);
  worker->job = job;
  SetDeadline(worker, absl::InfiniteFuture());
}

void WorkerPool::BecomeIdle(Worker* worker) {
  Transition(worker, WorkerState::kIdle);
  worker->idle_since = clock_->Now();
  idle_[{worker->env_hash, worker->job}].insert({worker->idle_since, worker->token});
  ++idle_count_;
  SetDeadline(worker, worker->idle_since + options_.idle_age_max);
}

// Gives an idle worker to the lease that has waited longest among those it fits.
void WorkerPool::ServeWaiting(Worker* worker) {
  std::optional<Key> key = KeyOfOldestWaiting(*worker);
  if (!key.has_value()) return;
  const Waiting waiting = TakeWaiting(*key, waiting_lists_[*key].begin());
  Assign(worker, waiting.use, key->second);
  actions_->WorkerReady(waiting.use, waiting.lease, worker->id);
}

std::optional<WorkerPool::Key> WorkerPool::KeyOfOldestWaiting(const Worker& worker) const {
  std::optional<Key> oldest;
  uint64_t oldest_order = UINT64_MAX;
  for (const auto& [key, list] : waiting_lists_) {
    const bool fits =
        key.first == worker.env_hash && (worker.job.IsNil() || key.second == worker.job);
    if (!fits || list.front().order >= oldest_order) continue;
    oldest = key;
    oldest_order = list.front().order;
  }
  return oldest;
}

WorkerPool::Waiting WorkerPool::TakeWaiting(const Key& key, WaitingList::iterator waiting) {
  const Waiting taken = *waiting;
  auto list = waiting_lists_.find(key);
  list->second.erase(waiting);
  if (list->second.empty()) waiting_lists_.erase(list);
  waiting_.erase(taken.lease);
  return taken;
}

// --- Starting

void WorkerPool::ForkAsNeeded() {
  if (clock_->Now() < fork_not_before_) return;
  absl::flat_hash_map<std::string, size_t> wanted;
  for (const auto& [key, list] : waiting_lists_) wanted[key.first] += list.size();
  for (const auto& [env_hash, count] : wanted) {
    const bool is_new = !env_hash.empty() && !proven_.contains(env_hash);
    const size_t limit = std::min(count, is_new ? 1 : options_.starting_max);
    auto starting = starting_.find(env_hash);
    for (size_t i = starting == starting_.end() ? 0 : starting->second; i < limit; ++i) {
      Fork(env_hash);
    }
  }
}

void WorkerPool::Fork(const std::string& env_hash) {
  auto worker = std::make_unique<Worker>();
  worker->token = next_token_++;
  worker->env_hash = env_hash;
  Worker* raw = worker.get();
  workers_.emplace(raw->token, std::move(worker));
  ++starting_[env_hash];
  SetDeadline(raw, clock_->Now() + (env_hash.empty() ? options_.register_timeout
                                                     : options_.environment_timeout));
  auto known = environments_.find(env_hash);
  const EnvironmentHandle environment =
      known == environments_.end() ? nullptr : known->second.lock();
  actions_->Fork(raw->token, environment == nullptr ? "" : *environment);
}

void WorkerPool::StoppedStarting(const std::string& env_hash) {
  auto it = starting_.find(env_hash);
  if (--it->second == 0) starting_.erase(it);
}

// Workers that end before they register would else be forked in a tight loop. Several that fail
// together count once.
void WorkerPool::DelayForks() {
  if (clock_->Now() < fork_not_before_) return;
  const absl::Duration delay = std::min(
      options_.restart_delay * (int64_t{1} << std::min(start_failures_, 10)), kForkDelayMax);
  ++start_failures_;
  deadlines_.erase({fork_not_before_, 0});
  fork_not_before_ = clock_->Now() + delay;
  deadlines_.insert({fork_not_before_, 0});
}

void WorkerPool::Forked(StartupToken token, pid_t pid) {
  Worker* worker = FindByToken(token);
  if (worker == nullptr) {
    // Given up on before its fork was confirmed.
    actions_->Kill(pid);
    return;
  }
  SetPid(worker, pid);
  if (worker->state == WorkerState::kExiting) actions_->Kill(pid);
}

void WorkerPool::ZygoteLost() {
  std::vector<Worker*> lost;
  for (const auto& [token, worker] : workers_) {
    if (worker->state == WorkerState::kStarting) lost.push_back(worker.get());
  }
  for (Worker* worker : lost) {
    BeginExit(worker, "the zygote that forked it died");
    KillNow(worker);
    ReportDeath(worker);
  }
  Settle();
}

bool WorkerPool::Expects(StartupToken token) const {
  const Worker* worker = FindByToken(token);
  return worker != nullptr && worker->state == WorkerState::kStarting;
}

void WorkerPool::Register(StartupToken token, const WorkerId& id, pid_t pid) {
  Worker* worker = FindByToken(token);
  MANTA_CHECK(worker != nullptr && worker->state == WorkerState::kStarting);
  worker->id = id;
  worker->connected = true;
  SetPid(worker, pid);
  MANTA_CHECK(by_id_.emplace(id, worker).second);
  StoppedStarting(worker->env_hash);
  start_failures_ = 0;
  if (proven_.size() >= kEnvironmentsKept) proven_.clear();
  proven_.insert(worker->env_hash);
  BecomeIdle(worker);
  ServeWaiting(worker);
  Settle();
}

void WorkerPool::EnvironmentFailed(StartupToken token, const std::string& why) {
  Worker* worker = FindByToken(token);
  if (worker == nullptr || worker->state != WorkerState::kStarting) return;
  BeginExit(worker, "its runtime environment could not be set up");
  std::vector<std::pair<Key, Waiting>> failed;
  for (const auto& [key, list] : waiting_lists_) {
    if (key.first != worker->env_hash) continue;
    for (const Waiting& waiting : list) failed.emplace_back(key, waiting);
  }
  for (const auto& [key, waiting] : failed) Abandon(waiting.lease);
  SetDeadline(worker, clock_->Now() + options_.exit_grace);
  Settle();
  for (const auto& [key, waiting] : failed) {
    actions_->EnvironmentFailed(waiting.use, waiting.lease, why);
  }
}

// --- Ending

void WorkerPool::Leaving(const WorkerId& id, bool intended, std::string reason) {
  Worker* worker = FindById(id);
  if (worker == nullptr) return;
  worker->intended = intended;
  worker->reason = std::move(reason);
  BeginExit(worker, "");
  Settle();
}

void WorkerPool::Kill(const WorkerId& id, std::string reason) {
  Worker* worker = FindById(id);
  if (worker == nullptr) return;
  BeginExit(worker, std::move(reason));
  KillNow(worker);
  Settle();
}

void WorkerPool::KillForMemory(const WorkerId& id, std::string reason) {
  Worker* worker = FindById(id);
  if (worker == nullptr) return;
  worker->out_of_memory = true;
  worker->reason = std::move(reason);  // whatever else it was about to end for
  Kill(id, "");
}

void WorkerPool::AskToExit(const WorkerId& id, std::string reason, bool patient) {
  Worker* worker = FindById(id);
  if (worker == nullptr) return;
  const std::string told = reason;
  BeginExit(worker, std::move(reason));
  if (!patient) SetDeadline(worker, clock_->Now() + options_.exit_grace);
  Settle();
  actions_->AskToExit(id, told);
}

void WorkerPool::JobFinished(const JobId& job) {
  std::vector<Worker*> unused;
  for (const auto& [token, worker] : workers_) {
    const bool serves =
        worker->state == WorkerState::kLeased || worker->state == WorkerState::kActor;
    if (worker->job == job && !serves) unused.push_back(worker.get());
  }
  for (Worker* worker : unused) {
    BeginExit(worker, "its job finished");
    KillNow(worker);
  }
  Settle();
}

void WorkerPool::BeginExit(Worker* worker, std::string reason) {
  if (worker->reason.empty()) worker->reason = std::move(reason);
  if (worker->state == WorkerState::kExiting) return;
  if (worker->state == WorkerState::kIdle) RemoveFromIdle(worker);
  if (worker->state == WorkerState::kStarting) StoppedStarting(worker->env_hash);
  Transition(worker, WorkerState::kExiting);
  SetDeadline(worker, absl::InfiniteFuture());
}

void WorkerPool::KillNow(Worker* worker) {
  if (worker->pid != 0 && !worker->exited) actions_->Kill(worker->pid);
  // A worker that never connected has no other half to wait for.
  if (!worker->connected) OnHalfEnded(worker);
}

void WorkerPool::Disconnected(const WorkerId& id) {
  Worker* worker = FindById(id);
  if (worker == nullptr) return;
  BeginExit(worker, "");
  worker->connected = false;
  OnHalfEnded(worker);
  Settle();
}

void WorkerPool::Exited(StartupToken token, ExitStatus status) {
  Worker* worker = FindByToken(token);
  if (worker == nullptr) return;
  if (worker->state == WorkerState::kStarting) DelayForks();
  BeginExit(worker, "");
  worker->exited = true;
  worker->status = status;
  OnHalfEnded(worker);
  Settle();
}

void WorkerPool::OnHalfEnded(Worker* worker) {
  if (worker->exited && !worker->connected) {
    ReportDeath(worker);
  } else {
    SetDeadline(worker, clock_->Now() + options_.report_delay);
  }
}

void WorkerPool::ReportDeath(Worker* worker) {
  const WorkerDeath death{.token = worker->token,
                          .worker = worker->id,
                          .pid = worker->pid,
                          .job = worker->job,
                          .intended = worker->intended,
                          .reason = worker->reason,
                          .status = worker->status,
                          .out_of_memory = worker->out_of_memory};
  SetDeadline(worker, absl::InfiniteFuture());
  if (!worker->id.IsNil()) by_id_.erase(worker->id);
  if (auto it = by_pid_.find(worker->pid); it != by_pid_.end() && it->second == worker) {
    by_pid_.erase(it);
  }
  workers_.erase(death.token);
  actions_->WorkerDied(death);
}

// --- Time

void WorkerPool::Tick() {
  const absl::Time now = clock_->Now();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const StartupToken token = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    Worker* worker = FindByToken(token);
    if (worker == nullptr) continue;
    worker->deadline = absl::InfiniteFuture();
    OnDeadline(worker);
  }
  Settle();
}

void WorkerPool::OnDeadline(Worker* worker) {
  switch (worker->state) {
    case WorkerState::kStarting:
      DelayForks();
      BeginExit(worker, "it did not register in time");
      KillNow(worker);
      return;
    case WorkerState::kIdle:
      if (idle_count_ > options_.num_cpus) {
        AskToExit(worker->id, "it was idle for long", /*patient=*/true);
      } else {
        SetDeadline(worker, clock_->Now() + options_.idle_age_max);
      }
      return;
    case WorkerState::kExiting:
      if (worker->connected && !worker->exited) {
        KillNow(worker);  // it was asked to exit and has not
        return;
      }
      // One half of its end has not come in time: see to it, and wait no longer.
      if (worker->connected) actions_->Disconnect(worker->id);
      if (!worker->exited && worker->pid != 0) actions_->Kill(worker->pid);
      ReportDeath(worker);
      return;
    case WorkerState::kLeased:
    case WorkerState::kActor:
      return;
  }
}

void WorkerPool::SetDeadline(Worker* worker, absl::Time deadline) {
  if (worker->deadline != absl::InfiniteFuture()) {
    deadlines_.erase({worker->deadline, worker->token});
  }
  worker->deadline = deadline;
  if (deadline != absl::InfiniteFuture()) deadlines_.insert({deadline, worker->token});
}

// After each change: starts what is wanted and has the clock set.
void WorkerPool::Settle() {
  ForkAsNeeded();
  const absl::Time next = deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first;
  if (next == armed_) return;
  armed_ = next;
  actions_->SetDeadline(next);
}

// --- Records

WorkerPool::Worker* WorkerPool::FindByToken(StartupToken token) const {
  auto it = workers_.find(token);
  return it == workers_.end() ? nullptr : it->second.get();
}

WorkerPool::Worker* WorkerPool::FindById(const WorkerId& worker) const {
  auto it = by_id_.find(worker);
  return it == by_id_.end() ? nullptr : it->second;
}

void WorkerPool::Transition(Worker* worker, WorkerState to) {
  MANTA_CHECK(MayFollow(worker->state, to));
  worker->state = to;
}

// The zygote and HELLO both tell; whoever comes first.
void WorkerPool::SetPid(Worker* worker, pid_t pid) {
  if (worker->pid != 0) return;
  worker->pid = pid;
  by_pid_[pid] = worker;
}

std::optional<JobId> WorkerPool::JobOf(pid_t pid) const {
  auto it = by_pid_.find(pid);
  if (it == by_pid_.end() || it->second->job.IsNil()) return std::nullopt;
  return it->second->job;
}

JobId WorkerPool::JobOf(const WorkerId& worker) const {
  const Worker* found = FindById(worker);
  return found == nullptr ? JobId::Nil() : found->job;
}

std::vector<pid_t> WorkerPool::Pids() const {
  std::vector<pid_t> pids;
  for (const auto& [token, worker] : workers_) {
    if (worker->pid != 0 && !worker->exited) pids.push_back(worker->pid);
  }
  return pids;
}

pid_t WorkerPool::PidOf(const WorkerId& worker) const {
  const Worker* found = FindById(worker);
  return found == nullptr ? 0 : found->pid;
}

std::vector<WorkerId> WorkerPool::IdleWorkers() const {
  std::vector<WorkerId> idle;
  for (const auto& [key, workers] : idle_) {
    for (const auto& [since, token] : workers) idle.push_back(FindByToken(token)->id);
  }
  return idle;
}

void WorkerPool::CheckInvariants() const {
  size_t idle = 0;
  size_t starting = 0;
  size_t registered = 0;
  for (const auto& [token, worker] : workers_) {
    idle += worker->state == WorkerState::kIdle ? 1 : 0;
    starting += worker->state == WorkerState::kStarting ? 1 : 0;
    if (!worker->id.IsNil()) {
      ++registered;
      MANTA_CHECK(by_id_.at(worker->id) == worker.get());
    }
    const bool in_use =
        worker->state == WorkerState::kLeased || worker->state == WorkerState::kActor;
    MANTA_CHECK_MSG(!in_use || !worker->job.IsNil(), "POOL-1");
    if (worker->state == WorkerState::kIdle) {
      MANTA_CHECK_MSG(!KeyOfOldestWaiting(*worker).has_value(), "POOL-3");
      MANTA_CHECK(
          idle_.at({worker->env_hash, worker->job}).contains({worker->idle_since, worker->token}));
    }
  }
  MANTA_CHECK(idle == idle_count_);
  size_t counted = 0;
  for (const auto& [env_hash, count] : starting_) counted += count;
  MANTA_CHECK(starting == counted);
  MANTA_CHECK(registered == by_id_.size());
  size_t waiting = 0;
  for (const auto& [key, list] : waiting_lists_) waiting += list.size();
  MANTA_CHECK(waiting == waiting_.size());
}

}  // namespace ray::raylet
