#include "ray/gcs/placement_group_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/id_field.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::NodeId;
using base::PlacementGroupId;
using resources::ResourceSet;

constexpr std::string_view kTable = "placement_groups";

using NameKey = std::pair<std::string, std::string>;

NameKey NameOf(const PlacementGroup& group) {
  return {group.spec().group_namespace(), group.spec().name()};
}

absl::StatusOr<PlacementGroup::Bundle> ParseBundle(const wire::v1::Bundle& message) {
  PlacementGroup::Bundle bundle;
  auto quantities = ResourceSet::FromWire(message.resources());
  if (!quantities.ok()) return base::Annotate(quantities.status(), "bundles.resources");
  if (quantities->IsEmpty()) return absl::InvalidArgumentError("bundles: one asks for nothing");
  bundle.demand = {*quantities, message.labels()};
  bundle.room = *std::move(quantities);
  if (!message.node_id().empty()) {
    MANTA_ASSIGN_OR_RETURN(bundle.node, ParseId<NodeId>(message.node_id(), "bundles.node_id"));
  }
  return bundle;
}

// Without the parts that make no difference to where the group can go.
std::string ShapeOf(const PlacementGroup& group) {
  std::string shape = absl::StrCat(group.spec().strategy());
  for (const PlacementGroup::Bundle& bundle : group.bundles) {
    absl::StrAppend(&shape, ";", bundle.demand.resources.ToString(),
                    scheduling::Describe(bundle.demand.labels));
  }
  return shape;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PlacementGroup>> PlacementGroup::FromSpec(
    wire::v1::PlacementGroupSpec spec) {
  auto group = std::make_unique<PlacementGroup>();
  MANTA_ASSIGN_OR_RETURN(
      group->id, ParseId<PlacementGroupId>(spec.placement_group_id(), "placement_group_id"));
  if (spec.strategy() < wire::v1::PACK || spec.strategy() > wire::v1::STRICT_SPREAD) {
    return absl::InvalidArgumentError(absl::StrCat("strategy is ", spec.strategy()));
  }
  if (spec.bundles().empty()) return absl::InvalidArgumentError("bundles: there are none");
  for (const wire::v1::Bundle& message : spec.bundles()) {
    MANTA_ASSIGN_OR_RETURN(Bundle bundle, ParseBundle(message));
    group->bundles.push_back(std::move(bundle));
  }
  if (!spec.creator_actor().empty()) {
    MANTA_ASSIGN_OR_RETURN(group->creator, ParseId<ActorId>(spec.creator_actor(), "creator_actor"));
  }
  if (!spec.soft_target_node().empty()) {
    MANTA_ASSIGN_OR_RETURN(group->soft_target,
                           ParseId<NodeId>(spec.soft_target_node(), "soft_target_node"));
  }
  *group->info.mutable_spec() = std::move(spec);
  group->info.set_state(wire::v1::GROUP_PENDING);
  group->shape = ShapeOf(*group);
  return group;
}

void PlacementGroup::SetNode(uint32_t index, const NodeId& node) {
  Bundle& bundle = bundles[index];
  bundle.node = node;
  bundle.room = bundle.demand.resources;
  wire::v1::Bundle* message = info.mutable_spec()->mutable_bundles(static_cast<int>(index));
  message->set_node_id(node.IsNil() ? "" : node.BinaryString());
}

std::vector<uint32_t> PlacementGroup::BundlesWithoutNode() const { return BundlesOn(NodeId()); }

std::vector<uint32_t> PlacementGroup::BundlesOn(const NodeId& node) const {
  std::vector<uint32_t> indices;
  for (uint32_t i = 0; i < bundles.size(); ++i) {
    if (bundles[i].node == node) indices.push_back(i);
  }
  return indices;
}

absl::Status PlacementGroupTable::Load() {
  absl::Status damage;
  MANTA_RETURN_IF_ERROR(
      storage_->Scan(kTable, "", [&](std::string_view key, std::string_view value) {
        damage = LoadOne(key, value);
        return damage.ok();
      }));
  return damage;
}

absl::Status PlacementGroupTable::LoadOne(std::string_view key, std::string_view value) {
  v1::PlacementGroupRecord record;
  if (!record.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    return absl::DataLossError(absl::StrCat("unreadable placement group ", base::BytesToHex(key)));
  }
  MANTA_ASSIGN_OR_RETURN(std::unique_ptr<PlacementGroup> group,
                         PlacementGroup::FromSpec(record.info().spec()));
  group->info = std::move(*record.mutable_info());
  group->removal_number = record.removal_number();
  if (group->removed()) {
    removed_[group->removal_number] = group->id;
  } else {
    living_.insert(group->id);
    if (!group->spec().name().empty()) names_[NameOf(*group)] = group->id;
  }
  groups_[group->id] = std::move(group);
  return absl::OkStatus();
}

absl::StatusOr<PlacementGroup*> PlacementGroupTable::Add(std::unique_ptr<PlacementGroup> group) {
  MANTA_CHECK(!groups_.contains(group->id));
  MANTA_RETURN_IF_ERROR(Write(*group));
  PlacementGroup* added = group.get();
  if (!added->spec().name().empty()) {
    MANTA_CHECK_MSG(names_.emplace(NameOf(*added), added->id).second, added->spec().name());
  }
  living_.insert(added->id);
  groups_[added->id] = std::move(group);
  return added;
}

absl::Status PlacementGroupTable::Write(const PlacementGroup& group) {
  v1::PlacementGroupRecord record;
  *record.mutable_info() = group.info;
  record.set_removal_number(group.removal_number);
  return storage_->Put(kTable, group.id.Binary(), record.SerializeAsString());
}

void PlacementGroupTable::Save(PlacementGroup* group) {
  if (group->removed() && group->removal_number == 0) Bury(group);
  absl::Status status = Write(*group);
  if (status.ok()) {
    unsaved_.erase(group->id);
    return;
  }
  MANTA_LOG(kError, "cannot store placement group ", group->id.Hex(),
            ", will try again: ", status.ToString());
  if (unsaved_.empty()) deadlines_->After(kSaveRetry, [this] { RetryUnsaved(); });
  unsaved_.insert(group->id);
}

void PlacementGroupTable::RetryUnsaved() {
  for (const PlacementGroupId& id : std::exchange(unsaved_, {})) {
    if (PlacementGroup* group = Find(id); group != nullptr) Save(group);
  }
}

void PlacementGroupTable::Bury(PlacementGroup* group) {
  group->removal_number = removed_.empty() ? 1 : removed_.rbegin()->first + 1;
  removed_[group->removal_number] = group->id;
  living_.erase(group->id);
  if (!group->spec().name().empty()) names_.erase(NameOf(*group));
  // The one buried now has the highest number; it is never the oldest of two.
  if (static_cast<int64_t>(removed_.size()) <= std::max<int64_t>(removed_max_, 1)) return;
  const PlacementGroupId oldest = removed_.begin()->second;
  if (absl::Status status = storage_->Delete(kTable, oldest.Binary()); !status.ok()) {
    MANTA_LOG(kWarning, "a removed placement group stays in the storage: ", status.ToString());
  }
  removed_.erase(removed_.begin());
  groups_.erase(oldest);
}

PlacementGroup* PlacementGroupTable::Find(const PlacementGroupId& id) const {
  auto found = groups_.find(id);
  return found == groups_.end() ? nullptr : found->second.get();
}

PlacementGroup* PlacementGroupTable::FindNamed(const std::string& group_namespace,
                                               const std::string& name) const {
  auto found = names_.find({group_namespace, name});
  return found == names_.end() ? nullptr : Find(found->second);
}

std::vector<PlacementGroupId> PlacementGroupTable::Where(
    absl::FunctionRef<bool(const PlacementGroup&)> predicate) const {
  std::vector<PlacementGroupId> ids;
  for (const PlacementGroupId& id : living_) {
    if (predicate(*Find(id))) ids.push_back(id);
  }
  return ids;
}

void PlacementGroupTable::ForEach(absl::FunctionRef<void(const PlacementGroup&)> visit) const {
  for (const auto& [id, group] : groups_) visit(*group);
}

}  // namespace ray::gcs
