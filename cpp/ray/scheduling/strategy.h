// What a scheduling strategy says beside resources and labels.
// Threads: free functions, thread-safe.   Errors: kInvalidArgument for an id of a wrong length.
#pragma once

#include "absl/status/statusor.h"
#include "ray/base/ids.h"
#include "ray/scheduling/lease_queue.h"
#include "ray/wire/v1/wire.pb.h"

namespace ray::scheduling {

// The bundle that it names; the node itself if it names none.
absl::StatusOr<BundleRef> BundleOf(const wire::v1::SchedulingStrategy& strategy);

// The node that it names; nil if it names none.
absl::StatusOr<base::NodeId> AffinityOf(const wire::v1::SchedulingStrategy& strategy);

}  // namespace ray::scheduling
