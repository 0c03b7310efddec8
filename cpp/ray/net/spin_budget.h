// How long a thread that waits polls before it sleeps. Polling has to pay for itself: it saves the
// wake-up of 25 us if what is waited for comes meanwhile, and takes a core from whoever would bring
// it about if there are more busy threads than cores.
//
// After a long sleep the time halves. After a short one it is tried in full; if what is waited for
// still comes only once the thread sleeps, polling was in its way, and is not tried again for a
// number of short sleeps that doubles with each failure.
//
// Threads: thread-compatible.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ray::net {

class SpinBudget {
 public:
  static constexpr int64_t kMinNanos = 2'000;
  static constexpr int kDoubtMax = 1024;  // short sleeps between two attempts

  explicit SpinBudget(int64_t max_nanos) : max_nanos_(max_nanos), nanos_(max_nanos) {}

  // Of the next wait.
  int64_t nanos() const { return nanos_; }

  // Something came while the thread polled.
  void Found() {
    nanos_ = std::min(nanos_ * 2, max_nanos_);
    doubt_ /= 2;
  }

  // Nothing did: the thread went to sleep, for so long; `woken`: by what it waits for.
  void Slept(int64_t slept_nanos, bool woken) {
    if (!woken || slept_nanos >= max_nanos_) {
      nanos_ = std::min(std::max(nanos_ / 2, kMinNanos), max_nanos_);
    } else if (left_out_ > 0) {
      --left_out_;
    } else if (nanos_ < max_nanos_) {
      nanos_ = max_nanos_;
    } else {
      doubt_ = std::clamp(doubt_ * 2, 1, kDoubtMax);
      left_out_ = doubt_;
      nanos_ = std::min(kMinNanos, max_nanos_);
    }
  }

 private:
  const int64_t max_nanos_;
  int64_t nanos_;
  int doubt_ = 0;
  int left_out_ = 0;  // short sleeps until polling is tried again
};

}  // namespace ray::net
