// net/loop_driver.h in the virtual world: a thread that waits is a fiber, and nobody drives.
#include "ray/net/loop_driver.h"

#include "ray/base/clock.h"
#include "tests/sim/world/loops.h"

namespace ray::net {
namespace {

// Whoever waits looks this often whether it is interrupted.
constexpr absl::Duration kSlice = absl::Milliseconds(100);

}  // namespace

LoopDriver::LoopDriver(EventLoop* loop, absl::Mutex* mutex, const Options&)
    : loop_(loop), mutex_(mutex), grace_nanos_(0), spin_(0) {}

LoopDriver::~LoopDriver() = default;

void LoopDriver::StartBackground() {}
void LoopDriver::Stop() {}
void LoopDriver::PollOnce() {}
bool LoopDriver::DriveUnlessWanted(absl::FunctionRef<bool()>, absl::FunctionRef<bool()>) {
  return false;
}

LoopDriver::Outcome LoopDriver::WaitUntil(absl::FunctionRef<bool()> done, int64_t deadline_nanos,
                                          absl::FunctionRef<bool()> interrupted) {
  sim::World* world = sim::World::Current();
  while (true) {
    {
      absl::MutexLock lock(mutex_);
      if (done()) return Outcome::kDone;
    }
    if (interrupted()) return Outcome::kInterrupted;
    const int64_t now = base::MonotonicNanos();
    if (now >= deadline_nanos) return Outcome::kTimeout;
    sim::Fiber* fiber = world->fiber();
    sim::StateOf(loop_)->waiting.emplace_back(fiber, fiber->waits + 1);
    const absl::Duration left =
        deadline_nanos == INT64_MAX ? kSlice : absl::Nanoseconds(deadline_nanos - now);
    world->Wake(fiber, fiber->waits + 1, std::min(left, kSlice));
    world->Suspend();
  }
}

}  // namespace ray::net
