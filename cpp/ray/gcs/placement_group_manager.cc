#include "ray/gcs/placement_group_manager.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/id_field.h"
#include "ray/gcs/status_reply.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::NodeId;
using base::PlacementGroupId;
using resources::ResourceSet;
using wire::v1::PlacementGroupInfo;
using wire::v1::PlacementGroupsReply;

// Of an order that no attempt stands behind: bundles that the table has at a node.
constexpr uint64_t kNoAttempt = 0;
constexpr int kPendingShownMax = 1000;

absl::Status NoSuchGroup(const PlacementGroupId& id) {
  return absl::NotFoundError(absl::StrCat("there is no placement group ", id.Hex(),
                                          ", or it was removed so long ago that it is forgotten"));
}

absl::Status NameTaken(const wire::v1::PlacementGroupSpec& spec) {
  return absl::AlreadyExistsError(
      absl::StrCat("the name '", spec.name(),
                   "' is taken by another placement group in the "
                   "namespace '",
                   spec.group_namespace(),
                   "'; choose another name, or get that group with get_placement_group"));
}

PlacementGroupsReply ReplyWith(const absl::Status& status) {
  PlacementGroupsReply reply;
  *reply.mutable_status() = ToReply(status);
  return reply;
}

}  // namespace

absl::StatusOr<NodeBundles> BundlesOfRegistration(const v1::RegisterNode& request) {
  NodeBundles bundles;
  for (const v1::HeldBundles& held : request.bundles()) {
    MANTA_ASSIGN_OR_RETURN(PlacementGroupId id,
                           ParseId<PlacementGroupId>(held.placement_group_id(), "bundles"));
    bundles[id].assign(held.indices().begin(), held.indices().end());
  }
  return bundles;
}

absl::Status PlacementGroupManager::Load() {
  MANTA_RETURN_IF_ERROR(table_.Load());
  for (const PlacementGroupId& id :
       table_.Where([](const PlacementGroup& group) { return !group.created(); })) {
    Enqueue(table_.Find(id));
  }
  return absl::OkStatus();
}

// -- requests

absl::Status PlacementGroupManager::Create(const wire::v1::PlacementGroupSpec& request,
                                           const std::string& job_namespace) {
  wire::v1::PlacementGroupSpec spec = request;
  if (spec.group_namespace().empty()) spec.set_group_namespace(job_namespace);
  for (wire::v1::Bundle& bundle : *spec.mutable_bundles()) bundle.clear_node_id();
  MANTA_ASSIGN_OR_RETURN(std::unique_ptr<PlacementGroup> group,
                         PlacementGroup::FromSpec(std::move(spec)));
  // A retry of a creation whose answer was lost.
  if (table_.Find(group->id) != nullptr) return absl::OkStatus();
  if (!group->spec().name().empty() &&
      table_.FindNamed(group->spec().group_namespace(), group->spec().name()) != nullptr) {
    return NameTaken(group->spec());
  }
  group->info.set_create_time_ms(absl::ToUnixMillis(environment_.wall_clock()));
  MANTA_ASSIGN_OR_RETURN(PlacementGroup * added, table_.Add(std::move(group)));
  if (!TryPlace(added)) Enqueue(added);
  return absl::OkStatus();
}

absl::Status PlacementGroupManager::Remove(const PlacementGroupId& id) {
  PlacementGroup* group = table_.Find(id);
  if (group == nullptr) return NoSuchGroup(id);
  if (!group->removed()) RemoveGroup(group);
  return absl::OkStatus();
}

