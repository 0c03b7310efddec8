// What a raylet knows of the nodes of its cluster, itself among them: what they have and what of it
// is free, as far as it has heard, less what it has asked for since.
//
// Owner: LeaseRouter.   Threads: thread-compatible.   Errors: none; words about nodes that are not
// in the view change nothing.
//   VIEW-1  room = available as last heard - requests under way that the node had not seen by then
//           - reservations.
//   VIEW-2  every change of a node is in the log, from which indexes over the view catch up.
#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "ray/base/ids.h"
#include "ray/resources/resource_set.h"
#include "ray/scheduling/node_labels.h"

namespace ray::scheduling {

class ClusterView {
 public:
  struct Node {
    base::NodeId id;  // nil: nobody sits here (any more)
    resources::ResourceSet total;
    resources::ResourceSet available;  // as last heard
    resources::ResourceSet room;
    Labels labels;
    bool draining = false;   // nothing new is placed there
    bool reachable = true;   // its raylet could be asked when it was last tried
    uint64_t heard = 0;      // grows with each word of what is free there
    uint64_t character = 0;  // grows when all but what is free there changes

   private:
    friend class ClusterView;
    resources::ResourceSet reported;  // by the node itself, through the GCS
    std::deque<std::pair<uint64_t, resources::ResourceSet>> under_way;  // by ticket, ascending
    resources::ResourceSet reserved;
  };
  // Where a node sits; used again by another once it is gone.
  using Seat = uint32_t;

  // What the GCS says of a node, or the node of itself.
  void Update(const base::NodeId& id, resources::ResourceSet total,
              resources::ResourceSet available, Labels labels, bool draining);
  void SetAvailable(const base::NodeId& id, resources::ResourceSet available);
  void SetReachable(const base::NodeId& id, bool reachable);
  void SetDraining(const base::NodeId& id);
  void Remove(const base::NodeId& id);

  // A request for this is on its way to the node. Tickets grow.
  void Sent(const base::NodeId& id, uint64_t ticket, const resources::ResourceSet& quantities);
  // Its answer came and says what is free; it knows of all requests that were sent before it.
  // Whether that is something new.
  bool Answered(const base::NodeId& id, uint64_t ticket, resources::ResourceSet available);
  // What was answered may be older than what the node has reported: its report counts again.
  void BelieveReport(const base::NodeId& id);
  // It came to nothing.
  void Dropped(const base::NodeId& id, uint64_t ticket);
  // A request will be sent there once it is free to go.
  void Reserve(const base::NodeId& id, const resources::ResourceSet& quantities);
  void Unreserve(const base::NodeId& id, const resources::ResourceSet& quantities);

  // nullptr: not in the view.
  const Node* Find(const base::NodeId& id) const;
  void ForEach(absl::FunctionRef<void(const Node&)> visit) const;
  size_t size() const { return seats_of_.size(); }
  // Grows when something may be possible that was not, other than by SetAvailable and SetDraining.
  uint64_t gains() const { return gains_; }

  // -- For indexes.
  Seat seats() const { return static_cast<Seat>(nodes_.size()); }
  const Node& at(Seat seat) const { return nodes_[seat]; }
  Seat SeatOf(const base::NodeId& id) const { return seats_of_.at(id); }
  // The log holds the changes from log_begin() to log_end(); older ones are forgotten.
  uint64_t log_begin() const { return log_begin_; }
  uint64_t log_end() const { return log_begin_ + log_.size(); }
  Seat changed(uint64_t number) const { return log_[number - log_begin_]; }

 private:
  Node* Get(const base::NodeId& id);
  void Changed(Node* node);
  void Recount(Node* node);
  void RecountAndCompare(Node* node);

  std::vector<Node> nodes_;
  std::vector<Seat> free_seats_;
  absl::flat_hash_map<base::NodeId, Seat> seats_of_;
  std::deque<Seat> log_;
  uint64_t log_begin_ = 0;
  uint64_t last_character_ = 0;
  uint64_t gains_ = 0;
};

}  // namespace ray::scheduling
