// What a scheduling strategy says beside resources and labels.
// Threads: free functions, thread-safe.   Errors: kInvalidArgument for an id of a wrong length.
#pragma once

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "ray/base/ids.h"
#include "ray/scheduling/lease_queue.h"
#include "ray/wire/v1/scheduling.pb.h"

namespace ray::scheduling {

// The bundle that it names; the node itself if it names none.
absl::StatusOr<BundleRef> BundleOf(const wire::v1::SchedulingStrategy& strategy);

// The node that it names.
struct Affinity {
  // What happens if the node is not there or could never hold it; and what, if it has no room now.
  enum class Kind : uint8_t {
    kHard,   // refused; waits for it
    kFail,   // refused, at once if there is no room
    kSoft,   // goes elsewhere; waits for it
    kSpill,  // goes elsewhere, also if there is no room
  };
  base::NodeId node;  // nil: none
  Kind kind = Kind::kHard;

  bool IsNone() const { return node.IsNil(); }
  bool IsSoft() const { return kind == Kind::kSoft || kind == Kind::kSpill; }
  // Whether it has to wait for this node, once it has been sent there.
  bool IsBound() const { return !IsNone() && kind != Kind::kSpill; }
  friend bool operator==(const Affinity&, const Affinity&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Affinity& affinity) {
    return H::combine(std::move(h), affinity.node, affinity.kind);
  }
};
// kInvalidArgument, too, for both spill and fail, or one that contradicts soft.
absl::StatusOr<Affinity> AffinityOf(const wire::v1::SchedulingStrategy& strategy);

}  // namespace ray::scheduling
