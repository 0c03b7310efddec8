// What the blocking calls of the bindings share: deadlines, and the exception when a wait ends
// early. Threads: with the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "ray/core/core_worker.h"

namespace ray::bindings {

namespace py = pybind11;

// MonotonicNanos of the moment `seconds` (float, or None: never) from now.
int64_t DeadlineAfter(const py::object& seconds);

// A wait of `session` ended with kInterrupted: raises why.
[[noreturn]] void RaiseInterrupted(const core::CoreWorker& session);

}  // namespace ray::bindings
