// Which worker is ended when a node's memory runs short. Pure.
//
// What can run again goes before what cannot, and tasks that cannot before actors that cannot: a
// task's caller hears of it, an actor's state is lost. Among these, work of the owner that has most
// of it here goes first, so that each owner keeps one worker as long as another has several: it
// makes progress, if slowly. Of one owner, what started last goes first: least is lost. Drivers are
// no workers, and never ended.
//
// Threads: free functions, thread-safe.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "ray/base/ids.h"

namespace ray::scheduling {

// What a worker of this node runs.
struct RunningWork {
  base::WorkerId worker;
  std::string owner;  // who waits for it; equal for all that one process has submitted
  std::string name;   // of the task or the actor's class
  absl::Time since;
  bool is_actor = false;
  bool retriable = false;  // the task has retries left; the actor may be restarted
};

struct MemoryVictim {
  size_t index = 0;     // into the works
  std::string because;  // completes "it was chosen because ..."
};

// nullopt if nothing runs.
std::optional<MemoryVictim> ChooseMemoryVictim(const std::vector<RunningWork>& works,
                                               absl::Time now);

}  // namespace ray::scheduling
