// A driver of a virtual cluster: the real core worker, and a program that is made up as it goes. It
// submits tasks of every kind that worker.h knows, passes references about, makes actors and
// placement groups, drops what it has, and looks whether what it gets is right.
//
// What may go wrong is known for each result: what only lives in a process that may die is lost
// with it. Everything else must come out right, whatever dies.
//
// Owner: a virtual cluster.   Threads: one; Main in a fiber of its process.
// Errors: aborts when a result is wrong, or an error where there may be none.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/cluster/calls.h"
#include "tests/sim/world/world.h"

namespace ray::sim {

enum class Program : uint8_t {
  kMixed,            // everything
  kManyTasks,        // tasks without references, many at once
  kActorHoldsResult  // an actor that holds what one of its own calls has made
};

class VirtualDriver {
 public:
  struct Options {
    std::string raylet_endpoint;
    std::string listen_host;
    size_t calls = 100;
    bool faults = true;  // workers and nodes may die
    absl::Duration time_max = absl::Milliseconds(100);
    std::function<void(Process*, const Session&)> on_session;
    Program program = Program::kMixed;
  };
  struct Counts {
    uint64_t submitted = 0;
    uint64_t right = 0;
    uint64_t failed = 0;  // where they may
    uint64_t actors = 0;
    uint64_t groups = 0;
  };

  explicit VirtualDriver(Options options) : options_(std::move(options)) {}

  void Main();
  bool finished() const { return finished_; }
  const Counts& counts() const { return counts_; }
  // What it waits for, and why; for who finds that it hangs. In another fiber of its process.
  std::string Describe() const;

 private:
  struct Known {
    HandlePtr object;
    std::optional<uint64_t> number;  // what its value is; nullopt: that depends
    bool may_fail = false;
    std::vector<Known> refs;  // what its value contains
    char function = '?';
  };
  struct KnownActor {
    base::ActorId id;
    HandlePtr handle;
    bool lasting = false;  // it and its calls survive whatever dies
    std::vector<Known> kept;
  };

  bool Connect();
  void RunManyTasks();
  void RunActorHoldsResult();
  void RunMixed();
  void DoSomething();
  void Submit();
  void CallActor();
  void MakeActor();
  void LetGo(size_t which);
  void UseGroup();
  void CheckOne();
  void DropSome();
  // False: the session has ended.
  bool Check(const Known& known);
  bool SaysThatWeAreDead(const Value& value) const;
  void Finish();
  std::string DescribeLeft() const;

  Known& Remember(Known known);
  const Known& AnyKnown();
  Call AnyCall();
  void AddReferences(Call* call, Known* known);

  World* const world_ = World::Current();
  const Options options_;
  Session session_;
  std::unique_ptr<Caller> caller_;
  std::vector<Known> known_;
  std::vector<KnownActor> actors_;
  const Known* waits_for_ = nullptr;
  const char* doing_ = "starting";
  bool finished_ = false;
  Counts counts_;
};

}  // namespace ray::sim
