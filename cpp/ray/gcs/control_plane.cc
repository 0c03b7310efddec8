#include "ray/gcs/control_plane.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/id_field.h"
#include "ray/gcs/status_reply.h"

namespace ray::gcs {
namespace {

using base::NodeId;

constexpr std::string_view kMetaTable = "meta";
constexpr std::string_view kIncarnation = "incarnation";
constexpr size_t kAnsweredMax = 10000;

NodeManager::Options NodeOptions(const base::Config& config) {
  return {.dead_timeout = absl::Milliseconds(config.node_dead_timeout_ms),
          .broadcast_interval = absl::Milliseconds(config.node_report_interval_ms),
          .dead_nodes_max = config.gcs_dead_nodes_max};
}

ActorManager::Options ActorOptions(const base::Config& config) {
  return {.confirm_timeout = absl::Milliseconds(config.node_dead_timeout_ms),
          .retry_interval = absl::Milliseconds(config.node_report_interval_ms),
          .pending_warning = absl::Milliseconds(config.pending_warning_ms),
          .dead_actors_max = config.gcs_dead_actors_max};
}

}  // namespace

PlacementGroupManager::Options GroupOptions(const base::Config& config) {
  return {.retry_interval = absl::Milliseconds(config.node_report_interval_ms),
          .pending_warning = absl::Milliseconds(config.pending_warning_ms),
          // The raylet that asks gives up after the whole of it.
          .wait_max = absl::Milliseconds(config.gcs_rpc_timeout_ms / 2),
          .removed_max = config.gcs_removed_groups_max};
}

ControlPlane::ControlPlane(const base::Config& config, Environment environment)
    : config_(config.NonDefault()),
      environment_(std::move(environment)),
      deadlines_(environment_.clock),
      jobs_({.finished_jobs_max = config.gcs_finished_jobs_max}, environment_.wall_clock,
            environment_.storage),
      answered_(kAnsweredMax, environment_.storage),
      kv_({.value_max_bytes = config.kv_value_max_bytes}, environment_.storage, &answered_),
      nodes_(NodeOptions(config), environment_.storage, &deadlines_, environment_.sender,
             environment_.probe, [this](const NodeId& node) { OnNodeDead(node); }),
      groups_(GroupOptions(config),
              {.clock = environment_.clock,
               .wall_clock = environment_.wall_clock,
               .storage = environment_.storage,
               .deadlines = &deadlines_,
               .nodes = &nodes_,
               .sender = environment_.sender,
               .on_removed = [this](const auto& group) { actors_.OnGroupRemoved(group); }}),
      actors_(ActorOptions(config), environment_.storage, &deadlines_, &nodes_, &groups_,
              environment_.sender, [this](const base::ActorId& actor) { OnActorDead(actor); }) {}

absl::Status ControlPlane::Load() {
  MANTA_RETURN_IF_ERROR(LoadIncarnation());
  MANTA_RETURN_IF_ERROR(answered_.Load());
  MANTA_RETURN_IF_ERROR(jobs_.Load());
  MANTA_RETURN_IF_ERROR(nodes_.Load());
  MANTA_RETURN_IF_ERROR(groups_.Load());
  MANTA_RETURN_IF_ERROR(actors_.Load());
  FinishWhatWasBegun();
  return absl::OkStatus();
}

// The last process may have ended between a death and what follows from it.
void ControlPlane::FinishWhatWasBegun() {
  for (const NodeId& node : nodes_.Dead()) OnNodeDead(node);
  for (const base::ActorId& creator : groups_.Creators()) {
    if (!actors_.Lives(creator)) groups_.OnCreatorDead(creator);
  }
  if (auto jobs = kv_.JobsWithItems(); jobs.ok()) {
    for (const base::JobId& job : *jobs) ForgetIfGone(job);
  }
}

absl::Status ControlPlane::LoadIncarnation() {
  absl::StatusOr<std::string> last = environment_.storage->Get(kMetaTable, kIncarnation);
  if (!last.ok() && !absl::IsNotFound(last.status())) return last.status();
  uint64_t number = 0;
  if (last.ok() && !absl::SimpleAtoi(*last, &number)) {
    return absl::DataLossError(absl::StrCat("the last incarnation reads '", *last, "'"));
  }
  // By the time of day too, so that it also grows when the storage is memory.
  const auto now = static_cast<uint64_t>(absl::ToUnixMillis(environment_.wall_clock()));
  incarnation_ = std::max(number + 1, now);
  return environment_.storage->Put(kMetaTable, kIncarnation, absl::StrCat(incarnation_));
}

// -- the nodes' channels

absl::Status ControlPlane::RegisterNode(const NodeId& node, const v1::RegisterNode& request) {
  MANTA_ASSIGN_OR_RETURN(NodeActors node_actors, NodeActors::FromRegistration(request));
  MANTA_ASSIGN_OR_RETURN(NodeBundles bundles, BundlesOfRegistration(request));
  MANTA_RETURN_IF_ERROR(nodes_.Register(node, request.node()));
  MANTA_LOG(kInfo, "node ", node.Hex(), " (", request.node().ip(), ") registered with ",
            node_actors.live.size(), " live actors");

  v1::GcsMessage message;
  v1::NodeRegistered& registered = *message.mutable_registered();
  registered.set_gcs_incarnation(incarnation_);
  for (const auto& [name, value] : config_) (*registered.mutable_config())[name] = value;
  environment_.sender->Send(node, message);
  nodes_.SendOthersTo(node);
  // In this order: an actor is created in a bundle that is there.
  groups_.OnNodeRegistered(node, bundles);
  actors_.OnNodeRegistered(node, node_actors);
  return absl::OkStatus();
}

absl::Status ControlPlane::HandleNodeMessage(const NodeId& node, const v1::NodeMessage& message) {
  MANTA_RETURN_IF_ERROR(Dispatch(node, message));
  if (message.sequence() == 0) return absl::OkStatus();
  v1::GcsMessage acknowledgement;
  acknowledgement.set_acknowledged(message.sequence());
  environment_.sender->Send(node, acknowledgement);
  return absl::OkStatus();
}

absl::Status ControlPlane::Dispatch(const NodeId& node, const v1::NodeMessage& message) {
  switch (message.message_case()) {
    case v1::NodeMessage::kReport:
      MANTA_RETURN_IF_ERROR(nodes_.Report(node, message.report()));
      PlaceWaiting();
      return absl::OkStatus();
    case v1::NodeMessage::kBundlesPrepared:
      MANTA_RETURN_IF_ERROR(groups_.OnBundlesPrepared(node, message.bundles_prepared()));
      actors_.PlaceWaiting();
      return absl::OkStatus();
    case v1::NodeMessage::kActorCreated:
      return actors_.OnActorCreated(node, message.actor_created());
    case v1::NodeMessage::kWorkerDied:
      return actors_.OnWorkerDied(node, message.worker_died());
    case v1::NodeMessage::kWatchActor:
      return actors_.OnWatchActor(node, message.watch_actor());
    case v1::NodeMessage::kRegister:
      return absl::InvalidArgumentError("a node registers once a channel");
    case v1::NodeMessage::kLeaving:
      return nodes_.Leave(node, message.leaving());
    case v1::NodeMessage::MESSAGE_NOT_SET:
      break;
  }
  // A message of a later version: nothing we could do about it.
  return absl::OkStatus();
}

void ControlPlane::OnNodeDead(const NodeId& node) {
  for (const base::JobId& job : jobs_.RunningOn(node)) {
    if (absl::Status status = Finish(job); !status.ok()) {
      MANTA_LOG(kError, "cannot finish job ", job.Hex(), " of a dead node: ", status.ToString());
    }
  }
  groups_.OnNodeDead(node);
  actors_.OnNodeDead(node);
}

// Later, because whoever ends the actor may be about to end others.
void ControlPlane::OnActorDead(const base::ActorId& actor) {
  const base::JobId job = base::JobOf(actor);
  if (!jobs_.IsRunning(job)) {
    deadlines_.After(absl::ZeroDuration(), [this, job] { ForgetIfGone(job); });
  }
  if (!groups_.IsCreator(actor)) return;
  deadlines_.After(absl::ZeroDuration(), [this, actor] {
    groups_.OnCreatorDead(actor);
    PlaceWaiting();
  });
}

void ControlPlane::ForgetIfGone(const base::JobId& job) {
  if (jobs_.IsRunning(job) || actors_.HasLiving(job)) return;
  if (absl::Status status = kv_.ForgetJob(job); !status.ok()) {
    MANTA_LOG(kWarning, "what job ", job.Hex(), " stored stays: ", status.ToString());
  }
}

void ControlPlane::PlaceWaiting() {
  groups_.PlaceWaiting();
  actors_.PlaceWaiting();
}

// -- unary calls

absl::StatusOr<wire::v1::RegisterActorReply> ControlPlane::RegisterActor(
    const wire::v1::RegisterActor& request) {
  auto refuse = [](const absl::Status& status) {
    wire::v1::RegisterActorReply reply;
    *reply.mutable_status() = ToReply(status);
    return reply;
  };
  auto id = ParseId<base::ActorId>(request.spec().actor_id(), "actor_id");
  if (!id.ok()) return refuse(id.status());
  auto job_namespace = jobs_.NamespaceOf(base::JobOf(*id));
  if (!job_namespace.ok()) return refuse(job_namespace.status());
  return actors_.Register(request, *job_namespace);
}

absl::StatusOr<wire::v1::ActorInfoReply> ControlPlane::GetActor(
    const wire::v1::SubscribeActor& request) {
  return actors_.Get(request);
}

absl::StatusOr<wire::v1::ActorInfoReply> ControlPlane::GetNamedActor(
    const wire::v1::GetNamedActor& request) {
  return actors_.GetNamed(request);
}

absl::StatusOr<wire::v1::ListNamedActorsReply> ControlPlane::ListNamedActors(
    const wire::v1::ListNamedActors& request) {
  return actors_.ListNamed(request);
}

absl::StatusOr<v1::ListActorsReply> ControlPlane::ListActors(const v1::ListActorsRequest&) {
  return actors_.List();
}

absl::StatusOr<wire::v1::StatusReply> ControlPlane::KillActor(const wire::v1::KillActor& request,
                                                              const std::string& request_id) {
  if (answered_.Find(request_id) != nullptr) return wire::v1::StatusReply();
  WriteBatch with_effect;
  // Only what had an effect is remembered, and its reply is empty.
  if (!request.no_restart()) answered_.Remember(request_id, "", &with_effect);
  return ToReply(actors_.Kill(request, std::move(with_effect)));
}

absl::StatusOr<wire::v1::StatusReply> ControlPlane::ActorOutOfScope(
    const wire::v1::ActorOutOfScope& request) {
  return ToReply(actors_.OutOfScope(request));
}

absl::StatusOr<v1::ChangePlacementGroupsReply> ControlPlane::ChangePlacementGroups(
    const v1::ChangePlacementGroupsRequest& request) {
  v1::ChangePlacementGroupsReply reply;
  for (const v1::PlacementGroupChange& change : request.changes()) {
    *reply.add_results() = ToReply(Change(change));
  }
  PlaceWaiting();
  return reply;
}

absl::Status ControlPlane::Change(const v1::PlacementGroupChange& change) {
  if (!change.has_create()) {
    MANTA_ASSIGN_OR_RETURN(base::PlacementGroupId group,
                           ParseId<base::PlacementGroupId>(change.remove(), "remove"));
    return groups_.Remove(group);
  }
  MANTA_ASSIGN_OR_RETURN(base::PlacementGroupId group,
                         ParseId<base::PlacementGroupId>(change.create().placement_group_id(),
                                                         "create.placement_group_id"));
  MANTA_ASSIGN_OR_RETURN(std::string job_namespace, jobs_.NamespaceOf(base::JobOf(group)));
  MANTA_RETURN_IF_ERROR(CheckCreatorLives(group, change.create()));
  return groups_.Create(change.create(), job_namespace);
}

// The creation may come after its creator's end: nobody would remove the group any more.
absl::Status ControlPlane::CheckCreatorLives(const base::PlacementGroupId& group,
                                             const wire::v1::PlacementGroupSpec& spec) const {
  if (spec.detached()) return absl::OkStatus();
  if (spec.creator_actor().empty()) {
    const base::JobId job = base::JobOf(group);
    if (jobs_.IsRunning(job)) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "job ", job.Hex(), " has finished, and placement group ", group.Hex(), " is not detached"));
  }
  MANTA_ASSIGN_OR_RETURN(base::ActorId actor,
                         ParseId<base::ActorId>(spec.creator_actor(), "creator_actor"));
  if (actors_.Lives(actor)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("actor ", actor.Hex(),
                                                    ", which creates it, is "
                                                    "dead, and placement group ",
                                                    group.Hex(), " is not detached"));
}

