// What workers print, on its way to the drivers of their jobs.
//
// A driver that does not read loses lines, which it is told, instead of filling the raylet's
// memory.
//
// Owner: Raylet.   Threads: loop-bound.   Frames: FLUSH_LOGS in; LOG_LINES out.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/log_monitor.h"
#include "ray/raylet/node_identity.h"
#include "ray/raylet/worker_pool.h"

namespace ray::raylet {

class LogService {
 public:
  // All pointers outlive the service. Where the logs cannot be watched nothing is forwarded, and a
  // warning logged.
  LogService(net::EventLoop* loop, FrameRouter* router, const ClientRegistry* clients,
             const WorkerPool* pool, const NodeIdentity* identity);

  // Call it before ClientGone of drivers that wait for the output.
  void WorkerDied(const WorkerDeath& death);
  void ClientGone(const Client& client);

  // The last lines that the worker wrote to its stderr, as valid UTF-8; blocks for a read.
  std::string StderrTail(const WorkerDeath& death) const;

 private:
  void Forward(const LogBatch& batch);
  void SendLines(Client* driver, const wire::v1::LogLines& message);

  const ClientRegistry* const clients_;
  const WorkerPool* const pool_;
  const NodeIdentity* const identity_;
  const std::string directory_;
  const WorkerDeath* dying_ = nullptr;  // the pool does not know this worker any more
  absl::flat_hash_map<scheduling::ClientId, uint64_t> dropped_lines_;
  std::unique_ptr<LogMonitor> monitor_;
};

}  // namespace ray::raylet
