#include "ray/raylet/memory_monitor.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "ray/base/logging.h"
#include "ray/raylet/utf8.h"
#include "ray/store/store_report.h"

namespace ray::raylet {

using base::WorkerId;
using store::FormatBytes;

namespace {

constexpr size_t kLargestTold = 10;

std::string Describe(const ProcessMemory& memory) {
  return absl::StrCat("pid ", memory.pid, ", ", FormatBytes(memory.resident_bytes), " resident, ",
                      FormatBytes(memory.own_bytes), " of it its own");
}

}  // namespace

MemoryMonitor::MemoryMonitor(Options options, const base::Clock* clock, Actions* actions)
    : options_(options),
      clock_(clock),
      actions_(actions),
      next_tick_(IsOn() ? clock->Now() : absl::InfiniteFuture()) {}

bool MemoryMonitor::IsOn() const {
  return options_.interval > absl::ZeroDuration() && options_.threshold > 0 &&
         options_.threshold < 1;
}

void MemoryMonitor::Tick() {
  if (!IsOn()) return;
  next_tick_ = clock_->Now() + options_.interval;
  const std::optional<MemoryUse> use = actions_->ReadMemory();
  if (!use.has_value()) {
    if (!std::exchange(told_unreadable_, true)) {
      MANTA_LOG(kWarning, "the memory monitor is blind: /proc/meminfo cannot be read");
    }
    return;
  }
  if (use->Fraction() <= options_.threshold) {
    told_helpless_ = false;
    return;
  }
  if (WaitsForLastKill() || EndIdleWorkers(*use) || EndOne(*use)) return;
  if (std::exchange(told_helpless_, true)) return;
  MANTA_LOG(kWarning, DescribeShortage(*use), ", and no worker is left to end. ",
            DescribeLargest());
}

bool MemoryMonitor::WaitsForLastKill() const {
  const absl::Duration since = clock_->Now() - last_kill_;
  return since < options_.kill_grace || (!victim_.IsNil() && since < kVictimPatience);
}

void MemoryMonitor::WorkerDied(const WorkerId& worker) {
  if (worker == victim_) victim_ = WorkerId::Nil();
}

// They run nothing, so all that go cost little more than one.
bool MemoryMonitor::EndIdleWorkers(const MemoryUse& use) {
  bool ended = false;
  for (const WorkerId& worker : actions_->IdleWorkers()) {
    const auto memory = actions_->MemoryOf(worker);
    if (!memory.has_value() || memory->own_bytes < options_.idle_worker_min_bytes) continue;
    const std::string reason = absl::StrCat(DescribeShortage(use), ", and this worker (",
                                            Describe(*memory), ") ran nothing");
    MANTA_LOG(kWarning, reason, ".");
    Kill(worker, reason);
    ended = true;
  }
  return ended;
}

bool MemoryMonitor::EndOne(const MemoryUse& use) {
  const std::vector<scheduling::RunningWork> works = actions_->RunningWorks();
  const auto victim = scheduling::ChooseMemoryVictim(works, clock_->Now());
  if (!victim.has_value()) return false;
  const scheduling::RunningWork& work = works[victim->index];
  const auto memory = actions_->MemoryOf(work.worker);
  const std::string reason = absl::StrCat(
      DescribeShortage(use), ". The raylet ended the worker of ",
      work.is_actor ? "actor " : "task ", work.name,
      memory.has_value() ? absl::StrCat(" (", Describe(*memory), ")") : "", ": ", victim->because,
      ". ", DescribeLargest(),
      "\nRun fewer at a time (give each more num_cpus or memory), use smaller data, or add memory. "
      "RAY_memory_usage_threshold sets the threshold, RAY_memory_monitor_refresh_ms=0 turns this "
      "off");
  MANTA_LOG(kWarning, reason, ".");
  Kill(work.worker, reason);
  return true;
}

void MemoryMonitor::Kill(const WorkerId& worker, const std::string& reason) {
  victim_ = worker;
  last_kill_ = clock_->Now();
  actions_->Kill(worker, reason);
}

std::string MemoryMonitor::DescribeShortage(const MemoryUse& use) const {
  return absl::StrFormat(
      "the node ran short of memory: %s of the %s of %s were in use (%.1f %%, "
      "the threshold is %.1f %%)",
      FormatBytes(use.used_bytes), FormatBytes(use.limit_bytes), use.of, use.Fraction() * 100,
      options_.threshold * 100);
}

std::string MemoryMonitor::DescribeLargest() {
  std::string text = "Most memory of their own have:";
  for (const ProcessMemory& process : actions_->LargestProcesses(kLargestTold)) {
    absl::StrAppend(&text, "\n  ", FormatBytes(process.own_bytes), "  pid ", process.pid, "  ",
                    ToValidUtf8(process.command));
  }
  return text;
}

}  // namespace ray::raylet