void PlacementGroupManager::Wait(const wire::v1::WaitPlacementGroup& request,
                                 WaitCallback callback) {
  auto id = ParseId<PlacementGroupId>(request.placement_group_id(), "placement_group_id");
  if (!id.ok()) return callback(ReplyWith(id.status()));
  PlacementGroup* group = table_.Find(*id);
  if (group == nullptr) return callback(ReplyWith(NoSuchGroup(*id)));

  PlacementGroup::Waiter waiter = [callback = std::move(callback)](const auto& info) mutable {
    PlacementGroupsReply reply;
    *reply.add_groups() = info;
    callback(std::move(reply));
  };
  if (group->created() || group->removed() || request.timeout_ms() == 0) {
    return waiter(group->info);
  }
  const uint64_t number = ++last_waiter_;
  group->waiters.emplace(number, std::move(waiter));
  const absl::Duration timeout =
      request.timeout_ms() < 0 ? options_.wait_max : absl::Milliseconds(request.timeout_ms());
  environment_.deadlines->After(std::min(timeout, options_.wait_max), [this, id = *id, number] {
    PlacementGroup* waited = table_.Find(id);
    if (waited == nullptr) return;
    auto late = waited->waiters.extract(number);
    if (!late.empty()) late.mapped()(waited->info);
  });
}

PlacementGroupsReply PlacementGroupManager::List(
    const wire::v1::PlacementGroupRequest& request) const {
  PlacementGroupsReply reply;
  if (!request.placement_group_id().empty()) {
    auto id = ParseId<PlacementGroupId>(request.placement_group_id(), "placement_group_id");
    if (!id.ok()) return ReplyWith(id.status());
    const PlacementGroup* group = table_.Find(*id);
    if (group == nullptr) return ReplyWith(NoSuchGroup(*id));
    *reply.add_groups() = Explained(*group);
  } else if (!request.name().empty()) {
    const PlacementGroup* group = table_.FindNamed(request.group_namespace(), request.name());
    if (group == nullptr) {
      return ReplyWith(absl::NotFoundError(absl::StrCat("there is no placement group named '",
                                                        request.name(), "' in the namespace '",
                                                        request.group_namespace(), "'")));
    }
    *reply.add_groups() = Explained(*group);
  } else {
    table_.ForEach([&](const PlacementGroup& group) { *reply.add_groups() = group.info; });
  }
  return reply;
}

// With the reason why it waits, even if it has not waited long.
PlacementGroupInfo PlacementGroupManager::Explained(const PlacementGroup& group) const {
  PlacementGroupInfo info = group.info;
  // Also between two attempts.
  const bool waits = !group.created() && !group.removed() && group.shares.empty();
  if (waits && info.pending_reason().empty()) info.set_pending_reason(PendingReason(group));
  return info;
}

void PlacementGroupManager::AddPendingTo(wire::v1::ClusterStateReply* reply) const {
  table_.ForEach([&](const PlacementGroup& group) {
    if (group.removed() || group.created()) return;
    if (reply->pending_groups_size() < kPendingShownMax) {
      *reply->add_pending_groups() = Explained(group);
    }
  });
}

void PlacementGroupManager::EndWaits() {
  for (const PlacementGroupId& id :
       table_.Where([](const PlacementGroup& group) { return !group.waiters.empty(); })) {
    AnswerWaiters(table_.Find(id));
  }
}

void PlacementGroupManager::AnswerWaiters(PlacementGroup* group) {
  for (auto& [number, waiter] : std::exchange(group->waiters, {})) waiter(group->info);
}

// -- placing

void PlacementGroupManager::Enqueue(PlacementGroup* group) {
  if (group->queue_number > 0) return;
  group->queue_number = ++last_queue_number_;
  waiting_[group->queue_number] = group->id;
  ExplainLater(*group);
}

void PlacementGroupManager::PlaceWaiting() {
  if (waiting_.empty() || look_due_) return;
  const absl::Duration early = last_look_ + options_.look_interval - environment_.clock->Now();
  if (early <= absl::ZeroDuration()) return Look();
  look_due_ = true;
  environment_.deadlines->After(early, [this] {
    look_due_ = false;
    Look();
  });
}

