// Python objects that the native side keeps for the life of the interpreter: the hooks, and
// functions of the standard library. Never destroyed: at interpreter exit nobody could drop them
// safely. Threads: with the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "ray/core/core_worker.h"

namespace ray::bindings {

namespace py = pybind11;

struct PythonState {
  py::object hooks;         // see python/ray/_hooks.py
  py::object pickle_dumps;  // the C functions
  py::object pickle_loads;
  py::object current_call;  // contextvars.ContextVar of an asyncio actor's call; null elsewhere
  PyObject* ndarray_type = nullptr;           // numpy.ndarray once numpy was imported
  std::shared_ptr<core::CoreWorker> current;  // the session that unpickled references belong to
};

PythonState& State();

}  // namespace ray::bindings
