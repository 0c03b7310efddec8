#include "tests/sim/world/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::sim {
namespace {

constexpr size_t kStackBytes = 256 << 10;

World* g_world = nullptr;

}  // namespace

World::World(uint64_t seed)
    : show_(std::string_view(getenv("MANTA_SIM_TRACE")) == "1"),
      random_(seed),
      last_fd_(kFirstSocket) {
  MANTA_CHECK(g_world == nullptr);
  g_world = this;
  for (int type = 0; type <= wire::v1::FrameType_MAX; ++type) {
    frame_names_.push_back(wire::v1::FrameType_Name(type));
  }
}

World::~World() { g_world = nullptr; }

World* World::Current() { return g_world; }

// --- Events

void World::After(absl::Duration delay, Process* process, Action run) {
  queue_.push_back(
      {now_ + std::max(delay, absl::ZeroDuration()), ++last_event_, process, std::move(run)});
  std::push_heap(queue_.begin(), queue_.end(), Later());
}

// Without memory of its own: what is shown must change nothing.
const char* World::Time() const {
  static char text[32];
  snprintf(text, sizeof text, "%10.6f", absl::ToDoubleSeconds(now_ - start_));
  return text;
}

void World::Note(const char* what, const char* detail) const {
  if (!show_) return;
  fprintf(stderr, "%s  %s %d: %s %s\n", Time(), current_->name.c_str(), current_->pid, what,
          detail);
}

void World::Trace(uint64_t what) { trace_ = (trace_ ^ what) * 0x100000001b3ULL + (trace_ >> 29); }

bool World::Step() {
  if (queue_.empty()) return false;
  std::pop_heap(queue_.begin(), queue_.end(), Later());
  running_ = std::make_unique<Event>(std::move(queue_.back()));
  queue_.pop_back();
  now_ = running_->at;
  ++events_done_;
  Process* process = last_process_ = running_->process;
  Trace(static_cast<uint64_t>(absl::ToUnixNanos(now_)));
  if (process != nullptr && !process->alive) {
    // What it holds belongs to the dead, and does nothing when it goes: it stays.
    static_cast<void>(running_.release());
    return true;
  }
  if (process != nullptr) Trace(static_cast<uint64_t>(process->pid));
  current_ = process;
  if (_setjmp(ended_) == 0) {
    running_->run();
    running_.reset();
  } else {
    static_cast<void>(running_.release());  // its frames were left as they are
  }
  current_ = nullptr;
  return true;
}

// --- Processes

Process* World::Start(size_t machine, std::string name, Process* parent, Action main) {
  auto owned = std::make_unique<Process>();
  Process* process = owned.get();
  process->pid = ++last_pid_;
  process->machine = machine;
  process->name = std::move(name);
  process->parent = parent;
  if (parent != nullptr) parent->children.push_back(process);
  processes_.emplace(process->pid, std::move(owned));
  Spawn(process, std::move(main));
  return process;
}

Process* World::Find(int pid) const {
  auto found = processes_.find(pid);
  return found == processes_.end() ? nullptr : found->second.get();
}

void World::Kill(Process* process, int signal) {
  if (!process->alive) return;
  End(process, signal, 0, /*silently=*/false);
  if (process == current_) Exit(0);
}

void World::Exit(int code) {
  if (current_->alive) End(current_, 0, code, /*silently=*/false);
  if (fiber_ != nullptr) {
    swapcontext(&fiber_->context, &scheduler_);
  } else {
    _longjmp(ended_, 1);
  }
  MANTA_CHECK_MSG(false, "the dead do not come back");
  abort();
}

