#include "ray/store/page_warmer.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace ray::store {

class PageWarmer::Thread {
 public:
  Thread(const SharedMemory* memory, uint64_t pretouch_bytes, Post post, OnWarm on_warm)
      : memory_(memory),
        pretouch_bytes_(std::min(pretouch_bytes, memory->capacity_bytes())),
        post_(std::move(post)),
        on_warm_(std::make_shared<OnWarm>(std::move(on_warm))),
        thread_([this] { Run(); }) {
    // Where the kernel refuses, it runs at normal priority.
    SetPolicy(SCHED_IDLE);
  }

  ~Thread() {
    // An idle thread may wait long for a processor while others are busy.
    SetPolicy(SCHED_OTHER);
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      work_came_.Signal();
    }
    thread_.join();
  }

  void Return(Extent extent, absl::AnyInvocable<void()> done) {
    absl::MutexLock lock(&mutex_);
    returns_.push_back({extent, std::move(done)});
    work_came_.Signal();
  }

  // Completions that were posted check it, on the loop.
  std::weak_ptr<OnWarm> alive() const { return on_warm_; }

 private:
  struct PageReturn {
    Extent extent;
    absl::AnyInvocable<void()> done;
  };

  void SetPolicy(int policy) {
    sched_param parameters{};
    pthread_setschedparam(thread_.native_handle(), policy, &parameters);
  }

  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !returns_.empty() || touched_bytes_ < pretouch_bytes_;
  }

  void Run() {
    while (true) {
      std::deque<PageReturn> returns;
      {
        absl::MutexLock lock(&mutex_);
        while (!HasWork()) work_came_.Wait(&mutex_);
        if (stopping_) return;
        returns.swap(returns_);
      }
      for (PageReturn& page_return : returns) {
        if (!ReturnInSteps(page_return.extent)) return;
        post_(std::move(page_return.done));
      }
      if (returns.empty()) TouchNext();
    }
  }

  bool ReturnInSteps(Extent extent) {
    for (uint64_t at = extent.offset; at < extent.end();) {
      if (Stopping()) return false;
      uint64_t step = std::min(extent.end() - at, kStepBytes - at % kStepBytes);
      memory_->ReturnPages({at, step});
      at += step;
    }
    return true;
  }

  void TouchNext() {
    Extent step{touched_bytes_, std::min(kStepBytes, pretouch_bytes_ - touched_bytes_)};
    memory_->Touch(step);
    touched_bytes_ = step.end();
    post_([on_warm = std::weak_ptr<OnWarm>(on_warm_), step] {
      if (auto alive = on_warm.lock()) (*alive)(step);
    });
  }

  bool Stopping() {
    absl::MutexLock lock(&mutex_);
    return stopping_;
  }

  const SharedMemory* const memory_;
  const uint64_t pretouch_bytes_;
  const Post post_;
  const std::shared_ptr<OnWarm> on_warm_;
  uint64_t touched_bytes_ = 0;  // of the thread alone

  absl::Mutex mutex_;
  // Rather than Mutex::Await, of which ThreadSanitizer cannot see the order it makes.
  absl::CondVar work_came_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<PageReturn> returns_
      ABSL_GUARDED_BY(mutex_);  // bounded: the store lends one extent at a time
  std::thread thread_;          // last: it uses the others
};

PageWarmer::PageWarmer(const SharedMemory* memory, uint64_t pretouch_bytes, Post post,
                       OnWarm on_warm)
    : thread_(
          std::make_unique<Thread>(memory, pretouch_bytes, std::move(post), std::move(on_warm))) {}

PageWarmer::~PageWarmer() = default;

void PageWarmer::ReturnPages(Extent extent, absl::AnyInvocable<void()> done) {
  thread_->Return(extent, [alive = thread_->alive(), done = std::move(done)]() mutable {
    if (!alive.expired()) done();
  });
}

}  // namespace ray::store
