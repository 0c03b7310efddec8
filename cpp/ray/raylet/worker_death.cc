#include "ray/raylet/worker_death.h"

#include <string.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "ray/raylet/machine.h"

namespace ray::raylet {
namespace {

std::string ExplainShortage(uint64_t peak_bytes) {
  constexpr double kGiB = 1 << 30;
  return absl::StrFormat(
      " by the kernel, because memory ran out: it had used up to %.2f GiB of the machine's %.2f "
      "GiB. Give the task more of them (num_cpus, memory), run fewer at a time, or use smaller "
      "data",
      static_cast<double>(peak_bytes) / kGiB,
      static_cast<double>(InspectMachine().memory_bytes) / kGiB);
}

std::string ExplainStatus(const WorkerDeath& death) {
  if (!death.status.has_value()) return "ended; how is not known, the zygote did not tell";
  if (death.status->signal.has_value()) {
    const int number = *death.status->signal;
    const char* name = sigabbrev_np(number);
    std::string text =
        absl::StrCat("was killed by signal ", number, " (SIG", name == nullptr ? "?" : name, ")");
    // The memory monitor's own reason says all.
    if (death.out_of_memory && death.reason.empty()) {
      absl::StrAppend(&text, ExplainShortage(death.status->peak_memory_bytes));
    }
    return text;
  }
  return absl::StrCat("exited with code ", death.status->exit_code.value_or(-1));
}

}  // namespace

std::string ExplainDeath(const WorkerDeath& death, std::string_view stderr_tail) {
  std::string text;
  if (!death.reason.empty()) absl::StrAppend(&text, death.reason, "; ");
  absl::StrAppend(&text, "its process (pid=", death.pid, ") ", ExplainStatus(death));
  if (!stderr_tail.empty()) {
    absl::StrAppend(&text, ". The last lines of its stderr:\n",
                    absl::string_view(stderr_tail.data(), stderr_tail.size()));
  }
  return text;
}

}  // namespace ray::raylet
