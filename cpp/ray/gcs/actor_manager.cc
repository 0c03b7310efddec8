#include "ray/gcs/actor_manager.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/actor_state.h"
#include "ray/gcs/id_field.h"
#include "ray/gcs/status_reply.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::NodeId;
using base::WorkerId;

constexpr std::string_view kDeadOwnersTable = "dead_owners";
constexpr size_t kDeadOwnersMax = 10000;
// A registration that has not come by then will not come.
constexpr absl::Duration kUnknownWatchMax = absl::Minutes(1);

absl::Status NoSuchActor(const ActorId& id) {
  return absl::NotFoundError(absl::StrCat("there is no actor ", id.Hex(),
                                          ", or it died so long ago that it is forgotten"));
}

// For the user: ray.get_actor of a name that is not there.
absl::Status NoSuchName(const wire::v1::GetNamedActor& request) {
  return absl::NotFoundError(
      absl::StrCat("there is no actor named '", request.name(), "' in the namespace '",
                   request.actor_namespace(),
                   "'; it was never created there, it is dead, or its namespace is another one"));
}

absl::Status NameTaken(const Actor& actor) {
  return absl::AlreadyExistsError(absl::StrCat(
      "the name '", actor.info.name(), "' is taken by another actor in the namespace '",
      actor.info.actor_namespace(),
      "'; choose another name, get that actor with ray.get_actor, or pass get_if_exists=True"));
}

}  // namespace

absl::StatusOr<NodeActors> NodeActors::FromRegistration(const v1::RegisterNode& request) {
  NodeActors actors;
  for (const wire::v1::ActorInfo& info : request.live_actors()) {
    MANTA_ASSIGN_OR_RETURN(ActorId id, ParseId<ActorId>(info.actor_id(), "live_actors"));
    actors.live[id] = info;
  }
  for (const std::string& bytes : request.watched_actors()) {
    MANTA_ASSIGN_OR_RETURN(ActorId id, ParseId<ActorId>(bytes, "watched_actors"));
    actors.watched.insert(id);
  }
  return actors;
}

absl::Status ActorManager::Load() {
  MANTA_RETURN_IF_ERROR(table_.Load());
  MANTA_RETURN_IF_ERROR(LoadDeadOwners());
  std::set<base::PlacementGroupId> removed_groups;
  for (const ActorId& id : table_.Where([](const Actor& actor) { return !actor.dead(); })) {
    Actor* actor = table_.Find(id);
    if (!actor->placed()) {
      Wait(actor);
    } else {
      // A node's room is what it reports; that of a bundle only we know.
      actor->held = actor->being_created() ? actor->creation : actor->lifetime;
      if (!actor->in_group()) continue;
      ChangeHold(actor->group, {actor->node, actor->bundle}, {}, actor->held);
      if (!groups_->Exists(actor->group)) removed_groups.insert(actor->group);
    }
  }
  for (const base::PlacementGroupId& group : removed_groups) OnGroupRemoved(group);
  return absl::OkStatus();
}

bool ActorManager::HasLiving(const base::JobId& job) const {
  return !table_
              .Where(
                  [&](const Actor& actor) { return !actor.dead() && base::JobOf(actor.id) == job; })
              .empty();
}

absl::Status ActorManager::LoadDeadOwners() {
  absl::Status damage;
  absl::Status scanned =
      storage_->Scan(kDeadOwnersTable, "", [&](std::string_view key, std::string_view value) {
        absl::StatusOr<WorkerId> owner = ParseId<WorkerId>(key, "key of a dead owner");
        uint64_t number = 0;
        if (!owner.ok() ||
            !absl::SimpleAtoi(absl::string_view(value.data(), value.size()), &number)) {
          damage = absl::DataLossError("unreadable dead owner");
          return false;
        }
        dead_owners_.insert(*owner);
        dead_owners_order_[number] = *owner;
        return true;
      });
  return scanned.ok() ? damage : scanned;
}

bool ActorManager::Lives(const ActorId& id) const {
  const Actor* actor = table_.Find(id);
  return actor != nullptr && !actor->dead();
}

// -- requests

wire::v1::RegisterActorReply ActorManager::Register(const wire::v1::RegisterActor& request,
                                                    const std::string& job_namespace) {
  wire::v1::RegisterActorReply reply;
  absl::Status status = Accept(request, job_namespace, &reply);
  *reply.mutable_status() = ToReply(status);
  return reply;
}

