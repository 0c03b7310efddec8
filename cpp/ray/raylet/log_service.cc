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
                       const WorkerPool* pool, NodePeers* peers, const NodeIdentity* identity)
    : clients_(clients),
      pool_(pool),
      peers_(peers),
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
                                  [this](Client& client, const auto&, const Responder& responder) {
                                    if (monitor_ != nullptr) monitor_->ReadAll();
                                    if (client.IsRaylet()) {
                                      responder.Send(wire::v1::StatusReply());
                                    } else {
                                      FlushEverywhere(responder);
                                    }
                                    return absl::OkStatus();
                                  });
  router->On<wire::v1::WatchLogs>(
      wire::v1::WATCH_LOGS, [this](Client& client, const auto& message, const Responder&) {
        absl::StatusOr<base::JobId> job = base::JobId::FromBinary(message.job_id());
        if (job.ok()) watchers_[*job].insert(client.id);
        return job.status();
      });
}

// Answers once every node has sent what its workers had written. A node that dies meanwhile has
// nothing to send.
void LogService::FlushEverywhere(const Responder& responder) {
  const auto answered = std::make_shared<Responder>(responder);
  // Answers when the last of those who hold it lets go.
  const std::shared_ptr<void> last(nullptr,
                                   [answered](void*) { answered->Send(wire::v1::StatusReply()); });
  peers_->ForEach([&](const base::NodeId& node, const wire::v1::NodeState&) {
    net::Connection* peer = peers_->Get(node);
    if (peer == nullptr) return;
    peer->Call(wire::v1::FLUSH_LOGS, wire::v1::FlushLogs(),
               [last](const absl::StatusOr<net::Frame>&) {});
  });
}

void LogService::ClientJoined(const Client& client) {
  if (!client.IsDriver() || !client.log_to_driver) return;
  peers_->ForEach(
      [&](const base::NodeId& node, const wire::v1::NodeState&) { WatchAt(node, client.job); });
}

void LogService::PeerThere(const base::NodeId& node) {
  clients_->ForEach([&](const Client& client) {
    if (client.IsDriver() && client.log_to_driver) WatchAt(node, client.job);
  });
}

void LogService::WatchAt(const base::NodeId& node, const base::JobId& job) {
  net::Connection* peer = peers_->Get(node);
  if (peer == nullptr) return;
  wire::v1::WatchLogs message;
  message.set_job_id(job.BinaryString());
  peer->Send(wire::v1::WATCH_LOGS, message);
}

void LogService::PeerLines(const wire::v1::LogLines& message) {
  absl::StatusOr<base::JobId> job = base::JobId::FromBinary(message.job_id());
  if (job.ok()) GiveToDrivers(*job, message);
}

void LogService::GiveToDrivers(const base::JobId& job, const wire::v1::LogLines& message) {
  clients_->ForEach([&](Client& client) {
    if (client.IsDriver() && client.log_to_driver && client.job == job) {
      SendLines(&client, message);
    }
  });
}

void LogService::WorkerDied(const WorkerDeath& death) {
  if (monitor_ == nullptr) return;
  dying_ = &death;
  monitor_->WorkerEnded(death.pid);
  dying_ = nullptr;
}

void LogService::ClientGone(const Client& client) {
  dropped_lines_.erase(client.id);
  if (!client.IsRaylet()) return;
  for (auto it = watchers_.begin(); it != watchers_.end();) {
    auto current = it++;
    current->second.erase(client.id);
    if (current->second.empty()) watchers_.erase(current);
  }
}

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
  GiveToDrivers(*job, message);
  auto watchers = watchers_.find(*job);
  if (watchers == watchers_.end()) return;
  for (scheduling::ClientId watcher : watchers->second) {
    if (Client* raylet = clients_->Find(watcher); raylet != nullptr) SendLines(raylet, message);
  }
}

void LogService::SendLines(Client* reader, const wire::v1::LogLines& message) {
  uint64_t& dropped = dropped_lines_[reader->id];
  if (reader->connection->has_buffered()) {
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
    reader->connection->Send(wire::v1::LOG_LINES, notice);
  }
  reader->connection->Send(wire::v1::LOG_LINES, message);
}

std::string LogService::StderrTail(const WorkerDeath& death) const {
  if (death.pid == 0) return "";
  const std::string path =
      absl::StrCat(directory_, "/", LogPrefix(death.token), "-", death.pid, ".err");
  return ToValidUtf8(WithoutMarkers(TailOfFile(path, kTailBytes)));
}

}  // namespace ray::raylet
