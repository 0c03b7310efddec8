// What workers print, on its way to the drivers of their jobs: those of this node, and by way of
// their raylets those of other nodes, which ask for it (WATCH_LOGS).
//
// A driver that does not read loses lines, which it is told, instead of filling the raylet's
// memory.
//
// Owner: Raylet.   Threads: loop-bound.   Frames: FLUSH_LOGS, WATCH_LOGS in and, to other raylets,
// out; LOG_LINES out and, from other raylets, in.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "ray/base/ids.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/log_monitor.h"
#include "ray/raylet/node_identity.h"
#include "ray/raylet/node_peers.h"
#include "ray/raylet/worker_pool.h"
#include "ray/wire/v1/logs.pb.h"

namespace ray::raylet {

class LogService {
 public:
  // All pointers outlive the service. Where the logs cannot be watched nothing is forwarded, and a
  // warning logged.
  LogService(net::EventLoop* loop, FrameRouter* router, const ClientRegistry* clients,
             const WorkerPool* pool, NodePeers* peers, const NodeIdentity* identity);

  // Call it before ClientGone of drivers that wait for the output.
  void WorkerDied(const WorkerDeath& death);
  void ClientJoined(const Client& client);
  void ClientGone(const Client& client);
  // A raylet that can be asked for the output of its workers, for the first time or again.
  void PeerThere(const base::NodeId& node);
  // From a raylet that was asked.
  void PeerLines(const wire::v1::LogLines& message);

  // The last lines that the worker wrote to its stderr, as valid UTF-8; blocks for a read.
  std::string StderrTail(const WorkerDeath& death) const;

 private:
  void Forward(const LogBatch& batch);
  void GiveToDrivers(const base::JobId& job, const wire::v1::LogLines& message);
  void SendLines(Client* reader, const wire::v1::LogLines& message);
  void WatchAt(const base::NodeId& node, const base::JobId& job);
  void FlushEverywhere(const Responder& responder);

  const ClientRegistry* const clients_;
  const WorkerPool* const pool_;
  NodePeers* const peers_;
  const NodeIdentity* const identity_;
  const std::string directory_;
  const WorkerDeath* dying_ = nullptr;  // the pool does not know this worker any more
  absl::flat_hash_map<scheduling::ClientId, uint64_t> dropped_lines_;
  // Raylets whose drivers want the output of a job.
  absl::flat_hash_map<base::JobId, absl::flat_hash_set<scheduling::ClientId>> watchers_;
  std::unique_ptr<LogMonitor> monitor_;
};

}  // namespace ray::raylet
