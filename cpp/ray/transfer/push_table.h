// Who fetches which objects from this node: the source's side of a pull.
//
// Of one object only so many nodes fetch from here at a time, of a large one only one. The others
// are told who else has it or is about to, so that a broadcast spreads over all nodes: as a tree,
// and for a large object as a chain, in which each node sends on what it has received so far and
// every link is used once in each direction.
//
// Pure state, no I/O.   Owner: TransferService.   Threads: loop-bound.   Errors: none.
//   PUSH-1  an object is granted to at most fanout_max nodes at a time, and once to each; but to
//           who resumes, always: that node holds memory, for which it may be that others wait who
//           hold grants.
//   PUSH-2  what is granted stays pinned until End or Disconnected says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"
#include "ray/store/recent_map.h"

namespace ray::transfer {

enum class PushKind : uint8_t {
  kSmall,
  kLarge,    // takes long compared with what a step from node to node takes
  kResumed,  // it has begun to fetch it from another node
};

class PushTable {
 public:
  struct Verdict {
    bool granted = false;
    // Not granted: the latest that have asked for it, the latest first, then who fetches it now.
    std::vector<base::NodeId> other_nodes;
  };

  explicit PushTable(size_t fanout_max) : fanout_max_(fanout_max) {}

  // A node that has a grant gets no second one.
  Verdict Begin(const base::NodeId& node, const base::ObjectId& id, PushKind kind);
  bool IsGranted(const base::NodeId& node, const base::ObjectId& id) const;
  // True: the node had a grant, which is over: unpin the object. `fetched`: it has a copy now.
  bool End(const base::NodeId& node, const base::ObjectId& id, bool fetched);
  // The node's raylet is not connected any more. Its grants, which are over.
  std::vector<base::ObjectId> Disconnected(const base::NodeId& node);

  size_t grants() const { return grants_; }
  void CheckInvariants() const;

 private:
  size_t GrantsMax(PushKind kind) const;
  void Remember(const base::NodeId& node, const base::ObjectId& id, bool asks);

  static constexpr size_t kObjectsRemembered = 4'096;
  static constexpr size_t kAskersRemembered = 8;  // of one object, the latest

  const size_t fanout_max_;
  absl::flat_hash_map<base::ObjectId, absl::btree_set<base::NodeId>> by_object_;  // no empty sets
  absl::flat_hash_map<base::NodeId, absl::btree_set<base::ObjectId>> by_node_;    // no empty sets
  // Who has asked and has not given up, the latest last.
  store::RecentMap<base::ObjectId, std::vector<base::NodeId>> askers_{kObjectsRemembered};
  size_t grants_ = 0;
};

}  // namespace ray::transfer
