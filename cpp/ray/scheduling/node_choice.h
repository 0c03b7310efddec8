// Which node a task should run on, by what the view of the cluster says.
//
//   hybrid   A node that is used to less than spread_threshold of its scarcest resource scores 0,
//            any other its use. This node first, if none is better; else at random among the best,
//            which are top_k_fraction of the cluster and at least one. So nodes fill up to the
//            threshold one after the other, and then evenly.
//   spread   All nodes in turn.
// Nodes with GPUs are taken by tasks that ask for none only when no other has room. Nodes that meet
// the preferred labels come before those that do not. Draining nodes are never chosen.
//
// Cost: what nodes of the cluster suit a kind of request is kept for the kinds that were used last,
// sorted by score, and brought up to date from the view's log. So a choice costs as much as nodes
// have changed since the last one for the same kind, whatever the size of the cluster.
//
// Owner: LeaseRouter.   Threads: thread-compatible.   Errors: none.   Random numbers come from the
// seed: the same calls choose the same nodes.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "ray/base/ids.h"
#include "ray/resources/resource_set.h"
#include "ray/scheduling/cluster_view.h"
#include "ray/wire/v1/scheduling.pb.h"

namespace ray::scheduling {

// What a kind of request needs of a node. Threads: immutable value.
struct NodeNeeds {
  resources::ResourceSet resources;
  std::string label_rules;  // a serialized SchedulingStrategy with nothing but these; "" = none

  static NodeNeeds Of(resources::ResourceSet resources,
                      const wire::v1::SchedulingStrategy& strategy);
  friend bool operator==(const NodeNeeds&, const NodeNeeds&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const NodeNeeds& needs) {
    return H::combine(std::move(h), needs.resources, needs.label_rules);
  }
};

class NodeChooser {
 public:
  struct Options {
    base::NodeId self;
    double spread_threshold = 0.5;
    double top_k_fraction = 0.2;
    uint64_t seed = 0;
    size_t kinds_max = 64;  // of requests whose index is kept
  };

  // `view` outlives the chooser.
  NodeChooser(Options options, const ClusterView* view);
  ~NodeChooser();

  // A node with room, by the policy; nullopt: none has. Never `other_than`.
  std::optional<base::NodeId> WithRoom(const NodeNeeds& needs, bool spread,
                                       const base::NodeId& other_than = {});
  // Whether this node has room and would do as well as any by its labels.
  bool HasRoom(const NodeNeeds& needs, const base::NodeId& node);
  // Whether a request may wait at this node: it could be granted there, were nothing else running.
  bool MayWaitAt(const NodeNeeds& needs, const base::NodeId& node);
  // A node to wait at, with few that wait there already by `waiting` (< `waiting_max`) and then
  // the least used; of some, if there are many. nullopt: none.
  std::optional<base::NodeId> ToWaitAt(const NodeNeeds& needs, size_t waiting_max,
                                       absl::FunctionRef<size_t(const base::NodeId&)> waiting);
  // Whether some node could ever hold it.
  bool IsFeasible(const NodeNeeds& needs);
  // The node was asked and has no room after all: it is not chosen for this kind of request until
  // it is heard of again.
  void Refused(const NodeNeeds& needs, const base::NodeId& node);

  // MANTA_CHECKs each index against the view, in O(everything): for tests.
  void CheckInvariants();

 private:
  class Index;
  Index* IndexOf(const NodeNeeds& needs);

  const Options options_;
  const ClusterView* const view_;
  std::mt19937_64 random_;
  uint64_t spread_cursor_;
  std::list<std::pair<NodeNeeds, std::unique_ptr<Index>>> indexes_;  // the last used first
  absl::flat_hash_map<NodeNeeds, decltype(indexes_)::iterator> by_needs_;
};

}  // namespace ray::scheduling
