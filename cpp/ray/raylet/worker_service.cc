#include "ray/raylet/worker_service.h"

#include <signal.h>

#include <utility>

#include "ray/base/logging.h"
#include "ray/wire/v1/workers.pb.h"

namespace ray::raylet {

WorkerService::WorkerService(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
                             const ClientRegistry* clients, Options options, Events events)
    : clients_(clients),
      worker_env_(std::move(options.worker_env)),
      events_(std::move(events)),
      pool_(options.pool, clock, this),
      zygote_(loop, std::move(options.zygote),
              {.on_forked = [this](StartupToken token, pid_t pid) { pool_.Forked(token, pid); },
               .on_exited = [this](StartupToken token,
                                   const ExitStatus& status) { pool_.Exited(token, status); },
               .on_lost = [this] { pool_.ZygoteLost(); }}),
      timer_(loop, clock, [this] { pool_.Tick(); }) {
  router->On<wire::v1::WorkerExiting>(
      wire::v1::WORKER_EXITING,
      [this](Client& client, const wire::v1::WorkerExiting& message, const Responder&) {
        if (client.kind == wire::v1::WORKER_SETUP) {
          pool_.EnvironmentFailed(client.startup_token, message.reason());
        } else {
          pool_.Leaving(client.worker_id, message.intended(), message.reason());
        }
        return absl::OkStatus();
      });
}

void WorkerService::Start() {
  zygote_.Start();
  pool_.Start();
}

void WorkerService::Stop() {
  zygote_.Stop();
  for (pid_t pid : pool_.Pids()) Kill(pid);
}

void WorkerService::Fork(StartupToken token, const std::string& environment) {
  zygote_.Fork(token, worker_env_, LogPrefix(token), environment);
}

void WorkerService::Kill(pid_t pid) { kill(pid, SIGKILL); }

void WorkerService::AskToExit(const base::WorkerId& worker, std::string_view reason) {
  Client* client = clients_->FindByWorker(worker);
  if (client == nullptr) return;
  wire::v1::ExitWorker message;
  message.set_reason(std::string(reason));
  client->connection->Send(wire::v1::EXIT_WORKER, message);
}

void WorkerService::Disconnect(const base::WorkerId& worker) {
  Client* client = clients_->FindByWorker(worker);
  if (client != nullptr) client->connection->Close(absl::UnavailableError("the worker has ended"));
}

void WorkerService::WorkerReady(WorkerPool::Use use, const base::LeaseId& lease,
                                const base::WorkerId& worker) {
  events_.on_ready(use, lease, worker);
}

// A SIGKILL that nobody here sent, while the kernel counts one more victim of the shortage of
// memory.
void WorkerService::WorkerDied(const WorkerDeath& death) {
  WorkerDeath verdict = death;
  if (death.reason.empty() && death.status.has_value() && death.status->signal == SIGKILL) {
    const uint64_t kills = CountOomKills();
    verdict.out_of_memory = kills > std::exchange(oom_kills_, kills);
  }
  events_.on_died(verdict);
}

void WorkerService::EnvironmentFailed(WorkerPool::Use use, const base::LeaseId& lease,
                                      const std::string& why) {
  events_.on_environment_failed(use, lease, why);
}

void WorkerService::SetDeadline(absl::Time deadline) { timer_.Set(deadline); }

}  // namespace ray::raylet
