// Whether locks are checked for cycles in the order in which threads take them.
#pragma once

#include "absl/synchronization/mutex.h"

namespace ray::base {

// absl, as Linux distributions build it, keeps a graph of all locks and looks at it whenever one is
// taken. The tests run with that; a process that serves calls has no time for it. Thread-safe.
inline void StopCheckingLockOrder() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace ray::base
