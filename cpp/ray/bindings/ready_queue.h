// Completions on their way to an event loop: the core worker pushes tokens without the GIL, an
// eventfd becomes readable, and Python drains. So `await ref` needs no thread, and the background
// thread never takes the GIL. Threads: Push and Close from any, without the GIL; the others as the
// caller likes.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ray/core/core_worker.h"
#include "ray/net/endpoint.h"

namespace ray::bindings {

class ReadyQueue {
 public:
  ReadyQueue();
  void Push(uint64_t token);
  std::vector<uint64_t> Drain();
  // Blocks until there are tokens; empty: closed.
  std::vector<uint64_t> Wait();
  // As Wait, but drives the session's loop meanwhile if no other thread does: what completes is
  // here without a hand-off between threads. Empty: closed, or the session has ended.
  std::vector<uint64_t> WaitDriving(core::CoreWorker* session);
  void Close();
  int fd() const { return fd_.get(); }

 private:
  void Signal();
  // Whether there are tokens, or it is closed, before the timeout.
  bool AwaitReady(absl::Duration timeout);

  const net::UniqueFd fd_;
  absl::Mutex mutex_;
  std::vector<uint64_t> tokens_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ray::bindings
