// Where actors go: room for them, those that wait for it, and why they wait.
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/logging.h"
#include "ray/gcs/actor_manager.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::NodeId;

constexpr int kPendingShownMax = 1000;
// A queue of waiting actors is cleared of those that do not wait any more when its size has become
// this, twice this and so on.
constexpr size_t kSweepMin = 1024;
// An actor that must not wait does so long: by then who holds a node's resources without using them
// has given them back, and the node has reported it.
constexpr absl::Duration kUnavailableGrace = absl::Milliseconds(500);

// For the user: why the actor is not there yet.
std::string PendingReason(const Actor& actor, bool feasible) {
  std::string asks = actor.creation.ToString();
  if (actor.in_group()) {
    return absl::StrCat("The actor ", actor.info.class_name(), " waits for ", asks,
                        " of its placement group ", actor.group.Hex(),
                        ", which is not placed yet or in use.");
  }
  if (const auto& rules = actor.spec.strategy().required_labels(); !rules.empty()) {
    absl::StrAppend(&asks, " on a node where ", scheduling::Describe(rules));
  }
  if (feasible) {
    return absl::StrCat("The actor ", actor.info.class_name(), " waits for ", asks,
                        ": every node that has as much is in use.");
  }
  return absl::StrCat("The actor ", actor.info.class_name(), " cannot be created: it asks for ",
                      asks,
                      ", and no node of the cluster has as much. It stays pending until a "
                      "node that has joins the cluster.");
}

}  // namespace

void ActorManager::Place(Actor* actor) {
  if (!TryPlace(actor)) Wait(actor);
}

bool ActorManager::TryPlace(Actor* actor) {
  if (std::optional<ActorEnd> never = WhyNever(*actor); never.has_value()) {
    EndForGood(actor, *never, Worker::kIsGone);
    return true;
  }
  std::optional<Spot> spot = FindRoom(*actor);
  if (!spot.has_value()) return false;
  actor->waiting = false;
  actor->node = spot->node;
  actor->bundle = spot->bundle;
  Hold(actor, actor->creation);
  // Stored first, so that a restarted GCS asks the same node about it.
  table_.Save(actor);
  SendCreate(*actor);
  return true;
}

std::optional<ActorEnd> ActorManager::WhyNever(const Actor& actor) const {
  if (actor.in_group()) {
    if (groups_->Exists(actor.group)) return std::nullopt;
    return GroupRemoved(actor.group);
  }
  const wire::v1::SchedulingStrategy& strategy = actor.spec.strategy();
  const bool must_be_there = strategy.has_node_affinity() && !strategy.node_affinity().soft();
  if (!must_be_there || nodes_->IsFeasible(actor.creation, strategy)) return std::nullopt;
  return Unschedulable(
      absl::StrCat("its NodeAffinitySchedulingStrategy with soft=False names the node ",
                   base::BytesToHex(strategy.node_affinity().node_id()),
                   ", which is not in the cluster or can never hold the ",
                   actor.creation.ToString(), " that the actor asks for"));
}

std::optional<ActorManager::Spot> ActorManager::FindRoom(const Actor& actor) const {
  const wire::v1::SchedulingStrategy& strategy = actor.spec.strategy();
  if (actor.in_group()) {
    auto spot = groups_->FindRoom(actor.group, strategy.bundle().bundle_index(), actor.creation);
    if (!spot.has_value()) return std::nullopt;
    return Spot{spot->node, spot->index};
  }
  auto node = nodes_->FindRoom(actor.creation, strategy, actor.owner_node);
  if (!node.has_value()) return std::nullopt;
  return Spot{*node, std::nullopt};
}

void ActorManager::Wait(Actor* actor) {
  if (actor->waiting) return;
  actor->waiting = true;
  const std::string request =
      absl::StrCat(actor->creation.ToString(), actor->spec.strategy().SerializeAsString());
  std::deque<ActorId>& ids = waiting_[request];
  ids.push_back(actor->id);
  if (ids.size() >= kSweepMin && (ids.size() & (ids.size() - 1)) == 0) {
    std::erase_if(ids, [this](const ActorId& id) {
      const Actor* other = table_.Find(id);
      return other == nullptr || !other->waiting;
    });
  }
  deadlines_->After(options_.pending_warning,
                    [this, id = actor->id, num_restarts = actor->info.num_restarts()] {
                      ExplainWait(id, num_restarts);
                    });
  if (!actor->spec.strategy().node_affinity().fail_on_unavailable()) return;
  deadlines_->After(kUnavailableGrace,
                    [this, id = actor->id, num_restarts = actor->info.num_restarts()] {
                      GiveUpWaiting(id, num_restarts);
                    });
}

