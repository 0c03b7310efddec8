// What the workers of this node have run lately, for ray.timeline.
//
// Owner: Raylet.   Threads: loop-bound.   Never blocks.
// Errors: a node that does not answer in time is left out of a list.
// Frames: TASK_EVENTS; LIST_TASK_EVENTS, which lists those of all nodes to a process of this node,
// and those of this node to another raylet.
#pragma once

#include <cstdint>
#include <deque>

#include "ray/net/event_loop.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/node_peers.h"
#include "ray/wire/v1/task_events.pb.h"

namespace ray::raylet {

class TaskEventLog {
 public:
  // Keeps the latest `limit` events. All pointers outlive the object.
  TaskEventLog(net::EventLoop* loop, FrameRouter* router, NodePeers* peers, size_t limit);
  size_t batches() const { return batches_.size(); }

 private:
  void Add(const wire::v1::TaskEvents& batch);
  wire::v1::TaskEventsReply List() const;
  void ListAll(const Responder& responder) const;

  net::EventLoop* const loop_;
  NodePeers* const peers_;
  const size_t limit_;
  std::deque<wire::v1::TaskEvents> batches_;  // oldest first
  size_t kept_ = 0;                           // events in batches_
  uint64_t dropped_ = 0;
};

}  // namespace ray::raylet
