#include "ray/raylet/client_registry.h"

#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/net/frame.h"
#include "ray/net/parse_frame.h"
#include "ray/net/tls_wire.h"

namespace ray::raylet {

using base::WorkerId;
using net::Connection;
using wire::v1::Hello;
using wire::v1::HelloReply;

namespace {

std::string Describe(const Hello& hello) {
  switch (hello.kind()) {
    case wire::v1::DRIVER:
      return absl::StrCat("driver ", hello.pid());
    case wire::v1::RAYLET:
    case wire::v1::TRANSFER:
      return absl::StrCat("raylet of node ", base::BytesToHex(hello.node_id()).substr(0, 12));
    case wire::v1::TOOL:
      return absl::StrCat("tool ", hello.pid());
    default:
      return absl::StrCat("worker ", hello.pid());
  }
}

}  // namespace

// A connection that has not finished its handshake.
struct ClientRegistry::Peer {
  From from = From::kThisNode;
  net::EventLoop::TimerId timer = 0;
  bool said_hello = false;
};

ClientRegistry::ClientRegistry(net::EventLoop* loop, const FrameRouter* router,
                               net::LastingConnections* lasting, Options options, Events events)
    : loop_(loop),
      router_(router),
      lasting_(lasting),
      options_(options),
      tls_(options.tls),
      events_(std::move(events)) {}

ClientRegistry::~ClientRegistry() {
  for (auto& [connection, peer] : joining_) loop_->Cancel(peer->timer);
  for (auto& [id, client] : clients_) {
    client->connection->set_peer(nullptr);
    client->connection->Close(absl::CancelledError("the raylet ends"));
  }
}

void ClientRegistry::Accept(std::shared_ptr<Connection> connection, From from) {
  auto peer = std::make_shared<Peer>();
  peer->from = from;
  peer->timer = loop_->RunAfter(
      options_.handshake_timeout, [this, weak = std::weak_ptr<Connection>(connection)] {
        if (auto late = weak.lock()) {
          Refuse(late, absl::DeadlineExceededError("the peer did not finish its HELLO in time"));
        }
      });
  joining_.emplace(connection.get(), std::move(peer));
  std::weak_ptr<bool> alive = alive_;
  connection->Start({.on_frame =
                         [this, alive](const auto& from, const net::Frame& frame) {
                           if (!alive.expired()) OnFrame(from, frame);
                         },
                     .on_close =
                         [this, alive](const auto& closed, const absl::Status& why) {
                           if (!alive.expired()) OnClose(closed, why);
                         }});
}

void ClientRegistry::OnFrame(const std::shared_ptr<Connection>& connection,
                             const net::Frame& frame) {
  auto* client = connection->peer<Client>();
  const absl::Status status =
      client == nullptr ? OnFirstFrame(connection, frame) : router_->Route(*client, frame);
  if (!status.ok()) Refuse(connection, status);
}

void ClientRegistry::Refuse(const std::shared_ptr<Connection>& connection,
                            const absl::Status& why) {
  wire::v1::ErrorFrame error;
  error.set_reason(std::string(why.message()));
  connection->Send(wire::v1::ERROR, error);
  connection->Close(why);
}

absl::Status ClientRegistry::OnFirstFrame(const std::shared_ptr<Connection>& connection,
                                          const net::Frame& frame) {
  const auto joining = joining_.find(connection.get());
  const bool is_resume = frame.type == wire::v1::RESUME &&
                         joining->second->from == From::kOtherNode && !joining->second->said_hello;
  if (!is_resume) return OnHello(connection, frame);
  MANTA_RETURN_IF_ERROR(lasting_->OnResume(connection, frame));
  if (!connection->closed()) return absl::OkStatus();
  // Its socket is that of a client now.
  loop_->Cancel(joining->second->timer);
  joining_.erase(joining);
  return absl::OkStatus();
}

absl::Status ClientRegistry::OnHello(const std::shared_ptr<Connection>& connection,
                                     const net::Frame& frame) {
  Peer& peer = *joining_.at(connection.get());
  Hello hello;
  if (frame.type != wire::v1::HELLO || peer.said_hello) {
    return absl::FailedPreconditionError(
        absl::StrCat("a frame of type ", frame.type, " before the handshake was over"));
  }
  if (!net::ParseMetadata(frame, &hello)) {
    return absl::InvalidArgumentError("a HELLO that does not parse");
  }
  MANTA_RETURN_IF_ERROR(CheckHello(hello, peer.from));
  peer.said_hello = true;
  loop_->Cancel(peer.timer);  // what takes time from here on is not the peer's doing
  connection->set_description(Describe(hello));
  if (hello.kind() == wire::v1::TRANSFER) {
    HandOver(connection, frame.correlation_id, hello, peer.from);
    return absl::OkStatus();
  }
  if (hello.kind() != wire::v1::DRIVER) {
    Join(connection, frame.correlation_id, hello, Job{});
    return absl::OkStatus();
  }
  events_.add_job(hello, [this, alive = std::weak_ptr<bool>(alive_), connection, hello,
                          correlation_id = frame.correlation_id](absl::StatusOr<Job> job) {
    if (!alive.expired()) JoinDriver(connection, correlation_id, hello, std::move(job));
  });
  return absl::OkStatus();
}

absl::Status ClientRegistry::CheckWorkerId(const Hello& hello) const {
  MANTA_ASSIGN_OR_RETURN(const WorkerId worker, WorkerId::FromBinary(hello.worker_id()));
  if (!by_worker_.contains(worker)) return absl::OkStatus();
  return absl::AlreadyExistsError("a process with this worker id is connected");
}

absl::Status ClientRegistry::CheckHello(const Hello& hello, From from) const {
  if (hello.protocol_version() != net::kProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("this raylet speaks version ", net::kProtocolVersion,
                     " of the protocol, the peer speaks version ", hello.protocol_version(),
                     ": install the same version on both sides"));
  }
  const bool is_raylet = hello.kind() == wire::v1::RAYLET;
  if (hello.kind() != wire::v1::TRANSFER && is_raylet != (from == From::kOtherNode)) {
    return absl::PermissionDeniedError(
        "drivers, workers and tools connect to the Unix socket of their node's raylet, raylets to "
        "the TCP port of another one");
  }
  switch (hello.kind()) {
    case wire::v1::RAYLET:
    case wire::v1::TRANSFER:
      return base::NodeId::FromBinary(hello.node_id()).status();
    case wire::v1::TOOL:
      return absl::OkStatus();
    case wire::v1::DRIVER:
      return CheckWorkerId(hello);
    case wire::v1::WORKER:
    case wire::v1::WORKER_SETUP:
      MANTA_RETURN_IF_ERROR(CheckWorkerId(hello));
      if (!events_.expects_worker(hello.startup_token())) {
        return absl::PermissionDeniedError(
            absl::StrCat("no worker with startup token ", hello.startup_token(), " is expected"));
      }
      // It will be killed by that number; one that is no process's may mean many processes.
      if (hello.pid() <= 0 || hello.pid() > std::numeric_limits<pid_t>::max()) {
        return absl::InvalidArgumentError(absl::StrCat(hello.pid(), " is no process's id"));
      }
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "a process of kind ", static_cast<int>(hello.kind()), " is no client of a raylet"));
  }
}

