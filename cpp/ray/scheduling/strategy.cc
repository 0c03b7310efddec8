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

absl::StatusOr<Affinity> AffinityOf(const SchedulingStrategy& strategy) {
  Affinity affinity;
  if (!strategy.has_node_affinity()) return affinity;
  const SchedulingStrategy::NodeAffinity& named = strategy.node_affinity();
  MANTA_ASSIGN_OR_RETURN(affinity.node, base::NodeId::FromBinary(named.node_id()));
  const bool contradicts = (named.spill_on_unavailable() && !named.soft()) ||
                           (named.fail_on_unavailable() && named.soft());
  if (contradicts) {
    return absl::InvalidArgumentError(
        "a node affinity may spill only if it is soft, and fail only if it is not");
  }
  if (named.soft()) {
    affinity.kind = named.spill_on_unavailable() ? Affinity::Kind::kSpill : Affinity::Kind::kSoft;
  } else if (named.fail_on_unavailable()) {
    affinity.kind = Affinity::Kind::kFail;
  }
  return affinity;
}

}  // namespace ray::scheduling
