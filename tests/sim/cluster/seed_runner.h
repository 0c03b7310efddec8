// Runs each simulation in a process of its own, which begins in the same state whatever ran before:
// so a seed makes the same run in every test and in every call of the binary. The order in which
// hash tables are walked is part of that state; so addresses are not random.
//
// Owner: the test's main.   Threads: one.   Errors: Run returns false when the simulation aborts,
// which has said why.
#pragma once

#include "tests/sim/cluster/cluster.h"

namespace ray::sim {

// What a test asks for: bytes, so that they can cross between processes.
struct SeedRequest {
  uint64_t seed = 0;
  uint64_t nodes = 0;  // 0: a small cluster, by the seed, under faults. Else without
  uint64_t drivers = 0;
  uint64_t calls = 0;
  Program program = Program::kMixed;
};

class SeedRunner {
 public:
  // First of all in main(): starts this program anew without random addresses, and keeps a process
  // in that state from which each simulation is forked.
  static void Begin(char** argv);
  static bool Run(const SeedRequest& request, VirtualCluster::Outcome* outcome);
};

}  // namespace ray::sim