void World::End(Process* process, int signal, int code, bool silently) {
  process->alive = false;
  process->signal = signal;
  process->code = code;
  Trace(0xdead0000 + static_cast<uint64_t>(process->pid));
  if (show_) {
    fprintf(stderr, "%s  %s %d ends, signal %d, code %d\n", Time(), process->name.c_str(),
            process->pid, signal, code);
  }
  for (int fd : std::exchange(process->sockets, {})) {
    Socket* socket = FindSocket(fd);
    socket->open = false;
    if (socket->peer == nullptr) continue;
    if (silently) {
      socket->peer->cut = true;
      BreakEnd(socket->peer, peer_timeout, "its machine does not answer");
    } else {
      Socket* peer = socket->peer;
      const absl::Duration after_the_rest = peer->last + absl::Nanoseconds(1) - now_;
      // Who is killed with something unread resets its connections.
      BreakEnd(peer, std::max(after_the_rest, Delay(process->machine, peer->process->machine)),
               signal != 0 && Chance(0.3) ? kReset : kPeerLeft);
    }
  }
  for (const int fd : std::exchange(process->descriptors, {})) syscall(SYS_close, fd);
  for (const auto& [start, size] : std::exchange(process->mappings, {})) {
    syscall(SYS_munmap, start, size);
  }
  for (Process* child : process->children) {
    After(silently ? absl::ZeroDuration() : absl::Microseconds(50), nullptr,
          [this, child] { Kill(child, 9); });
  }
  if (process->on_end) {
    After(Between(absl::Microseconds(50), absl::Milliseconds(2)), process->parent,
          std::move(process->on_end));
  }
}

void World::Vanish(size_t machine) {
  gone_.insert(machine);
  for (auto& [pid, process] : processes_) {
    if (process->machine == machine && process->alive) End(process.get(), 9, 0, true);
  }
}

// --- Fibers

void World::Spawn(Process* process, Action main) {
  After(absl::ZeroDuration(), process, [this, process, main = std::move(main)]() mutable {
    auto* fiber = new Fiber();
    fiber->process = process;
    fiber->main = std::move(main);
    if (free_stacks_.empty()) {
      fiber->stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      MANTA_CHECK(fiber->stack != MAP_FAILED);
    } else {
      fiber->stack = free_stacks_.back();
      free_stacks_.pop_back();
    }
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = kStackBytes;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, FiberMain, 0);
    Resume(fiber);
  });
}

void World::FiberMain() {
  Fiber* fiber = g_world->fiber_;
  fiber->main();
  fiber->ended = true;
  swapcontext(&fiber->context, &g_world->scheduler_);
}

void World::Resume(Fiber* fiber) {
  fiber_ = fiber;
  swapcontext(&scheduler_, &fiber->context);
  fiber_ = nullptr;
  // The rest of it stays: wakes that come too late look at it.
  if (fiber->ended) free_stacks_.push_back(std::exchange(fiber->stack, nullptr));
}

void World::Suspend() {
  MANTA_CHECK_MSG(fiber_ != nullptr, "an event must not wait");
  ++fiber_->waits;
  fiber_->waiting = true;
  swapcontext(&fiber_->context, &scheduler_);
}

void World::Wake(Fiber* fiber, uint64_t wait, absl::Duration delay) {
  Process* process = fiber->process;
  if (!process->alive) return;
  After(delay, process, [this, fiber, wait] {
    if (fiber->waits != wait || !fiber->waiting) return;
    fiber->waiting = false;
    Resume(fiber);
  });
}

void World::Sleep(absl::Duration duration) {
  Wake(fiber_, fiber_->waits + 1, duration);
  Suspend();
}

// --- Network

absl::Duration World::Delay(size_t from, size_t to) {
  if (from == to) return Between(absl::Microseconds(15), absl::Microseconds(60));
  if (Chance(slow_packets)) return Between(absl::Milliseconds(5), absl::Milliseconds(105));
  return Between(absl::Microseconds(50), absl::Microseconds(2000));
}

absl::Time World::ThroughAt(size_t from, size_t to) const {
  absl::Time at = now_;
  for (const Cut& cut : cuts_) {
    if (cut.machines.contains(from) != cut.machines.contains(to)) at = std::max(at, cut.until);
  }
  return at;
}

std::string World::NewPort(const std::string& host) {
  return absl::StrCat("tcp:", host, ":", ++last_port_);
}

int World::Listen(const std::string& endpoint) {
  listening_[endpoint] = {.process = current_, .on_accept = nullptr, .waiting = {}};
  return ++last_fd_;
}

