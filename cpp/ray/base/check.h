// MANTA_CHECK: for what only our own bug can cause; always on. What the world can cause (a peer, a
// user, a full disk) is an absl::Status, never a check: no assertion in a daemon can be reached by
// what a peer sends.
#pragma once

#include <string_view>

namespace ray::base {

[[noreturn]] void CheckFailed(const char* file, int line, std::string_view condition,
                              std::string_view detail);

}  // namespace ray::base

#define MANTA_CHECK(condition)                                      \
  do {                                                              \
    if (!(condition)) [[unlikely]]                                  \
      ::ray::base::CheckFailed(__FILE__, __LINE__, #condition, {}); \
  } while (false)

#define MANTA_CHECK_MSG(condition, detail)                                \
  do {                                                                    \
    if (!(condition)) [[unlikely]]                                        \
      ::ray::base::CheckFailed(__FILE__, __LINE__, #condition, (detail)); \
  } while (false)
