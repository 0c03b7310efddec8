// The event loop of a process: epoll, timers and posted functions. Whoever calls Poll() drives it;
// one thread at a time (LoopDriver arranges that in the core worker; the daemons simply Run()).
//
// All handlers run inside Poll(), one at a time, with the dispatch mutex held if one was given: the
// process's state behind that mutex is a monitor that user threads may also enter. epoll_wait
// itself runs without the mutex.
//
// Threads: Post, Wake and Stop are thread-safe. The rest is loop-bound: call it from a handler, or
// while holding the dispatch mutex (Watch, Unwatch, RunAfter, Cancel), or before the loop is
// driven. Errors: none; failed system calls here are our own bugs and abort.
//   LOOP-1  no handler of an fd runs after Unwatch(fd) returned.
//   LOOP-2  posted functions run in order, each once.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace ray::net {

class EventLoop {
 public:
  using FdHandler = std::function<void(uint32_t epoll_events)>;
  using Task = absl::AnyInvocable<void()>;
  using TimerId = uint64_t;

  // `dispatch_mutex` may be null (single-threaded daemons); else it outlives the loop.
  explicit EventLoop(absl::Mutex* dispatch_mutex = nullptr);
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Level-triggered. `events` as for epoll_ctl. The loop does not own fd. Replaces an earlier watch
  // of fd.
  void Watch(int fd, uint32_t events, FdHandler handler);
  void Modify(int fd, uint32_t events);
  void Unwatch(int fd);

  // Runs `task` once, in Poll(), not before `delay` has passed.
  TimerId RunAfter(absl::Duration delay, Task task);
  void Cancel(TimerId id);  // harmless if it already ran

  // Thread-safe; wakes the loop if it sleeps.
  void Post(Task task);
  void Wake();

  // Waits for events until `timeout` (InfiniteDuration: until there are some; zero: do not wait),
  // runs what is due. Returns the number of handlers, timers and tasks run. May return 0 early
  // (signal, Wake).
  int Poll(absl::Duration timeout);

  // Poll() until Stop().
  void Run();
  void Stop();

 private:
  struct Timer {
    TimerId id;
    Task task;
  };
  struct Watched {
    FdHandler handler;
    uint32_t
        generation;  // tells an event of this watch from one of an earlier watch of the same number
  };

  int Wait(absl::Duration timeout, epoll_event* events, int capacity);
  int DispatchAll(const epoll_event* events, int count);
  void RunFdHandler(const epoll_event& event);
  int RunPosted();
  int RunTimers();
  void DrainWakeFd();

  absl::Mutex* const dispatch_mutex_;
  const int epoll_fd_;
  const int wake_fd_;
  // Loop-bound (see class comment); not annotated because the dispatch mutex is optional.
  absl::flat_hash_map<int, std::shared_ptr<Watched>> watched_;
  std::multimap<int64_t, Timer> timers_;  // by due time, nanoseconds
  absl::flat_hash_map<TimerId, int64_t> timer_due_;
  TimerId next_timer_ = 1;
  uint32_t next_generation_ = 1;

  // The sleep protocol: the driver publishes how long it will sleep, then looks once more for work;
  // a thread that adds work publishes it first, then looks whether the driver sleeps past it. One
  // of the two always sees the other.
  std::atomic<int64_t> next_due_nanos_{INT64_MAX};
  std::atomic<int64_t> sleeps_until_nanos_{0};  // 0: awake

  absl::Mutex post_mutex_;
  std::vector<Task> posted_ ABSL_GUARDED_BY(post_mutex_);
  std::atomic<bool> has_posted_{false};
  std::atomic<bool> stopped_{false};
};

}  // namespace ray::net
