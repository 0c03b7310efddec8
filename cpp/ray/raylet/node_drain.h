// How this node ends when it is to be drained: it waits until nothing runs here any more, has its
// objects moved away, and leaves. If something runs until the deadline, its objects are moved a
// while before that, and what was made since at the deadline; then it leaves whatever is left. That
// nothing new comes is the business of those who place things: they see NodeState.draining.
//
// Owner: NodeService.   Threads: loop-bound.   Errors: none.   Never blocks.
//   DRAIN-1  `leave` is called once, and never before Begin.
//   DRAIN-2  `leave` is called while something runs only once the deadline has passed.
//   DRAIN-3  `leave` is called at most `handover_time` after the deadline; before that, not without
//            that objects were moved when nothing ran any more, or once the deadline had passed.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"

namespace ray::raylet {

class NodeDrain {
 public:
  using Done = absl::AnyInvocable<void()>;
  struct Environment {
    // No lease, actor, bundle or driver is here.
    std::function<bool()> is_idle;
    // Copies the objects that only this node has to others, then calls back; on the loop.
    std::function<void(Done)> move_objects;
    std::function<void(const std::string& reason)> leave;
    // How long moving takes at most: before the deadline, and after it.
    absl::Duration handover_time = absl::Seconds(10);
  };

  explicit NodeDrain(Environment environment) : environment_(std::move(environment)) {}

  // InfiniteFuture: there is no deadline. Again: replaces reason and deadline.
  void Begin(const std::string& reason, absl::Time deadline, absl::Time now);
  bool draining() const { return deadline_.has_value(); }

  // Something that ran here may have ended, or the deadline may have come.
  void Look(absl::Time now);

 private:
  // `last`: then it leaves, whatever runs.
  void Move(bool last);
  void Leave();

  const Environment environment_;
  std::string reason_;
  std::optional<absl::Time> deadline_;
  absl::Time move_at_;  // although something runs
  bool moving_ = false;
  bool moved_early_ = false;
  bool left_ = false;
};

}  // namespace ray::raylet
