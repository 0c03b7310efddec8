// A whole cluster in one thread: the real raylets, core workers and control plane of many nodes, in
// the world of tests/sim/world, under faults.
//
// What happens to it, at random: workers, raylets and drivers are killed; machines vanish; the GCS
// is killed, at any moment or with any of its writes, and started again; machines are cut off from
// the others, for less or more than it takes to be declared dead; connections break; nodes drain.
// For each node that is lost another one like it comes.
//
// Checked all the time: the invariants of the parts of the process that has just done something; no
// node runs more than it has (ledger.h). By the drivers: every call ends, with the right result or
// with an error that is allowed (driver.h). At the end, when all is quiet: no resource is taken, no
// object stored, no actor or placement group left, and the GCS and the nodes agree.
//
// Owner: a test; one at a time, in a process of its own (seed_runner.h).   Threads: one.
// Errors: aborts.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ray/base/config.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/raylet.h"
#include "tests/sim/cluster/driver.h"
#include "tests/sim/cluster/ledger.h"
#include "tests/sim/world/gcs.h"
#include "tests/sim/world/world.h"

namespace ray::sim {

class VirtualCluster {
 public:
  struct Options {
    uint64_t seed = 0;
    size_t nodes = 4;
    size_t drivers = 2;  // the first ones on the first nodes
    size_t calls = 100;  // of each driver
    bool faults = true;
    Program program = Program::kMixed;
    absl::Duration task_time_max = absl::Milliseconds(100);
    uint64_t check_every = 16;  // events
    std::map<std::string, std::string> flags;
  };
  struct Outcome {
    uint64_t events = 0;
    uint64_t trace = 0;
    uint64_t right = 0;
    uint64_t failed = 0;
    uint64_t actors = 0;
    uint64_t groups = 0;
    uint64_t worker_deaths = 0;
    uint64_t node_deaths = 0;
    uint64_t gcs_deaths = 0;
    uint64_t cuts = 0;
    double virtual_seconds = 0;
  };

  explicit VirtualCluster(Options options);

  Outcome Run();

 private:
  struct Node {
    size_t machine = 0;
    Process* process = nullptr;
    // What a dead process had stays as it was.
    net::EventLoop* loop = nullptr;
    raylet::Raylet* raylet = nullptr;
    bool leaving = false;

    bool alive() const { return process != nullptr && process->alive; }
  };

  static base::Config ConfigOf(const Options& options);
  resources::ResourceSet TotalOf(size_t index) const;

  void StartGcs();
  void StartNode(size_t index);
  void ReplaceLater(size_t index);
  void StartDriver(size_t index);
  void OnSession(Process* process, const Session& session);
  void PassTime();
  void Step();

  // --- Faults
  void PlanFaults(absl::Duration span);
  void KillSomeWorker();
  void KillRaylet(size_t index, bool with_machine);
  void KillGcs();
  void CutOffSome();
  void DrainOne(size_t index);

  // --- The end
  bool DriversAreDone() const;
  void ReportHang();
  void CheckQuiet();
  std::string WhyNotQuiet();

  const Options options_;
  const base::Config config_;
  World world_;
  Ledger ledger_;
  VirtualGcs::Storage storage_;
  Process* gcs_process_ = nullptr;
  VirtualGcs* gcs_ = nullptr;
  std::vector<Node> nodes_;
  size_t last_machine_ = 0;
  struct Driver {
    Process* process = nullptr;
    VirtualDriver* program = nullptr;  // as above
  };
  std::vector<Driver> drivers_;
  std::map<Process*, std::function<void()>> checks_;
  Outcome outcome_;
};

}  // namespace ray::sim
