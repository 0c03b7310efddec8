// How much memory is in use, of the node and of its processes, as the system tells.
//
// Threads: thread-compatible; the object is immutable.   Blocks: for reads of /proc and /sys, which
// take microseconds.   Errors: what cannot be read is left out of account.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ray::raylet {

struct MemoryUse {
  uint64_t used_bytes = 0;
  uint64_t limit_bytes = 0;
  std::string of;  // "the machine" or "the control group NAME"

  double Fraction() const {
    return static_cast<double>(used_bytes) / static_cast<double>(limit_bytes);
  }
};

class MemoryReader {
 public:
  // Reads below `root`, which is "/" save in tests.
  explicit MemoryReader(const std::string& root);

  // The machine's memory or that of a control group that this process is in (version 1 or 2, any
  // of the path), whichever is fuller. Pages of files that the kernel can drop count as free.
  std::optional<MemoryUse> Read() const;

 private:
  struct Group {
    std::string name;  // within the hierarchy
    std::string folder;
    bool is_v2;
  };

  const std::string root_;
  std::vector<Group> groups_;
};

struct ProcessMemory {
  pid_t pid = 0;
  uint64_t resident_bytes = 0;
  uint64_t own_bytes = 0;  // resident and of no file or shared memory: what its end sets free
  std::string command;     // shortened
};

// nullopt: there is none.
std::optional<ProcessMemory> ReadProcessMemory(pid_t pid);

// The processes of the machine that have most of their own, largest first. Looks at all of them.
std::vector<ProcessMemory> LargestProcesses(size_t count);

}  // namespace ray::raylet
