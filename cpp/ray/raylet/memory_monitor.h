// Ends a worker when the node's memory runs short, before the kernel ends something at random:
// first idle workers that hold much, then what scheduling/memory_kill_policy.h chooses, one at a
// time. Sans-I/O: reads and kills through Actions.
//
// While memory is not short, a look costs one reading of the node's use and nothing else; workers
// and processes are looked at only to choose one and to tell of it.
//
// Owner: MemoryService.   Threads: thread-compatible (the raylet's loop).   Never blocks.
//   MEMORY-1  nothing is ended below the threshold.
//   MEMORY-2  after a kill nothing more is ended until its process is gone, and kill_grace after it
//             was ended; a process that does not go is waited for kVictimPatience at most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/raylet/memory_use.h"
#include "ray/scheduling/memory_kill_policy.h"

namespace ray::raylet {

class MemoryMonitor {
 public:
  struct Options {
    double threshold = 0.95;  // fraction of the memory; outside (0, 1): nothing is ever ended
    absl::Duration interval = absl::Milliseconds(250);  // zero: as above
    absl::Duration kill_grace = absl::Seconds(1);
    uint64_t idle_worker_min_bytes = 100 << 20;  // smaller idle workers stay
  };

  class Actions {
   public:
    virtual ~Actions() = default;
    virtual std::optional<MemoryUse> ReadMemory() = 0;
    virtual std::vector<base::WorkerId> IdleWorkers() = 0;
    virtual std::vector<scheduling::RunningWork> RunningWorks() = 0;
    // nullopt: its process is gone.
    virtual std::optional<ProcessMemory> MemoryOf(const base::WorkerId& worker) = 0;
    virtual std::vector<ProcessMemory> LargestProcesses(size_t count) = 0;
    // SIGKILL. `reason` reaches whoever waits for what it ran: whole sentences, less the last dot.
    virtual void Kill(const base::WorkerId& worker, const std::string& reason) = 0;
  };

  static constexpr absl::Duration kVictimPatience = absl::Seconds(10);

  // `clock` and `actions` outlive the monitor.
  MemoryMonitor(Options options, const base::Clock* clock, Actions* actions);

  bool IsOn() const;
  // Call at NextTick().
  void Tick();
  absl::Time NextTick() const { return next_tick_; }  // InfiniteFuture if it is off
  void WorkerDied(const base::WorkerId& worker);

 private:
  bool WaitsForLastKill() const;
  bool EndIdleWorkers(const MemoryUse& use);
  bool EndOne(const MemoryUse& use);
  void Kill(const base::WorkerId& worker, const std::string& reason);
  std::string DescribeShortage(const MemoryUse& use) const;
  std::string DescribeLargest();

  const Options options_;
  const base::Clock* const clock_;
  Actions* const actions_;
  absl::Time next_tick_;
  absl::Time last_kill_ = absl::InfinitePast();
  base::WorkerId victim_;       // nil: its process is gone
  bool told_helpless_ = false;  // until memory is not short any more
  bool told_unreadable_ = false;
};

}  // namespace ray::raylet
