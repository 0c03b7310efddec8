#include "ray/raylet/lease_service.h"

#include <algorithm>

#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"
#include "ray/raylet/device_grant.h"

namespace ray::raylet {

using base::LeaseId;
using base::WorkerId;
using wire::v1::RequestLeaseReply;

namespace {

// Of demands in a report.
constexpr size_t kDemandKindsMax = 100;

scheduling::LeaseEnd EndOf(const wire::v1::ReturnLease& message) {
  if (message.owner_gone()) return scheduling::LeaseEnd::kOwnerGone;
  return message.worker_broken() ? scheduling::LeaseEnd::kBroken : scheduling::LeaseEnd::kDone;
}

}  // namespace

LeaseService::LeaseService(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
                           const ClientRegistry* clients, NodePeers* peers, WorkerPool* pool,
                           const accelerators::NodeAccelerators* accelerators, Options options,
                           Events events)
    : clients_(clients),
      peers_(peers),
      pool_(pool),
      accelerators_(accelerators),
      events_(std::move(events)),
      queue_(options.queue, std::move(options.resources), clock, this),
      router_(std::move(options.router), &queue_, clock, this),
      timer_(loop, clock, [this] {
        queue_.Tick();
        router_.Tick();
        Changed();
      }) {
  router->On<wire::v1::RequestLease>(
      wire::v1::REQUEST_LEASE,
      [this](Client& client, const auto& message, const Responder& responder) {
        return OnRequest(client, message, responder);
      });
  router->On<wire::v1::CancelLease>(wire::v1::CANCEL_LEASE,
                                    [this](Client& client, const auto& message, const Responder&) {
                                      return OnCancel(client, message);
                                    });
  router->On<wire::v1::ReturnLease>(wire::v1::RETURN_LEASE,
                                    [this](Client& client, const auto& message, const Responder&) {
                                      return OnReturn(client, message);
                                    });
  router->On<wire::v1::ExplainLease>(
      wire::v1::EXPLAIN_LEASE,
      [this](Client& client, const auto& message, const Responder& responder) {
        return OnExplain(client, message, responder);
      });
  router->On<wire::v1::WorkerBlocked>(
      wire::v1::WORKER_BLOCKED, [this](Client& client, const auto& message, const Responder&) {
        queue_.SetBlocked(client.worker_id, message.blocked());
        Changed();
        return absl::OkStatus();
      });
}

void LeaseService::Changed() {
  timer_.Set(std::min(queue_.NextTick(), router_.NextTick()));
  events_.on_change();
}

// --- From clients

absl::Status LeaseService::OnRequest(Client& client, const wire::v1::RequestLease& message,
                                     const Responder& responder) {
  if (client.IsRaylet() && router_.IsRepeated(client.id, message.request_id())) {
    return absl::OkStatus();
  }
  const RequestKey key{client.id, message.request_id()};
  Open open{responder, pool_->Learn(message.runtime_env_hash(), message.runtime_env())};
  const bool is_new = open_.emplace(key, std::move(open)).second;
  if (!is_new) return absl::AlreadyExistsError("a lease request whose id is in use");
  MANTA_RETURN_IF_ERROR(client.IsRaylet() ? router_.Serve(client.id, message)
                                          : router_.Request(client.id, message));
  Changed();
  return absl::OkStatus();
}

absl::Status LeaseService::OnCancel(Client& client, const wire::v1::CancelLease& message) {
  if (!client.IsRaylet()) {
    router_.Cancel(client.id, message.request_id());
  } else if (queue_.Cancel(client.id, message.request_id())) {
    RequestLeaseReply reply;
    reply.set_outcome(RequestLeaseReply::CANCELLED);
    Answer(client.id, message.request_id(), reply);
  }
  Changed();
  return absl::OkStatus();
}

absl::Status LeaseService::OnReturn(Client& client, const wire::v1::ReturnLease& message) {
  MANTA_ASSIGN_OR_RETURN(const LeaseId lease, LeaseId::FromBinary(message.lease_id()));
  if (router_.Return(lease, client.id, message.worker_broken())) return absl::OkStatus();
  const absl::Status returned = queue_.Return(client.id, lease, EndOf(message));
  // It may have ended with its worker a moment before.
  if (!returned.ok()) {
    MANTA_LOG(kDebug, client.connection->description(), " returned ", returned.message());
  }
  Changed();
  return absl::OkStatus();
}

absl::Status LeaseService::OnExplain(Client& client, const wire::v1::ExplainLease& message,
                                     const Responder& responder) {
  if (const auto there = router_.WaitsAt(client.id, message.request_id()); there.has_value()) {
    if (net::Connection* peer = peers_->Get(there->first); peer != nullptr) {
      wire::v1::ExplainLease question;
      question.set_request_id(there->second);
      peer->Call(wire::v1::EXPLAIN_LEASE, question,
                 [responder](const absl::StatusOr<net::Frame>& frame) {
                   wire::v1::LeaseExplanation reply;
                   if (frame.ok() && !net::ParseMetadata(*frame, &reply)) reply.Clear();
                   responder.Send(reply);
                 });
      return absl::OkStatus();
    }
  }
  wire::v1::LeaseExplanation reply;
  reply.set_message(router_.Explain(client.id, message.request_id()));
  responder.Send(reply);
  return absl::OkStatus();
}

void LeaseService::ClientGone(const Client& client) {
  // In this order: what its end sets free must not be granted to its own requests.
  queue_.ClientGone(client.id);
  if (client.IsRaylet()) {
    router_.RayletGone(client.id);
  } else {
    router_.ClientGone(client.id);
  }
  queue_.WorkerGone(client.worker_id);
  absl::erase_if(open_, [&](const auto& entry) { return entry.first.first == client.id; });
  NodesSettled();
}

// --- From other raylets and about them

void LeaseService::OnForwardedReply(const base::NodeId& node, uint64_t forward_id,
                                    const absl::StatusOr<net::Frame>& frame) {
  absl::StatusOr<RequestLeaseReply> reply = absl::InternalError("an answer that does not parse");
  RequestLeaseReply message;
  if (!frame.ok()) {
    reply = frame.status();
  } else if (net::ParseMetadata(*frame, &message)) {
    reply = std::move(message);
  }
  router_.Answered(node, forward_id, reply);
  Changed();
}

void LeaseService::OnPeerFrame(const base::NodeId& node, const net::Frame& frame) {
  if (frame.type == wire::v1::RECLAIM_LEASES) {
    for (scheduling::ClientId client : router_.HoldersAt(node)) ReclaimLeases(client);
    return;
  }
  wire::v1::PendingWarning message;
  if (!net::ParseMetadata(frame, &message)) return;
  const std::optional<RequestKey> request = router_.Origin(message.request_id());
  if (!request.has_value()) return;
  Warn({request->first, request->second, message.task_name(), message.infeasible(),
        message.message()});
}

void LeaseService::NodesSettled() {
  router_.Rebalance();
  Changed();
}

void LeaseService::NodeDead(const base::NodeId& node) {
  router_.NodeDead(node);
  Changed();
}

void LeaseService::NodeLost(const base::NodeId& node) { router_.NodeLost(node); }

void LeaseService::NodeSilent(const base::NodeId& node) {
  router_.NodeSilent(node);
  Changed();
}

void LeaseService::Drain() {
  router_.Drain();
  NodesSettled();
}

std::vector<wire::v1::Demand> LeaseService::Demands() { return router_.Demands(kDemandKindsMax); }

// --- Groups

void LeaseService::GroupPlaced(const wire::v1::PlacementGroupInfo& info) {
  router_.GroupPlaced(info);
  Changed();
}

void LeaseService::GroupRemoved(const base::PlacementGroupId& group) {
  router_.GroupRemoved(group);
  queue_.RemoveGroup(group);
  Changed();
}

void LeaseService::BundlesChanged(const base::PlacementGroupId& group) {
  router_.BundlesChanged(group);
  Changed();
}

// --- From the queue

void LeaseService::WorkerReady(const LeaseId& lease, const WorkerId& worker) {
  queue_.WorkerReady(lease, worker);
}

void LeaseService::EnvironmentFailed(const LeaseId& lease, const std::string& why) {
  const std::optional<RequestKey> request = queue_.RequestOf(lease);
  if (!request.has_value()) return;
  RequestLeaseReply reply;
  reply.set_outcome(RequestLeaseReply::ENVIRONMENT_FAILED);
  reply.set_message(why);
  queue_.Cancel(request->first, request->second);
  Settle(request->first, request->second, reply);
  Changed();
}

void LeaseService::GiveUp(scheduling::ClientId client, uint64_t request_id,
                          const std::string& why) {
  RequestLeaseReply reply;
  reply.set_outcome(RequestLeaseReply::REFUSED);
  reply.set_message(why);
  Settle(client, request_id, reply);
}

void LeaseService::RefuseLease(scheduling::ClientId client, uint64_t request_id) {
  RequestLeaseReply reply;
  reply.set_outcome(RequestLeaseReply::GROUP_REMOVED);
  Settle(client, request_id, reply);
}

void LeaseService::Settle(scheduling::ClientId client, uint64_t request_id,
                          const RequestLeaseReply& reply) {
  router_.Settled(client, request_id);
  Answer(client, request_id, reply);
}

std::optional<WorkerId> LeaseService::AcquireWorker(const LeaseId& lease, const base::JobId& job,
                                                    const std::string& env_hash) {
  return pool_->Acquire(WorkerPool::Use::kTask, lease, job, env_hash);
}

void LeaseService::AbandonWorker(const LeaseId& lease) { pool_->Abandon(lease); }

void LeaseService::ReleaseWorker(const WorkerId& worker, scheduling::WorkerAfter after) {
  switch (after) {
    case scheduling::WorkerAfter::kReuse:
      return pool_->Release(worker);
    case scheduling::WorkerAfter::kRetire:
      return pool_->AskToExit(worker, "it used devices, which stay bound to its process",
                              /*patient=*/true);
    case scheduling::WorkerAfter::kEnd:
      return pool_->AskToExit(worker, "the holder of its lease lost it", /*patient=*/false);
    case scheduling::WorkerAfter::kKill:
      return pool_->Kill(worker, "the holder of its lease is gone");
  }
}

void LeaseService::GrantLease(const scheduling::LeaseGrant& grant) {
  const Client* worker = clients_->FindByWorker(grant.worker);
  MANTA_CHECK(worker != nullptr);  // only connected workers are given out
  RequestLeaseReply reply;
  reply.set_outcome(RequestLeaseReply::GRANTED);
  reply.set_lease_id(grant.lease.BinaryString());
  reply.set_contended(grant.contended);
  *reply.mutable_worker() = worker->address;
  grant.allocation->ToWire(reply.mutable_instances());
  DescribeDevices(*accelerators_, reply.mutable_instances(), reply.mutable_environment());
  Settle(grant.client, grant.request_id, reply);
}

void LeaseService::ReclaimLeases(scheduling::ClientId client) {
  if (Client* holder = clients_->Find(client); holder != nullptr) {
    holder->connection->Send(wire::v1::RECLAIM_LEASES, wire::v1::ReclaimLeases());
  }
}

void LeaseService::Warn(const scheduling::LeaseWarning& warning) {
  Client* client = clients_->Find(warning.client);
  if (client == nullptr) return;
  wire::v1::PendingWarning message;
  message.set_request_id(warning.request_id);
  message.set_task_name(warning.task_name);
  message.set_infeasible(warning.infeasible);
  message.set_message(warning.message);
  client->connection->Send(wire::v1::TASK_PENDING_WARNING, message);
}

// --- From the router

void LeaseService::Answer(scheduling::ClientId client, uint64_t request_id,
                          const RequestLeaseReply& reply) {
  auto open = open_.extract(RequestKey{client, request_id});
  MANTA_CHECK(!open.empty());
  const Client* asker = clients_->Find(client);
  if (asker == nullptr || !asker->IsRaylet()) return open.mapped().responder.Send(reply);
  RequestLeaseReply with_available = reply;
  *with_available.mutable_available() = queue_.resources().available().ToWire();
  open.mapped().responder.Send(with_available);
}

bool LeaseService::Forward(const base::NodeId& node, const wire::v1::RequestLease& request) {
  net::Connection* peer = peers_->Get(node);
  if (peer == nullptr) return false;
  peer->Call(wire::v1::REQUEST_LEASE, request,
             [this, alive = std::weak_ptr<bool>(alive_), node,
              forward_id = request.request_id()](const absl::StatusOr<net::Frame>& frame) {
               if (!alive.expired()) OnForwardedReply(node, forward_id, frame);
             });
  return true;
}

void LeaseService::CancelForwarded(const base::NodeId& node, uint64_t forward_id) {
  net::Connection* peer = peers_->Get(node);
  if (peer == nullptr) return;
  wire::v1::CancelLease message;
  message.set_request_id(forward_id);
  peer->Send(wire::v1::CANCEL_LEASE, message);
}

void LeaseService::ReturnLease(const base::NodeId& node, const LeaseId& lease,
                               scheduling::LeaseEnd end) {
  net::Connection* peer = peers_->Get(node);
  if (peer == nullptr) return;
  wire::v1::ReturnLease message;
  message.set_lease_id(lease.BinaryString());
  message.set_worker_broken(end == scheduling::LeaseEnd::kBroken);
  message.set_owner_gone(end == scheduling::LeaseEnd::kOwnerGone);
  peer->Send(wire::v1::RETURN_LEASE, message);
}

void LeaseService::WatchGroup(const base::PlacementGroupId& group) {
  events_.on_group_unknown(group);
}

}  // namespace ray::raylet
