// What people read about the store: who holds what.
// Threads: thread-compatible free functions. O(objects).
#pragma once

#include <cstdint>
#include <string>

#include "absl/container/node_hash_map.h"
#include "ray/store/client_record.h"
#include "ray/store/object_store.h"
#include "ray/store/object_table.h"

namespace ray::store {

// "1.5 MiB".
std::string FormatBytes(uint64_t bytes);

// Several lines: totals, then the largest holders by kind and owner, and by client.
std::string DescribeUse(const StoreStats& stats, const ObjectTable& table,
                        const absl::node_hash_map<ClientId, ClientRecord>& clients);

}  // namespace ray::store