absl::Status ActorManager::Accept(const wire::v1::RegisterActor& request,
                                  const std::string& job_namespace,
                                  wire::v1::RegisterActorReply* reply) {
  wire::v1::ActorSpec spec = request.spec();
  if (spec.actor_namespace().empty()) spec.set_actor_namespace(job_namespace);
  MANTA_ASSIGN_OR_RETURN(std::unique_ptr<Actor> actor, Actor::FromSpec(std::move(spec)));
  actor->job_namespace = job_namespace;

  // A retry of a registration whose answer was lost.
  if (table_.Find(actor->id) != nullptr) return absl::OkStatus();
  if (dead_owners_.contains(actor->owner) || nodes_->IsDead(actor->owner_node)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the owner of the actor, worker ", actor->owner.Hex(), ", is dead"));
  }
  if (!actor->info.name().empty()) {
    const Actor* named = table_.FindNamed(actor->info.actor_namespace(), actor->info.name());
    if (named != nullptr) {
      *reply->mutable_existing() = named->info;
      return NameTaken(*named);
    }
  }
  MANTA_ASSIGN_OR_RETURN(Actor * added, table_.Add(std::move(actor)));
  Publish(*added);
  Place(added);
  return absl::OkStatus();
}

wire::v1::ActorInfoReply ActorManager::Get(const wire::v1::SubscribeActor& request) const {
  wire::v1::ActorInfoReply reply;
  absl::StatusOr<ActorId> id = ParseId<ActorId>(request.actor_id(), "actor_id");
  const Actor* actor = id.ok() ? table_.Find(*id) : nullptr;
  if (actor != nullptr) {
    *reply.mutable_info() = actor->info;
  } else {
    *reply.mutable_status() = ToReply(id.ok() ? NoSuchActor(*id) : id.status());
  }
  return reply;
}

wire::v1::ActorInfoReply ActorManager::GetNamed(const wire::v1::GetNamedActor& request) const {
  wire::v1::ActorInfoReply reply;
  const Actor* actor = table_.FindNamed(request.actor_namespace(), request.name());
  if (actor != nullptr) {
    *reply.mutable_info() = actor->info;
  } else {
    *reply.mutable_status() = ToReply(NoSuchName(request));
  }
  return reply;
}

wire::v1::ListNamedActorsReply ActorManager::ListNamed(
    const wire::v1::ListNamedActors& request) const {
  wire::v1::ListNamedActorsReply reply;
  for (const auto& [key, id] : table_.names()) {
    const auto& [actor_namespace, name] = key;
    if (!request.all_namespaces() && actor_namespace != request.actor_namespace()) continue;
    auto* entry = reply.add_actors();
    entry->set_name(name);
    entry->set_actor_namespace(actor_namespace);
  }
  return reply;
}

v1::ListActorsReply ActorManager::List() const {
  v1::ListActorsReply reply;
  table_.ForEach([&](const Actor& actor) { *reply.add_actors() = actor.info; });
  return reply;
}

absl::Status ActorManager::Kill(const wire::v1::KillActor& request, WriteBatch with_effect) {
  MANTA_ASSIGN_OR_RETURN(ActorId id, ParseId<ActorId>(request.actor_id(), "actor_id"));
  Actor* actor = table_.Find(id);
  if (actor == nullptr) return NoSuchActor(id);
  if (actor->dead()) return absl::OkStatus();
  table_.WriteWithNext(std::move(with_effect));
  if (request.no_restart()) {
    EndForGood(actor, KilledByUser(), Worker::kKill);
  } else {
    EndIncarnation(actor, KilledByUser(), Worker::kKill);
  }
  PlaceWaiting();
  return absl::OkStatus();
}

absl::Status ActorManager::OutOfScope(const wire::v1::ActorOutOfScope& request) {
  MANTA_ASSIGN_OR_RETURN(ActorId id, ParseId<ActorId>(request.actor_id(), "actor_id"));
  Actor* actor = table_.Find(id);
  if (actor == nullptr) return NoSuchActor(id);
  if (actor->dead() || actor->info.detached()) return absl::OkStatus();
  EndForGood(actor, gcs::OutOfScope(), Worker::kFinishCall);
  PlaceWaiting();
  return absl::OkStatus();
}

// -- from the nodes' channels

