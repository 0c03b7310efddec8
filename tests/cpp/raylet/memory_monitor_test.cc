#include "ray/raylet/memory_monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace ray::raylet {
namespace {

using base::WorkerId;
using scheduling::RunningWork;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;

class MemoryMonitorTest : public ::testing::Test, protected MemoryMonitor::Actions {
 protected:
  // Some process of this node that runs a task.
  WorkerId Runs(std::string name, bool retriable = true) {
    clock_.Advance(absl::Seconds(1));
    const WorkerId id = WorkerId::Random();
    works_.push_back({.worker = id,
                      .owner = "driver",
                      .name = std::move(name),
                      .since = clock_.Now(),
                      .retriable = retriable});
    memory_[id] = {.pid = 7, .resident_bytes = 3 * kGiB, .own_bytes = 2 * kGiB};
    return id;
  }
  WorkerId Idle(uint64_t own_bytes) {
    const WorkerId id = WorkerId::Random();
    idle_.push_back(id);
    memory_[id] = {.pid = 8, .resident_bytes = own_bytes, .own_bytes = own_bytes};
    return id;
  }
  void SetUse(double fraction) {
    use_ = MemoryUse{static_cast<uint64_t>(fraction * 10 * kGiB), 10 * kGiB, "the machine"};
  }
  // The process of a worker that was killed is gone.
  void Reaped(const WorkerId& worker) {
    std::erase_if(works_, [&](const RunningWork& work) { return work.worker == worker; });
    std::erase(idle_, worker);
    monitor_.WorkerDied(worker);
  }
  void Run(absl::Duration time) {
    const absl::Time until = clock_.Now() + time;
    while (monitor_.NextTick() <= until) {
      clock_.Advance(std::max(monitor_.NextTick() - clock_.Now(), absl::ZeroDuration()));
      monitor_.Tick();
    }
    clock_.Advance(until - clock_.Now());
  }

  std::optional<MemoryUse> ReadMemory() override {
    ++readings_;
    return use_;
  }
  std::vector<WorkerId> IdleWorkers() override {
    ++looks_;
    return idle_;
  }
  std::vector<RunningWork> RunningWorks() override {
    ++looks_;
    return works_;
  }
  std::optional<ProcessMemory> MemoryOf(const WorkerId& worker) override {
    return memory_.at(worker);
  }
  std::vector<ProcessMemory> LargestProcesses(size_t) override {
    ++looks_;
    return {{.pid = 7, .own_bytes = 2 * kGiB, .command = "python \xff"}};
  }
  void Kill(const WorkerId& worker, const std::string& reason) override {
    killed_.push_back(worker);
    reasons_.push_back(reason);
  }

