// Python objects that C++ keeps, and drops on threads without the GIL: the last reference goes to a
// list that the next thread with the GIL empties. Threads: KeepObject and ReleaseDroppedObjects
// with the GIL; the kept pointer may be dropped anywhere.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

namespace ray::bindings {

// The pointer is the PyObject*.
std::shared_ptr<void> KeepObject(const pybind11::object& object);
void ReleaseDroppedObjects();

}  // namespace ray::bindings