void PlacementGroupManager::Look() {
  last_look_ = environment_.clock->Now();
  absl::flat_hash_set<std::string> no_room;  // shapes of whole groups
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    PlacementGroup* group = table_.Find((next++)->second);
    const bool whole = group->info.state() == wire::v1::GROUP_PENDING;
    if (whole && no_room.contains(group->shape)) continue;
    if (!TryPlace(group) && whole) no_room.insert(group->shape);
  }
}

// False: there is no room.
bool PlacementGroupManager::TryPlace(PlacementGroup* group) {
  const std::vector<uint32_t> indices = group->BundlesWithoutNode();
  auto nodes = ChooseNodes(*group, indices, environment_.nodes->View());
  if (!nodes.has_value()) return false;
  waiting_.erase(std::exchange(group->queue_number, 0));
  BeginAttempt(group, indices, *nodes);
  return true;
}

std::optional<std::vector<NodeId>> PlacementGroupManager::ChooseNodes(
    const PlacementGroup& group, const std::vector<uint32_t>& indices,
    std::vector<scheduling::NodeView> nodes) const {
  std::map<NodeId, int> placed;
  std::vector<scheduling::BundleDemand> demands;
  for (const PlacementGroup::Bundle& bundle : group.bundles) ++placed[bundle.node];
  for (uint32_t index : indices) demands.push_back(group.bundles[index].demand);
  for (scheduling::NodeView& node : nodes) {
    if (auto found = placed.find(node.id); found != placed.end()) node.bundles = found->second;
  }
  return scheduling::PlaceBundles(group.spec().strategy(), demands, std::move(nodes),
                                  group.soft_target);
}

void PlacementGroupManager::BeginAttempt(PlacementGroup* group,
                                         const std::vector<uint32_t>& indices,
                                         const std::vector<NodeId>& nodes) {
  MANTA_CHECK_MSG(group->shares.empty(), "GROUP-2");
  ++group->attempt;
  for (size_t i = 0; i < indices.size(); ++i) {
    PlacementGroup::Share& share = group->shares[nodes[i]];
    share.indices.push_back(indices[i]);
    share.sum += group->bundles[indices[i]].demand.resources;
  }
  for (const auto& [node, share] : group->shares) {
    environment_.nodes->ChangeHold(node, {}, share.sum);
    SendPrepare(*group, node, share.indices, group->attempt);
  }
}

absl::Status PlacementGroupManager::OnBundlesPrepared(const NodeId& node,
                                                      const v1::BundlesPrepared& message) {
  MANTA_ASSIGN_OR_RETURN(
      PlacementGroupId id,
      ParseId<PlacementGroupId>(message.placement_group_id(), "placement_group_id"));
  PlacementGroup* group = table_.Find(id);
  if (group == nullptr || group->removed()) return absl::OkStatus();
  if (message.attempt() == kNoAttempt) {
    // A node that came back has no room any more for what it should have kept. It gives back all
    // that it has of the group: it may have kept some, or set aside its share of an attempt.
    if (message.ok()) return absl::OkStatus();
    SendReturn(id, node, {}, /*removed=*/false);
    LoseBundles(group, node);
    return absl::OkStatus();
  }
  auto share = group->shares.find(node);
  if (share == group->shares.end() || message.attempt() != group->attempt) return absl::OkStatus();
  if (!message.ok()) {
    Abort(group, node);
    RetryLater(group);
    return absl::OkStatus();
  }
  share->second.prepared = true;
  const bool complete = std::all_of(group->shares.begin(), group->shares.end(),
                                    [](const auto& entry) { return entry.second.prepared; });
  if (complete) Commit(group);
  return absl::OkStatus();
}

void PlacementGroupManager::Commit(PlacementGroup* group) {
  const auto shares = std::exchange(group->shares, {});
  for (const auto& [node, share] : shares) {
    for (uint32_t index : share.indices) group->SetNode(index, node);
  }
  group->pause = absl::ZeroDuration();
  MANTA_CHECK(group->BundlesWithoutNode().empty());
  group->info.set_state(wire::v1::GROUP_CREATED);
  group->info.clear_pending_reason();
  table_.Save(group);
  TellNodes(*group);
  AnswerWaiters(group);
}

