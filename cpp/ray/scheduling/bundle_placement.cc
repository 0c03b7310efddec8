#include "ray/scheduling/bundle_placement.h"

#include <algorithm>
#include <numeric>

namespace ray::scheduling {
namespace {

using base::NodeId;
using resources::ResourceSet;

using Placement = std::optional<std::vector<NodeId>>;

bool Suits(const NodeView& node, const BundleDemand& bundle) {
  return bundle.resources.FitsIn(node.room) && MatchesAll(bundle.labels, node.labels);
}

void Take(NodeView* node, const BundleDemand& bundle) {
  node->room -= bundle.resources;
  ++node->bundles;
}

// Those that fewest nodes suit first, so that others do not take these nodes from them; then the
// ones that load a node most. nullopt when some bundle has no node at all.
std::optional<std::vector<size_t>> HardestFirst(const std::vector<BundleDemand>& bundles,
                                                const std::vector<NodeView>& nodes) {
  struct Difficulty {
    size_t nodes = 0;
    double load = 0;
  };
  std::vector<Difficulty> difficulty(bundles.size());
  for (size_t i = 0; i < bundles.size(); ++i) {
    for (const NodeView& node : nodes) {
      if (!Suits(node, bundles[i])) continue;
      ++difficulty[i].nodes;
      const double load = LoadWith(bundles[i].resources, node.total, node.total);
      difficulty[i].load = std::max(difficulty[i].load, load);
    }
    if (difficulty[i].nodes == 0) return std::nullopt;
  }
  std::vector<size_t> order(bundles.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (difficulty[a].nodes != difficulty[b].nodes) {
      return difficulty[a].nodes < difficulty[b].nodes;
    }
    return difficulty[a].load > difficulty[b].load;
  });
  return order;
}

// How much of the demand the node has room for: the sum over its resources of the share.
double ShareOf(const NodeView& node, const ResourceSet& demand) {
  double share = 0;
  for (const auto& [name, quantity] : demand) {
    share += std::min(1.0, node.room.Get(name).ToDouble() / quantity.ToDouble());
  }
  return share;
}

Placement Pack(const std::vector<BundleDemand>& bundles, std::vector<NodeView> nodes) {
  auto order = HardestFirst(bundles, nodes);
  if (!order.has_value()) return std::nullopt;
  ResourceSet left;
  for (const BundleDemand& bundle : bundles) left += bundle.resources;

  std::vector<NodeView*> opened;  // those that hold bundles of the group
  for (NodeView& node : nodes) {
    if (node.bundles > 0) opened.push_back(&node);
  }
  std::vector<NodeId> placed(bundles.size());
  for (size_t i : *order) {
    const BundleDemand& bundle = bundles[i];
    auto suits = [&](const NodeView* node) { return Suits(*node, bundle); };
    auto found = std::find_if(opened.begin(), opened.end(), suits);
    NodeView* node = found == opened.end() ? nullptr : *found;
    if (node == nullptr) {
      double best = -1;
      for (NodeView& candidate : nodes) {
        if (!Suits(candidate, bundle)) continue;
        const double share = ShareOf(candidate, left);
        if (share <= best) continue;
        best = share;
        node = &candidate;
      }
      if (node == nullptr) return std::nullopt;
      opened.push_back(node);
    }
    Take(node, bundle);
    left -= bundle.resources;
    placed[i] = node->id;
  }
  return placed;
}

Placement Spread(const std::vector<BundleDemand>& bundles, std::vector<NodeView> nodes) {
  auto order = HardestFirst(bundles, nodes);
  if (!order.has_value()) return std::nullopt;
  std::vector<NodeId> placed(bundles.size());
  for (size_t i : *order) {
    NodeView* best = nullptr;
    double best_load = 0;
    for (NodeView& node : nodes) {
      if (!Suits(node, bundles[i])) continue;
      const double load = LoadWith(bundles[i].resources, node.total, node.room);
      const bool better = best == nullptr || node.bundles < best->bundles ||
                          (node.bundles == best->bundles && load < best_load);
      if (!better) continue;
      best = &node;
      best_load = load;
    }
    if (best == nullptr) return std::nullopt;
    Take(best, bundles[i]);
    placed[i] = best->id;
  }
  return placed;
}

Placement StrictPack(const std::vector<BundleDemand>& bundles, const std::vector<NodeView>& nodes,
                     const NodeId& preferred) {
  BundleDemand all;
  for (const BundleDemand& bundle : bundles) {
    all.resources += bundle.resources;
    all.labels.MergeFrom(bundle.labels);
  }
  const NodeView* best = nullptr;
  double best_load = 0;
  for (const NodeView& node : nodes) {
    if (!Suits(node, all)) continue;
    // The fullest that has room: larger groups may need the others.
    const double load = LoadWith(all.resources, node.total, node.room);
    if (best == nullptr || load > best_load) {
      best = &node;
      best_load = load;
    }
    if (node.id == preferred) {
      best = &node;
      break;
    }
  }
  if (best == nullptr) return std::nullopt;
  return std::vector<NodeId>(bundles.size(), best->id);
}

// Each bundle takes a node; if only taken ones suit it, their bundles look for another (a maximum
// matching by augmenting paths).
class StrictSpread {
 public:
  StrictSpread(const std::vector<BundleDemand>& bundles, const std::vector<NodeView>& nodes)
      : bundles_(bundles), nodes_(nodes), bundle_on_(nodes.size()) {}

