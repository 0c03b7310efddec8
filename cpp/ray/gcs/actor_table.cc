#include "ray/gcs/actor_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/id_field.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::WorkerId;
using resources::ResourceSet;

constexpr std::string_view kTable = "actors";
constexpr std::string_view kSpecTable = "actor_specs";

absl::StatusOr<ResourceSet> ParseResources(const wire::v1::ResourceSet& message,
                                           std::string_view field) {
  absl::StatusOr<ResourceSet> set = ResourceSet::FromWire(message);
  if (!set.ok()) return base::Annotate(set.status(), field);
  return set;
}

wire::v1::ActorInfo InfoOf(const wire::v1::ActorSpec& spec, const base::JobId& job) {
  wire::v1::ActorInfo info;
  info.set_actor_id(spec.actor_id());
  info.set_state(wire::v1::PENDING_CREATION);
  info.set_class_name(spec.class_name());
  info.set_name(spec.name());
  info.set_actor_namespace(spec.actor_namespace());
  info.set_task_retries_max(spec.task_retries_max());
  info.set_pending_calls_max(spec.pending_calls_max());
  info.set_handle_blob(spec.handle_blob());
  info.set_detached(spec.detached());
  info.set_job_id(job.BinaryString());
  info.set_revision(1);
  return info;
}

template <typename Key>
void RemoveFrom(std::map<Key, std::set<ActorId>>* index, const Key& key, const ActorId& actor) {
  auto found = index->find(key);
  found->second.erase(actor);
  if (found->second.empty()) index->erase(found);
}

