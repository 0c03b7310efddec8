#include "ray/raylet/lease_service.h"

#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/raylet/device_grant.h"
#include "ray/raylet/strategy.h"

namespace ray::raylet {

using base::LeaseId;
using base::WorkerId;
using wire::v1::RequestLeaseReply;

LeaseService::LeaseService(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
                           const ClientRegistry* clients, WorkerPool* pool,
                           const NodeIdentity* identity, scheduling::LeaseQueue::Options options,
                           resources::NodeResources resources,
                           const accelerators::NodeAccelerators* accelerators, Events events)
    : clients_(clients),
      pool_(pool),
      identity_(identity),
      accelerators_(accelerators),
      events_(std::move(events)),
      queue_(options, std::move(resources), clock, this),
      timer_(loop, clock, [this] {
        queue_.Tick();
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
        wire::v1::LeaseExplanation reply;
        reply.set_message(queue_.Explain(client.id, message.request_id()));
        responder.Send(reply);
        return absl::OkStatus();
      });
  router->On<wire::v1::WorkerBlocked>(
      wire::v1::WORKER_BLOCKED, [this](Client& client, const auto& message, const Responder&) {
        queue_.SetBlocked(client.worker_id, message.blocked());
        Changed();
        return absl::OkStatus();
      });
}

void LeaseService::Changed() {
  timer_.Set(queue_.NextTick());
  events_.on_change();
}

absl::Status LeaseService::OnRequest(Client& client, const wire::v1::RequestLease& message,
                                     const Responder& responder) {
  scheduling::LeaseRequest request;
  request.client = client.id;
  request.request_id = message.request_id();
  MANTA_ASSIGN_OR_RETURN(request.resources, resources::ResourceSet::FromWire(message.resources()));
  MANTA_ASSIGN_OR_RETURN(request.job, base::JobId::FromBinary(message.job_id()));
  MANTA_ASSIGN_OR_RETURN(request.bundle, BundleOf(message.strategy()));
  request.env_hash = message.runtime_env_hash();
  request.task_name = message.task_name();
  request.retriable = message.retriable();
  request.misfit = MisfitOf(message.strategy(), *identity_);
  Open open{responder, pool_->Learn(request.env_hash, message.runtime_env())};
  const bool is_new =
      open_.emplace(RequestKey{client.id, request.request_id}, std::move(open)).second;
  if (!is_new) return absl::AlreadyExistsError("a lease request whose id is in use");
  const std::string never = WhyUnschedulable(message.strategy(), *identity_, request.resources,
                                             queue_.resources().total());
  if (!never.empty()) {
    RequestLeaseReply reply;
    reply.set_outcome(RequestLeaseReply::REFUSED);
    reply.set_message(never);
    Answer({client.id, request.request_id}, reply);
    return absl::OkStatus();
  }
  const base::PlacementGroupId group = request.bundle.group;
  MANTA_RETURN_IF_ERROR(queue_.Request(std::move(request)));
  if (!group.IsNil() && !queue_.HasCommitted(group)) events_.on_group_missing(group);
  Changed();
  return absl::OkStatus();
}

void LeaseService::GroupRemoved(const base::PlacementGroupId& group) {
  queue_.RemoveGroup(group);
  Changed();
}

void LeaseService::GiveUp(scheduling::ClientId client, uint64_t request_id,
                          const std::string& why) {
  RequestLeaseReply reply;
  reply.set_outcome(RequestLeaseReply::REFUSED);
  reply.set_message(why);
  Answer({client, request_id}, reply);
}

void LeaseService::RefuseLease(scheduling::ClientId client, uint64_t request_id) {
  RequestLeaseReply reply;
  reply.set_outcome(RequestLeaseReply::GROUP_REMOVED);
  Answer({client, request_id}, reply);
}

absl::Status LeaseService::OnCancel(Client& client, const wire::v1::CancelLease& message) {
  if (queue_.Cancel(client.id, message.request_id())) {
    RequestLeaseReply reply;
    reply.set_outcome(RequestLeaseReply::CANCELLED);
    Answer({client.id, message.request_id()}, reply);
  }
  Changed();
  return absl::OkStatus();
}

absl::Status LeaseService::OnReturn(Client& client, const wire::v1::ReturnLease& message) {
  MANTA_ASSIGN_OR_RETURN(const LeaseId lease, LeaseId::FromBinary(message.lease_id()));
  const absl::Status returned = queue_.Return(client.id, lease, message.worker_broken());
  // It may have ended with its worker a moment before.
  if (!returned.ok()) {
    MANTA_LOG(kDebug, client.connection->description(), " returned ", returned.message());
  }
  Changed();
  return absl::OkStatus();
}

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
  Answer(*request, reply);
  Changed();
}

void LeaseService::ClientGone(const Client& client) {
  // In this order: what its end sets free must not be granted to its own requests.
  queue_.ClientGone(client.id);
  queue_.WorkerGone(client.worker_id);
  absl::erase_if(open_, [&](const auto& entry) { return entry.first.first == client.id; });
  Changed();
}

void LeaseService::Answer(const RequestKey& request, const RequestLeaseReply& reply) {
  auto open = open_.extract(request);
  MANTA_CHECK(!open.empty());
  open.mapped().responder.Send(reply);
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
  *reply.mutable_worker() = worker->address;
  grant.allocation->ToWire(reply.mutable_instances());
  DescribeDevices(*accelerators_, reply.mutable_instances(), reply.mutable_environment());
  Answer({grant.client, grant.request_id}, reply);
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

}  // namespace ray::raylet
