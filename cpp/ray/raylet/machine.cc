#include "ray/raylet/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <fstream>
#include <optional>
#include <string_view>

#include "absl/strings/numbers.h"

namespace ray::raylet {
namespace {

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Control groups say "max" (version 2) or a number near 2^63 (version 1) when there is no limit.
std::optional<uint64_t> ReadLimit(const std::string& path) {
  uint64_t value = 0;
  if (!absl::SimpleAtoi(FirstLine(path), &value)) return std::nullopt;
  return value;
}

uint64_t MemoryBytes() {
  uint64_t bytes =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  for (const char* path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    bytes = std::min(bytes, ReadLimit(path).value_or(bytes));
  }
  return bytes;
}

double AllowedCpus() {
  cpu_set_t allowed;
  const bool known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
  double cpus = known ? CPU_COUNT(&allowed) : static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN));
  // Version 2 only: "quota period" in microseconds, or "max period".
  const std::string limit = FirstLine("/sys/fs/cgroup/cpu.max");
  const size_t space = limit.find(' ');
  double quota = 0;
  double period = 0;
  if (space != std::string::npos && absl::SimpleAtod(limit.substr(0, space), &quota) &&
      absl::SimpleAtod(limit.substr(space + 1), &period) && period > 0) {
    cpus = std::min(cpus, std::max(1.0, quota / period));
  }
  return cpus;
}

}  // namespace

uint64_t CountOomKills() {
  std::ifstream file("/proc/vmstat");
  std::string name;
  for (uint64_t count = 0; file >> name >> count;) {
    if (name == "oom_kill") return count;
  }
  return 0;
}

Machine InspectMachine() {
  char hostname[HOST_NAME_MAX + 1] = {};
  gethostname(hostname, HOST_NAME_MAX);
  return {.cpus = AllowedCpus(), .memory_bytes = MemoryBytes(), .hostname = hostname};
}

}  // namespace ray::raylet
