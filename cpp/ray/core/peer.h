// Another core worker that this one talks to, and what the two have said to each other.
// Threads: thread-compatible; the core worker's mutex.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"
#include "ray/core/sent_templates.h"
#include "ray/core/worker_address.h"
#include "ray/net/connection.h"

namespace ray::core {

// The constant part of the tasks of one kind, as the executing side keeps it.
struct ReceivedTemplate {
  std::string name;
  std::string function;    // pickled; of an actor call: the method's name
  int num_returns = 1;     // or kStreamingReturns, kDynamicReturns of task.h
  base::ActorId actor_id;  // nil for a task
  base::JobId job_id;
  std::string concurrency_group;
  bool retry_exceptions = false;
  std::string exception_types;
  std::map<std::string, int64_t> resources;  // raw FixedPoint, held by its lease
  uint32_t stream_backpressure = 0;
  uint32_t objects_per_yield = 0;  // as in TaskTemplate
  uint32_t max_calls = 0;
  std::string strategy;  // serialized wire::v1::SchedulingStrategy
  // What the bindings made of it (a Python function); released by them.
  mutable std::shared_ptr<void> loaded;
};
using ReceivedTemplatePtr = std::shared_ptr<const ReceivedTemplate>;

struct Peer {
  base::WorkerId worker_id;
  AddressPtr address;
  std::shared_ptr<net::Connection> connection;
  SentTemplates sent_templates;  // by their uid here
  absl::flat_hash_map<uint32_t, ReceivedTemplatePtr> received_templates;
};
using PeerPtr = std::shared_ptr<Peer>;

}  // namespace ray::core