void ClientRegistry::JoinDriver(const std::shared_ptr<Connection>& connection,
                                uint64_t correlation_id, const Hello& hello,
                                absl::StatusOr<Job> job) {
  if (connection->closed()) {
    if (job.ok()) events_.drop_job(job->id);
    return;
  }
  if (!job.ok()) {
    Refuse(connection, base::Annotate(job.status(), "the job could not be registered"));
    return;
  }
  if (absl::Status still_valid = CheckWorkerId(hello); !still_valid.ok()) {
    events_.drop_job(job->id);
    Refuse(connection, still_valid);
    return;
  }
  Join(connection, correlation_id, hello, *job);
}

void ClientRegistry::Join(const std::shared_ptr<Connection>& connection, uint64_t correlation_id,
                          const Hello& hello, const Job& job) {
  joining_.erase(connection.get());
  const NodeIdentity& node = *options_.identity;
  auto client = std::make_shared<Client>();
  client->id = next_id_++;
  client->kind = hello.kind();
  const bool has_worker_id = hello.kind() != wire::v1::RAYLET && hello.kind() != wire::v1::TOOL;
  if (has_worker_id) client->worker_id = WorkerId::FromTrusted(hello.worker_id().data());
  client->pid = static_cast<pid_t>(hello.pid());
  client->address = hello.address();
  client->address.set_node_id(client->IsRaylet() ? hello.node_id() : node.id.BinaryString());
  client->address.set_worker_id(client->worker_id.BinaryString());
  client->connection = connection;
  client->job = job.id;
  client->startup_token = hello.startup_token();
  client->log_to_driver = hello.log_to_driver();
  connection->set_peer(client);
  clients_.emplace(client->id, client);
  if (has_worker_id) by_worker_.emplace(client->worker_id, client.get());

  HelloReply reply;
  reply.set_protocol_version(net::kProtocolVersion);
  reply.set_node_id(node.id.BinaryString());
  if (!job.id.IsNil()) reply.set_job_id(job.id.BinaryString());
  reply.set_job_namespace(job.job_namespace);
  reply.set_node_ip(node.ip);
  if (client->IsRaylet()) {
    if (hello.session() != 0) {
      // Whether its node lives, the GCS says.
      lasting_->Accepted(connection, hello.node_id(), hello.session(), [](absl::Duration) {});
    }
    connection->Reply(wire::v1::HELLO, correlation_id, reply);
    return events_.on_joined(*client, hello);
  }
  reply.set_session_dir(node.session_dir);
  reply.set_gcs_address(node.gcs_address);
  reply.set_store_capacity_bytes(options_.store_capacity_bytes);
  reply.set_listen_host(node.listen_host);
  reply.set_cluster_token(options_.cluster_token);
  if (tls_.enabled()) *reply.mutable_tls() = net::ToWire(tls_);
  reply.mutable_config()->insert(node.config.begin(), node.config.end());
  connection->ReplyWithFd(wire::v1::HELLO, correlation_id, reply, options_.store_fd);
  events_.on_joined(*client, hello);
}