absl::Status ActorManager::OnActorCreated(const NodeId& node, const v1::ActorCreated& message) {
  MANTA_ASSIGN_OR_RETURN(ActorId id, ParseId<ActorId>(message.actor_id(), "actor_id"));
  Actor* actor = table_.Find(id);
  const bool present = actor != nullptr && !actor->dead() && actor->node == node &&
                       actor->info.num_restarts() == message.num_restarts();
  if (!present) {
    if (message.outcome() == v1::ActorCreated::CREATED) {
      SendKill(node, id, message.num_restarts(), true, "The actor was ended while it was created.");
    }
    return absl::OkStatus();
  }
  if (!actor->being_created()) return absl::OkStatus();  // said again after a reconnect
  switch (message.outcome()) {
    case v1::ActorCreated::CREATED:
      MANTA_RETURN_IF_ERROR(
          ParseId<WorkerId>(message.address().worker_id(), "address.worker_id").status());
      MarkAlive(actor, message.address(), message.pid());
      break;
    case v1::ActorCreated::INIT_FAILED:
      EndForGood(actor, CreationFailed(message.message(), message.creation_error()),
                 Worker::kIsGone);
      break;
    case v1::ActorCreated::WORKER_LOST:
      EndIncarnation(actor, WorkerLostInCreation(message.message()), Worker::kIsGone);
      break;
    case v1::ActorCreated::ENVIRONMENT_FAILED:
      EndForGood(actor, EnvironmentFailed(message.message()), Worker::kIsGone);
      break;
    case v1::ActorCreated::NO_RESOURCES:
      RetryElsewhere(actor);
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("ActorCreated with unknown outcome ", message.outcome()));
  }
  PlaceWaiting();
  return absl::OkStatus();
}

absl::Status ActorManager::OnWorkerDied(const NodeId& node, const v1::WorkerDied& message) {
  MANTA_ASSIGN_OR_RETURN(WorkerId worker, ParseId<WorkerId>(message.worker_id(), "worker_id"));
  if (!message.actor_id().empty()) {
    MANTA_ASSIGN_OR_RETURN(ActorId id, ParseId<ActorId>(message.actor_id(), "actor_id"));
    Actor* actor = table_.Find(id);
    if (actor != nullptr && !actor->dead() && actor->node == node &&
        actor->info.num_restarts() == message.num_restarts()) {
      if (message.intended()) {
        EndForGood(actor, IntendedExit(message.message()), Worker::kIsGone);
      } else {
        EndIncarnation(actor, WorkerLost(message.message()), Worker::kIsGone);
      }
    }
  }
  OnOwnerDead(worker);
  PlaceWaiting();
  return absl::OkStatus();
}

absl::Status ActorManager::OnWatchActor(const NodeId& node, const v1::WatchActor& message) {
  MANTA_ASSIGN_OR_RETURN(ActorId id, ParseId<ActorId>(message.actor_id(), "actor_id"));
  Watch(node, id);
  return absl::OkStatus();
}

// -- nodes that come, come back and die

void ActorManager::OnNodeRegistered(const NodeId& node, const NodeActors& actors) {
  Unwatch(node);
  for (const auto& [id, live] : actors.live) Reconcile(node, id, live);
  QuestionMissing(node, actors);
  for (const ActorId& id : actors.watched) Watch(node, id);
  PlaceWaiting();
}

void ActorManager::Reconcile(const NodeId& node, const ActorId& id,
                             const wire::v1::ActorInfo& live) {
  Actor* actor = table_.Find(id);
  const bool present = actor != nullptr && !actor->dead() && actor->node == node &&
                       actor->info.num_restarts() == live.num_restarts();
  if (!present) {
    // One that nobody refers to any more still finishes what it runs.
    const bool finish = actor != nullptr && actor->info.death_cause() == wire::v1::OUT_OF_SCOPE;
    SendKill(node, id, live.num_restarts(), !finish,
             "The actor was ended while its node was away.");
    return;
  }
  actor->unconfirmed = false;
  if (live.state() == wire::v1::ALIVE && actor->being_created()) {
    MarkAlive(actor, live.address(), live.pid());
  }
}

void ActorManager::QuestionMissing(const NodeId& node, const NodeActors& actors) {
  for (const ActorId& id : table_.Where([&](const Actor& actor) {
         if (actor.node != node) return false;
         const auto live = actors.live.find(actor.id);
         return live == actors.live.end() ||
                live->second.num_restarts() != actor.info.num_restarts();
       })) {
    Actor* actor = table_.Find(id);
    const uint64_t num_restarts = actor->info.num_restarts();
    if (actor->being_created()) {
      // The node may not have got the order, or its answer may be on the way behind the
      // registration.
      deadlines_->After(options_.retry_interval,
                        [=, this] { CreateAgainUnlessCreated(id, num_restarts); });
    } else {
      actor->unconfirmed = true;
      deadlines_->After(options_.confirm_timeout,
                        [=, this] { EndUnlessConfirmed(id, num_restarts); });
    }
  }
}

