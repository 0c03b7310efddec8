#include "ray/raylet/worker_death.h"

#include <string.h>

#include "absl/strings/str_cat.h"

namespace ray::raylet {
namespace {

std::string ExplainStatus(const WorkerDeath& death) {
  if (!death.status.has_value()) return "ended; how is not known, the zygote did not tell";
  if (death.status->signal.has_value()) {
    const int number = *death.status->signal;
    const char* name = sigabbrev_np(number);
    return absl::StrCat("was killed by signal ", number, " (SIG", name == nullptr ? "?" : name,
                        ")");
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
