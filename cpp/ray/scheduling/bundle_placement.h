// On which nodes the bundles of a placement group go. Pure: a view of the nodes in, a choice out.
//
//   PACK           as few nodes as it takes, by a greedy choice
//   SPREAD         every bundle on a node with as few others of the group as possible
//   STRICT_PACK    all on one node
//   STRICT_SPREAD  no two on one node; found whenever there is such a choice
//
// Cost: bundles x nodes, for PACK and SPREAD; STRICT_SPREAD needs that once a bundle if the nodes
// are scarce. Threads: free functions, thread-safe.   Errors: none.
#pragma once

#include <optional>
#include <vector>

#include "ray/base/ids.h"
#include "ray/resources/resource_set.h"
#include "ray/scheduling/node_labels.h"
#include "ray/wire/v1/placement_groups.pb.h"

namespace ray::scheduling {

struct BundleDemand {
  resources::ResourceSet resources;
  LabelConditions labels;
};

struct NodeView {
  base::NodeId id;
  resources::ResourceSet total;
  resources::ResourceSet room;
  Labels labels;
  int bundles = 0;  // of the same group, placed before
};

// The share of the node that would be in use with the request there: the largest of its resources'.
double LoadWith(const resources::ResourceSet& request, const resources::ResourceSet& total,
                const resources::ResourceSet& room);

// A node for each bundle, in their order; nullopt when there is no room (for PACK and SPREAD: none
// was found). `preferred` is tried first by STRICT_PACK; nil: none.
std::optional<std::vector<base::NodeId>> PlaceBundles(wire::v1::PlacementStrategy strategy,
                                                      const std::vector<BundleDemand>& bundles,
                                                      std::vector<NodeView> nodes,
                                                      const base::NodeId& preferred);

}  // namespace ray::scheduling
