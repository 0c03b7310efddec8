#include "ray/raylet/log_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/logging.h"
#include "ray/raylet/utf8.h"

namespace ray::raylet {

namespace {

constexpr size_t kTailBytes = 2000;

}  // namespace

LogService::LogService(net::EventLoop* loop, FrameRouter* router, const ClientRegistry* clients,
                       const WorkerPool* pool, const NodeIdentity* identity)
    : clients_(clients),
      pool_(pool),
      identity_(identity),
      directory_(absl::StrCat(identity->session_dir, "/logs")) {
  auto monitor = LogMonitor::Create(loop, {.directory = directory_},
                                    [this](const LogBatch& batch) { Forward(batch); });
  if (monitor.ok()) {
    monitor_ = *std::move(monitor);
  } else {
    MANTA_LOG(kWarning, "what workers print is not forwarded: ", monitor.status().message());
  }
  router->On<wire::v1::FlushLogs>(wire::v1::FLUSH_LOGS,
                                  [this](Client&, const auto&, const Responder& responder) {
                                    if (monitor_ != nullptr) monitor_->ReadAll();
                                    responder.Send(wire::v1::StatusReply());
                                    return absl::OkStatus();
                                  });
}

void LogService::WorkerDied(const WorkerDeath& death) {
  if (monitor_ == nullptr) return;
  dying_ = &death;
  monitor_->WorkerEnded(death.pid);
  dying_ = nullptr;
}

void LogService::ClientGone(const Client& client) { dropped_lines_.erase(client.id); }

// Output of a worker that belongs to no job yet is nobody's; it stays in its file.
void LogService::Forward(const LogBatch& batch) {
  std::optional<base::JobId> job = pool_->JobOf(batch.pid);
  if (dying_ != nullptr && dying_->pid == batch.pid && !dying_->job.IsNil()) job = dying_->job;
  if (!job.has_value()) return;
  wire::v1::LogLines message;
  message.set_pid(batch.pid);
  message.set_name(ToValidUtf8(batch.name));
  message.set_ip(identity_->ip);
  message.set_is_stderr(batch.is_stderr);
  message.set_job_id(job->BinaryString());
  for (const std::string& line : batch.lines) message.add_lines(ToValidUtf8(line));
  clients_->ForEach([&](Client& client) {
    if (client.IsDriver() && client.log_to_driver && client.job == *job) {
      SendLines(&client, message);
    }
  });
}

void LogService::SendLines(Client* driver, const wire::v1::LogLines& message) {
  uint64_t& dropped = dropped_lines_[driver->id];
  if (driver->connection->has_buffered()) {
    dropped += static_cast<uint64_t>(message.lines_size());
    return;
  }
  if (dropped > 0) {
    wire::v1::LogLines notice;
    notice.set_ip(identity_->ip);
    notice.set_is_stderr(true);
    notice.set_job_id(message.job_id());
    notice.add_lines(absl::StrCat("[", dropped,
                                  " lines of output were dropped: the driver did not read them "
                                  "in time. All of them are in ",
                                  directory_, "]"));
    dropped = 0;
    driver->connection->Send(wire::v1::LOG_LINES, notice);
  }
  driver->connection->Send(wire::v1::LOG_LINES, message);
}

std::string LogService::StderrTail(const WorkerDeath& death) const {
  if (death.pid == 0) return "";
  const std::string path =
      absl::StrCat(directory_, "/", LogPrefix(death.token), "-", death.pid, ".err");
  return ToValidUtf8(WithoutMarkers(TailOfFile(path, kTailBytes)));
}

}  // namespace ray::raylet
