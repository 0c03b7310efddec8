// Tells in words how a worker ended.
// Threads: free functions, thread-safe.
#pragma once

#include <string>
#include <string_view>

#include "ray/raylet/worker_pool.h"

namespace ray::raylet {

// What completes "died unexpectedly: ...": why it was ended if the raylet ended it, exit code or
// signal, and the last lines of its stderr (`stderr_tail`, may be empty).
std::string ExplainDeath(const WorkerDeath& death, std::string_view stderr_tail);

}  // namespace ray::raylet
