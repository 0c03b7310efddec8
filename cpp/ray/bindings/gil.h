// The GIL, in one place. Rules (docs/adr/0004): never take it under a C++ lock; release it around
// everything that can block; the core worker's background thread never takes it.
#pragma once

#include <pybind11/pybind11.h>

#include "ray/base/clock.h"

namespace ray::bindings {

namespace py = pybind11;
using GilRelease = py::gil_scoped_release;
using GilAcquire = py::gil_scoped_acquire;

// Tells a wait that Ctrl-C was pressed. Signal handlers run here, on the main thread only; looked
// at 20 times a second at most, since it takes the GIL. A pending Python exception afterwards is
// the caller's to raise. Construct with the GIL; call without it.
class SignalCheck {
 public:
  SignalCheck() : last_nanos_(base::MonotonicNanos()) {}
  bool operator()() const {
    constexpr int64_t kIntervalNanos = 50'000'000;
    int64_t now = base::MonotonicNanos();
    if (now - last_nanos_ < kIntervalNanos) return false;
    last_nanos_ = now;
    GilAcquire gil;
    return PyErr_CheckSignals() != 0;
  }

 private:
  mutable int64_t last_nanos_;  // FunctionRef calls const objects
};

}  // namespace ray::bindings
