// net/event_loop.h in the virtual world: nobody drives the loop, the world runs what is due.
#include "ray/net/event_loop.h"

#include <unordered_map>

#include "ray/base/check.h"
#include "tests/sim/world/loops.h"

namespace ray::sim {
namespace {

// Before a handler is tried again whose loop's mutex a waiting thread holds.
constexpr absl::Duration kBusy = absl::Microseconds(10);

std::unordered_map<const net::EventLoop*, LoopStatePtr>& States() {
  static auto* states = new std::unordered_map<const net::EventLoop*, LoopStatePtr>();
  return *states;
}

void RunSoon(const LoopStatePtr& loop, absl::Duration delay) {
  World::Current()->After(delay, loop->process, [loop] { RunDue(loop); });
}

}  // namespace

LoopStatePtr StateOf(const net::EventLoop* loop) { return States().at(loop); }

void RunOn(const LoopStatePtr& loop, Action action) {
  loop->due.push_back(std::move(action));
  RunDue(loop);
}

int RunDue(const LoopStatePtr& loop) {
  if (!loop->alive || loop->running) return 0;
  int ran = 0;
  while (loop->alive && !loop->due.empty()) {
    if (loop->mutex != nullptr && !loop->mutex->TryLock()) {
      RunSoon(loop, kBusy);
      break;
    }
    Action next = std::move(loop->due.front());
    loop->due.pop_front();
    loop->running = true;
    next();
    loop->running = false;
    ++ran;
    // The handler may have ended the loop and, with it, the mutex.
    if (loop->alive && loop->mutex != nullptr) loop->mutex->Unlock();
  }
  if (ran > 0) {
    for (const auto& [fiber, wait] : std::exchange(loop->waiting, {})) {
      World::Current()->Wake(fiber, wait);
    }
  }
  return ran;
}

}  // namespace ray::sim

namespace ray::net {

using sim::LoopState;
using sim::StateOf;
using sim::World;

EventLoop::EventLoop(absl::Mutex* dispatch_mutex)
    : dispatch_mutex_(dispatch_mutex), epoll_fd_(-1), wake_fd_(-1) {
  auto state = std::make_shared<LoopState>();
  state->process = World::Current()->current();
  MANTA_CHECK(state->process != nullptr);
  state->mutex = dispatch_mutex;
  sim::States()[this] = std::move(state);
}

EventLoop::~EventLoop() {
  StateOf(this)->alive = false;
  sim::States().erase(this);
}

// Nothing here has descriptors but connections, which know the world.
void EventLoop::Watch(int, uint32_t, FdHandler) {}
void EventLoop::Modify(int, uint32_t) {}
void EventLoop::Unwatch(int) {}

EventLoop::TimerId EventLoop::RunAfter(absl::Duration delay, Task task) {
  const TimerId id = next_timer_++;
  auto state = StateOf(this);
  state->timers.emplace(id, std::move(task));
  World::Current()->After(delay, state->process, [state, id] {
    if (!state->timers.contains(id)) return;
    RunOn(state, [state, id] {
      auto timer = state->timers.extract(id);
      if (!timer.empty()) timer.mapped()();
    });
  });
  return id;
}

void EventLoop::Cancel(TimerId id) { StateOf(this)->timers.erase(id); }

void EventLoop::Post(Task task) {
  auto state = StateOf(this);
  state->due.push_back(std::move(task));
  sim::RunSoon(state, absl::ZeroDuration());
}

void EventLoop::Wake() {}

int EventLoop::Poll(absl::Duration timeout) {
  auto state = StateOf(this);
  const int ran = RunDue(state);
  if (ran > 0 || timeout <= absl::ZeroDuration()) return ran;
  World* world = World::Current();
  sim::Fiber* fiber = world->fiber();
  state->waiting.emplace_back(fiber, fiber->waits + 1);
  world->Wake(fiber, fiber->waits + 1, std::min(timeout, absl::Milliseconds(100)));
  world->Suspend();
  return 1;
}

void EventLoop::Run() { MANTA_CHECK_MSG(false, "the world runs the loops"); }
void EventLoop::Stop() {}

}  // namespace ray::net
