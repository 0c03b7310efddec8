// What the blocking calls of the bindings share: deadlines, and the exception when a wait ends
// early. Threads: with the GIL; BlockingCall releases it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <type_traits>
#include <utility>

#include "ray/bindings/errors.h"
#include "ray/bindings/gil.h"
#include "ray/core/core_worker.h"

namespace ray::bindings {

namespace py = pybind11;

// MonotonicNanos of the moment `seconds` (float, or None: never) from now.
int64_t DeadlineAfter(const py::object& seconds);

// A wait of `session` ended with kInterrupted: raises why.
[[noreturn]] void RaiseInterrupted(const core::CoreWorker& session);

// Runs `call` without the GIL. It takes the check for Ctrl-C, and returns a Status or a StatusOr:
// raises if that is an error, else returns its value.
template <typename Call>
auto BlockingCall(Call call) {
  const SignalCheck interrupted;
  auto result = [&] {
    GilRelease release;
    return call(interrupted);
  }();
  if constexpr (std::is_same_v<decltype(result), absl::Status>) {
    OkOrRaise(result);
  } else {
    return ValueOrRaise(std::move(result));
  }
}

}  // namespace ray::bindings
