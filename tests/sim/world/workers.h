// The processes that virtual zygotes fork.
// Threads: one.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "absl/time/time.h"

namespace ray::sim {

// The main function of every worker; runs in a fiber of its process, which ends with it. Set by
// whoever builds a cluster.
using WorkerMain = std::function<void(uint64_t startup_token,
                                      const std::map<std::string, std::string>& environment)>;
void SetWorkerMain(WorkerMain main);

}  // namespace ray::sim
