// ObjectStream: the reader of a generator task's items, behind Python's ObjectRefGenerator.
// Threads: with the GIL, which Next releases while it waits; the end only pushes to the release
// queue.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "ray/base/ids.h"
#include "ray/core/core_worker.h"

namespace ray::bindings {

namespace py = pybind11;

class ObjectStream {
 public:
  // Takes over the local reference of the task's return 1.
  ObjectStream(std::shared_ptr<core::CoreWorker> session, const base::TaskId& task);
  ~ObjectStream();
  ObjectStream(const ObjectStream&) = delete;
  ObjectStream& operator=(const ObjectStream&) = delete;

  // See _raylet.pyi.
  py::object Next(const py::object& timeout);
  py::object Peek();
  py::object Advance(const py::object& peeked);
  py::object completed() const { return completed_; }
  const base::TaskId& task() const { return task_; }

 private:
  const std::shared_ptr<core::CoreWorker> session_;
  const base::TaskId task_;
  const py::object completed_;
};

void RegisterObjectStream(py::module_& module);

}  // namespace ray::bindings
