// What a LeaseRouter keeps: for lease_router*.cc only.
#pragma once

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "ray/base/ids.h"
#include "ray/scheduling/lease_router.h"
#include "ray/wire/v1/leases.pb.h"

namespace ray::scheduling {

// Requests of one client that may be exchanged for one another. Lives while it has some.
struct LeaseRouter::Class {
  uint64_t number = 0;
  ClassKey key;
  size_t entries = 0;
  size_t backlog = 0;  // tasks behind the newest request
  // Those that wait and may be moved.
  Entries held;    // here
  Entries queued;  // in the own queue
  Entries there;   // at other nodes
  // Those that wait at other nodes, with those that are about to move.
  absl::flat_hash_map<base::NodeId, size_t> waiting_at;
  uint64_t warned = 0;  // the sequence of the request that was warned of
};

// What follows once another raylet has confirmed that it dropped a request.
enum class LeaseRouter::Then : uint8_t { kNothing, kPlaceAgain, kDrop, kRefuse };

struct LeaseRouter::Entry {
  enum class Place {
    kNowhere,       // being placed
    kHeld,          // here
    kQueue,         // in the own queue
    kAsked,         // another raylet was asked to grant it now or never
    kWaitingThere,  // in another node's queue
  };
  RequestKey key;
  uint64_t sequence = 0;
  LeaseRequest ask;
  wire::v1::RequestLease message;
  base::NodeId preferred;  // nil: none
  absl::Time since;
  Class* in_class = nullptr;

  Place place = Place::kNowhere;
  base::NodeId node;        // kAsked, kWaitingThere
  uint64_t forward_id = 0;  // as node
  Then then = Then::kNothing;
  base::NodeId target;  // kPlaceAgain: where room is reserved for it; nil: nowhere
  // For any bundle of a group.
  size_t tried = 0;
  size_t turn = 0;
  absl::Duration pause;
  absl::Time round_at = absl::InfiniteFuture();  // its time in rounds_; infinite: it is not there
};

inline wire::v1::RequestLeaseReply ReplyOf(wire::v1::RequestLeaseReply::Outcome outcome) {
  wire::v1::RequestLeaseReply reply;
  reply.set_outcome(outcome);
  return reply;
}

}  // namespace ray::scheduling