template <typename Key>
std::vector<ActorId> Of(const std::map<Key, std::set<ActorId>>& index, const Key& key) {
  auto found = index.find(key);
  if (found == index.end()) return {};
  return {found->second.begin(), found->second.end()};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Actor>> Actor::FromSpec(wire::v1::ActorSpec spec) {
  auto actor = std::make_unique<Actor>();
  MANTA_ASSIGN_OR_RETURN(actor->id, ParseId<ActorId>(spec.actor_id(), "actor_id"));
  MANTA_ASSIGN_OR_RETURN(actor->owner,
                         ParseId<WorkerId>(spec.owner().worker_id(), "owner.worker_id"));
  MANTA_ASSIGN_OR_RETURN(actor->owner_node,
                         ParseId<base::NodeId>(spec.owner().node_id(), "owner.node_id"));
  MANTA_ASSIGN_OR_RETURN(actor->creation,
                         ParseResources(spec.creation_resources(), "creation_resources"));
  MANTA_ASSIGN_OR_RETURN(actor->lifetime,
                         ParseResources(spec.lifetime_resources(), "lifetime_resources"));
  // The node holds the larger of both while it creates the actor.
  actor->creation = ResourceSet::Max(actor->creation, actor->lifetime);
  if (spec.strategy().has_bundle()) {
    MANTA_ASSIGN_OR_RETURN(
        actor->group, ParseId<base::PlacementGroupId>(spec.strategy().bundle().placement_group_id(),
                                                      "strategy.bundle.placement_group_id"));
  }
  if (spec.restarts_max() < -1) {
    return absl::InvalidArgumentError(absl::StrCat("restarts_max is ", spec.restarts_max()));
  }
  actor->info = InfoOf(spec, base::JobOf(actor->id));
  actor->spec = std::move(spec);
  return actor;
}

absl::Status ActorTable::Load() {
  MANTA_RETURN_IF_ERROR(LoadSpecs());
  absl::Status damage;
  auto load = [&](std::string_view key, std::string_view value) -> absl::Status {
    v1::ActorRecord record;
    MANTA_ASSIGN_OR_RETURN(ActorId id, ParseId<ActorId>(key, "key of an actor"));
    if (!record.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      return absl::DataLossError(absl::StrCat("unreadable actor ", id.Hex()));
    }
    std::unique_ptr<Actor>& actor = actors_[id];
    if (actor == nullptr) {
      if (record.info().state() != wire::v1::DEAD) {
        return absl::DataLossError(absl::StrCat("actor ", id.Hex(), " has no specification"));
      }
      actor = std::make_unique<Actor>();
      actor->id = id;
    }
    actor->info = std::move(*record.mutable_info());
    actor->job_namespace = record.job_namespace();
    actor->death_number = record.death_number();
    if (record.bundle() > 0) actor->bundle = record.bundle() - 1;
    if (!record.node_id().empty()) {
      MANTA_ASSIGN_OR_RETURN(actor->node, ParseId<base::NodeId>(record.node_id(), "node_id"));
    }
    if (actor->dead()) {
      dead_[actor->death_number] = id;
    } else {
      IndexLiving(actor.get());
    }
    return absl::OkStatus();
  };
  MANTA_RETURN_IF_ERROR(
      storage_->Scan(kTable, "", [&](std::string_view key, std::string_view value) {
        damage = load(key, value);
        return damage.ok();
      }));
  return damage;
}

absl::Status ActorTable::LoadSpecs() {
  absl::Status damage;
  MANTA_RETURN_IF_ERROR(
      storage_->Scan(kSpecTable, "", [&](std::string_view key, std::string_view value) {
        wire::v1::ActorSpec spec;
        if (!spec.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
          damage = absl::DataLossError(absl::StrCat("unreadable actor ", base::BytesToHex(key)));
          return false;
        }
        absl::StatusOr<std::unique_ptr<Actor>> actor = Actor::FromSpec(std::move(spec));
        damage = actor.status();
        if (actor.ok()) actors_[(*actor)->id] = *std::move(actor);
        return damage.ok();
      }));
  return damage;
}

absl::StatusOr<Actor*> ActorTable::Add(std::unique_ptr<Actor> actor) {
  MANTA_CHECK(!actors_.contains(actor->id));
  WriteBatch batch;
  v1::ActorRecord record;
  *record.mutable_info() = actor->info;
  record.set_job_namespace(actor->job_namespace);
  batch.Put(kTable, actor->id.Binary(), record.SerializeAsString());
  batch.Put(kSpecTable, actor->id.Binary(), actor->spec.SerializeAsString());
  MANTA_RETURN_IF_ERROR(storage_->Write(batch));

  Actor* added = actor.get();
  actors_[added->id] = std::move(actor);
  IndexLiving(added);
  return added;
}

void ActorTable::IndexLiving(Actor* actor) {
  by_owner_[actor->owner].insert(actor->id);
  if (actor->in_group()) by_group_[actor->group].insert(actor->id);
  if (!actor->info.name().empty()) {
    bool free =
        names_.emplace(std::pair(actor->info.actor_namespace(), actor->info.name()), actor->id)
            .second;
    MANTA_CHECK_MSG(free, actor->info.name());
  }
}

absl::Status ActorTable::Write(const Actor& actor) {
  v1::ActorRecord record;
  *record.mutable_info() = actor.info;
  if (actor.placed()) record.set_node_id(actor.node.BinaryString());
  record.set_job_namespace(actor.job_namespace);
  record.set_death_number(actor.death_number);
  if (actor.bundle.has_value()) record.set_bundle(*actor.bundle + 1);
  WriteBatch batch = std::exchange(with_next_, {});
  batch.Put(kTable, actor.id.Binary(), record.SerializeAsString());
  if (actor.dead()) batch.Delete(kSpecTable, actor.id.Binary());
  return storage_->Write(batch);
}

void ActorTable::Save(Actor* actor) {
  if (actor->dead() && actor->death_number == 0) Bury(actor);
  absl::Status status = Write(*actor);
  if (status.ok()) {
    unsaved_.erase(actor->id);
    return;
  }
  MANTA_LOG(kError, "cannot store actor ", actor->id.Hex(),
            ", will try again: ", status.ToString());
  if (unsaved_.empty()) deadlines_->After(kSaveRetry, [this] { RetryUnsaved(); });
  unsaved_.insert(actor->id);
}

void ActorTable::RetryUnsaved() {
  std::set<ActorId> unsaved = std::exchange(unsaved_, {});
  for (const ActorId& id : unsaved) {
    if (Actor* actor = Find(id); actor != nullptr) Save(actor);
  }
}

void ActorTable::Bury(Actor* actor) {
  actor->death_number = dead_.empty() ? 1 : dead_.rbegin()->first + 1;
  dead_[actor->death_number] = actor->id;
  if (!actor->info.name().empty()) {
    names_.erase({actor->info.actor_namespace(), actor->info.name()});
  }
  RemoveFrom(&by_owner_, actor->owner, actor->id);
  if (actor->in_group()) RemoveFrom(&by_group_, actor->group, actor->id);
  actor->spec.Clear();
  // The one buried now has the highest number; it is never the oldest of two.
  if (static_cast<int64_t>(dead_.size()) > std::max<int64_t>(dead_actors_max_, 1)) {
    ForgetOldestDead();
  }
}

void ActorTable::ForgetOldestDead() {
  ActorId oldest = dead_.begin()->second;
  if (absl::Status status = storage_->Delete(kTable, oldest.Binary()); !status.ok()) {
    MANTA_LOG(kWarning, "a dead actor stays in the storage: ", status.ToString());
  }
  dead_.erase(dead_.begin());
  actors_.erase(oldest);
}

Actor* ActorTable::Find(const ActorId& id) const {
  auto found = actors_.find(id);
  return found == actors_.end() ? nullptr : found->second.get();
}

Actor* ActorTable::FindNamed(const std::string& actor_namespace, const std::string& name) const {
  auto found = names_.find({actor_namespace, name});
  return found == names_.end() ? nullptr : Find(found->second);
}

std::vector<ActorId> ActorTable::OwnedBy(const WorkerId& owner) const {
  return Of(by_owner_, owner);
}

std::vector<ActorId> ActorTable::InGroup(const base::PlacementGroupId& group) const {
  return Of(by_group_, group);
}

std::vector<ActorId> ActorTable::Where(absl::FunctionRef<bool(const Actor&)> predicate) const {
  std::vector<ActorId> ids;
  for (const auto& [id, actor] : actors_) {
    if (predicate(*actor)) ids.push_back(id);
  }
  return ids;
}

void ActorTable::ForEach(absl::FunctionRef<void(const Actor&)> visit) const {
  for (const auto& [id, actor] : actors_) visit(*actor);
}

}  // namespace ray::gcs
