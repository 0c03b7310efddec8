#include "ray/raylet/memory_service.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ray::raylet {

using base::WorkerId;
using scheduling::RunningWork;

namespace {

MemoryMonitor::Options MonitorOptions(const base::Config& config) {
  return {.threshold = config.memory_usage_threshold,
          .interval = absl::Milliseconds(config.memory_monitor_refresh_ms),
          .kill_grace = absl::Milliseconds(config.memory_kill_grace_ms),
          .idle_worker_min_bytes =
              static_cast<uint64_t>(config.idle_worker_killing_memory_threshold_bytes)};
}

}  // namespace

MemoryService::MemoryService(net::EventLoop* loop, const base::Clock* clock,
                             const base::Config& config, const ClientRegistry* clients,
                             const scheduling::LeaseQueue* leases, const ActorHost* actors,
                             WorkerPool* pool)
    : clients_(clients),
      leases_(leases),
      actors_(actors),
      pool_(pool),
      reader_(config.memory_monitor_root),
      monitor_(MonitorOptions(config), clock, this),
      timer_(loop, clock, [this] {
        monitor_.Tick();
        timer_.Set(monitor_.NextTick());
      }) {
  timer_.Set(monitor_.NextTick());
}

std::vector<RunningWork> MemoryService::RunningWorks() {
  std::vector<RunningWork> works;
  for (const scheduling::RunningLease& lease : leases_->Running()) {
    RunningWork work{.worker = lease.worker, .since = lease.since, .is_actor = lease.is_actor};
    if (lease.is_actor) {
      const std::optional<HostedActor> actor = actors_->ActorOf(lease.worker);
      if (!actor.has_value()) continue;
      work.owner = actor->owner.Hex();
      work.name = actor->class_name;
      work.retriable = actor->restartable;
    } else {
      work.owner = OwnerOf(lease.client);
      work.name = lease.name;
      work.retriable = lease.retriable;
    }
    works.push_back(std::move(work));
  }
  return works;
}

// Another node's raylet asks for all the owners there.
std::string MemoryService::OwnerOf(scheduling::ClientId client) const {
  const Client* owner = clients_->Find(client);
  if (owner != nullptr && !owner->worker_id.IsNil()) return owner->worker_id.Hex();
  return absl::StrCat("client ", client);
}

std::optional<ProcessMemory> MemoryService::MemoryOf(const WorkerId& worker) {
  const pid_t pid = pool_->PidOf(worker);
  return pid == 0 ? std::nullopt : ReadProcessMemory(pid);
}

std::vector<ProcessMemory> MemoryService::LargestProcesses(size_t count) {
  return raylet::LargestProcesses(count);
}

void MemoryService::Kill(const WorkerId& worker, const std::string& reason) {
  pool_->KillForMemory(worker, reason);
}

}  // namespace ray::raylet
