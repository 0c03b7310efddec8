#include "ray/scheduling/infeasibility.h"

#include <algorithm>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ray::scheduling {

using base::FixedPoint;
using resources::FormatQuantity;
using resources::ResourceSet;
using wire::v1::SchedulingStrategy;

namespace {

// Kinds of nodes that are listed.
constexpr size_t kKindsMax = 10;

// What no single node has enough of: "3 TPU (no node has more than 0)".
std::vector<std::string> Missing(const ResourceSet& needed, const ClusterView& view) {
  std::vector<std::string> missing;
  for (const auto& [name, quantity] : needed) {
    FixedPoint most;
    view.ForEach([&, name = name](const ClusterView::Node& node) {
      if (!node.draining) most = std::max(most, node.total.Get(name));
    });
    if (quantity <= most) continue;
    missing.push_back(absl::StrCat(FormatQuantity(quantity), " ", name, " (no node has more than ",
                                   FormatQuantity(most), ")"));
  }
  return missing;
}

// "2 x {CPU: 4}, 1 x {CPU: 8, GPU: 1} (draining)".
std::string DescribeNodes(const ClusterView& view, bool with_labels) {
  std::map<std::string, int> kinds;
  view.ForEach([&](const ClusterView::Node& node) {
    const std::string labels =
        with_labels ? absl::StrCat(" with labels ", Describe(node.labels)) : "";
    ++kinds[absl::StrCat(node.total.ToString(), labels, node.draining ? " (draining)" : "")];
  });
  std::vector<std::string> parts;
  for (const auto& [kind, count] : kinds) {
    if (parts.size() == kKindsMax) {
      parts.push_back(absl::StrCat("and ", kinds.size() - kKindsMax, " other kinds"));
      break;
    }
    parts.push_back(absl::StrCat(count, " x ", kind));
  }
  return absl::StrJoin(parts, ", ");
}

}  // namespace

std::string ExplainInfeasible(const std::string& task, const NodeNeeds& needs,
                              const ClusterView& view) {
  const std::vector<std::string> missing = Missing(needs.resources, view);
  SchedulingStrategy rules;
  rules.ParseFromString(needs.label_rules);
  const bool has_rules = rules.required_labels_size() > 0;
  std::string why;
  if (!missing.empty()) {
    why = absl::StrCat("it needs ", absl::StrJoin(missing, " and "));
  } else if (has_rules) {
    why = absl::StrCat("it needs ", needs.resources.ToString(), " on a node where ",
                       Describe(rules.required_labels()));
  } else {
    why = absl::StrCat("it needs ", needs.resources.ToString(), " on one node");
  }
  return absl::StrCat("No node of the cluster can run the task ", task, ": ", why,
                      ". The nodes of the cluster: ", DescribeNodes(view, has_rules),
                      ". The task stays pending until a node that suits it joins; cancel it, or "
                      "ask for less, if none will.");
}

std::string ExplainSmallBundles(const std::string& task, const base::PlacementGroupId& group,
                                const NodeNeeds& needs) {
  return absl::StrCat("The task ", task, " can never run in its placement group ", group.Hex(),
                      ": it needs ", needs.resources.ToString(),
                      ", and no bundle of the group has as much. Cancel it, or ask for less.");
}

std::string ExplainUnplacedGroup(const std::string& task, const base::PlacementGroupId& group) {
  return absl::StrCat("The task ", task, " waits for its placement group ", group.Hex(),
                      ": the group is not placed yet; ray.util.placement_group_table tells why.");
}

}  // namespace ray::scheduling
