#include "ray/net/event_loop.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "ray/base/check.h"
#include "ray/base/clock.h"

namespace ray::net {
namespace {

constexpr int kEventsPerWait = 64;
constexpr uint32_t kWakeGeneration = 0;

uint64_t Key(int fd, uint32_t generation) {
  return (uint64_t{generation} << 32) | static_cast<uint32_t>(fd);
}

// Holds the dispatch mutex if there is one. The optional lock is beyond what thread annotations can
// express.
class OptionalLock {
 public:
  explicit OptionalLock(absl::Mutex* mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS : mutex_(mutex) {
    if (mutex_ != nullptr) mutex_->Lock();
  }
  ~OptionalLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (mutex_ != nullptr) mutex_->Unlock();
  }

 private:
  absl::Mutex* const mutex_;
};

}  // namespace

EventLoop::EventLoop(absl::Mutex* dispatch_mutex)
    : dispatch_mutex_(dispatch_mutex),
      epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  MANTA_CHECK(epoll_fd_ >= 0 && wake_fd_ >= 0);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = Key(wake_fd_, kWakeGeneration);
  MANTA_CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) == 0);
}

EventLoop::~EventLoop() {
  // A handler may own what unwatches itself as it goes: it must find a whole, empty map.
  auto watched = std::move(watched_);
  watched_.clear();
  watched.clear();
  close(wake_fd_);
  close(epoll_fd_);
}

void EventLoop::Watch(int fd, uint32_t events, FdHandler handler) {
  auto watched = std::make_shared<Watched>();
  watched->handler = std::move(handler);
  watched->generation = next_generation_++;
  if (next_generation_ == kWakeGeneration) next_generation_ = kWakeGeneration + 1;
  epoll_event event{};
  event.events = events;
  event.data.u64 = Key(fd, watched->generation);
  int op = watched_.contains(fd) ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  MANTA_CHECK(epoll_ctl(epoll_fd_, op, fd, &event) == 0);
  watched_[fd] = std::move(watched);
}

void EventLoop::Modify(int fd, uint32_t events) {
  auto it = watched_.find(fd);
  MANTA_CHECK(it != watched_.end());
  epoll_event event{};
  event.events = events;
  event.data.u64 = Key(fd, it->second->generation);
  MANTA_CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event) == 0);
}

void EventLoop::Unwatch(int fd) {
  if (watched_.erase(fd) == 0) return;
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
}

EventLoop::TimerId EventLoop::RunAfter(absl::Duration delay, Task task) {
  // A delay beyond the clock's range is never.
  delay = std::min(delay, absl::Hours(24 * 365));
  int64_t due = base::MonotonicNanos() + absl::ToInt64Nanoseconds(delay);
  TimerId id = next_timer_++;
  timers_.emplace(due, Timer{id, std::move(task)});
  timer_due_.emplace(id, due);
  next_due_nanos_.store(timers_.begin()->first);
  if (due < sleeps_until_nanos_.load()) Wake();
  return id;
}

void EventLoop::Cancel(TimerId id) {
  auto due = timer_due_.find(id);
  if (due == timer_due_.end()) return;
  auto [begin, end] = timers_.equal_range(due->second);
  timers_.erase(std::find_if(begin, end, [&](const auto& entry) { return entry.second.id == id; }));
  timer_due_.erase(due);
  next_due_nanos_.store(timers_.empty() ? INT64_MAX : timers_.begin()->first);
}

void EventLoop::Post(Task task) {
  {
    absl::MutexLock lock(&post_mutex_);
    posted_.push_back(std::move(task));
  }
  has_posted_.store(true);
  if (sleeps_until_nanos_.load() != 0) Wake();
}

void EventLoop::Wake() {
  uint64_t one = 1;
  ssize_t written = write(wake_fd_, &one, sizeof one);
  MANTA_CHECK(written == sizeof one || errno == EAGAIN || errno == EINTR);
}

void EventLoop::DrainWakeFd() {
  uint64_t count;
  ssize_t n = read(wake_fd_, &count, sizeof count);
  MANTA_CHECK(n == sizeof count || errno == EAGAIN || errno == EINTR);
}

int EventLoop::Poll(absl::Duration timeout) {
  epoll_event events[kEventsPerWait];
  int count = Wait(timeout, events, kEventsPerWait);
  bool due = next_due_nanos_.load(std::memory_order_relaxed) != INT64_MAX;
  if (count == 0 && !due && !has_posted_.load(std::memory_order_relaxed)) return 0;
  OptionalLock lock(dispatch_mutex_);
  return DispatchAll(events, count);
}

int EventLoop::Wait(absl::Duration timeout, epoll_event* events, int capacity) {
  int wait_ms = 0;
  if (timeout > absl::ZeroDuration()) {
    int64_t now = base::MonotonicNanos();
    int64_t limit =
        timeout == absl::InfiniteDuration() ? INT64_MAX : now + absl::ToInt64Nanoseconds(timeout);
    sleeps_until_nanos_.store(limit);
    int64_t until = std::min(limit, next_due_nanos_.load());
    if (has_posted_.load() || until <= now) {
      wait_ms = 0;
    } else if (until == INT64_MAX) {
      wait_ms = -1;
    } else {
      constexpr int64_t kNanosPerMilli = 1'000'000;
      constexpr int64_t kWaitMaxMs = 1'000'000;
      wait_ms = static_cast<int>(
          std::min((until - now + kNanosPerMilli - 1) / kNanosPerMilli, kWaitMaxMs));
    }
  }
  int count = epoll_wait(epoll_fd_, events, capacity, wait_ms);
  sleeps_until_nanos_.store(0);
  MANTA_CHECK(count >= 0 || errno == EINTR);
  return std::max(count, 0);
}

int EventLoop::DispatchAll(const epoll_event* events, int count) {
  for (int i = 0; i < count; ++i) RunFdHandler(events[i]);
  return count + RunPosted() + RunTimers();
}

void EventLoop::RunFdHandler(const epoll_event& event) {
  int fd = static_cast<int>(event.data.u64 & 0xffffffff);
  auto generation = static_cast<uint32_t>(event.data.u64 >> 32);
  if (generation == kWakeGeneration) return DrainWakeFd();
  auto it = watched_.find(fd);
  if (it == watched_.end() || it->second->generation != generation) return;
  std::shared_ptr<Watched> watched = it->second;  // the handler may unwatch itself
  watched->handler(event.events);
}

int EventLoop::RunPosted() {
  if (!has_posted_.load()) return 0;
  std::vector<Task> tasks;
  {
    absl::MutexLock lock(&post_mutex_);
    tasks.swap(posted_);
    has_posted_.store(false);
  }
  for (Task& task : tasks) task();
  return static_cast<int>(tasks.size());
}

int EventLoop::RunTimers() {
  if (timers_.empty()) return 0;
  int ran = 0;
  int64_t now = base::MonotonicNanos();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    auto node = timers_.extract(timers_.begin());
    timer_due_.erase(node.mapped().id);
    node.mapped().task();
    ++ran;
  }
  next_due_nanos_.store(timers_.empty() ? INT64_MAX : timers_.begin()->first);
  return ran;
}

void EventLoop::Run() {
  while (!stopped_.load()) Poll(absl::InfiniteDuration());
}

void EventLoop::Stop() {
  stopped_.store(true);
  Wake();
}

}  // namespace ray::net
