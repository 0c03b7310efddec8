// The state of the cluster as Python's dicts and lists. Threads: with the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include "ray/wire/v1/cluster.pb.h"

namespace ray::bindings {

// What Core.cluster_state returns; see _raylet.pyi.
pybind11::dict ClusterStateDict(const wire::v1::ClusterStateReply& state);

}  // namespace ray::bindings
