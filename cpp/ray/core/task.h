// A task as its owner keeps it: the constant part (TaskTemplate) and what differs from call to call
// (Task). Threads: TaskTemplate is immutable; Task is thread-compatible, behind the core worker's
// mutex.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "ray/base/ids.h"
#include "ray/core/buffer.h"
#include "ray/core/object_table.h"

namespace ray::core {

inline constexpr int kStreamingReturns = -1;
inline constexpr int kDynamicReturns = -2;
inline constexpr int kUnlimited = -1;

struct TaskTemplate {
  uint64_t uid = 0;      // unique in this process
  std::string name;      // in errors: function, or Class.method
  std::string function;  // task: the pickled function; actor call: the method's name
  int num_returns = 1;   // or kStreamingReturns, kDynamicReturns
  std::map<std::string, int64_t> resources;  // raw FixedPoint
  int max_retries = 0;                       // or kUnlimited
  bool retry_exceptions = false;
  std::string exception_types;
  std::string concurrency_group;
  std::string runtime_env_hash;
  std::string runtime_env;       // what the hash is of
  std::string strategy;          // serialized wire::v1::SchedulingStrategy
  bool spread = false;           // by it, tasks are to run on as many nodes as can be
  base::PlacementGroupId group;  // that it names; nil: none
  uint32_t max_calls = 0;        // a worker ends after so many; 0 = never
  uint32_t stream_backpressure = 0;
  uint32_t objects_per_yield = 0;  // a yield of a stream is so many items; 0: it is one
  std::vector<ContainedObject>
      contains;  // references inside `function`: pinned by every task of the template
  std::string scheduling_class;  // equal for templates whose leases are interchangeable

  bool is_stream() const { return num_returns < 0; }
  int return_objects() const { return is_stream() ? 1 : num_returns; }
};
using TemplatePtr = std::shared_ptr<const TaskTemplate>;

struct Task {
  struct TopLevelRef {
    base::ObjectId id;
    AddressPtr owner;       // null: this process
    int32_t position = -1;  // or keyword
    std::string keyword;
  };

  base::TaskId id;
  TemplatePtr task_template;
  base::ActorId actor_id;      // nil for a task
  base::TaskId parent;         // nil: submitted by no task
  BufferPtr args;              // null when args_object is set
  base::ObjectId args_object;  // nil when args is set
  std::vector<TopLevelRef> refs;
  // Everything that the arguments and the function mention: pinned until the task ends.
  absl::InlinedVector<ContainedObject, 1> mentions;
  uint32_t unresolved = 0;  // refs without a value yet
  uint32_t attempt = 0;
  int retries_left = 0;        // or kUnlimited
  uint32_t memory_deaths = 0;  // times its worker was ended because memory was short
  bool cancelled = false;
  bool out_of_turn =
      false;  // an actor's: it computes a lost value again, which earlier calls may need
  base::WorkerId producer;            // streaming: who sent the latest item
  uint64_t items = 0;                 // streaming: how many have come
  base::NodeId preferred_node;        // where most of its arguments lie; nil: here or nowhere
  std::vector<base::NodeId> lost_on;  // where a worker died with it, maybe with results written

  bool TakeRetry() {
    if (retries_left == 0 || cancelled) return false;
    if (retries_left > 0) --retries_left;
    ++attempt;
    return true;
  }
  // Its worker was ended because memory was short. While its owner had more work on that node the
  // task was only in the way, and runs again without using up a retry; alone it is too large, and
  // uses one. A task that may not run twice never does.
  bool TakeMemoryRetry(bool was_alone) {
    if (cancelled || task_template->max_retries == 0) return false;
    if (was_alone && retries_left == 0) return false;
    if (was_alone && retries_left > 0) --retries_left;
    ++attempt;
    ++memory_deaths;
    return true;
  }
};
using TaskPtr = std::shared_ptr<Task>;

}  // namespace ray::core
