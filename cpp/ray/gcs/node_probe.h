// Whether the process behind a node still lives, asked from outside when its channel has broken.
// Threads: loop-bound.   Never blocks.   Errors: none; what cannot be found out is "not refused".
#pragma once

#include <string>

#include "absl/functional/any_invocable.h"

namespace ray::gcs {

class NodeProbe {
 public:
  // `refused`: the machine answers, and nobody listens there any more: the process is gone.
  // Otherwise somebody does, or nothing is known.
  using Callback = absl::AnyInvocable<void(bool refused)>;

  virtual ~NodeProbe() = default;
  // Calls back once, after Ask has returned, and never after the probe's end.
  virtual void Ask(const std::string& tcp_endpoint, Callback callback) = 0;
};

}  // namespace ray::gcs