void ActorManager::CreateAgainUnlessCreated(const ActorId& id, uint64_t num_restarts) {
  const Actor* actor = table_.Find(id);
  if (actor != nullptr && actor->being_created() && actor->info.num_restarts() == num_restarts) {
    SendCreate(*actor);
  }
}

void ActorManager::EndUnlessConfirmed(const ActorId& id, uint64_t num_restarts) {
  Actor* actor = table_.Find(id);
  if (actor == nullptr || !actor->unconfirmed || actor->info.num_restarts() != num_restarts) return;
  EndIncarnation(actor, WorkerLost("its node came back without it"), Worker::kIsGone);
  PlaceWaiting();
}

void ActorManager::OnNodeDead(const NodeId& node) {
  Unwatch(node);
  // Owners first: an actor that dies with its owner need not be restarted before.
  std::set<WorkerId> owners;
  table_.ForEach([&](const Actor& actor) {
    if (!actor.dead() && actor.owner_node == node) owners.insert(actor.owner);
  });
  for (const WorkerId& owner : owners) OnOwnerDead(owner);
  for (const ActorId& id : table_.Where([&](const Actor& actor) { return actor.node == node; })) {
    EndIncarnation(table_.Find(id), NodeLost(node), Worker::kIsGone);
  }
  PlaceWaiting();
}

void ActorManager::OnOwnerDead(const WorkerId& owner) {
  if (dead_owners_.insert(owner).second) RememberDeadOwner(owner);
  std::vector<ActorId> orphans;
  for (const ActorId& id : table_.OwnedBy(owner)) {
    if (!table_.Find(id)->info.detached()) orphans.push_back(id);
  }
  EndAll(orphans, OwnerLost(owner));
}

void ActorManager::RememberDeadOwner(const WorkerId& owner) {
  const uint64_t number = dead_owners_order_.empty() ? 1 : dead_owners_order_.rbegin()->first + 1;
  dead_owners_order_[number] = owner;
  WriteBatch batch;
  batch.Put(kDeadOwnersTable, owner.Binary(), absl::StrCat(number));
  if (dead_owners_order_.size() > kDeadOwnersMax) {
    const auto oldest = dead_owners_order_.begin();
    batch.Delete(kDeadOwnersTable, oldest->second.Binary());
    dead_owners_.erase(oldest->second);
    dead_owners_order_.erase(oldest);
  }
  if (absl::Status status = storage_->Write(batch); !status.ok()) {
    MANTA_LOG(kWarning, "a restart would forget that a worker is dead: ", status.ToString());
  }
}

void ActorManager::OnJobFinished(const base::JobId& job, const WorkerId& driver) {
  const std::set<ActorId> outlive = ActorsThatOutliveJob(job);
  EndAll(table_.Where([&](const Actor& actor) {
    return !actor.dead() && base::JobOf(actor.id) == job && !outlive.contains(actor.id);
  }),
         JobEnded(job));
  OnOwnerDead(driver);
  PlaceWaiting();
}

void ActorManager::OnGroupRemoved(const base::PlacementGroupId& group) {
  EndAll(table_.InGroup(group), GroupRemoved(group));
}

// Detached actors, and whatever they own, and so on down.
std::set<ActorId> ActorManager::ActorsThatOutliveJob(const base::JobId& job) const {
  std::set<ActorId> outlive;
  std::vector<const Actor*> unvisited;
  table_.ForEach([&](const Actor& actor) {
    if (actor.info.detached() && !actor.dead() && base::JobOf(actor.id) == job) {
      unvisited.push_back(&actor);
    }
  });
  while (!unvisited.empty()) {
    const Actor* actor = unvisited.back();
    unvisited.pop_back();
    if (!outlive.insert(actor->id).second) continue;
    absl::StatusOr<WorkerId> worker = WorkerId::FromBinary(actor->info.address().worker_id());
    if (!worker.ok()) continue;  // not ALIVE, so it owns nothing
    for (const ActorId& child : table_.OwnedBy(*worker)) unvisited.push_back(table_.Find(child));
  }
  return outlive;
}

void ActorManager::EndAll(const std::vector<ActorId>& ids, const ActorEnd& end) {
  for (const ActorId& id : ids) {
    Actor* actor = table_.Find(id);
    if (actor != nullptr && !actor->dead()) EndForGood(actor, end, Worker::kKill);
  }
}

// -- orders to the nodes

