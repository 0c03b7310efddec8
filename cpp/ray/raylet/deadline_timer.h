// A timer of the loop for cores that say when they want to be called next.
// Owner: the service around the core.   Threads: loop-bound.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/net/event_loop.h"

namespace ray::raylet {

class DeadlineTimer {
 public:
  DeadlineTimer(net::EventLoop* loop, const base::Clock* clock, std::function<void()> run)
      : loop_(loop), clock_(clock), run_(std::move(run)) {}
  ~DeadlineTimer() { Set(absl::InfiniteFuture()); }
  DeadlineTimer(const DeadlineTimer&) = delete;
  DeadlineTimer& operator=(const DeadlineTimer&) = delete;

  // Replaces the deadline that was set before; InfiniteFuture: none.
  void Set(absl::Time deadline) {
    if (deadline == deadline_) return;
    if (timer_.has_value()) loop_->Cancel(*timer_);
    timer_.reset();
    deadline_ = deadline;
    if (deadline == absl::InfiniteFuture()) return;
    timer_ = loop_->RunAfter(std::max(deadline - clock_->Now(), absl::ZeroDuration()), [this] {
      timer_.reset();
      deadline_ = absl::InfiniteFuture();
      run_();
    });
  }

 private:
  net::EventLoop* const loop_;
  const base::Clock* const clock_;
  const std::function<void()> run_;
  absl::Time deadline_ = absl::InfiniteFuture();
  std::optional<net::EventLoop::TimerId> timer_;
};

}  // namespace ray::raylet
