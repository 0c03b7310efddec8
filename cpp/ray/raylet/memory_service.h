// The memory monitor with its eyes and hands: /proc, the loop's clock, the lease queue and the
// actor host, who know what runs, and the worker pool, which kills.
//
// Owner: Raylet.   Threads: loop-bound.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ray/base/clock.h"
#include "ray/base/config.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/actor_host.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/deadline_timer.h"
#include "ray/raylet/memory_monitor.h"
#include "ray/raylet/memory_use.h"
#include "ray/raylet/worker_pool.h"
#include "ray/scheduling/lease_queue.h"

namespace ray::raylet {

class MemoryService final : private MemoryMonitor::Actions {
 public:
  // All pointers outlive the service.
  MemoryService(net::EventLoop* loop, const base::Clock* clock, const base::Config& config,
                const ClientRegistry* clients, const scheduling::LeaseQueue* leases,
                const ActorHost* actors, WorkerPool* pool);

  void WorkerDied(const WorkerDeath& death) { monitor_.WorkerDied(death.worker); }

 private:
  std::optional<MemoryUse> ReadMemory() override { return reader_.Read(); }
  std::vector<base::WorkerId> IdleWorkers() override { return pool_->IdleWorkers(); }
  std::vector<scheduling::RunningWork> RunningWorks() override;
  std::optional<ProcessMemory> MemoryOf(const base::WorkerId& worker) override;
  std::vector<ProcessMemory> LargestProcesses(size_t count) override;
  void Kill(const base::WorkerId& worker, const std::string& reason) override;

  std::string OwnerOf(scheduling::ClientId client) const;

  const ClientRegistry* const clients_;
  const scheduling::LeaseQueue* const leases_;
  const ActorHost* const actors_;
  WorkerPool* const pool_;
  const MemoryReader reader_;
  MemoryMonitor monitor_;
  DeadlineTimer timer_;
};

}  // namespace ray::raylet
