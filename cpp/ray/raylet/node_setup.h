// From what the flags of the raylet say and what the machine has to what the node offers.
// Threads: free functions, thread-safe.   Errors: kInvalidArgument names the flag and what is wrong
// with it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "ray/accelerators/node_accelerators.h"
#include "ray/base/config.h"
#include "ray/raylet/machine.h"
#include "ray/resources/resource_set.h"

namespace ray::raylet {

struct NodeFlags {
  std::optional<double> num_cpus;              // default: those of the machine
  std::optional<double> num_gpus;              // default: those found
  std::optional<int64_t> memory;               // bytes; default: of the machine, less the store
  std::optional<int64_t> object_store_memory;  // bytes; default: a fraction of the machine's memory
  std::string resources = "{}";                // JSON: name to number
  std::string labels = "{}";                   // JSON: name to text
  std::string node_ip;
  bool is_head = false;
};

struct NodeSetup {
  resources::ResourceSet resources;
  uint64_t object_store_bytes = 0;
  std::map<std::string, std::string> labels;
};

absl::StatusOr<NodeSetup> SetUpNode(const NodeFlags& flags, const base::Config& config,
                                    const Machine& machine,
                                    const accelerators::NodeAccelerators& accelerators);

}  // namespace ray::raylet