void ActorManager::SendCreate(const Actor& actor) {
  v1::GcsMessage message;
  wire::v1::CreateActor& create = *message.mutable_create_actor();
  *create.mutable_spec() = actor.spec;
  if (actor.bundle.has_value()) {
    create.mutable_spec()->mutable_strategy()->mutable_bundle()->set_bundle_index(
        static_cast<int32_t>(*actor.bundle));
  }
  create.set_num_restarts(actor.info.num_restarts());
  create.set_job_id(actor.info.job_id());
  create.set_job_namespace(actor.job_namespace);
  sender_->Send(actor.node, message);
}

void ActorManager::SendKill(const NodeId& node, const ActorId& actor, uint64_t num_restarts,
                            bool force, const std::string& reason) {
  v1::GcsMessage message;
  v1::KillWorker& kill = *message.mutable_kill_worker();
  kill.set_actor_id(actor.BinaryString());
  kill.set_num_restarts(num_restarts);
  kill.set_force(force);
  kill.set_reason(reason);
  sender_->Send(node, message);
}

// -- changes of state

void ActorManager::MarkAlive(Actor* actor, const wire::v1::Address& address, int64_t pid) {
  Hold(actor, actor->lifetime);
  *actor->info.mutable_address() = address;
  actor->info.set_pid(pid);
  actor->info.set_will_restart(false);
  Change(actor, wire::v1::ALIVE);
}

void ActorManager::EndIncarnation(Actor* actor, const ActorEnd& end, Worker worker) {
  const int64_t restarts_max = actor->spec.restarts_max();
  const bool restarts_left =
      restarts_max < 0 || actor->info.num_restarts() < static_cast<uint64_t>(restarts_max);
  if (!restarts_left) {
    EndForGood(actor, end, worker);
    return;
  }
  LeaveNode(actor, end, worker);
  actor->info.set_num_restarts(actor->info.num_restarts() + 1);
  actor->info.set_will_restart(true);
  actor->info.set_death_cause(end.cause);
  actor->info.set_death_message(RestartMessage(end, actor->info, restarts_max));
  Change(actor, wire::v1::RESTARTING);
  Place(actor);
}

void ActorManager::EndForGood(Actor* actor, const ActorEnd& end, Worker worker) {
  LeaveNode(actor, end, worker);
  actor->info.set_will_restart(false);
  actor->info.set_death_cause(end.cause);
  actor->info.set_death_message(DeathMessage(end, actor->info, actor->spec.restarts_max()));
  actor->info.set_creation_error(end.creation_error);
  Change(actor, wire::v1::DEAD);
  watchers_.erase(actor->id);  // nothing more will happen to it
  on_dead_(actor->id);
}

void ActorManager::LeaveNode(Actor* actor, const ActorEnd& end, Worker worker) {
  if (actor->placed() && worker != Worker::kIsGone) {
    SendKill(actor->node, actor->id, actor->info.num_restarts(), worker == Worker::kKill,
             absl::StrCat("The actor ends because ", end.reason, "."));
  }
  Hold(actor, {});
  actor->node = NodeId::Nil();
  actor->bundle.reset();
  actor->waiting = false;
  actor->unconfirmed = false;
  actor->info.clear_address();
  actor->info.clear_pid();
}

void ActorManager::Change(Actor* actor, wire::v1::ActorState state) {
  MANTA_CHECK_MSG(CanChange(actor->info.state(), state), actor->id.Hex());
  actor->info.set_state(state);
  actor->info.clear_pending_reason();
  actor->info.set_revision(actor->info.revision() + 1);
  table_.Save(actor);
  Publish(*actor);
}

void ActorManager::Publish(const Actor& actor) {
  auto watching = watchers_.find(actor.id);
  if (watching == watchers_.end()) return;
  for (const NodeId& node : watching->second) SendState(node, actor);
}

void ActorManager::SendState(const NodeId& node, const Actor& actor) {
  v1::GcsMessage message;
  *message.mutable_actor_changed() = actor.info;
  sender_->Send(node, message);
}

// An actor that is not known may be one whose registration is on the way.
void ActorManager::Watch(const NodeId& node, const ActorId& id) {
  const Actor* actor = table_.Find(id);
  if (actor == nullptr && !watchers_.contains(id)) {
    deadlines_->After(kUnknownWatchMax, [this, id] {
      if (table_.Find(id) == nullptr) watchers_.erase(id);
    });
  }
  if (actor == nullptr || !actor->dead()) watchers_[id].insert(node);
  if (actor != nullptr) SendState(node, *actor);
}

void ActorManager::Unwatch(const NodeId& node) {
  for (auto entry = watchers_.begin(); entry != watchers_.end();) {
    entry->second.erase(node);
    entry = entry->second.empty() ? watchers_.erase(entry) : std::next(entry);
  }
}

}  // namespace ray::gcs
