// The system calls that the engine makes by itself: time, chance, and the ends of processes. In a
// simulation they are the world's; otherwise the real ones.
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ray/base/clock.h"
#include "ray/raylet/machine.h"
#include "tests/sim/world/world.h"

namespace ray::base {

int64_t MonotonicNanos() {
  if (const sim::World* world = sim::World::Current(); world != nullptr) {
    return absl::ToUnixNanos(world->now());
  }
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1'000'000'000LL + ts.tv_nsec;
}

absl::Time RealClock::Now() const { return absl::FromUnixNanos(MonotonicNanos()); }

RealClock* RealClock::Get() {
  static RealClock clock;
  return &clock;
}

}  // namespace ray::base

namespace ray::raylet {

// The machines of the world have memory enough.
uint64_t CountOomKills() { return 0; }

}  // namespace ray::raylet

using ray::sim::World;

namespace {

// Null: outside of the world, or of its processes.
ray::sim::Process* Current() {
  const World* world = World::Current();
  return world == nullptr ? nullptr : world->current();
}

}  // namespace

extern "C" {

ssize_t getrandom(void* into, size_t size, unsigned int flags) {
  World* world = World::Current();
  if (world == nullptr) return syscall(SYS_getrandom, into, size, flags);
  auto* bytes = static_cast<uint8_t*>(into);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(world->Any(256));
  return static_cast<ssize_t>(size);
}

pid_t getpid() noexcept {
  const World* world = World::Current();
  if (world == nullptr || world->current() == nullptr) {
    return static_cast<pid_t>(syscall(SYS_getpid));
  }
  return world->current()->pid;
}

int kill(pid_t pid, int signal) noexcept {
  World* world = World::Current();
  if (world == nullptr) return static_cast<int>(syscall(SYS_kill, pid, signal));
  ray::sim::Process* process = world->Find(pid);
  if (process == nullptr || !process->alive) {
    errno = ESRCH;
    return -1;
  }
  if (signal != 0) world->Kill(process, signal);
  return 0;
}

int dup(int fd) noexcept {
  const auto copy = static_cast<int>(syscall(SYS_dup, fd));
  if (ray::sim::Process* process = Current(); process != nullptr && copy >= 0) {
    process->descriptors.insert(copy);
  }
  return copy;
}

int close(int fd) {
  if (ray::sim::Process* process = Current(); process != nullptr) process->descriptors.erase(fd);
  return static_cast<int>(syscall(SYS_close, fd));
}

void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  auto* start = reinterpret_cast<void*>(syscall(SYS_mmap, at, size, protection, flags, fd, offset));
  const bool of_store = fd >= 0 && (flags & MAP_SHARED) != 0 && start != MAP_FAILED;
  if (ray::sim::Process* process = Current(); process != nullptr && of_store) {
    process->mappings.emplace(start, size);
  }
  return start;
}

int munmap(void* start, size_t size) noexcept {
  if (ray::sim::Process* process = Current(); process != nullptr) process->mappings.erase(start);
  return static_cast<int>(syscall(SYS_munmap, start, size));
}

void _exit(int code) {
  World* world = World::Current();
  if (world != nullptr && world->current() != nullptr) world->Exit(code);
  syscall(SYS_exit_group, code);
  __builtin_unreachable();
}

}  // extern "C"