  Placement Place() {
    for (size_t bundle = 0; bundle < bundles_.size(); ++bundle) {
      visited_.assign(nodes_.size(), false);
      if (!FindNode(bundle)) return std::nullopt;
    }
    std::vector<NodeId> placed(bundles_.size());
    for (size_t node = 0; node < nodes_.size(); ++node) {
      if (bundle_on_[node].has_value()) placed[*bundle_on_[node]] = nodes_[node].id;
    }
    return placed;
  }

 private:
  bool FindNode(size_t bundle) {
    if (TakeFree(bundle)) return true;
    for (size_t node = 0; node < nodes_.size(); ++node) {
      if (visited_[node] || !MayTake(bundle, node)) continue;
      visited_[node] = true;
      if (!FindNode(*bundle_on_[node])) continue;
      bundle_on_[node] = bundle;
      return true;
    }
    return false;
  }

  // The least loaded one.
  bool TakeFree(size_t bundle) {
    std::optional<size_t> best;
    double best_load = 0;
    for (size_t node = 0; node < nodes_.size(); ++node) {
      if (bundle_on_[node].has_value() || !MayTake(bundle, node)) continue;
      const double load =
          LoadWith(bundles_[bundle].resources, nodes_[node].total, nodes_[node].room);
      if (best.has_value() && load >= best_load) continue;
      best = node;
      best_load = load;
    }
    if (best.has_value()) bundle_on_[*best] = bundle;
    return best.has_value();
  }

  bool MayTake(size_t bundle, size_t node) const {
    return nodes_[node].bundles == 0 && Suits(nodes_[node], bundles_[bundle]);
  }

  const std::vector<BundleDemand>& bundles_;
  const std::vector<NodeView>& nodes_;
  std::vector<std::optional<size_t>> bundle_on_;  // by node
  std::vector<bool> visited_;                     // by node, in the search for one bundle
};

}  // namespace

double LoadWith(const ResourceSet& request, const ResourceSet& total, const ResourceSet& room) {
  double load = 0;
  for (const auto& [name, quantity] : request) {
    const double capacity = total.Get(name).ToDouble();
    load = std::max(load, 1 - (room.Get(name) - quantity).ToDouble() / capacity);
  }
  return load;
}

Placement PlaceBundles(wire::v1::PlacementStrategy strategy,
                       const std::vector<BundleDemand>& bundles, std::vector<NodeView> nodes,
                       const NodeId& preferred) {
  switch (strategy) {
    case wire::v1::PACK:
      return Pack(bundles, std::move(nodes));
    case wire::v1::SPREAD:
      return Spread(bundles, std::move(nodes));
    case wire::v1::STRICT_PACK:
      return StrictPack(bundles, nodes, preferred);
    case wire::v1::STRICT_SPREAD:
      return StrictSpread(bundles, nodes).Place();
    default:
      return std::nullopt;
  }
}

}  // namespace ray::scheduling
