#include "ray/raylet/memory_use.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace ray::raylet {
namespace {

constexpr size_t kCommandMax = 80;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// A file that is one number. Without a limit control groups say "max" (version 2).
std::optional<uint64_t> ReadNumber(const std::string& path) {
  uint64_t value = 0;
  if (!absl::SimpleAtoi(ReadFile(path), &value)) return std::nullopt;
  return value;
}

// The number behind `key` in lines of "key number ..." or "key:  number ...".
std::optional<uint64_t> FindNumber(const std::string& text, absl::string_view key) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::ConsumePrefix(&line, key)) continue;
    if (line.empty() || (line.front() != ' ' && line.front() != ':')) continue;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(": \t"), absl::SkipEmpty());
    uint64_t value = 0;
    if (!words.empty() && absl::SimpleAtoi(words.front(), &value)) return value;
  }
  return std::nullopt;
}

std::optional<MemoryUse> ReadMachine(const std::string& root) {
  const std::string info = ReadFile(root + "proc/meminfo");
  const auto total = FindNumber(info, "MemTotal");
  const auto available = FindNumber(info, "MemAvailable");
  if (!total.has_value() || !available.has_value() || *total == 0) return std::nullopt;
  return MemoryUse{(*total - std::min(*available, *total)) * 1024, *total * 1024, "the machine"};
}

struct GroupFiles {
  const char* limit;
  const char* used;
  const char* droppable;  // within memory.stat
};
constexpr GroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                  "total_inactive_file"};
constexpr GroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file"};

// Nothing if it has no limit below `machine_bytes`; then that is all that is read.
std::optional<MemoryUse> ReadGroup(const std::string& folder, const std::string& name, bool is_v2,
                                   uint64_t machine_bytes) {
  const GroupFiles& files = is_v2 ? kVersion2 : kVersion1;
  const auto limit = ReadNumber(folder + files.limit);
  if (!limit.has_value() || *limit == 0 || *limit >= machine_bytes) return std::nullopt;
  const auto used = ReadNumber(folder + files.used);
  if (!used.has_value()) return std::nullopt;
  const uint64_t droppable =
      FindNumber(ReadFile(folder + "memory.stat"), files.droppable).value_or(0);
  return MemoryUse{*used - std::min(droppable, *used), *limit,
                   absl::StrCat("the control group ", name)};
}

// Without control characters; a kernel thread has none.
std::string CommandOf(pid_t pid) {
  std::string command = ReadFile(absl::StrCat("/proc/", pid, "/cmdline"));
  if (command.size() > kCommandMax) command = command.substr(0, kCommandMax) + "...";
  for (char& c : command) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  return std::string(absl::StripAsciiWhitespace(command));
}

}  // namespace

// Lines are "0::/path" (version 2) and "5:cpu,memory:/path" (version 1). Inside a container the
// path may be that of the host and not be there, while the container's own group is mounted as the
// root; so each part of the path is tried, up to the root.
MemoryReader::MemoryReader(const std::string& root)
    : root_(root.ends_with('/') ? root : root + '/') {
  for (const absl::string_view line : absl::StrSplit(ReadFile(root_ + "proc/self/cgroup"), '\n')) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3 || !fields[2].starts_with('/')) continue;
    const std::vector<absl::string_view> controllers = absl::StrSplit(fields[1], ',');
    const bool is_v2 = fields[0] == "0";
    if (!is_v2 && std::find(controllers.begin(), controllers.end(), "memory") == controllers.end())
      continue;
    const std::string base = root_ + (is_v2 ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
    for (std::string path = fields[2];; path.resize(path.rfind('/'))) {
      if (path == "/") path.clear();
      groups_.push_back({path.empty() ? "/" : path, base + path + "/", is_v2});
      if (path.empty()) break;
    }
  }
}

std::optional<MemoryUse> MemoryReader::Read() const {
  std::optional<MemoryUse> fullest = ReadMachine(root_);
  const uint64_t machine_bytes = fullest.has_value() ? fullest->limit_bytes : UINT64_MAX;
  for (const Group& group : groups_) {
    auto use = ReadGroup(group.folder, group.name, group.is_v2, machine_bytes);
    if (!use.has_value()) continue;
    if (!fullest.has_value() || use->Fraction() > fullest->Fraction()) fullest = std::move(use);
  }
  return fullest;
}

// statm: size, resident and shared (of files and shared memory), in pages.
std::optional<ProcessMemory> ReadProcessMemory(pid_t pid) {
  const std::string folder = absl::StrCat("/proc/", pid, "/");
  const std::vector<std::string> words =
      absl::StrSplit(ReadFile(folder + "statm"), ' ', absl::SkipEmpty());
  uint64_t resident = 0;
  uint64_t shared = 0;
  if (words.size() < 3 || !absl::SimpleAtoi(words[1], &resident) ||
      !absl::SimpleAtoi(words[2], &shared)) {
    return std::nullopt;
  }
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return ProcessMemory{.pid = pid,
                       .resident_bytes = resident * page,
                       .own_bytes = (resident - std::min(shared, resident)) * page};
}

std::vector<ProcessMemory> LargestProcesses(size_t count) {
  std::vector<ProcessMemory> all;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    if (auto memory = ReadProcessMemory(pid); memory.has_value()) all.push_back(*memory);
  }
  const size_t kept = std::min(count, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<ptrdiff_t>(kept), all.end(),
                    [](const auto& a, const auto& b) { return a.own_bytes > b.own_bytes; });
  all.resize(kept);
  for (ProcessMemory& process : all) process.command = CommandOf(process.pid);
  return all;
}

}  // namespace ray::raylet
