// A small world in one thread: machines, processes, time, chance and a network, in which the real
// programs run. What they ask an operating system for they get here: the files beside this one
// implement the headers of the engine that touch it (clock, event loop, connections, waiting
// threads, forks, disk) on this world, and are linked in their place.
//
// Time is virtual, and all that is random comes from one seed: the same seed makes the same run,
// event for event.
//
// A process is what dies as one: its code never runs again, its sockets break, its children follow.
// Its memory stays, untouched. The code of a process runs as events, which end, or in fibers, which
// may wait.
//
// The network carries packets between two ends in order; different pairs of ends do not wait for
// each other. Pairs break; machines vanish or are cut off from others for a while.
//
// Owner: a run of the simulation; one at a time.   Threads: one.   Errors: a bug of the world
// itself aborts.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ray::sim {

using Action = absl::AnyInvocable<void()>;

struct Process {
  int pid = 0;
  size_t machine = 0;
  std::string name;
  Process* parent = nullptr;
  bool alive = true;
  int signal = 0;  // that ended it; 0: it exited by itself
  int code = 0;
  std::vector<Process*> children;
  std::set<int> sockets;
  // Of the real system. Nothing of a process is destructed when it ends; these are given back.
  std::set<int> descriptors;
  std::map<void*, size_t> mappings;
  std::function<void()> on_end;  // as the parent, a little later
};

// What waits, and may be waited for, in its process.
struct Fiber {
  Process* process = nullptr;
  ucontext_t context;
  Action main;
  void* stack = nullptr;
  bool ended = false;
  uint64_t waits = 0;  // how often it has begun to wait; a wake is for one of them
  bool waiting = false;
};

struct Packet {
  uint16_t type = 0;
  uint16_t flags = 0;
  uint64_t number = 0;
  std::string metadata;
  std::string payload;
  int descriptor = -1;  // a real one that goes with it
  std::shared_ptr<const void> body;
};

// One end of a connection.
struct Socket {
  int fd = 0;
  Process* process = nullptr;
  Socket* peer = nullptr;
  bool open = true;
  bool cut = false;     // nothing arrives any more
  bool broken = false;  // this end knows that nothing will
  const char* why = "";
  absl::Time last;  // arrival of the latest packet here
  std::deque<Packet> inbox;
  std::function<void(Packet)> on_packet;  // none: they wait in the inbox
  std::function<void(const absl::Status&)> on_broken;
};

class World {
 public:
  explicit World(uint64_t seed);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Null outside of simulations: then the real system is asked.
  static World* Current();