// What `because_of` lacked it lacks for a moment longer in our view, or the next look would choose
// it again before its report has come.
void PlacementGroupManager::Abort(PlacementGroup* group, const NodeId& because_of) {
  for (const auto& [node, share] : std::exchange(group->shares, {})) {
    if (node == because_of) {
      environment_.deadlines->After(options_.retry_interval, [this, node = node, sum = share.sum] {
        environment_.nodes->ChangeHold(node, sum, {});
        PlaceWaiting();
      });
      continue;
    }
    environment_.nodes->ChangeHold(node, share.sum, {});
    SendReturn(group->id, node, share.indices, /*removed=*/false);
  }
}

void PlacementGroupManager::RetryLater(PlacementGroup* group) {
  if (group->pause == absl::ZeroDuration()) ExplainLater(*group);
  group->pause = std::clamp(2 * group->pause, options_.retry_interval, options_.retry_max);
  environment_.deadlines->After(group->pause, [this, id = group->id] {
    PlacementGroup* again = table_.Find(id);
    if (again == nullptr || again->removed() || !again->shares.empty()) return;
    if (again->created() || again->queue_number > 0) return;
    if (!TryPlace(again)) Enqueue(again);
  });
}

void PlacementGroupManager::ExplainLater(const PlacementGroup& group) {
  environment_.deadlines->After(options_.pending_warning,
                                [this, id = group.id] { ExplainWait(id); });
}

void PlacementGroupManager::ExplainWait(const PlacementGroupId& id) {
  PlacementGroup* group = table_.Find(id);
  if (group == nullptr || group->created() || group->removed()) return;
  if (!group->info.pending_reason().empty()) return;
  group->info.set_pending_reason(PendingReason(*group));
  MANTA_LOG(kWarning, group->info.pending_reason());
  AnswerWaiters(group);
}

std::string PlacementGroupManager::PendingReason(const PlacementGroup& group) const {
  std::vector<std::string> asks;
  for (uint32_t index : group.BundlesWithoutNode()) {
    const scheduling::BundleDemand& demand = group.bundles[index].demand;
    asks.push_back(demand.resources.ToString());
    if (!demand.labels.empty()) {
      absl::StrAppend(&asks.back(), " where ", scheduling::Describe(demand.labels));
    }
  }
  const std::string what = absl::StrCat(
      "The placement group ", group.id.Hex(),
      group.spec().name().empty() ? "" : absl::StrCat(" ('", group.spec().name(), "')"));
  const std::string bundles =
      absl::StrCat("[", absl::StrJoin(asks, ", "), "] with the strategy ",
                   wire::v1::PlacementStrategy_Name(group.spec().strategy()));
  std::vector<scheduling::NodeView> empty = environment_.nodes->View();
  for (scheduling::NodeView& node : empty) node.room = node.total;
  if (ChooseNodes(group, group.BundlesWithoutNode(), std::move(empty)).has_value()) {
    return absl::StrCat(what, " waits for room: the nodes that could hold its bundles ", bundles,
                        " are in use. It is created once tasks, actors and other groups give "
                        "enough back.");
  }
  return absl::StrCat(what, " cannot be created: the nodes of the cluster cannot hold its bundles ",
                      bundles,
                      ", whatever else runs. It stays pending until nodes that can have joined; "
                      "remove it, or ask for less, if none will.");
}

// -- removal

void PlacementGroupManager::RemoveGroup(PlacementGroup* group) {
  waiting_.erase(std::exchange(group->queue_number, 0));
  group->info.set_state(wire::v1::GROUP_STATE_REMOVED);
  group->info.clear_pending_reason();
  table_.Save(group);
  environment_.on_removed(group->id);

  std::map<NodeId, ResourceSet> held;
  for (const auto& [node, share] : std::exchange(group->shares, {})) held[node] += share.sum;
  for (const PlacementGroup::Bundle& bundle : group->bundles) {
    if (!bundle.node.IsNil()) held[bundle.node] += bundle.demand.resources;
  }
  for (const auto& [node, sum] : held) {
    environment_.nodes->ChangeHold(node, sum, {});
    SendReturn(group->id, node, {}, /*removed=*/true);
  }
  AnswerWaiters(group);
}

