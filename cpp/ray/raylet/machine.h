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

// Reads /proc and /sys; what cannot be read is left out of account.
Machine InspectMachine();

}  // namespace ray::raylet