void World::Accept(const std::string& endpoint, OnAccept on_accept) {
  Listening& listening = listening_.at(endpoint);
  listening.on_accept = std::move(on_accept);
  for (int fd : std::exchange(listening.waiting, {})) {
    After(absl::ZeroDuration(), current_, [fd, handler = listening.on_accept] { handler(fd); });
  }
}

void World::StopListening(const std::string& endpoint) { listening_.erase(endpoint); }

bool World::IsListening(const std::string& endpoint) const {
  auto found = listening_.find(endpoint);
  return found != listening_.end() && found->second.process->alive;
}

bool World::Refuses(const std::string& endpoint, size_t from) const {
  auto found = listening_.find(endpoint);
  if (found == listening_.end()) return true;
  const Process& process = *found->second.process;
  return !process.alive && !IsGone(process.machine) && ThroughAt(from, process.machine) <= now_;
}

Socket* World::NewSocket(Process* process) {
  auto owned = std::make_unique<Socket>();
  owned->fd = ++last_fd_;
  owned->process = process;
  owned->last = now_;
  process->sockets.insert(owned->fd);
  return sockets_.emplace(owned->fd, std::move(owned)).first->second.get();
}

Socket* World::FindSocket(int fd) const {
  auto found = sockets_.find(fd);
  return found == sockets_.end() ? nullptr : found->second.get();
}

int World::Connect(const std::string& endpoint) {
  const bool is_unix = endpoint.starts_with("unix:");
  auto found = listening_.find(endpoint);
  const bool known = found != listening_.end();
  const bool listens = known && found->second.process->alive;
  if (!listens && is_unix) return -1;
  Socket* here = NewSocket(current_);
  if (!listens) {
    const bool silent = known && IsGone(found->second.process->machine);
    BreakEnd(here, silent ? peer_timeout : absl::Milliseconds(1),
             silent ? "nobody answers" : kNobodyListens);
    return here->fd;
  }
  Socket* there = NewSocket(found->second.process);
  here->peer = there;
  there->peer = here;
  const absl::Time through = ThroughAt(current_->machine, there->process->machine);
  if (through - now_ > peer_timeout) {
    here->cut = there->cut = true;
    Close(there->fd);
    BreakEnd(here, peer_timeout, "nobody answers");
    return here->fd;
  }
  there->last = through + Delay(current_->machine, there->process->machine);
  After(there->last - now_, there->process, [this, endpoint, there] {
    auto listening = listening_.find(endpoint);
    const bool still =
        listening != listening_.end() && listening->second.process == there->process && there->open;
    if (!still) return Close(there->fd);
    if (!listening->second.on_accept) return listening->second.waiting.push_back(there->fd);
    listening->second.on_accept(there->fd);
  });
  return here->fd;
}

void World::Send(Socket* from, Packet packet) {
  Socket* to = from->peer;
  if (!from->open || to == nullptr || from->broken || !to->process->alive) return;
  const absl::Time through = ThroughAt(from->process->machine, to->process->machine);
  if (through - now_ > peer_timeout) return;  // CutOff has seen to the rest
  to->last = std::max(to->last + absl::Nanoseconds(1),
                      through + Delay(from->process->machine, to->process->machine));
  After(to->last - now_, to->process,
        [this, to, packet = std::move(packet)]() mutable { Arrive(to, std::move(packet)); });
}

// Takes no memory from the heap: a run that is shown is the same as one that is not.
void World::Show(const Socket& socket, const Packet& packet) const {
  constexpr size_t kShownBytes = 1000;
  static char hex[2 * kShownBytes + 1];  // to look for ids in
  const size_t shown = std::min(packet.metadata.size(), kShownBytes);
  for (size_t i = 0; i < shown; ++i) {
    snprintf(hex + 2 * i, 3, "%02x", static_cast<uint8_t>(packet.metadata[i]));
  }
  hex[2 * shown] = '\0';
  fprintf(stderr, "%s  %s %d -> %s %d  %s%s #%llu on %d%s %s\n", Time(),
          socket.peer->process->name.c_str(), socket.peer->process->pid,
          socket.process->name.c_str(), socket.process->pid,
          packet.body || packet.type >= frame_names_.size() ? "message"
                                                            : frame_names_[packet.type].c_str(),
          packet.flags != 0 ? " reply" : "", static_cast<unsigned long long>(packet.number),
          socket.fd, !socket.open || socket.cut ? " lost" : "", hex);
}

