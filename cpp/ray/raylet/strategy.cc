#include "ray/raylet/strategy.h"

#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"
#include "ray/scheduling/node_labels.h"

namespace ray::raylet {

using scheduling::BundleRef;
using wire::v1::SchedulingStrategy;

absl::StatusOr<BundleRef> BundleOf(const SchedulingStrategy& strategy) {
  BundleRef bundle;
  if (!strategy.has_bundle()) return bundle;
  MANTA_ASSIGN_OR_RETURN(
      bundle.group, base::PlacementGroupId::FromBinary(strategy.bundle().placement_group_id()));
  bundle.index = strategy.bundle().bundle_index();
  return bundle;
}

std::string MisfitOf(const SchedulingStrategy& strategy, const NodeIdentity& node) {
  if (scheduling::LabelChoice(strategy, node.labels) >= 0) return "";
  return absl::StrCat("it asks for a node where ", scheduling::Describe(strategy.required_labels()),
                      ", and the labels of this node are ", scheduling::Describe(node.labels));
}

std::string WhyUnschedulable(const SchedulingStrategy& strategy, const NodeIdentity& node,
                             const resources::ResourceSet& asks,
                             const resources::ResourceSet& total) {
  if (!strategy.has_node_affinity() || strategy.node_affinity().soft()) return "";
  const std::string named = base::BytesToHex(strategy.node_affinity().node_id());
  const std::string start =
      absl::StrCat("its NodeAffinitySchedulingStrategy with soft=False names the node ", named);
  if (strategy.node_affinity().node_id() != node.id.Binary()) {
    return absl::StrCat(start,
                        ", which is not in the cluster. Name a node of ray.nodes() that is "
                        "alive, or pass soft=True.");
  }
  if (asks.FitsIn(total)) return "";
  return absl::StrCat(start, ", which can never hold the ", asks.ToString(),
                      " that it asks for: it has ", total.ToString(),
                      " in total. Name another node, ask for less, or pass soft=True.");
}

}  // namespace ray::raylet
