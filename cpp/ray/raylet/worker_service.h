// The worker pool with its hands and feet: the zygote, signals, frames to workers and a timer.
//
// Owner: Raylet.   Threads: loop-bound.   Frames: WORKER_EXITING.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "ray/base/clock.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/deadline_timer.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/machine.h"
#include "ray/raylet/worker_pool.h"
#include "ray/raylet/zygote.h"

namespace ray::raylet {

class WorkerService final : private WorkerPool::Actions {
 public:
  struct Options {
    WorkerPool::Options pool;
    Zygote::Options zygote;
    std::map<std::string, std::string> worker_env;
  };
  struct Events {
    std::function<void(WorkerPool::Use, const base::LeaseId&, const base::WorkerId&)> on_ready;
    std::function<void(const WorkerDeath&)> on_died;
    std::function<void(WorkerPool::Use, const base::LeaseId&, const std::string& why)>
        on_environment_failed;
  };

  // All pointers outlive the service.
  WorkerService(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
                const ClientRegistry* clients, Options options, Events events);

  void Start();
  // Kills the zygote and every worker. Returns once the signals are sent.
  void Stop();

  WorkerPool& pool() { return pool_; }
  const WorkerPool& pool() const { return pool_; }

 private:
  void Fork(StartupToken token, const std::string& environment) override;
  void Kill(pid_t pid) override;
  void AskToExit(const base::WorkerId& worker, std::string_view reason) override;
  void Disconnect(const base::WorkerId& worker) override;
  void WorkerReady(WorkerPool::Use use, const base::LeaseId& lease,
                   const base::WorkerId& worker) override;
  void WorkerDied(const WorkerDeath& death) override;
  void EnvironmentFailed(WorkerPool::Use use, const base::LeaseId& lease,
                         const std::string& why) override;
  void SetDeadline(absl::Time deadline) override;

  const ClientRegistry* const clients_;
  const std::map<std::string, std::string> worker_env_;
  uint64_t oom_kills_ = CountOomKills();
  const Events events_;
  WorkerPool pool_;
  Zygote zygote_;
  DeadlineTimer timer_;
};

}  // namespace ray::raylet
