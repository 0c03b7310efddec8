// What the store knows of one client.
// Owner: ObjectStore. Threads: thread-compatible value.
#pragma once

#include <cstdint>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "ray/base/ids.h"

namespace ray::store {

struct ClientRecord {
  std::string name;                                // for breakdowns
  absl::btree_map<base::ObjectId, uint32_t> pins;  // its pins on objects of the table, > 0
  absl::btree_set<base::ObjectId> writing;         // objects it creates; each also has a pin
};

}  // namespace ray::store
