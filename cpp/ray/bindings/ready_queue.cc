#include "ray/bindings/ready_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "ray/base/check.h"

namespace ray::bindings {
namespace {

// Between two attempts to drive a loop that other threads need.
constexpr absl::Duration kPauseMin = absl::Milliseconds(1);
constexpr absl::Duration kPauseMax = absl::Milliseconds(100);

}  // namespace

ReadyQueue::ReadyQueue() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { MANTA_CHECK(fd_.valid()); }

void ReadyQueue::Signal() {
  uint64_t one = 1;
  ssize_t n = write(fd_.get(), &one, sizeof one);
  static_cast<void>(n);  // a full counter is readable too
}

void ReadyQueue::Push(uint64_t token) {
  absl::MutexLock lock(&mutex_);
  tokens_.push_back(token);
  if (tokens_.size() == 1) Signal();
}

std::vector<uint64_t> ReadyQueue::Drain() {
  absl::MutexLock lock(&mutex_);
  uint64_t count;
  ssize_t n = read(fd_.get(), &count, sizeof count);
  static_cast<void>(n);  // nothing there is fine
  return std::exchange(tokens_, {});
}

bool ReadyQueue::AwaitReady(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  auto ready = [this] {
    mutex_.AssertHeld();
    return closed_ || !tokens_.empty();
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&ready), timeout);
}

std::vector<uint64_t> ReadyQueue::Wait() {
  AwaitReady(absl::InfiniteDuration());
  return Drain();
}

std::vector<uint64_t> ReadyQueue::WaitDriving(core::CoreWorker* session) {
  absl::Duration pause = kPauseMin;
  while (!session->is_shut_down()) {
    if (session->DriveUnlessWanted([this] { return AwaitReady(absl::ZeroDuration()); })) break;
    if (AwaitReady(pause)) break;
    pause = std::min(pause * 2, kPauseMax);
  }
  return Drain();
}

void ReadyQueue::Close() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  Signal();
}

}  // namespace ray::bindings
