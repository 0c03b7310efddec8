#include "ray/bindings/waiting.h"

#include <algorithm>

#include "ray/base/clock.h"
#include "ray/bindings/errors.h"

namespace ray::bindings {

int64_t DeadlineAfter(const py::object& seconds) {
  if (seconds.is_none()) return core::CoreWorker::kNoDeadline;
  constexpr double kForever = 1e9;  // seconds; beyond it the clock would overflow
  double timeout = seconds.cast<double>();
  if (timeout >= kForever) return core::CoreWorker::kNoDeadline;
  return base::MonotonicNanos() + static_cast<int64_t>(std::max(timeout, 0.0) * 1e9);
}

void RaiseInterrupted(const core::CoreWorker& session) {
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  if (session.is_shut_down()) {
    RaiseSystemError("NOT_CONNECTED", "ray.shutdown() was called while this thread waited");
  }
  RaiseSystemError("RAYLET_DIED",
                   "the raylet of this node has ended; see its log in the session's logs folder");
}

}  // namespace ray::bindings
