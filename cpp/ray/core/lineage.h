// The tasks that could compute lost objects again: kept after they have ended for as long as one of
// their objects lies in a store. Sans-I/O.
//
// What a kept task needs of memory is the arguments that travelled inline with it; beyond
// `bytes_max` of them the oldest tasks are let go, and what they made cannot be computed again
// then.
//
// Threads: thread-compatible; the core worker's mutex.   Errors: none; unknown ids are ignored.
#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"
#include "ray/core/task.h"

namespace ray::core {

class Lineage {
 public:
  explicit Lineage(size_t bytes_max = SIZE_MAX) : bytes_max_(bytes_max) {}

  // `objects` > 0 of the ended task lie in a store. Returns the tasks that are let go for it, maybe
  // this one: they were kept and are not any more.
  std::vector<TaskPtr> Keep(const TaskPtr& task, uint32_t objects);
  // The task runs again: it is not kept until it has ended. Null: it is not kept.
  TaskPtr Take(const base::TaskId& task);
  // One of its objects is gone for good. Returns the task if that was the last one.
  TaskPtr ObjectGone(const base::ObjectId& object);

  bool Has(const base::TaskId& task) const { return kept_.contains(task); }
  bool empty() const { return kept_.empty(); }
  size_t size() const { return kept_.size(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Kept {
    TaskPtr task;
    uint32_t objects = 0;
    size_t bytes = 0;
    std::list<base::TaskId>::iterator age;
  };
  using Map = absl::flat_hash_map<base::TaskId, Kept>;

  TaskPtr Remove(Map::iterator kept);

  size_t bytes_max_;
  size_t bytes_ = 0;
  Map kept_;
  std::list<base::TaskId> by_age_;  // oldest first
};

}  // namespace ray::core
