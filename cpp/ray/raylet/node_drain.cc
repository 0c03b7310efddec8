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
  if (moving_ || !environment_.is_idle()) return;
  moving_ = true;
  environment_.move_objects([this] {
    moving_ = false;
    // A driver may have come meanwhile.
    if (environment_.is_idle()) Leave();
  });
}

void NodeDrain::Leave() {
  if (std::exchange(left_, true)) return;
  environment_.leave(reason_.empty() ? "it was drained"
                                     : absl::StrCat("it was drained: ", reason_));
}

}  // namespace ray::raylet
