// Scheduling strategies and placement groups between Python and the wire's messages.
// Threads: with the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <map>
#include <string>

#include "ray/core/core_worker.h"
#include "ray/wire/v1/placement_groups.pb.h"
#include "ray/wire/v1/resources.pb.h"
#include "ray/wire/v1/scheduling.pb.h"

namespace ray::bindings {

namespace py = pybind11;

void PutResources(const std::map<std::string, double>& resources, wire::v1::ResourceSet* out);
py::dict ResourceDict(const wire::v1::ResourceSet& resources);

// From the dict described at `Strategy` in _raylet.pyi. ValueError for anything else.
wire::v1::SchedulingStrategy ToStrategy(const py::dict& strategy);

// (group id, whether children are captured), or None.
py::object PlacementGroupOf(const wire::v1::SchedulingStrategy& strategy);

// From the keywords of Core.create_placement_group.
wire::v1::PlacementGroupSpec ToPlacementGroup(const py::kwargs& options);
// One row of Core.list_placement_groups.
py::dict PlacementGroupDict(const wire::v1::PlacementGroupInfo& info);

}  // namespace ray::bindings