  absl::Time now() const { return now_; }
  uint64_t Any(uint64_t below) { return random_() % below; }
  bool Chance(double p) { return static_cast<double>(random_() % 1'000'000) < p * 1e6; }
  absl::Duration Between(absl::Duration least, absl::Duration most) {
    return least + (most - least) * (static_cast<double>(random_() % 100'000) / 1e5);
  }

  // --- Events

  // As that process, unless it is dead by then. Null: as nobody.
  void After(absl::Duration delay, Process* process, Action run);
  // The next event. False: there is none.
  bool Step();
  uint64_t events() const { return events_done_; }
  // Whose it was.
  Process* last_process() const { return last_process_; }
  // Of all that has happened, in its order.
  uint64_t trace() const { return trace_; }
  void Trace(uint64_t what);
  // For who reads what happens: MANTA_SIM_TRACE shows it, beside each packet and each end.
  void Note(const char* what, const char* detail) const;

  // --- Processes

  Process* Start(size_t machine, std::string name, Process* parent, Action main);
  Process* current() const { return current_; }
  void Spawn(Process* process, Action main);
  // Harmless for a dead one. Returns, unless it is the process that runs.
  void Kill(Process* process, int signal);
  [[noreturn]] void Exit(int code);
  // Everything on it ends, and the others hear nothing of it for a while.
  void Vanish(size_t machine);
  Process* Find(int pid) const;
  bool IsGone(size_t machine) const { return gone_.contains(machine); }

  // --- Fibers

  Fiber* fiber() const { return fiber_; }
  void Sleep(absl::Duration duration);
  // Until Wake, of the wait that begins with it.
  void Suspend();
  void Wake(Fiber* fiber, uint64_t wait, absl::Duration delay = absl::ZeroDuration());

  // --- Network

  using OnAccept = std::function<void(int fd)>;
  // Of the process that runs. Who connects waits until there is an `on_accept`. Returns a number
  // for a descriptor.
  int Listen(const std::string& endpoint);
  void Accept(const std::string& endpoint, OnAccept on_accept);
  void StopListening(const std::string& endpoint);
  bool IsListening(const std::string& endpoint) const;
  // Seen from that machine: its own answers that nobody listens there.
  bool Refuses(const std::string& endpoint, size_t from) const;
  std::string NewPort(const std::string& host);
  // -1: nobody listens there, and the caller is on the same machine and hears of it at once.
  int Connect(const std::string& endpoint);
  Socket* FindSocket(int fd) const;
  void Send(Socket* from, Packet packet);
  // The handlers are run as the socket's process; what has come before first.
  void Attach(Socket* socket, std::function<void(Packet)> on_packet,
              std::function<void(const absl::Status&)> on_broken);
  void Detach(Socket* socket);
  void Close(int fd);

  // Both ends hear of it, each in its own time; what is under way is lost.
  void Break(Socket* socket);
  std::vector<Socket*> OpenSockets() const;
  // Nothing passes between these machines and the others for so long.
  void CutOff(const std::set<size_t>& machines, absl::Duration time);
  // A silent peer is given up after this.
  absl::Duration peer_timeout = absl::Seconds(2);
  // Slows every packet down, or not.
  double slow_packets = 0.02;

 private:
  struct Event {
    absl::Time at;
    uint64_t number;
    Process* process;
    Action run;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.at != b.at ? a.at > b.at : a.number > b.number;
    }
  };
  struct Listening {
    Process* process = nullptr;
    OnAccept on_accept;
    std::vector<int> waiting;
  };
  struct Cut {
    std::set<size_t> machines;
    absl::Time until;
  };

  const char* Time() const;
  static void FiberMain();
  void Resume(Fiber* fiber);
  void End(Process* process, int signal, int code, bool silently);
  Socket* NewSocket(Process* process);
  absl::Duration Delay(size_t from, size_t to);
  // When a packet that leaves now would come through.
  absl::Time ThroughAt(size_t from, size_t to) const;
  void Arrive(Socket* socket, Packet packet);
  void Show(const Socket& socket, const Packet& packet) const;
  void Deliver(Socket* socket);
  void BreakEnd(Socket* socket, absl::Duration delay, const char* why);

  const absl::Time start_ = absl::UnixEpoch() + absl::Hours(24 * 365);

  const bool show_;  // each packet and each end
  std::vector<std::string> frame_names_;
  std::mt19937_64 random_;
  absl::Time now_ = start_;
  std::vector<Event> queue_;
  uint64_t last_event_ = 0;
  uint64_t events_done_ = 0;
  uint64_t trace_ = 0;
  std::unique_ptr<Event> running_;

  Process* current_ = nullptr;
  Process* last_process_ = nullptr;
  Fiber* fiber_ = nullptr;
  jmp_buf ended_;  // where an event goes on when its process has ended
  ucontext_t scheduler_;
  std::vector<void*> free_stacks_;

  int last_pid_ = 1000;
  std::map<int, std::unique_ptr<Process>> processes_;
  std::set<size_t> gone_;
  std::map<std::string, Listening> listening_;
  int last_port_ = 20'000;
  int last_fd_;
  std::map<int, std::unique_ptr<Socket>> sockets_;
  std::vector<Cut> cuts_;
};

// Descriptors from here on are sockets of the world.
inline constexpr int kFirstSocket = 1 << 24;

// Why a connection ended, where the other process had a part in it.
inline constexpr char kPeerLeft[] = "the peer closed the connection";
inline constexpr char kNobodyListens[] = "connection refused";
inline constexpr char kReset[] = "reset";

}  // namespace ray::sim
