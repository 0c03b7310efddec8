// The thread that waits drives the loop. A thread that blocks for something takes the loop over,
// polls it for a short, adaptive time and then sleeps in it; a background thread drives it only
// while no such thread does. So a synchronous call crosses no thread hand-off, and a process that
// computes is still answered.
//
// How the hand-off works. The loop has at most one driver (`driver_`, one atomic): nobody, a
// foreground thread, a yielding one, or the background thread.
//   DRIVE-1  only the driver calls EventLoop::Poll.
//   DRIVE-2  the background thread takes the loop only when no other thread has held it for
//            `background_grace`; until then it naps, so that a rapid series of waits never meets
//            it.
//   DRIVE-3  a foreground thread that finds the background thread or a yielding one driving wakes
//            it once and gets the loop.
//   DRIVE-4  while another thread sleeps in the loop, the background thread sleeps too, without a
//            timeout.
//   DRIVE-5  foreground threads beyond the first wait on `progress_`; the driver signals it after
//            each Poll that did something while such followers exist, and when it leaves.
//   DRIVE-6  a yielding thread (DriveUnlessWanted) leaves the loop alone for `background_grace`
//            after a foreground thread had it, but takes it from the background thread.
//
// Threads: thread-safe. WaitUntil must be called without the mutex. Fork: construct after the fork.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ray/net/event_loop.h"
#include "ray/net/spin_budget.h"

namespace ray::net {

class LoopDriver {
 public:
  struct Options {
    absl::Duration spin_max = absl::Microseconds(50);
    absl::Duration background_grace = absl::Milliseconds(1);
  };
  enum class Outcome { kDone, kTimeout, kInterrupted };

  // `mutex` is the loop's dispatch mutex. Both outlive the driver.
  LoopDriver(EventLoop* loop, absl::Mutex* mutex, const Options& options);
  ~LoopDriver();  // Stop()

  void StartBackground();
  // Joins the background thread. Waits in progress go on and drive the loop themselves.
  void Stop();

  // Blocks until `done()` holds (evaluated under the mutex, as often as need be, also once more
  // after it held), `deadline_nanos` (MonotonicNanos; INT64_MAX = none) is reached, or
  // `interrupted()` (evaluated without the mutex, after each signal and at least once a second)
  // says so.
  Outcome WaitUntil(absl::FunctionRef<bool()> done, int64_t deadline_nanos,
                    absl::FunctionRef<bool()> interrupted);

  // For a thread whose wait is less urgent than others': drives the loop until `done()` holds
  // (true), a thread in WaitUntil wants the loop, or `interrupted()` says so (evaluated as in
  // WaitUntil). Never polls: others may need the core, or the lock that the callbacks need. Returns
  // at once if a foreground thread has the loop, or had it within `background_grace`: wait
  // elsewhere for a moment, then try again.
  bool DriveUnlessWanted(absl::FunctionRef<bool()> done, absl::FunctionRef<bool()> interrupted);

  // Runs what is due, unless another thread drives the loop. Never blocks. A thread that does so
  // often keeps the background thread away, as waits do.
  void PollOnce();

 private:
  enum class Driver : int { kNobody, kForeground, kYielding, kBackground };

  bool Claim(Driver role);
  void Release();
  Outcome Drive(absl::FunctionRef<bool()> done, int64_t deadline_nanos,
                absl::FunctionRef<bool()> interrupted);
  bool Holds(absl::FunctionRef<bool()> done);
  void SpinOrSleep(int64_t slice_end_nanos, int64_t* spin_start_nanos);
  void BackgroundMain();
  void BackgroundPark();

  EventLoop* const loop_;
  absl::Mutex* const mutex_;
  const int64_t grace_nanos_;

  std::atomic<Driver> driver_{Driver::kNobody};
  std::atomic<int64_t> last_release_nanos_{0};
  std::atomic<int64_t> last_foreground_nanos_{0};
  std::atomic<int> wanted_by_{0};  // threads that want the loop from whoever must give it up
  std::atomic<int> followers_{0};  // threads that wait on progress_
  std::atomic<bool> driver_sleeps_{false};
  std::atomic<bool> stop_{false};

  SpinBudget spin_;  // the driver's

  absl::Mutex hand_off_mutex_;  // never held together with mutex_
  absl::CondVar hand_off_;
  absl::CondVar progress_;  // with mutex_
  std::thread background_;
};

}  // namespace ray::net
