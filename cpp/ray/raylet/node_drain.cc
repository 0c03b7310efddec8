#include "ray/raylet/node_drain.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ray::raylet {

void NodeDrain::Begin(const std::string& reason, absl::Time deadline, absl::Time now) {
  reason_ = reason;
  deadline_ = deadline;
  // Of a short time, half is left to what runs.
  move_at_ = deadline - std::min(environment_.handover_time, (deadline - now) / 2);
  moved_early_ = false;
}

void NodeDrain::Look(absl::Time now) {
  if (!draining() || left_) return;
  if (now >= *deadline_ + environment_.handover_time) return Leave();
  if (moving_) return;
  if (now >= *deadline_) return Move(/*last=*/true);
  const bool early = now >= move_at_ && !moved_early_;
  moved_early_ = moved_early_ || early;
  if (early || environment_.is_idle()) Move(/*last=*/false);
}

void NodeDrain::Move(bool last) {
  moving_ = true;
  environment_.move_objects([this, last] {
    moving_ = false;
    // Something may run still, or a driver may have come meanwhile.
    if (last || environment_.is_idle()) Leave();
  });
}

void NodeDrain::Leave() {
  if (std::exchange(left_, true)) return;
  environment_.leave(reason_.empty() ? "it was drained"
                                     : absl::StrCat("it was drained: ", reason_));
}

}  // namespace ray::raylet
