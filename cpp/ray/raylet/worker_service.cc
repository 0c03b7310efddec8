#include "ray/raylet/worker_service.h"

#include <signal.h>

#include <utility>

#include "ray/base/logging.h"

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
        pool_.Leaving(client.worker_id, message.intended(), message.reason());
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

void WorkerService::Fork(StartupToken token, const std::string& /*env_hash*/) {
  zygote_.Fork(token, worker_env_, LogPrefix(token));
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

void WorkerService::WorkerDied(const WorkerDeath& death) { events_.on_died(death); }

void WorkerService::SetDeadline(absl::Time deadline) { timer_.Set(deadline); }

}  // namespace ray::raylet