void ClientRegistry::UseTls(const net::TlsCredentials& tls) {
  tls_ = tls;
  ForEach([this](Client& client) {
    const bool speaks_to_others = !client.IsRaylet() && !client.worker_id.IsNil();
    if (speaks_to_others) client.connection->Send(wire::v1::NEW_TLS_CREDENTIALS, net::ToWire(tls_));
  });
}

void ClientRegistry::HandOver(const std::shared_ptr<Connection>& connection,
                              uint64_t correlation_id, const Hello& hello, From from) {
  joining_.erase(connection.get());
  HelloReply reply;
  reply.set_protocol_version(net::kProtocolVersion);
  reply.set_node_id(options_.identity->id.BinaryString());
  if (from == From::kThisNode) {
    reply.set_store_capacity_bytes(options_.store_capacity_bytes);
    connection->ReplyWithFd(wire::v1::HELLO, correlation_id, reply, options_.store_fd);
  } else {
    connection->Reply(wire::v1::HELLO, correlation_id, reply);
  }
  events_.on_stream(base::NodeId::FromTrusted(hello.node_id().data()), from, *connection);
}

void ClientRegistry::OnClose(const std::shared_ptr<Connection>& connection,
                             const absl::Status& why) {
  lasting_->Ended(*connection, why);
  if (auto peer = joining_.find(connection.get()); peer != joining_.end()) {
    loop_->Cancel(peer->second->timer);
    joining_.erase(peer);
    return;
  }
  auto* found = connection->peer<Client>();
  if (found == nullptr) return;
  auto it = clients_.find(found->id);
  const std::shared_ptr<Client> client = it->second;
  if (!client->worker_id.IsNil()) by_worker_.erase(client->worker_id);
  clients_.erase(it);
  connection->set_peer(nullptr);
  events_.on_gone(*client, why);
}

Client* ClientRegistry::Find(scheduling::ClientId id) const {
  auto it = clients_.find(id);
  return it == clients_.end() ? nullptr : it->second.get();
}

Client* ClientRegistry::FindByWorker(const WorkerId& worker) const {
  auto it = by_worker_.find(worker);
  return it == by_worker_.end() ? nullptr : it->second;
}

void ClientRegistry::ForEach(const std::function<void(Client&)>& visit) const {
  for (const auto& [id, client] : clients_) visit(*client);
}

}  // namespace ray::raylet
