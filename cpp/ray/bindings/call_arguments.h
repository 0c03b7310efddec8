// Python call arguments and templates to what the core worker submits.
// Threads: with the GIL; a large argument is copied without it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "ray/bindings/object_ref.h"
#include "ray/core/core_worker.h"

namespace ray::bindings {

namespace py = pybind11;

struct PyTaskTemplate {
  core::TemplatePtr task_template;
  std::vector<py::object> contained_refs;  // alive as long as the template
};
void RegisterTaskTemplate(py::module_& module);

// How arguments travel: a plain tuple when there are no keywords, else the list [args, kwargs]. A
// reference at top level is replaced by None and listed. Raises TypeError that names the argument
// which cannot be serialized.
core::CallArguments BuildArguments(const std::shared_ptr<core::CoreWorker>& session,
                                   const std::string& name, const py::tuple& args,
                                   const py::object& kwargs);

struct UnpackedArguments {
  py::tuple args;
  py::dict kwargs;
};
// The inverse, on the executing side. Raises what unpickling raises.
UnpackedArguments UnpackArguments(const core::IncomingCall& call);

[[noreturn]] void RaiseForeignReference(PyObject* ref);
// The reference's session must be `session`; ValueError otherwise.
inline void RequireSession(const std::shared_ptr<core::CoreWorker>& session, PyObject* ref) {
  if (AsObjectRef(ref).session() != session) RaiseForeignReference(ref);
}

}  // namespace ray::bindings
