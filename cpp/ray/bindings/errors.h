// Errors across the border: absl::Status to Python, in one place.
// Threads: with the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ray/core/serialized_value.h"

namespace ray::bindings {

namespace py = pybind11;

void RegisterErrors(py::module_& module);

// Raises `_raylet.SystemError` with the status's code name and message; a pending Python exception
// (Ctrl-C) goes first.
[[noreturn]] void Raise(const absl::Status& status);

// Raises what Hooks.system_error makes of the code.
[[noreturn]] void RaiseSystemError(const core::SystemError& error);
[[noreturn]] void RaiseSystemError(std::string_view code, std::string_view message);
// For a failed write to the store: ObjectStoreFullError or OutOfDiskError, else as Raise. Does
// nothing if ok.
void StoredOrRaise(const absl::Status& status);
// The exception object, not raised.
py::object MakeSystemError(const core::SystemError& error);

// Sets `exception` as the pending Python error and throws.
[[noreturn]] void RaisePython(const py::object& exception);

// The exception that was raised, with its traceback.
py::object ExceptionOf(const py::error_already_set& failure);

template <typename T>
T ValueOrRaise(absl::StatusOr<T> result) {
  if (!result.ok()) Raise(result.status());
  return *std::move(result);
}
inline void OkOrRaise(const absl::Status& status) {
  if (!status.ok()) Raise(status);
}

}  // namespace ray::bindings
