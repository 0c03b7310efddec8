// Help for tests that drive an EventLoop themselves.
#pragma once

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/net/event_loop.h"

namespace ray::net {

// Polls until `done` holds; false if it does not within the deadline, which is for a test that
// fails.
inline bool PollUntil(EventLoop* loop, absl::FunctionRef<bool()> done,
                      absl::Duration deadline = absl::Seconds(20)) {
  const int64_t end = base::MonotonicNanos() + absl::ToInt64Nanoseconds(deadline);
  while (!done()) {
    const int64_t left = end - base::MonotonicNanos();
    if (left <= 0) return false;
    loop->Poll(absl::Nanoseconds(left));
  }
  return true;
}

}  // namespace ray::net
