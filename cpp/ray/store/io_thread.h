// A thread that runs blocking operations one after the other and posts their results to a loop.
//
// Owner: a SpillTarget. Threads: loop-bound; operations run on the thread.
// Destruction waits for the operation in flight and drops the others.
// Errors: Start: kUnavailable = the system gives no thread.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace ray::store {

class IoThread {
 public:
  // Runs a function on the loop, in order (EventLoop::Post). Called from the thread while it lives.
  using Post = std::function<void(absl::AnyInvocable<void()>)>;

  explicit IoThread(Post post) : post_(std::move(post)) {}
  ~IoThread();
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  absl::Status Start();

  // Runs `operation` on the thread and gives its result to `done` on the loop, unless this object
  // is gone by then.
  template <typename Result>
  void Run(absl::AnyInvocable<Result()> operation, absl::AnyInvocable<void(Result)> done) {
    Enqueue([this, operation = std::move(operation), done = std::move(done)]() mutable {
      post_([alive = std::weak_ptr<bool>(alive_), done = std::move(done),
             result = operation()]() mutable {
        if (!alive.expired()) done(std::move(result));
      });
    });
  }
  void Run(absl::AnyInvocable<void()> operation) { Enqueue(std::move(operation)); }

 private:
  void Enqueue(absl::AnyInvocable<void()> operation);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !operations_.empty();
  }
  void RunAll();

  const Post post_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  absl::Mutex mutex_;
  // Rather than Mutex::Await, of which ThreadSanitizer cannot see the order it makes.
  absl::CondVar work_came_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Bounded by the store: a write, and what its objects on disk are asked for.
  std::deque<absl::AnyInvocable<void()>> operations_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // set by Start()
};

}  // namespace ray::store
