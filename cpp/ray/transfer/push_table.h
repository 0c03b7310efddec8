// Who fetches which objects from this node: the source's side of a pull.
//
// Of one object only so many nodes fetch from here at a time. The others are told who has fetched
// it, so that a broadcast spreads as a tree.
//
// Pure state, no I/O.   Owner: TransferService.   Threads: loop-bound.   Errors: none.
//   PUSH-1  an object is granted to at most fanout_max nodes at a time, and once to each.
//   PUSH-2  what is granted stays pinned until End or Disconnected says so.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"
#include "ray/store/recent_map.h"

namespace ray::transfer {

class PushTable {
 public:
  struct Verdict {
    bool granted = false;
    std::vector<base::NodeId> other_nodes;  // not granted: that have fetched it, the latest first
  };

  explicit PushTable(size_t fanout_max) : fanout_max_(fanout_max) {}

  // A node that has a grant gets no second one.
  Verdict Begin(const base::NodeId& node, const base::ObjectId& id);
  bool IsGranted(const base::NodeId& node, const base::ObjectId& id) const;
  // True: the node had a grant, which is over: unpin the object. `fetched`: it has a copy now.
  bool End(const base::NodeId& node, const base::ObjectId& id, bool fetched);
  // The node's raylet is not connected any more. Its grants, which are over.
  std::vector<base::ObjectId> Disconnected(const base::NodeId& node);

  size_t grants() const { return grants_; }
  void CheckInvariants() const;

 private:
  static constexpr size_t kObjectsRemembered = 4'096;
  static constexpr size_t kCopiesRemembered = 16;  // of one object, the latest

  const size_t fanout_max_;
  absl::flat_hash_map<base::ObjectId, absl::btree_set<base::NodeId>> by_object_;  // no empty sets
  absl::flat_hash_map<base::NodeId, absl::btree_set<base::ObjectId>> by_node_;    // no empty sets
  // Where copies went, the latest last.
  store::RecentMap<base::ObjectId, std::vector<base::NodeId>> copies_{kObjectsRemembered};
  size_t grants_ = 0;
};

}  // namespace ray::transfer
