// Logging of the daemons and of the core worker: spdlog behind a narrow door, so that no header of
// it is included elsewhere. Starts no thread (a zygote forks). Until InitLogging, messages of
// warning level and above go to stderr. Threads: thread-safe after InitLogging.
#pragma once

#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace ray::base {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogOptions {
  std::string process_name;    // in each line: "raylet", "gcs_server", "worker"
  std::string file;            // empty = stderr; else a rotating file
  std::string level = "info";  // debug, info, warning, error
  size_t rotate_bytes = 128 << 20;
};

void InitLogging(const LogOptions& options);
bool LogEnabled(LogLevel level);
void Log(LogLevel level, std::string_view message);

}  // namespace ray::base

// Arguments are joined by absl::StrCat and evaluated only if the level is on.
#define MANTA_LOG(level, ...)                                                      \
  do {                                                                             \
    if (::ray::base::LogEnabled(::ray::base::LogLevel::level))                     \
      ::ray::base::Log(::ray::base::LogLevel::level, ::absl::StrCat(__VA_ARGS__)); \
  } while (false)