// The node that it names has had no room for too long, and it must not wait.
void ActorManager::GiveUpWaiting(const ActorId& id, uint64_t num_restarts) {
  Actor* actor = table_.Find(id);
  if (actor == nullptr || !actor->waiting || actor->info.num_restarts() != num_restarts) return;
  EndForGood(
      actor,
      Unschedulable(absl::StrCat(
          "its NodeAffinitySchedulingStrategy with _fail_on_unavailable=True names the node ",
          base::BytesToHex(actor->spec.strategy().node_affinity().node_id()),
          ", which does not have the ", actor->creation.ToString(),
          " that the actor asks for free now")),
      Worker::kIsGone);
}

void ActorManager::ExplainWait(const ActorId& id, uint64_t num_restarts) {
  Actor* actor = table_.Find(id);
  if (actor == nullptr || !actor->waiting || actor->info.num_restarts() != num_restarts ||
      !actor->info.pending_reason().empty()) {
    return;
  }
  actor->info.set_pending_reason(
      PendingReason(*actor, nodes_->IsFeasible(actor->creation, actor->spec.strategy())));
  MANTA_LOG(kWarning, actor->info.pending_reason());
  actor->info.set_revision(actor->info.revision() + 1);
  table_.Save(actor);
  Publish(*actor);
}

void ActorManager::PlaceWaiting() {
  // One look per distinct request, however many actors wait with it.
  for (auto entry = waiting_.begin(); entry != waiting_.end();) {
    std::deque<ActorId>& ids = entry->second;
    while (!ids.empty()) {
      Actor* actor = table_.Find(ids.front());
      if (actor != nullptr && actor->waiting && !TryPlace(actor)) break;
      ids.pop_front();
    }
    entry = ids.empty() ? waiting_.erase(entry) : std::next(entry);
  }
}

// The node had less room than we thought. What we hold there stays held for a moment, or the next
// look would choose the same node again before its report has come.
void ActorManager::RetryElsewhere(Actor* actor) {
  const Spot spot{std::exchange(actor->node, NodeId::Nil()),
                  std::exchange(actor->bundle, std::nullopt)};
  resources::ResourceSet held = std::exchange(actor->held, {});
  table_.Save(actor);
  Place(actor);
  deadlines_->After(options_.retry_interval,
                    [this, group = actor->group, spot, held = std::move(held)] {
                      ChangeHold(group, spot, held, {});
                      PlaceWaiting();
                    });
}

void ActorManager::Hold(Actor* actor, const resources::ResourceSet& amount) {
  ChangeHold(actor->group, {actor->node, actor->bundle}, actor->held, amount);
  actor->held = amount;
}

// What is in a bundle was taken of the node with the bundle.
void ActorManager::ChangeHold(const base::PlacementGroupId& group, const Spot& spot,
                              const resources::ResourceSet& before,
                              const resources::ResourceSet& after) {
  if (spot.bundle.has_value()) {
    groups_->ChangeHold(group, *spot.bundle, before, after);
  } else {
    nodes_->ChangeHold(spot.node, before, after);
  }
}

void ActorManager::AddPendingTo(wire::v1::ClusterStateReply* reply) const {
  table_.ForEach([&](const Actor& actor) {
    if (!actor.waiting || reply->pending_actors_size() >= kPendingShownMax) return;
    wire::v1::ActorInfo& info = *reply->add_pending_actors();
    info = actor.info;
    if (!info.pending_reason().empty()) return;
    const bool feasible = nodes_->IsFeasible(actor.creation, actor.spec.strategy());
    info.set_pending_reason(PendingReason(actor, feasible));
  });
}

}  // namespace ray::gcs
