#include "ray/core/task_submitter.h"

#include <algorithm>
#include <utility>

#include "ray/base/check.h"

namespace ray::core {

using base::LeaseId;
using base::TaskId;
using base::WorkerId;

namespace {

// Weight of the newest run time in the moving average: short enough to notice a change within a few
// tasks.
constexpr double kNewestWeight = 0.2;

}  // namespace

std::string TaskSubmitter::KeyOf(const Task& task) {
  const std::string& of_template = task.task_template->scheduling_class;
  if (task.preferred_node.IsNil()) return of_template;
  return of_template + task.preferred_node.BinaryString();
}

TaskSubmitter::Class& TaskSubmitter::ClassOf(const TaskPtr& task) {
  if (classes_.size() >= classes_forget_at_) ForgetUnusedClasses();
  auto& slot = task->preferred_node.IsNil() ? classes_[task->task_template->scheduling_class]
                                            : classes_[KeyOf(*task)];
  if (slot == nullptr) slot = std::make_unique<Class>();
  if (slot->example == nullptr || slot->example->task_template != task->task_template) {
    slot->example = std::make_shared<Task>();
    slot->example->task_template = task->task_template;
    slot->example->preferred_node = task->preferred_node;
  }
  return *slot;
}

void TaskSubmitter::ForgetUnusedClasses() {
  absl::erase_if(classes_, [](const auto& entry) {
    const Class& of = *entry.second;
    return of.queue.empty() && of.workers.empty() && of.requests.empty();
  });
  classes_forget_at_ = std::max(kClassesKept, 2 * classes_.size());
}

void TaskSubmitter::Submit(TaskPtr task, int64_t now) {
  Class& of = ClassOf(task);
  of.queue.push_back(std::move(task));
  Dispatch(of, now);
}

bool TaskSubmitter::RemoveQueued(const TaskId& task) {
  for (auto& [key, of] : classes_) {
    auto it = std::find_if(of->queue.begin(), of->queue.end(),
                           [&](const TaskPtr& queued) { return queued->id == task; });
    if (it == of->queue.end()) continue;
    of->queue.erase(it);
    BalanceRequests(*of);
    return true;
  }
  return false;
}

size_t TaskSubmitter::Depth(const Class& of) const {
  if (of.run_nanos < 0) return 1;
  double depth = static_cast<double>(options_.pipeline_target_nanos) / std::max(of.run_nanos, 1.0);
  return std::clamp(static_cast<size_t>(depth), size_t{1}, options_.depth_max);
}

bool TaskSubmitter::CanTake(const Worker& worker, const Task& task, size_t depth,
                            int64_t now) const {
  if (worker.stalled || worker.retired) return false;
  if (IsSliceOver(worker, now)) return false;
  if (worker.used && task.task_template->spread) return false;
  if (worker.in_flight.empty()) return true;
  bool at_most_once = task.retries_left == 0 || worker.in_flight.back()->retries_left == 0;
  return !at_most_once && worker.in_flight.size() < depth;
}

// The least loaded worker that can take the task, or null.
TaskSubmitter::Worker* TaskSubmitter::PickWorker(Class& of, const Task& task, int64_t now) {
  size_t depth = Depth(of);
  Worker* best = nullptr;
  for (Worker* worker : of.workers) {
    if (!CanTake(*worker, task, depth, now)) continue;
    if (best == nullptr || worker->in_flight.size() < best->in_flight.size()) best = worker;
    if (best->in_flight.empty()) break;
  }
  return best;
}

void TaskSubmitter::Dispatch(Class& of, int64_t now) {
  while (!of.queue.empty()) {
    Worker* worker = PickWorker(of, *of.queue.front(), now);
    if (worker == nullptr) break;
    TaskPtr task = std::move(of.queue.front());
    of.queue.pop_front();
    Push(*worker, std::move(task), now);
  }
  BalanceRequests(of);
}

void TaskSubmitter::Push(Worker& worker, TaskPtr task, int64_t now) {
  if (worker.in_flight.empty()) worker.head_since = now;
  worker.used = true;
  running_[task->id] = &worker;
  worker.in_flight.push_back(task);
  actions_->PushTask(worker.address, task);
}

void TaskSubmitter::BalanceRequests(Class& of) {
  size_t wanted = std::min(of.queue.size(), options_.lease_requests_max);
  while (of.requests.size() < wanted) {
    uint64_t id = next_request_++;
    of.requests.push_back({id, false});
    requests_[id] = &of;
    actions_->RequestLease(id, *of.example, of.queue.size());
  }
  if (!of.queue.empty()) return;
  for (Request& request : of.requests) {
    if (std::exchange(request.cancelled, true)) continue;
    actions_->CancelLease(request.id);  // answered with "cancelled", or granted after all
  }
}

TaskSubmitter::Class* TaskSubmitter::TakeRequest(uint64_t request_id) {
  auto it = requests_.find(request_id);
  if (it == requests_.end()) return nullptr;
  Class* of = it->second;
  requests_.erase(it);
  std::erase_if(of->requests, [&](const Request& request) { return request.id == request_id; });
  return of;
}

void TaskSubmitter::OnLeaseGranted(uint64_t request_id, const LeaseId& lease, AddressPtr address,
                                   bool contended, int64_t now) {
  Class* of = TakeRequest(request_id);
  if (of == nullptr) return actions_->ReturnLease(lease, false);
  auto worker = std::make_unique<Worker>();
  worker->lease = lease;
  worker->address = std::move(address);
  worker->of = of;
  worker->contended = contended;
  worker->granted_at = worker->idle_since = now;
  Worker* raw = worker.get();
  auto [it, inserted] = workers_.try_emplace(raw->address->worker_id, std::move(worker));
  if (!inserted) {  // the raylet leased one worker twice: refuse the second
    actions_->ReturnLease(lease, false);
    return BalanceRequests(*of);
  }
  of->workers.push_back(raw);
  contended_ += contended ? 1 : 0;
  Dispatch(*of, now);
  ReturnIfUnwanted(raw, now);
}

std::vector<TaskPtr> TaskSubmitter::OnLeaseRefused(uint64_t request_id, bool cancelled) {
  Class* of = TakeRequest(request_id);
  if (of == nullptr) return {};
  if (cancelled) {
    BalanceRequests(*of);
    return {};
  }
  std::vector<TaskPtr> tasks(of->queue.begin(), of->queue.end());
  of->queue.clear();
  BalanceRequests(*of);
  return tasks;
}

void TaskSubmitter::OnTaskDone(const WorkerId& worker_id, const TaskId& task, uint32_t run_micros,
                               bool leaving, int64_t now) {
  auto it = workers_.find(worker_id);
  if (it == workers_.end()) return;
  Worker* worker = it->second.get();
  worker->retired = worker->retired || leaving;
  auto& in_flight = worker->in_flight;
  auto position = std::find_if(in_flight.begin(), in_flight.end(),
                               [&](const TaskPtr& running) { return running->id == task; });
  if (position == in_flight.end()) return;
  in_flight.erase(position);
  running_.erase(task);
  worker->stalled = false;
  worker->head_since = now;
  worker->idle_since = now;
  Class& of = *worker->of;
  double run_nanos = run_micros * 1000.0;
  of.run_nanos =
      of.run_nanos < 0 ? run_nanos : of.run_nanos + kNewestWeight * (run_nanos - of.run_nanos);
  if (!of.queue.empty()) Dispatch(of, now);
  ReturnIfUnwanted(worker, now);
}

void TaskSubmitter::OnTasksRecalled(const WorkerId& worker_id, const std::vector<TaskId>& tasks,
                                    int64_t now) {
  auto it = workers_.find(worker_id);
  if (it == workers_.end()) return;
  Worker* worker = it->second.get();
  Class& of = *worker->of;
  worker->stalled = !worker->in_flight.empty();
  // Back to the front of the queue, in their old order.
  for (auto task = tasks.rbegin(); task != tasks.rend(); ++task) {
    auto& in_flight = worker->in_flight;
    auto position = std::find_if(in_flight.begin(), in_flight.end(),
                                 [&](const TaskPtr& running) { return running->id == *task; });
    if (position == in_flight.end()) continue;
    of.queue.push_front(*position);
    in_flight.erase(position);
    running_.erase(*task);
  }
  Dispatch(of, now);
  ReturnIfUnwanted(worker, now);
}

bool TaskSubmitter::TakeBack(const WorkerId& worker_id, const TaskId& task) {
  auto it = workers_.find(worker_id);
  if (it == workers_.end()) return false;
  auto& in_flight = it->second->in_flight;
  auto position = std::find_if(in_flight.begin(), in_flight.end(),
                               [&](const TaskPtr& running) { return running->id == task; });
  if (position == in_flight.end()) return false;
  in_flight.erase(position);
  running_.erase(task);
  return true;
}

std::vector<TaskPtr> TaskSubmitter::OnWorkerLost(const WorkerId& worker_id, int64_t now) {
  auto it = workers_.find(worker_id);
  if (it == workers_.end()) return {};
  Worker* worker = it->second.get();
  Class& of = *worker->of;
  std::vector<TaskPtr> lost(worker->in_flight.begin(), worker->in_flight.end());
  for (const TaskPtr& task : lost) running_.erase(task->id);
  worker->in_flight.clear();
  ReturnWorker(worker, /*broken=*/true);
  Dispatch(of, now);
  return lost;
}

void TaskSubmitter::OnReclaim(int64_t now) {
  std::vector<Worker*> all;
  for (auto& [id, worker] : workers_) all.push_back(worker.get());
  for (Worker* worker : all) {
    worker->leaving = true;
    ReturnIfUnwanted(worker, now);
  }
}

void TaskSubmitter::OnGroupRemoved(const base::PlacementGroupId& group, int64_t now) {
  for (auto& [key, of] : classes_) {
    if (of->example->task_template->group != group) continue;
    of->removed = true;
    const std::vector<Worker*> workers = of->workers;
    for (Worker* worker : workers) ReturnIfUnwanted(worker, now);
  }
}

// Gives an idle lease back if it has lingered long enough or somebody waits for it.
bool TaskSubmitter::ReturnIfUnwanted(Worker* worker, int64_t now) {
  if (!worker->in_flight.empty()) return false;
  const int64_t linger =
      worker->contended ? options_.contended_linger_nanos : options_.linger_nanos;
  const bool over = now - worker->idle_since >= linger || IsSliceOver(*worker, now);
  Class& of = *worker->of;
  const bool single_use = worker->used && of.example->task_template->spread;
  if (!worker->leaving && !worker->retired && !of.removed && !single_use && !over) return false;
  ReturnWorker(worker, /*broken=*/worker->retired);
  BalanceRequests(of);
  return true;
}

// A slice only where others wait.
bool TaskSubmitter::IsSliceOver(const Worker& worker, int64_t now) const {
  return (worker.contended || worker.leaving) && now - worker.granted_at > options_.slice_nanos;
}

void TaskSubmitter::ReturnWorker(Worker* worker, bool broken) {
  contended_ -= worker->contended ? 1 : 0;
  std::erase(worker->of->workers, worker);
  actions_->ReturnLease(worker->lease, broken);
  workers_.erase(WorkerId(worker->address->worker_id));
}

void TaskSubmitter::Tick(int64_t now) {
  std::vector<Worker*> all;
  for (auto& [id, worker] : workers_) all.push_back(worker.get());
  for (Worker* worker : all) {
    if (ReturnIfUnwanted(worker, now)) continue;
    bool stalls = worker->in_flight.size() > 1 && !worker->stalled &&
                  now - worker->head_since > options_.stall_nanos;
    if (!stalls) continue;
    worker->stalled = true;
    std::vector<TaskId> behind;
    for (size_t i = 1; i < worker->in_flight.size(); ++i)
      behind.push_back(worker->in_flight[i]->id);
    actions_->RecallTasks(worker->address, behind);
  }
}

std::vector<AddressPtr> TaskSubmitter::WorkersOn(const base::NodeId& node) const {
  std::vector<AddressPtr> found;
  for (const auto& [id, worker] : workers_) {
    if (worker->address->node_id == node) found.push_back(worker->address);
  }
  return found;
}

bool TaskSubmitter::RunsSomethingOn(const base::NodeId& node) const {
  return std::any_of(workers_.begin(), workers_.end(), [&](const auto& entry) {
    const Worker& worker = *entry.second;
    return !worker.in_flight.empty() && worker.address->node_id == node;
  });
}

std::optional<AddressPtr> TaskSubmitter::WorkerRunning(const TaskId& task) const {
  auto it = running_.find(task);
  if (it == running_.end()) return std::nullopt;
  return it->second->address;
}

std::optional<uint64_t> TaskSubmitter::RequestFor(const Task& task) const {
  auto it = classes_.find(KeyOf(task));
  if (it == classes_.end() || it->second->requests.empty()) return std::nullopt;
  return it->second->requests.front().id;
}

size_t TaskSubmitter::queued() const {
  size_t total = 0;
  for (const auto& [key, of] : classes_) total += of->queue.size();
  return total;
}

void TaskSubmitter::CheckInvariants() const {
  size_t in_flight = 0;
  size_t contended = 0;
  for (const auto& [id, worker] : workers_) {
    contended += worker->contended ? 1 : 0;
    MANTA_CHECK(worker->address->worker_id == id);
    in_flight += worker->in_flight.size();
    for (size_t i = 0; i < worker->in_flight.size(); ++i) {
      auto running = running_.find(worker->in_flight[i]->id);
      MANTA_CHECK(running != running_.end() && running->second == worker.get());
      MANTA_CHECK(i == 0 || worker->in_flight[i]->retries_left != 0);  // SUBMIT-2
    }
  }
  MANTA_CHECK(in_flight == running_.size());  // SUBMIT-1
  MANTA_CHECK(contended == contended_);
  for (const auto& [key, of] : classes_) {
    MANTA_CHECK(of->requests.size() <= options_.lease_requests_max);
  }
}

}  // namespace ray::core
