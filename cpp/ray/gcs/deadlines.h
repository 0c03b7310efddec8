// What the managers will do later, on whatever clock they were given. Nothing here waits: the owner
// of the real time (the server's loop, or a test) calls RunDue().
//
// A task cannot be cancelled; it looks, when it runs, whether there is still something to do.
// Owner: ControlPlane.   Threads: loop-bound.   Errors: none.
//   DEADLINES-1  tasks run in the order of their times, those of one time in the order they were
//                added.
#pragma once

#include <map>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "ray/base/clock.h"

namespace ray::gcs {

class Deadlines {
 public:
  using Task = absl::AnyInvocable<void()>;

  explicit Deadlines(const base::Clock* clock) : clock_(clock) {}

  void After(absl::Duration delay, Task task) {
    tasks_.emplace(clock_->Now() + delay, std::move(task));
  }

  // InfiniteFuture when there is none.
  absl::Time Next() const {
    return tasks_.empty() ? absl::InfiniteFuture() : tasks_.begin()->first;
  }

  // A task may add others; they run in this call only if they are due now.
  void RunDue() {
    const absl::Time now = clock_->Now();
    while (!tasks_.empty() && tasks_.begin()->first <= now) {
      Task task = std::move(tasks_.extract(tasks_.begin()).mapped());
      task();
    }
  }

 private:
  const base::Clock* const clock_;
  std::multimap<absl::Time, Task> tasks_;
};

}  // namespace ray::gcs
