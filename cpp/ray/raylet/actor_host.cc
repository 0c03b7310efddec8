#include "ray/raylet/actor_host.h"

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"
#include "ray/raylet/device_grant.h"
#include "ray/scheduling/strategy.h"

namespace ray::raylet {

using base::ActorId;
using base::JobId;
using base::LeaseId;
using base::WorkerId;
using gcs::v1::ActorCreated;
using resources::ResourceSet;

namespace {

// What a CreateActor asks for, checked.
struct Order {
  ActorId actor;
  JobId job;
  ResourceSet creation;
  ResourceSet lifetime;
  scheduling::BundleRef bundle;
};

absl::StatusOr<Order> Check(const wire::v1::CreateActor& message) {
  Order order;
  MANTA_ASSIGN_OR_RETURN(order.actor, ActorId::FromBinary(message.spec().actor_id()));
  MANTA_ASSIGN_OR_RETURN(order.job, JobId::FromBinary(message.job_id()));
  MANTA_ASSIGN_OR_RETURN(order.creation,
                         ResourceSet::FromWire(message.spec().creation_resources()));
  MANTA_ASSIGN_OR_RETURN(order.lifetime,
                         ResourceSet::FromWire(message.spec().lifetime_resources()));
  MANTA_ASSIGN_OR_RETURN(order.bundle, scheduling::BundleOf(message.spec().strategy()));
  return order;
}

}  // namespace

struct ActorHost::Hosted {
  Incarnation incarnation;
  wire::v1::CreateActor message;
  ResourceSet lifetime;
  EnvironmentHandle environment;
  LeaseId lease;
  WorkerId worker;       // nil: waits for one
  bool created = false;  // __init__ has returned
  wire::v1::Address address;
  pid_t pid = 0;
};

ActorHost::ActorHost(const ClientRegistry* clients, WorkerPool* pool,
                     scheduling::LeaseQueue* leases,
                     const accelerators::NodeAccelerators* accelerators, Events events)
    : clients_(clients),
      pool_(pool),
      leases_(leases),
      accelerators_(accelerators),
      events_(std::move(events)) {}

ActorHost::~ActorHost() = default;

void ActorHost::Create(const wire::v1::CreateActor& message) {
  const absl::StatusOr<Order> order = Check(message);
  if (!order.ok()) {
    MANTA_LOG(kError, "the GCS sent a malformed CreateActor: ", order.status().message());
    return;
  }
  const Incarnation incarnation{order->actor, message.num_restarts()};
  if (actors_.contains(incarnation)) return;
  auto lease =
      leases_->AllocateActor(ResourceSet::Max(order->creation, order->lifetime), order->bundle,
                             {.job = order->job,
                              .name = message.spec().class_name(),
                              .retriable = message.spec().restarts_max() != 0});
  if (!lease.has_value()) {
    Answer(incarnation, ActorCreated::NO_RESOURCES,
           absl::StrCat("of ", leases_->resources().total().ToString(), " only ",
                        leases_->resources().available().ToString(), " is free"));
    return;
  }
  auto owned = std::make_unique<Hosted>();
  Hosted* actor = owned.get();
  actors_.emplace(incarnation, std::move(owned));
  actor->incarnation = incarnation;
  actor->message = message;
  actor->lifetime = order->lifetime;
  actor->lease = *lease;
  leases_->AllocationOf(*lease)->ToWire(actor->message.mutable_instances());
  DescribeDevices(*accelerators_, actor->message.mutable_instances(),
                  actor->message.mutable_environment());
  by_lease_.emplace(*lease, actor);
  events_.on_resources_changed();

  actor->environment =
      pool_->Learn(message.spec().runtime_env_hash(), message.spec().runtime_env());
  auto worker = pool_->Acquire(WorkerPool::Use::kActor, *lease, order->job,
                               message.spec().runtime_env_hash());
  if (worker.has_value()) StartCreation(actor, *worker);
}

void ActorHost::WorkerReady(const LeaseId& lease, const WorkerId& worker) {
  auto it = by_lease_.find(lease);
  MANTA_CHECK(it != by_lease_.end());
  StartCreation(it->second, worker);
}

void ActorHost::EnvironmentFailed(const LeaseId& lease, const std::string& why) {
  auto it = by_lease_.find(lease);
  if (it == by_lease_.end()) return;
  const Incarnation incarnation = it->second->incarnation;
  Forget(it->second);
  Answer(incarnation, ActorCreated::ENVIRONMENT_FAILED, why);
}

void ActorHost::StartCreation(Hosted* actor, const WorkerId& worker) {
  const Client* client = clients_->FindByWorker(worker);
  MANTA_CHECK(client != nullptr);  // only connected workers are given out
  by_lease_.erase(actor->lease);
  by_worker_.emplace(worker, actor);
  leases_->AttachActorWorker(actor->lease, worker);
  actor->worker = worker;
  actor->address = client->address;
  actor->pid = client->pid;
  client->connection->Call(wire::v1::CREATE_ACTOR, actor->message,
                           [this, alive = std::weak_ptr<bool>(alive_),
                            incarnation = actor->incarnation](absl::StatusOr<net::Frame> frame) {
                             if (!alive.expired()) OnCreateReply(incarnation, std::move(frame));
                           });
}

void ActorHost::OnCreateReply(const Incarnation& incarnation, absl::StatusOr<net::Frame> frame) {
  Hosted* actor = Find(incarnation);
  // A broken connection means that the worker dies, of which the pool will tell.
  if (actor == nullptr || !frame.ok()) return;
  wire::v1::CreateActorReply reply;
  if (!net::ParseMetadata(*frame, &reply)) {
    pool_->Kill(actor->worker, "it sent a CreateActorReply that does not parse");
  } else if (reply.ok()) {
    Created(actor);
  } else {
    CreationFailed(actor, reply);
  }
}

void ActorHost::Created(Hosted* actor) {
  actor->created = true;
  leases_->ShrinkActor(actor->lease, actor->lifetime);
  // The arguments are of no more use, and may be large.
  actor->message.mutable_spec()->clear_args_payload();
  actor->message.mutable_spec()->clear_args_metadata();
  ActorCreated answer;
  answer.set_actor_id(actor->incarnation.first.BinaryString());
  answer.set_num_restarts(actor->incarnation.second);
  answer.set_outcome(ActorCreated::CREATED);
  *answer.mutable_address() = actor->address;
  answer.set_pid(actor->pid);
  events_.on_created(answer);
  events_.on_resources_changed();
}

void ActorHost::CreationFailed(Hosted* actor, const wire::v1::CreateActorReply& reply) {
  ActorCreated answer;
  answer.set_actor_id(actor->incarnation.first.BinaryString());
  answer.set_num_restarts(actor->incarnation.second);
  answer.set_outcome(ActorCreated::INIT_FAILED);
  answer.set_creation_error(reply.creation_error());
  answer.set_message(reply.message());
  events_.on_created(answer);
  const WorkerId worker = actor->worker;
  Forget(actor);
  pool_->AskToExit(worker, "the actor's creation failed", /*patient=*/false);
}

void ActorHost::Answer(const Incarnation& incarnation, ActorCreated::Outcome outcome,
                       const std::string& message) {
  ActorCreated answer;
  answer.set_actor_id(incarnation.first.BinaryString());
  answer.set_num_restarts(incarnation.second);
  answer.set_outcome(outcome);
  answer.set_message(message);
  events_.on_created(answer);
}

void ActorHost::Kill(const gcs::v1::KillWorker& message) {
  const absl::StatusOr<ActorId> id = ActorId::FromBinary(message.actor_id());
  if (!id.ok()) {
    MANTA_LOG(kError, "the GCS sent a malformed KillWorker: ", id.status().message());
    return;
  }
  const Incarnation incarnation{*id, message.num_restarts()};
  Hosted* actor = Find(incarnation);
  if (actor == nullptr) return;
  if (actor->worker.IsNil()) {
    pool_->Abandon(actor->lease);
    Forget(actor);
    Answer(incarnation, ActorCreated::WORKER_LOST, message.reason());
  } else if (message.force()) {
    pool_->Kill(actor->worker, message.reason());
  } else {
    pool_->AskToExit(actor->worker, message.reason(), /*patient=*/true);
  }
}

void ActorHost::WorkerDied(const WorkerDeath& death, const std::string& explanation) {
  // A worker that ran nothing owned nothing.
  if (death.worker.IsNil() || death.job.IsNil()) return;
  gcs::v1::WorkerDied message;
  message.set_worker_id(death.worker.BinaryString());
  message.set_intended(death.intended);
  message.set_message(death.intended ? death.reason : explanation);
  if (auto it = by_worker_.find(death.worker); it != by_worker_.end()) {
    Hosted* actor = it->second;
    const Incarnation incarnation = actor->incarnation;
    const bool was_created = actor->created;
    Forget(actor);
    if (was_created) {
      message.set_actor_id(incarnation.first.BinaryString());
      message.set_num_restarts(incarnation.second);
    } else {
      Answer(incarnation, ActorCreated::WORKER_LOST, explanation);
    }
  }
  events_.on_died(message);
}

std::vector<wire::v1::ActorInfo> ActorHost::LiveActors() const {
  std::vector<wire::v1::ActorInfo> live;
  for (const auto& [incarnation, actor] : actors_) {
    if (!actor->created) continue;
    wire::v1::ActorInfo& info = live.emplace_back();
    info.set_actor_id(incarnation.first.BinaryString());
    info.set_num_restarts(incarnation.second);
    info.set_state(wire::v1::ALIVE);
    *info.mutable_address() = actor->address;
    info.set_pid(actor->pid);
    info.set_class_name(actor->message.spec().class_name());
    info.set_name(actor->message.spec().name());
    info.set_actor_namespace(actor->message.spec().actor_namespace());
    info.set_detached(actor->message.spec().detached());
    info.set_job_id(actor->message.job_id());
  }
  return live;
}

std::optional<HostedActor> ActorHost::ActorOf(const WorkerId& worker) const {
  auto it = by_worker_.find(worker);
  if (it == by_worker_.end()) return std::nullopt;
  const wire::v1::CreateActor& message = it->second->message;
  const int64_t restarts_max = message.spec().restarts_max();
  const auto restarts = static_cast<int64_t>(message.num_restarts());
  return HostedActor{
      .class_name = message.spec().class_name(),
      .owner = WorkerId::FromBinary(message.spec().owner().worker_id()).value_or(WorkerId::Nil()),
      .restartable = restarts_max < 0 || restarts < restarts_max};
}

ActorHost::Hosted* ActorHost::Find(const Incarnation& incarnation) const {
  auto it = actors_.find(incarnation);
  return it == actors_.end() ? nullptr : it->second.get();
}

// Its resources go back; what becomes of the worker is the caller's choice.
void ActorHost::Forget(Hosted* actor) {
  by_lease_.erase(actor->lease);
  by_worker_.erase(actor->worker);
  leases_->ReleaseActor(actor->lease);
  actors_.erase(Incarnation(actor->incarnation));
  events_.on_resources_changed();
}

}  // namespace ray::raylet