  base::VirtualClock clock_;
  std::vector<RunningWork> works_;
  std::vector<WorkerId> idle_;
  std::map<WorkerId, ProcessMemory> memory_;
  std::optional<MemoryUse> use_;
  std::vector<WorkerId> killed_;
  std::vector<std::string> reasons_;
  int readings_ = 0;
  int looks_ = 0;
  MemoryMonitor monitor_{{.threshold = 0.9,
                          .interval = absl::Milliseconds(250),
                          .kill_grace = absl::Seconds(1),
                          .idle_worker_min_bytes = 100 * kMiB},
                         &clock_,
                         this};
};

TEST_F(MemoryMonitorTest, BelowTheThresholdItOnlyReads) {
  Runs("f");
  SetUse(0.9);
  Run(absl::Seconds(10));
  EXPECT_GE(readings_, 40);
  EXPECT_EQ(looks_, 0);
  EXPECT_THAT(killed_, IsEmpty());
}

TEST_F(MemoryMonitorTest, EndsTheChosenOneWithFigures) {
  Runs("old");
  const WorkerId young = Runs("young");
  SetUse(0.95);
  Run(absl::Milliseconds(250));
  ASSERT_THAT(killed_, ElementsAre(young));
  EXPECT_THAT(reasons_.front(),
              AllOf(HasSubstr("9.5 GiB of the 10.0 GiB of the machine were in use (95.0 %, the "
                              "threshold is 90.0 %)"),
                    HasSubstr("task young (pid 7, 3.0 GiB resident, 2.0 GiB of it its own)"),
                    HasSubstr("it started last"), HasSubstr("2.0 GiB  pid 7  python"),
                    HasSubstr("RAY_memory_usage_threshold"), Not(HasSubstr("\xff"))));
}

TEST_F(MemoryMonitorTest, WaitsForTheEndOfTheLastOneAndForTheGrace) {
  const WorkerId old = Runs("old");
  const WorkerId young = Runs("young");
  SetUse(0.95);
  Run(absl::Seconds(5));
  ASSERT_THAT(killed_, ElementsAre(young));  // whose process is not gone
  Reaped(young);
  Run(absl::Milliseconds(250));
  ASSERT_THAT(killed_, ElementsAre(young, old));
  Reaped(old);
  const WorkerId third = Runs("third");
  Runs("fourth");
  Run(absl::Milliseconds(250));
  EXPECT_EQ(killed_.size(), 3u);  // a second after the last one
  Reaped(killed_.back());
  Run(absl::Milliseconds(500));
  EXPECT_EQ(killed_.size(), 3u);  // it is gone, but the system may not have noticed
  Run(absl::Milliseconds(750));
  EXPECT_EQ(killed_.back(), third);
}

TEST_F(MemoryMonitorTest, AProcessThatDoesNotGoIsNotWaitedForForEver) {
  Runs("old");
  Runs("young");
  SetUse(0.95);
  Run(MemoryMonitor::kVictimPatience - absl::Seconds(1));
  EXPECT_EQ(killed_.size(), 1u);
  Run(absl::Seconds(2));
  EXPECT_EQ(killed_.size(), 2u);
}

TEST_F(MemoryMonitorTest, LargeIdleWorkersGoFirst) {
  Runs("f");
  const WorkerId large = Idle(kGiB);
  Idle(kMiB);
  const WorkerId larger = Idle(2 * kGiB);
  SetUse(0.95);
  Run(absl::Milliseconds(250));
  EXPECT_THAT(killed_, ElementsAre(large, larger));
  EXPECT_THAT(reasons_.front(), HasSubstr("ran nothing"));
}

TEST_F(MemoryMonitorTest, ItStopsWhenMemoryIsFreeAgain) {
  const WorkerId first = Runs("f");
  Runs("g", /*retriable=*/false);
  SetUse(0.95);
  Run(absl::Milliseconds(250));
  ASSERT_THAT(killed_, ElementsAre(first));
  Reaped(first);
  SetUse(0.5);
  Run(absl::Seconds(10));
  EXPECT_EQ(killed_.size(), 1u);
}

TEST_F(MemoryMonitorTest, WithNothingToEndItTellsOnce) {
  SetUse(0.99);
  Run(absl::Seconds(5));
  EXPECT_EQ(looks_, 21 * 2 + 1);  // idle and running ones each time; processes once
  use_.reset();                   // cannot be read
  Run(absl::Seconds(1));
  EXPECT_THAT(killed_, IsEmpty());
}

TEST_F(MemoryMonitorTest, IsOffWithoutAnIntervalOrAThreshold) {
  for (const auto& options :
       {MemoryMonitor::Options{.interval = absl::ZeroDuration()},
        MemoryMonitor::Options{.threshold = 0}, MemoryMonitor::Options{.threshold = 1}}) {
    MemoryMonitor off(options, &clock_, this);
    EXPECT_EQ(off.NextTick(), absl::InfiniteFuture());
    off.Tick();
  }
  EXPECT_EQ(readings_, 0);
}

}  // namespace
}  // namespace ray::raylet
