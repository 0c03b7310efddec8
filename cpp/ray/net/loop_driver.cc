#include "ray/net/loop_driver.h"

#include <sched.h>
#include <signal.h>
#include <time.h>

#include <algorithm>

#include "ray/base/check.h"
#include "ray/base/clock.h"

namespace ray::net {
namespace {

// A wait looks this often at least whether it was interrupted.
constexpr int64_t kSliceNanos = 100'000'000;
// The driver itself after a long wait: a signal ends its sleep, so that the slices are for one that
// came just before it; many idle processes should cost nothing.
constexpr int64_t kLongSliceNanos = 1'000'000'000;
// After this many polls a spinning thread offers its core to others between polls.
constexpr int kPollsBeforeYield = 4;

void NapNanos(int64_t nanos) {
  timespec ts{nanos / 1'000'000'000, nanos % 1'000'000'000};
  nanosleep(&ts, nullptr);
}

}  // namespace

LoopDriver::LoopDriver(EventLoop* loop, absl::Mutex* mutex, const Options& options)
    : loop_(loop),
      mutex_(mutex),
      grace_nanos_(absl::ToInt64Nanoseconds(options.background_grace)),
      spin_(absl::ToInt64Nanoseconds(options.spin_max)) {}

LoopDriver::~LoopDriver() { Stop(); }

void LoopDriver::StartBackground() {
  MANTA_CHECK(!background_.joinable());
  // Signals belong to the threads of the program: Ctrl-C must interrupt the waiting thread, not
  // this one.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  background_ = std::thread([this] { BackgroundMain(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void LoopDriver::Stop() {
  if (!background_.joinable()) return;
  stop_.store(true);
  {
    absl::MutexLock lock(&hand_off_mutex_);
    hand_off_.SignalAll();
  }
  loop_->Wake();
  background_.join();
}

LoopDriver::Outcome LoopDriver::WaitUntil(absl::FunctionRef<bool()> done, int64_t deadline_nanos,
                                          absl::FunctionRef<bool()> interrupted) {
  while (true) {
    if (Holds(done)) return Outcome::kDone;
    if (interrupted()) return Outcome::kInterrupted;
    if (base::MonotonicNanos() >= deadline_nanos) return Outcome::kTimeout;
    if (Claim(Driver::kForeground)) {
      Outcome outcome = Drive(done, deadline_nanos, interrupted);
      Release();
      return outcome;
    }
    followers_.fetch_add(1);
    {
      absl::MutexLock lock(mutex_);
      int64_t slice = std::min(deadline_nanos - base::MonotonicNanos(), kSliceNanos);
      if (driver_.load() == Driver::kForeground && !done() && slice > 0) {
        progress_.WaitWithTimeout(mutex_, absl::Nanoseconds(slice));
      }
    }
    followers_.fetch_sub(1);
  }
}

void LoopDriver::PollOnce() {
  Driver expected = Driver::kNobody;
  if (!driver_.compare_exchange_strong(expected, Driver::kForeground)) return;
  loop_->Poll(absl::ZeroDuration());
  Release();
}

bool LoopDriver::DriveUnlessWanted(absl::FunctionRef<bool()> done,
                                   absl::FunctionRef<bool()> interrupted) {
  if (base::MonotonicNanos() - last_foreground_nanos_.load() < grace_nanos_) return false;
  if (!Claim(Driver::kYielding)) return false;
  bool holds = Holds(done);
  while (!holds && wanted_by_.load() == 0 && !interrupted()) {
    driver_sleeps_.store(true);
    loop_->Poll(absl::Nanoseconds(kLongSliceNanos));
    holds = Holds(done);
  }
  Release();
  return holds;
}

bool LoopDriver::Holds(absl::FunctionRef<bool()> done) {
  absl::MutexLock lock(mutex_);
  return done();
}

LoopDriver::Outcome LoopDriver::Drive(absl::FunctionRef<bool()> done, int64_t deadline_nanos,
                                      absl::FunctionRef<bool()> interrupted) {
  // The background thread may have brought about what is waited for after the last look and before
  // it gave the loop up: no event would tell.
  if (Holds(done)) return Outcome::kDone;
  const int64_t start = base::MonotonicNanos();
  int64_t spin_start = start;
  while (true) {
    int64_t slice = std::clamp(spin_start - start, kSliceNanos, kLongSliceNanos);
    SpinOrSleep(std::min(deadline_nanos, spin_start + slice), &spin_start);
    if (Holds(done)) return Outcome::kDone;
    if (base::MonotonicNanos() >= deadline_nanos) return Outcome::kTimeout;
    if (interrupted()) return Outcome::kInterrupted;
    if (followers_.load() > 0) {
      absl::MutexLock lock(mutex_);
      progress_.SignalAll();
    }
  }
}

// Returns when the loop ran something, after a signal, or at the end of the slice.
void LoopDriver::SpinOrSleep(int64_t slice_end_nanos, int64_t* spin_start_nanos) {
  for (int polls = 0;; ++polls) {
    if (loop_->Poll(absl::ZeroDuration()) > 0) {
      *spin_start_nanos = base::MonotonicNanos();
      if (polls > 0) spin_.Found();
      return;
    }
    if (base::MonotonicNanos() - *spin_start_nanos > spin_.nanos()) break;
    if (polls >= kPollsBeforeYield) sched_yield();
  }
  driver_sleeps_.store(true);
  int64_t before = base::MonotonicNanos();
  int ran = loop_->Poll(absl::Nanoseconds(std::max<int64_t>(slice_end_nanos - before, 0)));
  int64_t after = base::MonotonicNanos();
  spin_.Slept(after - before, ran > 0);
  *spin_start_nanos = after;
}

bool LoopDriver::Claim(Driver role) {
  Driver expected = Driver::kNobody;
  if (driver_.compare_exchange_strong(expected, role)) return true;
  // Foreground threads have the loop until they are done; a yielding one leaves for them alone.
  auto leaves = [role](Driver driver) {
    return driver == Driver::kBackground ||
           (driver == Driver::kYielding && role == Driver::kForeground);
  };
  if (!leaves(expected)) return false;
  wanted_by_.fetch_add(1);
  loop_->Wake();
  bool claimed = false;
  {
    // One slice at a time: a driver that is busy for long must not keep this thread from its
    // deadline, nor from Ctrl-C.
    absl::MutexLock lock(&hand_off_mutex_);
    expected = Driver::kNobody;
    claimed = driver_.compare_exchange_strong(expected, role);
    if (!claimed && leaves(expected)) {
      hand_off_.WaitWithTimeout(&hand_off_mutex_, absl::Nanoseconds(kSliceNanos));
      expected = Driver::kNobody;
      claimed = driver_.compare_exchange_strong(expected, role);
    }
  }
  wanted_by_.fetch_sub(1);
  return claimed;
}

void LoopDriver::Release() {
  const int64_t now = base::MonotonicNanos();
  last_release_nanos_.store(now);
  if (driver_.load() == Driver::kForeground) last_foreground_nanos_.store(now);
  driver_.store(Driver::kNobody);
  if (driver_sleeps_.exchange(false) || wanted_by_.load() > 0) {
    absl::MutexLock lock(&hand_off_mutex_);
    hand_off_.SignalAll();
  }
  if (followers_.load() > 0) {
    absl::MutexLock lock(mutex_);
    progress_.SignalAll();
  }
}

void LoopDriver::BackgroundMain() {
  while (!stop_.load()) {
    BackgroundPark();
    Driver expected = Driver::kNobody;
    if (stop_.load() || !driver_.compare_exchange_strong(expected, Driver::kBackground)) continue;
    while (!stop_.load() && wanted_by_.load() == 0) {
      int ran = loop_->Poll(absl::InfiniteDuration());
      if (ran > 0 && followers_.load() > 0) {
        absl::MutexLock lock(mutex_);
        progress_.SignalAll();
      }
    }
    driver_.store(Driver::kNobody);
    absl::MutexLock lock(&hand_off_mutex_);
    hand_off_.SignalAll();
    // The claim counts as a recent foreground hold, whichever of the two threads runs first.
    last_release_nanos_.store(base::MonotonicNanos());
  }
}

// Returns when other threads have stayed away from the loop for the grace time.
void LoopDriver::BackgroundPark() {
  while (!stop_.load()) {
    Driver driver = driver_.load();
    if (driver == Driver::kForeground || driver == Driver::kYielding) {
      if (driver_sleeps_.load()) {
        absl::MutexLock lock(&hand_off_mutex_);
        if (driver_sleeps_.load() && !stop_.load()) {
          hand_off_.WaitWithTimeout(&hand_off_mutex_, absl::Seconds(10));
        }
      } else {
        NapNanos(grace_nanos_);
      }
      continue;
    }
    int64_t away = base::MonotonicNanos() - last_release_nanos_.load();
    if (away >= grace_nanos_) return;
    NapNanos(grace_nanos_ - away);
  }
}

}  // namespace ray::net
