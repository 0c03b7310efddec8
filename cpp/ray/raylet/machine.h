// The machine, or the part of it that this process may use.
// Threads: free functions, thread-safe.
#pragma once

#include <cstdint>
#include <string>

namespace ray::raylet {

struct Machine {
  double cpus = 1;            // this process may run on; limited by its control group
  uint64_t memory_bytes = 0;  // installed; limited by its control group
  std::string hostname;
};

// Processes that the kernel has killed since boot because memory ran out; 0 if it does not tell.
uint64_t CountOomKills();

// Reads /proc and /sys; what cannot be read is left out of account.
Machine InspectMachine();

}  // namespace ray::raylet
