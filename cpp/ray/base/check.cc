#include "ray/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace ray::base {

void CheckFailed(const char* file, int line, std::string_view condition, std::string_view detail) {
  std::fprintf(stderr, "%s:%d: internal error: check failed: %.*s %.*s\n", file, line,
               static_cast<int>(condition.size()), condition.data(),
               static_cast<int>(detail.size()), detail.data());
  std::fflush(stderr);
  std::abort();
}

}  // namespace ray::base
