#include "ray/base/clock.h"

#include <time.h>

namespace ray::base {

int64_t MonotonicNanos() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1'000'000'000LL + ts.tv_nsec;
}

absl::Time RealClock::Now() const { return absl::FromUnixNanos(MonotonicNanos()); }

RealClock* RealClock::Get() {
  static RealClock clock;
  return &clock;
}

}  // namespace ray::base