void PlacementGroupManager::RemoveAll(const std::vector<PlacementGroupId>& ids) {
  for (const PlacementGroupId& id : ids) {
    PlacementGroup* group = table_.Find(id);
    if (group != nullptr && !group->removed()) RemoveGroup(group);
  }
}

void PlacementGroupManager::OnJobFinished(const base::JobId& job) {
  RemoveAll(table_.Where([&](const PlacementGroup& group) {
    return !group.spec().detached() && !group.creator.has_value() && base::JobOf(group.id) == job;
  }));
}

bool PlacementGroupManager::IsCreator(const ActorId& actor) const {
  return !table_.Where([&](const PlacementGroup& group) { return group.creator == actor; }).empty();
}

std::set<ActorId> PlacementGroupManager::Creators() const {
  std::set<ActorId> creators;
  table_.ForEach([&](const PlacementGroup& group) {
    if (!group.removed() && group.creator.has_value()) creators.insert(*group.creator);
  });
  return creators;
}

void PlacementGroupManager::OnCreatorDead(const ActorId& actor) {
  RemoveAll(table_.Where([&](const PlacementGroup& group) {
    return !group.spec().detached() && group.creator == actor;
  }));
}

// -- nodes that come, come back and die

void PlacementGroupManager::OnNodeRegistered(const NodeId& node, const NodeBundles& held) {
  for (const auto& [id, indices] : held) {
    const PlacementGroup* group = table_.Find(id);
    if (group == nullptr || group->removed()) {
      SendReturn(id, node, {}, /*removed=*/true);
      continue;
    }
    std::vector<uint32_t> keeps = group->BundlesOn(node);
    if (auto share = group->shares.find(node); share != group->shares.end()) {
      keeps.insert(keeps.end(), share->second.indices.begin(), share->second.indices.end());
    }
    std::vector<uint32_t> extra;
    std::copy_if(indices.begin(), indices.end(), std::back_inserter(extra), [&](uint32_t index) {
      return std::find(keeps.begin(), keeps.end(), index) == keeps.end();
    });
    if (!extra.empty()) SendReturn(id, node, extra, /*removed=*/false);
  }
  // Orders that the node may not have got. It ignores those that it has carried out.
  for (const PlacementGroupId& id : table_.Where([](const PlacementGroup&) { return true; })) {
    const PlacementGroup& group = *table_.Find(id);
    const std::vector<uint32_t> indices = group.BundlesOn(node);
    if (!indices.empty()) {
      SendPrepare(group, node, indices, kNoAttempt);
      SendCommit(group, node, indices);
    }
    if (auto share = group.shares.find(node); share != group.shares.end()) {
      SendPrepare(group, node, share->second.indices, group.attempt);
    }
  }
  PlaceWaiting();
}

void PlacementGroupManager::OnNodeDead(const NodeId& node) {
  for (const PlacementGroupId& id : table_.Where([&](const PlacementGroup& group) {
         return group.shares.contains(node) || !group.BundlesOn(node).empty();
       })) {
    LoseBundles(table_.Find(id), node);
  }
}

void PlacementGroupManager::LoseBundles(PlacementGroup* group, const NodeId& node) {
  const std::vector<uint32_t> lost = group->BundlesOn(node);
  if (lost.empty() && !group->shares.contains(node)) return;
  if (!group->shares.empty()) Abort(group, node);
  for (uint32_t index : lost) group->SetNode(index, NodeId());
  if (!lost.empty() && group->created()) {
    group->info.set_state(wire::v1::GROUP_RESCHEDULING);
    MANTA_LOG(kWarning, "placement group ", group->id.Hex(), " lost ", lost.size(),
              " bundles with node ", node.Hex(), ", and is placed again");
  }
  if (!lost.empty()) {
    table_.Save(group);
    TellNodes(*group);
  }
  if (group->queue_number == 0 && !TryPlace(group)) Enqueue(group);
}

