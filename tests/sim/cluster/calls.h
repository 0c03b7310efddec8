// The functions and methods of the virtual programs, as who calls them and who runs them know them.
// Threads: one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ray/core/core_worker.h"
#include "tests/sim/cluster/values.h"

namespace ray::sim {

enum class Function : uint8_t {
  kAdd = 'a',     // mixes the values of its arguments
  kNested = 'n',  // calls kAdd three times, and mixes what that gives
  kMake = 'm',    // puts two objects and returns references to them
  kRead = 'r',    // mixes the values of what its argument contains
  kPass = 'p',    // returns what its argument contains
  kHold = 'h',    // of an actor: keeps what its argument contains
  kHeld = 'H',    // of an actor: mixes the values of what it keeps
  kDrop = 'd',    // of an actor: keeps nothing any more
};

struct Call {
  Function function = Function::kAdd;
  uint64_t number = 0;
  absl::Duration time;
  bool stored = false;            // its value goes to the store
  std::vector<HandlePtr> args;    // whose values it gets
  std::vector<HandlePtr> inside;  // references inside its argument
};

struct CallOptions {
  std::map<std::string, int64_t> resources = {{"CPU", 10'000}};
  int max_retries = core::kUnlimited;
  std::string strategy;          // serialized
  base::PlacementGroupId group;  // that it names
};

// What kNested calls.
inline uint64_t ChildNumber(uint64_t number, uint64_t child) { return Mix(number, 100 + child); }
inline constexpr uint64_t kChildren = 3;

// Makes templates, one for equal calls, as a process does.
class Caller {
 public:
  explicit Caller(Session session) : session_(std::move(session)) {}

  HandlePtr Submit(const Call& call, const CallOptions& options, const base::TaskId& parent);
  HandlePtr SubmitTo(const base::ActorId& actor, const Call& call, int max_retries);
  core::CallArguments ArgumentsOf(const Call& call) const;

 private:
  core::TemplatePtr TemplateOf(const Call& call, const CallOptions& options, bool of_actor);

  const Session session_;
  std::map<std::string, core::TemplatePtr> templates_;
};

}  // namespace ray::sim
