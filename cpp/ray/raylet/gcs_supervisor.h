// Keeps the cluster's gcs_server alive: watches its process, and starts it again with the same
// command when it is gone. The new one continues from its storage, on its old address. A
// replacement is a child of this process and dies with it.
//
// Owner: Raylet, of the head node.   Threads: loop-bound, on a thread that lives as long as the
// process (a child is bound to its parent's thread).   Blocks: a start, until the program runs.
// Errors: none; a start that fails is logged and tried again.
//   SUPERVISOR-1  at most one gcs_server of ours runs at a time.
//   SUPERVISOR-2  one that had served is replaced at once; after one that had not, or only for less
//                 than `stable_after`, there is a pause, which doubles with each in a row.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/net/endpoint.h"
#include "ray/net/event_loop.h"

namespace ray::raylet {

class GcsSupervisor {
 public:
  struct Options {
    pid_t pid = 0;                     // of the one that runs now
    std::vector<std::string> command;  // starts another; --ready_fd is added
    std::string output_file;           // its standard output and error
    absl::Duration stable_after = absl::Milliseconds(100);
    absl::Duration pause_min = absl::Milliseconds(100);
    absl::Duration pause_max = absl::Seconds(5);
    // It serves (again).
    std::function<void()> on_ready = nullptr;
  };

  // `loop` and `clock` outlive the supervisor.
  GcsSupervisor(net::EventLoop* loop, const base::Clock* clock, Options options);
  // Ends a replacement; leaves the first one, which is not ours, alone.
  ~GcsSupervisor();
  GcsSupervisor(const GcsSupervisor&) = delete;
  GcsSupervisor& operator=(const GcsSupervisor&) = delete;

  // From now on. Requires that the present one has served.
  void Start();

  // The present one is not replaced any more.
  void Stop();

  pid_t pid() const { return pid_; }  // 0: none runs

 private:
  void Watch(pid_t pid);
  void OnEnd();
  void StartAgain();
  void OnReadyLine();
  void StopWatching();

  net::EventLoop* const loop_;
  const base::Clock* const clock_;
  const Options options_;
  pid_t pid_ = 0;
  bool is_child_ = false;
  net::UniqueFd process_;  // pidfd
  net::UniqueFd ready_;    // of a replacement that does not serve yet
  std::string ready_line_;
  absl::Time ended_at_;  // of the one before
  absl::Time ready_at_ = absl::InfiniteFuture();
  absl::Duration pause_;
  std::optional<net::EventLoop::TimerId> timer_;
};

}  // namespace ray::raylet
