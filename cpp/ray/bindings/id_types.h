// The id classes of `ray` (JobID, ActorID, ...): immutable values over bytes.
// Threads: with the GIL.
#pragma once

#include <pybind11/pybind11.h>

namespace ray::bindings {

void RegisterIdTypes(pybind11::module_& module);

}  // namespace ray::bindings