absl::StatusOr<wire::v1::PlacementGroupsReply> ControlPlane::ListPlacementGroups(
    const wire::v1::PlacementGroupRequest& request) {
  return groups_.List(request);
}

absl::StatusOr<v1::AddJobReply> ControlPlane::AddJob(const v1::AddJobRequest& request) {
  // Its end has been dealt with: nobody would say that the job has finished.
  MANTA_ASSIGN_OR_RETURN(base::NodeId node, ParseId<base::NodeId>(request.node_id(), "node_id"));
  if (nodes_.IsDead(node)) {
    return absl::FailedPreconditionError(
        absl::StrCat("node ", node.Hex(), ", on which the driver runs, was declared dead"));
  }
  return jobs_.Add(request);
}

absl::StatusOr<wire::v1::StatusReply> ControlPlane::FinishJob(const v1::FinishJobRequest& request) {
  auto job = ParseId<base::JobId>(request.job_id(), "job_id");
  return ToReply(job.ok() ? Finish(*job) : job.status());
}

absl::Status ControlPlane::Finish(const base::JobId& job) {
  // The job last: until it has finished, it will be said again.
  MANTA_ASSIGN_OR_RETURN(base::WorkerId driver, jobs_.DriverOf(job));
  actors_.OnJobFinished(job, driver);
  groups_.OnJobFinished(job);
  PlaceWaiting();
  if (!actors_.HasLiving(job)) MANTA_RETURN_IF_ERROR(kv_.ForgetJob(job));
  return jobs_.Finish(job);
}

absl::StatusOr<v1::ListJobsReply> ControlPlane::ListJobs(const v1::ListJobsRequest&) {
  return jobs_.List();
}

absl::StatusOr<wire::v1::KvReply> ControlPlane::Kv(const wire::v1::KvRequest& request,
                                                   const std::string& request_id) {
  return kv_.Handle(request, request_id);
}

absl::StatusOr<wire::v1::ClusterStateReply> ControlPlane::ClusterState(
    const wire::v1::ClusterStateRequest&) {
  wire::v1::ClusterStateReply reply = nodes_.ClusterState();
  actors_.AddPendingTo(&reply);
  groups_.AddPendingTo(&reply);
  return reply;
}

absl::StatusOr<wire::v1::StatusReply> ControlPlane::DrainNode(const wire::v1::DrainNode& request) {
  return ToReply(nodes_.Drain(request));
}

}  // namespace ray::gcs
