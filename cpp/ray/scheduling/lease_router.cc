#include "ray/scheduling/lease_router.h"

#include <algorithm>
#include <utility>

#include "absl/container/btree_set.h"
#include "ray/base/status_macros.h"
#include "ray/scheduling/lease_router_parts.h"
#include "ray/scheduling/strategy.h"

namespace ray::scheduling {

using base::LeaseId;
using base::NodeId;
using base::PlacementGroupId;
using resources::ResourceSet;
using wire::v1::RequestLeaseReply;

namespace {

// Before a node that could not be asked is tried again.
constexpr absl::Duration kUnreachablePause = absl::Seconds(1);
// What a node answers counts for so long, or until it reports: by then the report of it has come,
// if it was not there before the answer.
constexpr absl::Duration kAnswerCounts = absl::Seconds(1);
constexpr absl::Duration kTickInterval = absl::Milliseconds(50);

absl::StatusOr<LeaseRequest> Parse(ClientId client, const wire::v1::RequestLease& message) {
  LeaseRequest request;
  request.client = client;
  request.request_id = message.request_id();
  MANTA_ASSIGN_OR_RETURN(request.resources, ResourceSet::FromWire(message.resources()));
  MANTA_ASSIGN_OR_RETURN(request.job, base::JobId::FromBinary(message.job_id()));
  MANTA_ASSIGN_OR_RETURN(request.bundle, BundleOf(message.strategy()));
  request.env_hash = message.runtime_env_hash();
  request.task_name = message.task_name();
  request.retriable = message.retriable();
  return request;
}

}  // namespace

LeaseRouter::LeaseRouter(Options options, LeaseQueue* queue, const base::Clock* clock,
                         Actions* actions)
    : options_(std::move(options)),
      queue_(queue),
      clock_(clock),
      actions_(actions),
      chooser_({.self = options_.self,
                .spread_threshold = options_.spread_threshold,
                .top_k_fraction = options_.top_k_fraction,
                .seed = options_.seed},
               &view_) {
  view_.Update(options_.self, queue->resources().total(), queue->resources().available(),
               options_.labels, /*draining=*/false);
}

LeaseRouter::~LeaseRouter() = default;

// --- From processes of this node

absl::Status LeaseRouter::Request(ClientId client, wire::v1::RequestLease message) {
  const RequestKey key{client, message.request_id()};
  if (requests_.contains(key)) {
    return absl::AlreadyExistsError("a lease request whose id is in use");
  }
  auto owned = std::make_unique<Entry>();
  Entry* entry = owned.get();
  MANTA_ASSIGN_OR_RETURN(entry->ask, Parse(client, message));
  MANTA_RETURN_IF_ERROR(AffinityOf(message.strategy()).status());
  if (!message.preferred_node().empty()) {
    MANTA_ASSIGN_OR_RETURN(entry->preferred, NodeId::FromBinary(message.preferred_node()));
  }
  entry->key = key;
  entry->sequence = ++last_sequence_;
  entry->since = clock_->Now();
  entry->in_class = ClassOf(*entry, message);
  entry->in_class->backlog = message.backlog();
  ++entry->in_class->entries;
  entry->message = std::move(message);
  requests_.emplace(key, std::move(owned));
  SyncSelf();
  Place(entry);
  return absl::OkStatus();
}

LeaseRouter::Class* LeaseRouter::ClassOf(const Entry& entry,
                                         const wire::v1::RequestLease& message) {
  ClassKey key{.client = entry.key.first,
               .needs = NodeNeeds::Of(entry.ask.resources, message.strategy()),
               .bundle = entry.ask.bundle,
               .affinity = *AffinityOf(message.strategy()),
               .spread = message.strategy().spread()};
  auto [it, is_new] = class_numbers_.try_emplace(key, 0);
  if (is_new) {
    it->second = ++last_class_;
    auto made = std::make_shared<Class>();
    made->number = it->second;
    made->key = std::move(key);
    classes_.emplace(it->second, std::move(made));
  }
  return classes_.at(it->second).get();
}

void LeaseRouter::Cancel(ClientId client, uint64_t request_id) {
  auto found = requests_.find({client, request_id});
  if (found == requests_.end()) return;
  Entry* entry = found->second.get();
  switch (entry->place) {
    case Entry::Place::kNowhere:
    case Entry::Place::kHeld:
      FinishCancelled(entry);
      break;
    case Entry::Place::kQueue:
      if (queue_->Cancel(client, request_id)) FinishCancelled(entry);
      break;
    case Entry::Place::kAsked:
    case Entry::Place::kWaitingThere:
      CancelThere(entry, Then::kDrop);
      break;
  }
  Rebalance();
}

// Asks the raylet that has the request to drop it. Until it has answered, the request is there.
void LeaseRouter::CancelThere(Entry* entry, Then then) {
  const bool under_way = entry->then != Then::kNothing;
  if (!entry->target.IsNil()) {
    view_.Unreserve(entry->target, entry->ask.resources);
    entry->target = NodeId::Nil();
  }
  entry->then = then;
  entry->in_class->there.erase(entry->sequence);
  if (!under_way) actions_->CancelForwarded(entry->node, entry->forward_id);
}

bool LeaseRouter::Return(const LeaseId& lease, ClientId client, bool worker_broken) {
  auto found = remote_leases_.find(lease);
  if (found == remote_leases_.end() || found->second.client != client) return false;
  const NodeId node = found->second.node;
  remote_leases_.erase(found);
  actions_->ReturnLease(node, lease, worker_broken ? LeaseEnd::kBroken : LeaseEnd::kDone);
  return true;
}

void LeaseRouter::ClientGone(ClientId client) {
  std::vector<Entry*> gone;
  for (const auto& [key, entry] : requests_) {
    if (key.first == client) gone.push_back(entry.get());
  }
  std::sort(gone.begin(), gone.end(),
            [](const Entry* a, const Entry* b) { return a->sequence < b->sequence; });
  for (Entry* entry : gone) {
    if (entry->forward_id != 0) {
      CancelThere(entry, Then::kDrop);
      forwarded_.at(entry->forward_id).entry = nullptr;
    }
    Erase(entry);
  }
  absl::btree_map<uint64_t, LeaseId> leases;
  for (const auto& [lease, remote] : remote_leases_) {
    if (remote.client == client) leases.emplace(remote.number, lease);
  }
  for (const auto& [number, lease] : leases) {
    const NodeId node = remote_leases_.at(lease).node;
    remote_leases_.erase(lease);
    actions_->ReturnLease(node, lease, LeaseEnd::kOwnerGone);
  }
  Rebalance();
}

// --- From other raylets

absl::Status LeaseRouter::Serve(ClientId raylet, const wire::v1::RequestLease& message) {
  if (IsRepeated(raylet, message.request_id())) return absl::OkStatus();
  newest_served_[raylet] = message.request_id();
  MANTA_ASSIGN_OR_RETURN(LeaseRequest request, Parse(raylet, message));
  const RequestKey key{raylet, message.request_id()};
  const BundleRef bundle = request.bundle;
  const bool never =
      bundle.IsNode() && (draining_ || !queue_->resources().IsFeasible(request.resources));
  if (never) {
    actions_->Answer(key.first, key.second, ReplyOf(RequestLeaseReply::SPILLBACK));
    return absl::OkStatus();
  }
  MANTA_RETURN_IF_ERROR(queue_->Request(std::move(request)));
  if (message.now_or_never()) {
    if (queue_->Withdraw(key.first, key.second)) {
      actions_->Answer(key.first, key.second, ReplyOf(RequestLeaseReply::SPILLBACK));
    }
  } else if (!bundle.IsNode() && !queue_->HasCommitted(bundle)) {
    Watch(bundle.group);
  }
  return absl::OkStatus();
}

bool LeaseRouter::IsRepeated(ClientId raylet, uint64_t request_id) const {
  auto newest = newest_served_.find(raylet);
  return newest != newest_served_.end() && request_id <= newest->second;
}

void LeaseRouter::RayletGone(ClientId raylet) { newest_served_.erase(raylet); }

// --- Bookkeeping

// Takes it from where it is; what goes on there is the caller's business.
void LeaseRouter::Detach(Entry* entry) {
  Class* in_class = entry->in_class;
  switch (entry->place) {
    case Entry::Place::kNowhere:
    case Entry::Place::kAsked:
      break;
    case Entry::Place::kHeld:
      in_class->held.erase(entry->sequence);
      --held_;
      break;
    case Entry::Place::kQueue:
      in_class->queued.erase(entry->sequence);
      break;
    case Entry::Place::kWaitingThere: {
      in_class->there.erase(entry->sequence);
      auto waiting = in_class->waiting_at.find(entry->node);
      if (--waiting->second == 0) in_class->waiting_at.erase(waiting);
      break;
    }
  }
  if (!entry->target.IsNil()) view_.Unreserve(entry->target, entry->ask.resources);
  if (entry->round_at != absl::InfiniteFuture()) rounds_.erase({entry->round_at, entry->key});
  entry->round_at = absl::InfiniteFuture();
  entry->target = NodeId::Nil();
  entry->then = Then::kNothing;
  entry->node = NodeId::Nil();
  entry->forward_id = 0;
  entry->place = Entry::Place::kNowhere;
}

void LeaseRouter::Erase(Entry* entry) {
  Detach(entry);
  Class* in_class = entry->in_class;
  requests_.erase(RequestKey(entry->key));
  if (--in_class->entries > 0) return;
  class_numbers_.erase(in_class->key);
  classes_.erase(in_class->number);
}

void LeaseRouter::Settled(ClientId client, uint64_t request_id) {
  auto found = requests_.find({client, request_id});
  if (found != requests_.end()) Erase(found->second.get());
}

void LeaseRouter::SyncSelf() { view_.SetAvailable(options_.self, queue_->resources().available()); }

void LeaseRouter::Unreachable(const NodeId& node) {
  if (view_.Find(node) == nullptr) return;
  view_.SetReachable(node, false);
  unreachable_[node] = clock_->Now() + kUnreachablePause;
}

std::vector<LeaseRouter::RequestKey> LeaseRouter::KeysOf(const Entries& entries) {
  std::vector<RequestKey> keys;
  for (const auto& [sequence, entry] : entries) keys.push_back(entry->key);
  return keys;
}

// Those that wait here or in the own queue.
void LeaseRouter::PlaceAgain(const std::vector<RequestKey>& keys) {
  for (const RequestKey& key : keys) {
    auto found = requests_.find(key);
    if (found == requests_.end()) continue;
    Entry* entry = found->second.get();
    if (entry->place == Entry::Place::kQueue) {
      if (!Withdraw(entry)) continue;
    } else if (entry->place == Entry::Place::kHeld) {
      Detach(entry);
    } else if (entry->place != Entry::Place::kNowhere) {
      continue;
    }
    Place(entry);
  }
}

// --- From the raylets that were asked

void LeaseRouter::Answered(const NodeId& node, uint64_t forward_id,
                           const absl::StatusOr<RequestLeaseReply>& reply) {
  auto found = forwarded_.find(forward_id);
  if (found == forwarded_.end() || found->second.node != node) return;
  Entry* entry = found->second.entry;
  forwarded_.erase(found);
  const bool is_lost = !reply.ok() || reply->outcome() == RequestLeaseReply::OUTCOME_UNSPECIFIED;
  const absl::StatusOr<ResourceSet> available =
      is_lost ? absl::UnavailableError("") : ResourceSet::FromWire(reply->available());
  if (available.ok()) {
    const bool is_news = view_.Answered(node, forward_id, *available);
    if (is_news && is_corrected_.insert(node).second) {
      corrected_.emplace_back(clock_->Now() + kAnswerCounts, node);
    }
  } else {
    view_.Dropped(node, forward_id);
  }
  if (is_lost) Unreachable(node);
  SyncSelf();
  if (entry == nullptr) {
    if (!is_lost) GiveBack(node, *reply);
  } else {
    const uint64_t number = entry->in_class->number;
    Continue(entry, node, is_lost ? ReplyOf(RequestLeaseReply::OUTCOME_UNSPECIFIED) : *reply);
    // Another of its class may take its place.
    if (auto found_class = classes_.find(number); found_class != classes_.end()) {
      const std::shared_ptr<Class> in_class = found_class->second;
      if (in_class->key.bundle.IsNode()) Rebalance(in_class.get());
    }
  }
  Rebalance();
}

// A grant that nobody wants any more.
void LeaseRouter::GiveBack(const NodeId& node, const RequestLeaseReply& reply) {
  if (reply.outcome() != RequestLeaseReply::GRANTED) return;
  const absl::StatusOr<LeaseId> lease = LeaseId::FromBinary(reply.lease_id());
  if (lease.ok()) actions_->ReturnLease(node, *lease, LeaseEnd::kDone);
}

void LeaseRouter::Continue(Entry* entry, const NodeId& node, RequestLeaseReply reply) {
  const Then then = entry->then;
  const bool waited = entry->place == Entry::Place::kWaitingThere;
  const NodeId target = entry->target;
  Detach(entry);
  if (then == Then::kDrop) {
    GiveBack(node, reply);
    return FinishCancelled(entry);
  }
  if (then == Then::kRefuse && reply.outcome() != RequestLeaseReply::GRANTED) {
    return Refuse(entry, WhyUnavailable(entry->in_class->key));
  }
  switch (reply.outcome()) {
    case RequestLeaseReply::GRANTED: {
      const absl::StatusOr<LeaseId> lease = LeaseId::FromBinary(reply.lease_id());
      if (!lease.ok()) {
        Unreachable(node);
        return Place(entry);
      }
      remote_leases_[*lease] = {node, entry->key.first, ++last_sequence_};
      reply.clear_available();
      return Finish(entry, reply);
    }
    case RequestLeaseReply::SPILLBACK:
      // It would not even let the request wait: it drains, say, or its bundles are gone.
      if (waited && then == Then::kNothing) {
        if (entry->ask.bundle.IsNode()) {
          Unreachable(node);
        } else {
          groups_[entry->ask.bundle.group].bundles.clear();
        }
      } else if (!waited && entry->ask.bundle.IsNode()) {
        chooser_.Refused(entry->in_class->key.needs, node);
      }
      [[fallthrough]];
    case RequestLeaseReply::CANCELLED:
    case RequestLeaseReply::OUTCOME_UNSPECIFIED:
      if (const ClusterView::Node* next = view_.Find(target);
          next != nullptr && next->reachable && !next->draining) {
        return Start(entry, target);
      }
      return Place(entry);
    default:
      reply.clear_available();
      return Finish(entry, reply);
  }
}

void LeaseRouter::NodeLost(const NodeId& node) {
  absl::erase_if(remote_leases_, [&](const auto& lease) { return lease.second.node == node; });
}

void LeaseRouter::NodeSilent(const NodeId& node) {
  Unreachable(node);
  std::vector<uint64_t> unanswered;
  for (const auto& [forward_id, forwarded] : forwarded_) {
    if (forwarded.node == node && forwarded.entry != nullptr) unanswered.push_back(forward_id);
  }
  for (const uint64_t forward_id : unanswered) {
    Entry* entry = std::exchange(forwarded_.at(forward_id).entry, nullptr);
    if (entry == nullptr) continue;  // it went with one before
    actions_->CancelForwarded(node, forward_id);
    Continue(entry, node, ReplyOf(RequestLeaseReply::OUTCOME_UNSPECIFIED));
  }
  Rebalance();
}

std::optional<LeaseRouter::RequestKey> LeaseRouter::Origin(uint64_t forward_id) const {
  auto found = forwarded_.find(forward_id);
  if (found == forwarded_.end() || found->second.entry == nullptr) return std::nullopt;
  return found->second.entry->key;
}

std::vector<ClientId> LeaseRouter::HoldersAt(const NodeId& node) const {
  absl::btree_set<ClientId> holders;
  for (const auto& [lease, remote] : remote_leases_) {
    if (remote.node == node) holders.insert(remote.client);
  }
  return {holders.begin(), holders.end()};
}

// --- From the GCS

void LeaseRouter::NodeChanged(const wire::v1::NodeState& state) {
  const absl::StatusOr<NodeId> id = NodeId::FromBinary(state.node_id());
  absl::StatusOr<ResourceSet> total = ResourceSet::FromWire(state.total());
  absl::StatusOr<ResourceSet> available = ResourceSet::FromWire(state.available());
  if (!id.ok() || !total.ok() || !available.ok()) return;
  if (*id == options_.self) {  // which knows itself best
    if (state.draining()) Drain();
    return;
  }
  view_.Update(*id, *std::move(total), *std::move(available),
               Labels(state.labels().begin(), state.labels().end()), state.draining());
}

void LeaseRouter::NodeDead(const NodeId& node) {
  view_.Remove(node);
  unreachable_.erase(node);
  NodeLost(node);
  for (auto& [id, group] : groups_) {
    for (Group::Place& place : group.bundles) {
      if (place.node == node) place.node = NodeId::Nil();
    }
  }
  std::vector<uint64_t> lost;
  for (const auto& [forward_id, forwarded] : forwarded_) {
    if (forwarded.node == node) lost.push_back(forward_id);
  }
  for (uint64_t forward_id : lost) {
    Answered(node, forward_id, absl::UnavailableError("the node is dead"));
  }
  Rebalance();
}

void LeaseRouter::Drain() {
  if (draining_) return;
  draining_ = true;
  view_.SetDraining(options_.self);
  std::vector<RequestKey> queued;
  for (const auto& [number, in_class] : classes_) {
    if (!in_class->key.bundle.IsNode()) continue;
    for (const RequestKey& key : KeysOf(in_class->queued)) queued.push_back(key);
  }
  SyncSelf();
  PlaceAgain(queued);
  for (const auto& [key, bundle] : queue_->WaitingFor(PlacementGroupId::Nil())) {
    if (!requests_.contains(key) && queue_->Withdraw(key.first, key.second)) {
      actions_->Answer(key.first, key.second, ReplyOf(RequestLeaseReply::SPILLBACK));
    }
  }
}

// --- Time

absl::Time LeaseRouter::NextTick() const {
  absl::Time next = absl::InfiniteFuture();
  if (held_ > 0 || !unreachable_.empty()) next = last_tick_ + kTickInterval;
  if (!rounds_.empty()) next = std::min(next, rounds_.begin()->first);
  if (!corrected_.empty()) next = std::min(next, corrected_.front().first);
  return next;
}

void LeaseRouter::Tick() {
  const absl::Time now = clock_->Now();
  last_tick_ = now;
  SyncSelf();
  for (auto it = unreachable_.begin(); it != unreachable_.end();) {
    if (it->second > now) {
      ++it;
      continue;
    }
    view_.SetReachable(it->first, true);
    it = unreachable_.erase(it);
  }
  while (!corrected_.empty() && corrected_.front().first <= now) {
    const NodeId node = corrected_.front().second;
    corrected_.pop_front();
    is_corrected_.erase(node);
    view_.BelieveReport(node);
  }
  while (!rounds_.empty() && rounds_.begin()->first <= now) NextRound(rounds_.begin()->second);
  std::vector<std::shared_ptr<Class>> held;
  for (const auto& [number, in_class] : classes_) {
    if (!in_class->held.empty()) held.push_back(in_class);
  }
  for (const std::shared_ptr<Class>& in_class : held) {
    if (!in_class->key.bundle.IsNode()) PlaceAgain(KeysOf(in_class->held));
    WarnAndGiveUp(in_class.get());
  }
  RebalanceAll();
}

}  // namespace ray::scheduling
