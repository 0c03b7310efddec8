// How the workers of this node ended, for the owners of what they ran. An owner sees its connection
// break a moment before the process is reaped, so its question waits for that. A question about a
// worker of another node is passed on to that node's raylet.
//
// Owner: Raylet.   Threads: loop-bound.   Frames: WORKER_DEATH.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/node_peers.h"
#include "ray/raylet/worker_pool.h"
#include "ray/wire/v1/workers.pb.h"

namespace ray::raylet {

class DeathRecords {
 public:
  // Remembers the latest `limit` deaths. All pointers outlive the object.
  DeathRecords(net::EventLoop* loop, FrameRouter* router, const WorkerPool* pool,
               const ClientRegistry* clients, NodePeers* peers, size_t limit);
  ~DeathRecords();
  DeathRecords(const DeathRecords&) = delete;
  DeathRecords& operator=(const DeathRecords&) = delete;

  void WorkerDied(const WorkerDeath& death, const std::string& explanation);
  size_t size() const { return known_.size(); }

 private:
  struct Question {
    Responder responder;
    net::EventLoop::TimerId timer;
  };
  wire::v1::WorkerDeathReply NoDeathOf(const base::WorkerId& worker) const;
  absl::Status PassOn(const wire::v1::WorkerDeathRequest& message, const Responder& responder);
  absl::Status OnQuestion(const wire::v1::WorkerDeathRequest& message, const Responder& responder);

  net::EventLoop* const loop_;
  const WorkerPool* const pool_;
  const ClientRegistry* const clients_;
  NodePeers* const peers_;
  const size_t limit_;
  absl::flat_hash_map<base::WorkerId, wire::v1::WorkerDeathReply> known_;
  std::deque<base::WorkerId> order_;                                      // of known_, oldest first
  absl::flat_hash_map<base::WorkerId, std::vector<Question>> questions_;  // about living ones
};

}  // namespace ray::raylet