// -- for actors

bool PlacementGroupManager::Exists(const PlacementGroupId& id) const {
  const PlacementGroup* group = table_.Find(id);
  return group != nullptr && !group->removed();
}

std::optional<PlacementGroupManager::Spot> PlacementGroupManager::FindRoom(
    const PlacementGroupId& id, int index, const ResourceSet& request) const {
  const PlacementGroup* group = table_.Find(id);
  if (group == nullptr || group->removed()) return std::nullopt;
  for (uint32_t i = 0; i < group->bundles.size(); ++i) {
    const PlacementGroup::Bundle& bundle = group->bundles[i];
    const bool is_meant = index < 0 || index == static_cast<int>(i);
    if (is_meant && !bundle.node.IsNil() && request.FitsIn(bundle.room)) {
      return Spot{bundle.node, i};
    }
  }
  return std::nullopt;
}

void PlacementGroupManager::ChangeHold(const PlacementGroupId& id, uint32_t index,
                                       const ResourceSet& before, const ResourceSet& after) {
  PlacementGroup* group = table_.Find(id);
  if (group == nullptr || index >= group->bundles.size()) return;
  PlacementGroup::Bundle& bundle = group->bundles[index];
  if (bundle.node.IsNil()) return;
  bundle.room += before;
  bundle.room -= after;
  // What was held before the bundle moved to another node.
  for (const auto& [name, quantity] : before) {
    bundle.room.Set(name, std::min(bundle.room.Get(name), bundle.demand.resources.Get(name)));
  }
}

// -- messages

void PlacementGroupManager::SendPrepare(const PlacementGroup& group, const NodeId& node,
                                        const std::vector<uint32_t>& indices, uint64_t attempt) {
  v1::GcsMessage message;
  v1::PrepareBundles& prepare = *message.mutable_prepare_bundles();
  prepare.set_placement_group_id(group.id.BinaryString());
  prepare.set_attempt(attempt);
  for (uint32_t index : indices) {
    prepare.add_indices(index);
    *prepare.add_resources() = group.spec().bundles(static_cast<int>(index)).resources();
  }
  environment_.sender->Send(node, message);
}

// Each node that holds bundles of the group learns whether it is complete.
void PlacementGroupManager::TellNodes(const PlacementGroup& group) {
  std::map<NodeId, std::vector<uint32_t>> by_node;
  for (uint32_t i = 0; i < group.bundles.size(); ++i) {
    const NodeId& node = group.bundles[i].node;
    if (!node.IsNil()) by_node[node].push_back(i);
  }
  for (const auto& [node, indices] : by_node) SendCommit(group, node, indices);
}

void PlacementGroupManager::SendCommit(const PlacementGroup& group, const NodeId& node,
                                       const std::vector<uint32_t>& indices) {
  v1::GcsMessage message;
  v1::CommitBundles& commit = *message.mutable_commit_bundles();
  commit.set_placement_group_id(group.id.BinaryString());
  commit.mutable_indices()->Add(indices.begin(), indices.end());
  commit.set_incomplete(!group.created());
  environment_.sender->Send(node, message);
}

void PlacementGroupManager::SendReturn(const PlacementGroupId& group, const NodeId& node,
                                       const std::vector<uint32_t>& indices, bool removed) {
  v1::GcsMessage message;
  v1::ReturnBundles& back = *message.mutable_return_bundles();
  back.set_placement_group_id(group.BinaryString());
  back.mutable_indices()->Add(indices.begin(), indices.end());
  back.set_removed(removed);
  environment_.sender->Send(node, message);
}

}  // namespace ray::gcs
