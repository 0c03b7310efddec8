// Why a request cannot run anywhere in the cluster, for users.
// Threads: free functions, thread-safe.   Errors: none.
#pragma once

#include <string>

#include "ray/base/ids.h"
#include "ray/scheduling/cluster_view.h"
#include "ray/scheduling/node_choice.h"

namespace ray::scheduling {

// In whole sentences, with what the cluster has. Requires that no node could ever hold it.
std::string ExplainInfeasible(const std::string& task, const NodeNeeds& needs,
                              const ClusterView& view);

// No bundle of the group is large enough.
std::string ExplainSmallBundles(const std::string& task, const base::PlacementGroupId& group,
                                const NodeNeeds& needs);
std::string ExplainUnplacedGroup(const std::string& task, const base::PlacementGroupId& group);

}  // namespace ray::scheduling