void World::Arrive(Socket* socket, Packet packet) {
  if (show_) Show(*socket, packet);
  if (!socket->open || socket->cut) return;
  socket->inbox.push_back(std::move(packet));
  Deliver(socket);
}

void World::Deliver(Socket* socket) {
  while (socket->open && socket->on_packet && !socket->inbox.empty()) {
    Packet next = std::move(socket->inbox.front());
    socket->inbox.pop_front();
    // The handler may take itself away.
    const std::function<void(Packet)> handler = socket->on_packet;
    handler(std::move(next));
  }
  if (socket->broken && socket->open && socket->inbox.empty() && socket->on_broken) {
    const std::function<void(const absl::Status&)> handler = std::move(socket->on_broken);
    socket->on_broken = nullptr;
    handler(absl::UnavailableError(socket->why));
  }
}

void World::BreakEnd(Socket* socket, absl::Duration delay, const char* why) {
  if (!socket->open || !socket->process->alive) return;
  After(delay, socket->process, [this, socket, why] {
    if (!socket->open || socket->broken) return;
    socket->broken = true;
    socket->why = why;
    if (show_) {
      fprintf(stderr, "%s  %s %d: connection %d is broken: %s\n", Time(),
              socket->process->name.c_str(), socket->process->pid, socket->fd, why);
    }
    Deliver(socket);
  });
}

void World::Attach(Socket* socket, std::function<void(Packet)> on_packet,
                   std::function<void(const absl::Status&)> on_broken) {
  socket->on_packet = std::move(on_packet);
  socket->on_broken = std::move(on_broken);
  if (socket->inbox.empty() && !socket->broken) return;
  After(absl::ZeroDuration(), socket->process, [this, socket] { Deliver(socket); });
}

void World::Detach(Socket* socket) {
  socket->on_packet = nullptr;
  socket->on_broken = nullptr;
}

void World::Close(int fd) {
  Socket* socket = FindSocket(fd);
  if (socket == nullptr || !socket->open) return;
  socket->open = false;
  socket->process->sockets.erase(fd);
  Detach(socket);
  Socket* peer = socket->peer;
  if (peer == nullptr || socket->cut) return;
  const absl::Time through = ThroughAt(socket->process->machine, peer->process->machine);
  if (through - now_ > peer_timeout) return;
  peer->last = std::max(peer->last + absl::Nanoseconds(1),
                        through + Delay(socket->process->machine, peer->process->machine));
  BreakEnd(peer, peer->last - now_, kPeerLeft);
}

void World::Break(Socket* socket) {
  if (socket->peer == nullptr) return;
  for (Socket* end : {socket, socket->peer}) {
    end->cut = true;
    BreakEnd(end, Between(absl::Microseconds(20), absl::Milliseconds(20)), kReset);
  }
}

std::vector<Socket*> World::OpenSockets() const {
  std::vector<Socket*> open;
  for (const auto& [fd, socket] : sockets_) {
    if (socket->open && socket->peer != nullptr && socket->peer->open) open.push_back(socket.get());
  }
  return open;
}

void World::CutOff(const std::set<size_t>& machines, absl::Duration time) {
  std::erase_if(cuts_, [this](const Cut& cut) { return cut.until <= now_; });
  cuts_.push_back({machines, now_ + time});
  if (time <= peer_timeout) return;
  // Who says nothing finds out as well: the kernel asks for signs of life.
  for (Socket* socket : OpenSockets()) {
    if (machines.contains(socket->process->machine) ==
        machines.contains(socket->peer->process->machine)) {
      continue;
    }
    socket->cut = true;
    BreakEnd(socket, peer_timeout + Between(absl::ZeroDuration(), absl::Milliseconds(200)),
             "its machine does not answer");
  }
}

}  // namespace ray::sim
