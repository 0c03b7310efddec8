// `_raylet.Core` and `_raylet.ActorClient`: the core worker as Python sees it.
// Threads: with the GIL; methods that can block release it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "ray/bindings/execution.h"
#include "ray/core/core_worker.h"

namespace ray::bindings {

namespace py = pybind11;

void RegisterCore(py::module_& module);

}  // namespace ray::bindings
