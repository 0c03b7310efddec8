#include "ray/scheduling/strategy.h"

#include "ray/base/status_macros.h"

namespace ray::scheduling {

using wire::v1::SchedulingStrategy;

absl::StatusOr<BundleRef> BundleOf(const SchedulingStrategy& strategy) {
  BundleRef bundle;
  if (!strategy.has_bundle()) return bundle;
  MANTA_ASSIGN_OR_RETURN(
      bundle.group, base::PlacementGroupId::FromBinary(strategy.bundle().placement_group_id()));
  bundle.index = strategy.bundle().bundle_index();
  return bundle;
}

absl::StatusOr<base::NodeId> AffinityOf(const SchedulingStrategy& strategy) {
  if (!strategy.has_node_affinity()) return base::NodeId::Nil();
  return base::NodeId::FromBinary(strategy.node_affinity().node_id());
}

}  // namespace ray::scheduling
