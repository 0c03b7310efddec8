// Time as an injected dependency: sans-I/O cores take a Clock, so that tests run on a virtual one.
// Threads: RealClock is thread-safe; VirtualClock is thread-compatible.
#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace ray::base {

class Clock {
 public:
  virtual ~Clock() = default;
  // Monotonic; only differences mean something.
  virtual absl::Time Now() const = 0;
};

// CLOCK_MONOTONIC.
class RealClock final : public Clock {
 public:
  absl::Time Now() const override;
  static RealClock* Get();
};

class VirtualClock final : public Clock {
 public:
  absl::Time Now() const override { return now_; }
  void Advance(absl::Duration by) { now_ += by; }

 private:
  absl::Time now_ = absl::UnixEpoch() + absl::Seconds(1);
};

// Nanoseconds of CLOCK_MONOTONIC: the cheap form for hot paths.
int64_t MonotonicNanos();

}  // namespace ray::base
