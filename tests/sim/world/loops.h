// What the virtual event loops keep beside their members: the process whose they are, what is due,
// and which fibers wait for something to happen in them.
// Threads: one.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "ray/net/event_loop.h"
#include "tests/sim/world/world.h"

namespace ray::sim {

struct LoopState {
  Process* process = nullptr;
  absl::Mutex* mutex = nullptr;
  bool alive = true;
  bool running = false;
  std::deque<Action> due;
  std::map<net::EventLoop::TimerId, Action> timers;
  std::vector<std::pair<Fiber*, uint64_t>> waiting;
};
using LoopStatePtr = std::shared_ptr<LoopState>;

LoopStatePtr StateOf(const net::EventLoop* loop);
// Runs it as a handler of the loop: now, or as soon as nobody holds its mutex; in order.
void RunOn(const LoopStatePtr& loop, Action action);
// What is due; returns how many handlers ran.
int RunDue(const LoopStatePtr& loop);

}  // namespace ray::sim
