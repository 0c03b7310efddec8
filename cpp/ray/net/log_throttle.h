// Keeps what strangers can cause at will from filling the log: one line an interval, which says how
// often the same happened since the last one.
// Threads: thread-compatible.   Sans-I/O: the time goes in.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/time/time.h"

namespace ray::net {

class LogThrottle {
 public:
  explicit LogThrottle(absl::Duration interval)
      : interval_nanos_(absl::ToInt64Nanoseconds(interval)) {}

  // Nothing: do not log this one. Else log it, with the number of those that were left out.
  std::optional<int64_t> Admit(int64_t now_nanos) {
    if (now_nanos < next_nanos_) {
      ++left_out_;
      return std::nullopt;
    }
    next_nanos_ = now_nanos + interval_nanos_;
    const int64_t left_out = left_out_;
    left_out_ = 0;
    return left_out;
  }

 private:
  const int64_t interval_nanos_;
  int64_t next_nanos_ = 0;
  int64_t left_out_ = 0;
};

}  // namespace ray::net
