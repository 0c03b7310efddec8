#include "ray/bindings/errors.h"

#include <pybind11/eval.h>

#include <string>

#include "ray/bindings/python_state.h"
#include "ray/bindings/value_codec.h"

namespace ray::bindings {
namespace {

PyObject* system_error_type = nullptr;

std::string CodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

}  // namespace

void RegisterErrors(py::module_& module) {
  py::dict scope;
  scope["__builtins__"] = py::module_::import("builtins");
  scope["__name__"] = "ray._raylet";
  py::exec(R"(
class SystemError(Exception):
    """A failed operation: ``code`` is the absl status name, ``message`` says what happened."""

    def __init__(self, code, message):
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self):
        return self.message
)",
           scope);
  module.attr("SystemError") = scope["SystemError"];
  system_error_type = scope["SystemError"].cast<py::object>().release().ptr();
}

void Raise(const absl::Status& status) {
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  RaisePython(py::reinterpret_borrow<py::object>(system_error_type)(CodeName(status.code()),
                                                                    std::string(status.message())));
}

void RaisePython(const py::object& exception) {
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw py::error_already_set();
}

py::object ExceptionOf(const py::error_already_set& failure) {
  py::object exception = failure.value();
  if (failure.trace()) PyException_SetTraceback(exception.ptr(), failure.trace().ptr());
  return exception;
}

py::object MakeSystemError(const core::SystemError& error) {
  py::dict details;
  for (const auto& [key, value] : error.details) details[py::str(key)] = value;
  if (!error.creation_error.empty()) {
    details["creation_error"] = DecodeError(error.creation_error);
  }
  return State().hooks.attr("system_error")(error.code, error.message, details);
}

void StoredOrRaise(const absl::Status& status) {
  std::string message(status.message());
  if (absl::IsResourceExhausted(status)) RaiseSystemError("OBJECT_STORE_FULL", message);
  if (absl::IsOutOfRange(status)) RaiseSystemError("OUT_OF_DISK", message);
  OkOrRaise(status);
}

void RaiseSystemError(const core::SystemError& error) { RaisePython(MakeSystemError(error)); }

void RaiseSystemError(std::string_view code, std::string_view message) {
  core::SystemError error;
  error.code = std::string(code);
  error.message = std::string(message);
  RaiseSystemError(error);
}

}  // namespace ray::bindings
