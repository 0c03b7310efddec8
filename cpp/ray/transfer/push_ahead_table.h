// What is sent to other nodes before they ask: which objects were, and how much is on its way.
//
// Sending ahead only saves time. What is not sent, or finds no room there, is pulled like any other
// object; so whoever is in doubt does not send.
//
// Pure state, no I/O.   Owner: PushAheadService.   Threads: loop-bound.   Errors: none.
//   AHEAD-1  at most node_bytes_max are on their way to a node.
//   AHEAD-2  an object is sent to a node once, as long as that is remembered.
#pragma once

#include <cstdint>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"
#include "ray/store/recent_map.h"

namespace ray::transfer {

class PushAheadTable {
 public:
  struct Options {
    uint64_t object_bytes_max = 0;  // 0: nothing is sent
    uint64_t node_bytes_max = 0;
  };

  explicit PushAheadTable(const Options& options) : options_(options) {}

  // True: it is to be sent now, and End follows.
  bool Begin(const base::NodeId& node, const base::ObjectId& id, uint64_t size_bytes);
  // The node has it, or the way there is broken.
  void End(const base::NodeId& node, uint64_t size_bytes);

  uint64_t object_bytes_max() const { return options_.object_bytes_max; }
  uint64_t bytes_on_their_way() const;

 private:
  static constexpr size_t kRemembered = 4'096;

  const Options options_;
  absl::flat_hash_map<base::NodeId, uint64_t> on_their_way_;  // bytes; no zeros
  store::RecentMap<std::pair<base::NodeId, base::ObjectId>, bool> sent_{kRemembered};
};

}  // namespace ray::transfer
