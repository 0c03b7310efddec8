#include "ray/gcs/storage_holder.h"

#include <limits.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace ray::gcs {
namespace {

// The parts of a name.
enum Part : size_t { kHost, kBoot, kNamespace, kPid, kStarted, kNumber, kParts };

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string BootId() {
  const std::string text = ReadFile("/proc/sys/kernel/random/boot_id");
  return std::string(absl::StripSuffix(text, "\n"));
}

// In which process ids mean the same.
std::string PidNamespace() {
  char target[64] = {};
  return readlink("/proc/self/ns/pid", target, sizeof target - 1) > 0 ? target : "unknown";
}

// When the process started, in ticks since the boot; "" if there is none.
std::string StartOf(absl::string_view pid) {
  const std::string stat = ReadFile(absl::StrCat("/proc/", pid, "/stat"));
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return "";
  const std::vector<std::string> fields = absl::StrSplit(stat.substr(name_end + 1), ' ');
  constexpr size_t kStartTime = 20;  // the 22nd field; the name is the second
  const bool is_dead = fields.size() > 1 && (fields[1] == "Z" || fields[1] == "X");
  return fields.size() > kStartTime && !is_dead ? fields[kStartTime] : "";
}

std::vector<std::string> PartsOf(std::string_view holder) {
  return absl::StrSplit(absl::string_view(holder.data(), holder.size()), '|');
}

}  // namespace

std::string NewHolderName() {
  static std::atomic<uint64_t> last_number{0};
  char host[HOST_NAME_MAX + 1] = {};
  gethostname(host, HOST_NAME_MAX);
  const std::string pid = absl::StrCat(getpid());
  return absl::StrCat(host, "|", BootId(), "|", PidNamespace(), "|", pid, "|", StartOf(pid), "|",
                      ++last_number);
}

bool IsGone(std::string_view holder) {
  const std::vector<std::string> parts = PartsOf(holder);
  if (parts.size() != kParts || parts[kStarted].empty()) return false;
  const bool was_here = parts[kBoot] == BootId() && parts[kNamespace] == PidNamespace();
  return was_here && !parts[kBoot].empty() && StartOf(parts[kPid]) != parts[kStarted];
}

std::string DescribeHolder(std::string_view holder) {
  const std::vector<std::string> parts = PartsOf(holder);
  if (parts.size() != kParts) return std::string(holder);
  return absl::StrCat("process ", parts[kPid], " on host ", parts[kHost]);
}

}  // namespace ray::gcs
