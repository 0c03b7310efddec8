// A worker of a virtual cluster: the real core worker, and in place of Python the functions of
// calls.h.
// Threads: one; Main in a fiber of its process.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/sim/cluster/calls.h"
#include "tests/sim/cluster/ledger.h"
#include "tests/sim/world/world.h"

namespace ray::sim {

class VirtualWorker {
 public:
  // Told once the core worker is there.
  using OnSession = std::function<void(Process*, const Session&)>;

  VirtualWorker(Ledger* ledger, OnSession on_session)
      : ledger_(ledger), on_session_(std::move(on_session)) {}

  // Returns when the process is to exit.
  void Main(uint64_t startup_token, const std::map<std::string, std::string>& environment);

 private:
  struct Arguments {
    uint64_t number = 0;
    absl::Duration time;
    bool stored = false;
    std::vector<HandlePtr> inside;
  };
  struct Result {
    uint64_t number = 0;
    std::vector<HandlePtr> refs;
    std::string error;  // a serialized error value
  };

  void Create(const core::IncomingCallPtr& call);
  void Run(const core::IncomingCallPtr& call);
  Result Compute(const core::IncomingCallPtr& call, const Arguments& arguments);
  Result Fold(uint64_t number, const std::vector<HandlePtr>& refs, const base::TaskId& waiter);
  Result Nest(const core::IncomingCall& call, uint64_t number);
  void Answer(const core::IncomingCallPtr& call, const Arguments& arguments, Result result);
  Arguments Unpack(const core::IncomingCall& call) const;

  Ledger* const ledger_;
  const OnSession on_session_;
  Process* const process_ = World::Current()->current();
  Session session_;
  std::unique_ptr<Caller> caller_;
  std::vector<HandlePtr> kept_;  // of an actor
  bool has_waited_ = false;      // for an object, ever
};

}  // namespace ray::sim
