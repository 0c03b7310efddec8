// What a scheduling strategy means on this node.
// Threads: free functions, thread-safe.   Errors: kInvalidArgument for an id of a wrong length.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "ray/raylet/node_identity.h"
#include "ray/resources/resource_set.h"
#include "ray/scheduling/lease_queue.h"
#include "ray/wire/v1/wire.pb.h"

namespace ray::raylet {

// The bundle that it names; the node itself if it names none.
absl::StatusOr<scheduling::BundleRef> BundleOf(const wire::v1::SchedulingStrategy& strategy);

// Why its label rules keep it from this node, as a part of a sentence; "" = they do not.
std::string MisfitOf(const wire::v1::SchedulingStrategy& strategy, const NodeIdentity& node);

// Why a task that must run on one certain node can never do so, as a whole sentence; "" = it may.
std::string WhyUnschedulable(const wire::v1::SchedulingStrategy& strategy, const NodeIdentity& node,
                             const resources::ResourceSet& asks,
                             const resources::ResourceSet& total);

}  // namespace ray::raylet
