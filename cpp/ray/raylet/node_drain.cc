#include "ray/raylet/node_drain.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ray::raylet {

void NodeDrain::Begin(const std::string& reason, absl::Time deadline) {
  reason_ = reason;
  deadline_ = deadline;
}

void NodeDrain::Look(absl::Time now) {
  if (!draining() || left_) return;
  if (now >= *deadline_) return Leave();
  if (moving_) return;
  const bool idle = environment_.is_idle();
  // What has been made here takes time to move, and the deadline may come first.
  if (std::exchange(moved_before_, true) && !idle) return;
  moving_ = true;
  environment_.move_objects([this, idle] {
    moving_ = false;
    // A driver may have come meanwhile.
    if (idle && environment_.is_idle()) Leave();
  });
}

void NodeDrain::Leave() {
  if (std::exchange(left_, true)) return;
  environment_.leave(reason_.empty() ? "it was drained"
                                     : absl::StrCat("it was drained: ", reason_));
}

}  // namespace ray::raylet
