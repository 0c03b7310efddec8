// What the workers of this node have run lately, for ray.timeline.
//
// Owner: Raylet.   Threads: loop-bound.   Frames: TASK_EVENTS, LIST_TASK_EVENTS.
#pragma once

#include <cstdint>
#include <deque>

#include "ray/raylet/frame_router.h"

namespace ray::raylet {

class TaskEventLog {
 public:
  // Keeps the latest `limit` events. `router` outlives the object.
  TaskEventLog(FrameRouter* router, size_t limit);
  size_t batches() const { return batches_.size(); }

 private:
  void Add(const wire::v1::TaskEvents& batch);
  wire::v1::TaskEventsReply List() const;

  const size_t limit_;
  std::deque<wire::v1::TaskEvents> batches_;  // oldest first
  size_t kept_ = 0;                           // events in batches_
  uint64_t dropped_ = 0;
};

}  // namespace ray::raylet
