// The loop of a test: threads post functions, the test runs them.
// Threads: Post is thread-safe, the rest is of the test's thread.
#pragma once

#include <deque>
#include <functional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace ray::store {

class PostedFunctions {
 public:
  std::function<void(absl::AnyInvocable<void()>)> Post() {
    return [this](absl::AnyInvocable<void()> function) {
      absl::MutexLock lock(&mutex_);
      functions_.push_back(std::move(function));
      posted_.Signal();
    };
  }

  // Runs functions as they come until `condition` holds. False: it did not within 10 seconds.
  bool RunUntil(const std::function<bool()>& condition) {
    absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (!condition()) {
      absl::AnyInvocable<void()> function;
      {
        absl::MutexLock lock(&mutex_);
        while (functions_.empty()) {
          if (posted_.WaitWithDeadline(&mutex_, deadline)) return false;
        }
        function = std::move(functions_.front());
        functions_.pop_front();
      }
      function();
    }
    return true;
  }

  // Runs what was posted so far.
  void RunAll() {
    std::deque<absl::AnyInvocable<void()>> functions;
    {
      absl::MutexLock lock(&mutex_);
      functions.swap(functions_);
    }
    for (auto& function : functions) function();
  }

 private:
  absl::Mutex mutex_;
  absl::CondVar posted_;
  std::deque<absl::AnyInvocable<void()>> functions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ray::store
