#include "ray/scheduling/lease_router.h"

#include <algorithm>
#include <utility>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/status_macros.h"
#include "ray/scheduling/infeasibility.h"
#include "ray/scheduling/strategy.h"

namespace ray::scheduling {

using base::LeaseId;
using base::NodeId;
using base::PlacementGroupId;
using resources::ResourceSet;
using wire::v1::RequestLeaseReply;

namespace {

// Requests of one class that wait at one other node, at most: as many as may get something there
// before the next ones can follow.
constexpr size_t kWaitingThereMax = 4;
// Before a node that could not be asked is tried again.
constexpr absl::Duration kUnreachablePause = absl::Seconds(1);
// A node that a request names may have joined a moment before, and not be in the view yet.
constexpr absl::Duration kUnknownNodeGrace = absl::Milliseconds(500);
// What a node answers counts for so long, or until it reports: by then the report of it has come,
// if it was not there before the answer.
constexpr absl::Duration kAnswerCounts = absl::Seconds(1);
// Between two rounds over the bundles of a group: first, and at most.
constexpr absl::Duration kRoundPause = absl::Milliseconds(50);
constexpr absl::Duration kRoundPauseMax = absl::Seconds(1);
// Groups that are remembered, though nothing waits for them.
constexpr size_t kGroupsMax = 1000;
// Between two questions where a group's bundles are.
constexpr absl::Duration kWatchPause = absl::Milliseconds(100);
constexpr absl::Duration kTickInterval = absl::Milliseconds(50);
// What must not wait does so long: by then who holds leases without using them has given them back.
constexpr absl::Duration kUnavailableGrace = absl::Milliseconds(500);

RequestLeaseReply ReplyOf(RequestLeaseReply::Outcome outcome) {
  RequestLeaseReply reply;
  reply.set_outcome(outcome);
  return reply;
}

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

// Requests of one client that may be exchanged for one another. Lives while it has some.
struct LeaseRouter::Class {
  uint64_t number = 0;
  ClassKey key;
  size_t entries = 0;
  size_t backlog = 0;  // tasks behind the newest request
  // Those that wait and may be moved.
  Entries held;    // here
  Entries queued;  // in the own queue
  Entries there;   // at other nodes
  // Those that wait at other nodes, with those that are about to move.
  absl::flat_hash_map<NodeId, size_t> waiting_at;
  uint64_t warned = 0;  // the sequence of the request that was warned of
};

// What follows once another raylet has confirmed that it dropped a request.
enum class LeaseRouter::Then : uint8_t { kNothing, kPlaceAgain, kDrop, kRefuse };

struct LeaseRouter::Entry {
  enum class Place {
    kNowhere,       // being placed
    kHeld,          // here
    kQueue,         // in the own queue
    kAsked,         // another raylet was asked to grant it now or never
    kWaitingThere,  // in another node's queue
  };
  RequestKey key;
  uint64_t sequence = 0;
  LeaseRequest ask;
  wire::v1::RequestLease message;
  NodeId preferred;  // nil: none
  absl::Time since;
  Class* in_class = nullptr;

  Place place = Place::kNowhere;
  NodeId node;              // kAsked, kWaitingThere
  uint64_t forward_id = 0;  // as node
  Then then = Then::kNothing;
  NodeId target;  // kPlaceAgain: where room is reserved for it; nil: nowhere
  // For any bundle of a group.
  size_t tried = 0;
  size_t turn = 0;
  absl::Duration pause;
  absl::Time round_at = absl::InfiniteFuture();  // its time in rounds_; infinite: it is not there
};

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

// Served requests for bundles that are not here any more are placed anew where they came from.
void LeaseRouter::SpillServed(const PlacementGroupId& group) {
  for (const auto& [key, bundle] : queue_->WaitingFor(group)) {
    if (requests_.contains(key) || queue_->HasCommitted(bundle)) continue;
    if (IsPlacedHere(bundle)) continue;
    if (queue_->Withdraw(key.first, key.second)) {
      actions_->Answer(key.first, key.second, ReplyOf(RequestLeaseReply::SPILLBACK));
    }
  }
}

// By what the GCS says, which may be ahead of what is committed.
bool LeaseRouter::IsPlacedHere(const BundleRef& bundle) const {
  auto group = groups_.find(bundle.group);
  if (group == groups_.end()) return true;  // nobody knows better
  const auto& bundles = group->second.bundles;
  if (bundles.empty()) return true;
  for (size_t i = 0; i < bundles.size(); ++i) {
    const bool is_meant = bundle.index == BundleRef::kAny || static_cast<size_t>(bundle.index) == i;
    if (is_meant && bundles[i].node == options_.self) return true;
  }
  return false;
}

// --- Placing

void LeaseRouter::Place(Entry* entry) {
  MANTA_CHECK(entry->place == Entry::Place::kNowhere);
  const ClassKey& key = entry->in_class->key;
  if (!key.bundle.IsNode()) return PlaceInGroup(entry);
  if (!key.affinity.IsNone() && PlaceByAffinity(entry)) return;
  const bool prefers = !key.spread && !entry->preferred.IsNil();
  const std::optional<NodeId> node = prefers && chooser_.HasRoom(key.needs, entry->preferred)
                                         ? entry->preferred
                                         : chooser_.WithRoom(key.needs, key.spread);
  if (node.has_value()) return Start(entry, *node);
  if (chooser_.MayWaitAt(key.needs, options_.self)) {
    Enqueue(entry);
  } else if (const auto wait_at = NodeToWaitAt(*entry->in_class); wait_at.has_value()) {
    Send(entry, *wait_at, /*now_or_never=*/false);
  } else {
    Hold(entry);
  }
}

// To a node that has room.
void LeaseRouter::Start(Entry* entry, const NodeId& node) {
  if (node == options_.self) {
    Enqueue(entry);
  } else {
    Send(entry, node, /*now_or_never=*/true);
  }
}

std::optional<NodeId> LeaseRouter::NodeToWaitAt(const Class& in_class) {
  return chooser_.ToWaitAt(in_class.key.needs, kWaitingThereMax, [&](const NodeId& node) {
    auto waiting = in_class.waiting_at.find(node);
    return waiting == in_class.waiting_at.end() ? 0 : waiting->second;
  });
}

// Whether the named node decides the request's fate; else any node will do.
bool LeaseRouter::PlaceByAffinity(Entry* entry) {
  const ClassKey& key = entry->in_class->key;
  const Affinity affinity = key.affinity;
  const ClusterView::Node* node = view_.Find(affinity.node);
  const bool suits = node != nullptr && !node->draining && key.needs.resources.FitsIn(node->total);
  const bool may_come = node == nullptr && clock_->Now() - entry->since < kUnknownNodeGrace;
  if (affinity.IsSoft() && (!suits || !node->reachable)) return false;
  if (affinity.kind == Affinity::Kind::kSpill) {
    if (!chooser_.HasRoom(key.needs, affinity.node)) return false;
    Start(entry, affinity.node);
    return true;
  }
  if (!suits && !may_come) {
    Refuse(entry, WhyRefused(key));
    return true;
  }
  if (affinity.kind == Affinity::Kind::kFail) {
    entry->round_at = entry->since + kUnavailableGrace;
    rounds_.emplace(entry->round_at, entry->key);
  }
  if (!suits || !node->reachable) {
    Hold(entry);
  } else if (affinity.node == options_.self) {
    Enqueue(entry);
  } else {
    Send(entry, affinity.node, /*now_or_never=*/false);
  }
  return true;
}

void LeaseRouter::PlaceInGroup(Entry* entry) {
  const ClassKey& key = entry->in_class->key;
  const BundleRef& bundle = key.bundle;
  if (bundle.index == BundleRef::kAny) return PlaceInAnyBundle(entry);
  if (queue_->HasCommitted(bundle)) {
    Enqueue(entry);
    return;
  }
  const Group& group = groups_[bundle.group];
  const auto index = static_cast<size_t>(bundle.index);
  if (!group.bundles.empty() && index >= group.bundles.size()) {
    return Refuse(entry, absl::StrCat("its placement group ", bundle.group.Hex(), " has ",
                                      group.bundles.size(), " bundles, and it asks for bundle ",
                                      bundle.index, ", counted from 0. Ask for one of them."));
  }
  const NodeId node = group.bundles.empty() ? NodeId::Nil() : group.bundles[index].node;
  const ClusterView::Node* known = view_.Find(node);
  if (known != nullptr && known->reachable && node != options_.self) {
    return Send(entry, node, /*now_or_never=*/false);
  }
  Hold(entry);
  Watch(bundle.group);
}

// First every node with bundles of the group is asked once; then the request waits at one of them
// for a while, and so on.
void LeaseRouter::PlaceInAnyBundle(Entry* entry) {
  const BundleRef& bundle = entry->in_class->key.bundle;
  const std::vector<NodeId> nodes = NodesOf(bundle, entry->ask.resources);
  if (nodes.empty()) {
    const PlacementGroupId group = bundle.group;
    const bool never = IsInfeasible(entry->in_class->key);
    if (queue_->HasCommitted(bundle)) {
      Enqueue(entry);
    } else {
      Hold(entry);
    }
    if (!never) Watch(group);
    return;
  }
  while (nodes.size() > 1 && entry->tried < nodes.size()) {
    const NodeId& node = nodes[(entry->sequence + entry->tried++) % nodes.size()];
    if (node != options_.self) return Send(entry, node, /*now_or_never=*/true);
    if (!Enqueue(entry) || !Withdraw(entry)) return;
  }
  entry->tried = 0;
  const NodeId node = nodes[(entry->sequence + entry->turn++) % nodes.size()];
  if (nodes.size() > 1) {
    entry->pause = std::clamp(entry->pause * 2, kRoundPause, kRoundPauseMax);
    entry->round_at = clock_->Now() + entry->pause;
    rounds_.emplace(entry->round_at, entry->key);
  }
  if (node == options_.self) {
    Enqueue(entry);
  } else {
    Send(entry, node, /*now_or_never=*/false);
  }
}

// Those that hold a bundle of the group that is large enough, and can be asked.
std::vector<NodeId> LeaseRouter::NodesOf(const BundleRef& bundle,
                                         const ResourceSet& resources) const {
  std::vector<NodeId> nodes;
  auto group = groups_.find(bundle.group);
  if (group == groups_.end()) return nodes;
  for (const Group::Place& place : group->second.bundles) {
    const ClusterView::Node* node = view_.Find(place.node);
    if (node == nullptr || !node->reachable || !resources.FitsIn(place.resources)) continue;
    if (place.node == options_.self && !queue_->HasCommitted(bundle)) continue;
    if (std::find(nodes.begin(), nodes.end(), place.node) == nodes.end()) {
      nodes.push_back(place.node);
    }
  }
  return nodes;
}

// Whether it still waits: the queue may have answered it at once, and then it is gone.
bool LeaseRouter::Enqueue(Entry* entry) {
  const RequestKey key = entry->key;
  entry->place = Entry::Place::kQueue;
  entry->in_class->queued.emplace(entry->sequence, entry);
  const absl::Status queued = queue_->Request(entry->ask);
  MANTA_CHECK(queued.ok());  // its id is in use by nobody else
  return requests_.contains(key);
}

// Takes it out of the own queue, unless it has its resources already.
bool LeaseRouter::Withdraw(Entry* entry) {
  if (!queue_->Withdraw(entry->key.first, entry->key.second)) {
    entry->in_class->queued.erase(entry->sequence);
    return false;
  }
  Detach(entry);
  return true;
}

void LeaseRouter::Send(Entry* entry, const NodeId& node, bool now_or_never) {
  Class* in_class = entry->in_class;
  entry->node = node;
  entry->forward_id = ++last_forward_;
  forwarded_.emplace(entry->forward_id, Forwarded{node, entry});
  if (now_or_never) {
    entry->place = Entry::Place::kAsked;
    view_.Sent(node, entry->forward_id, entry->ask.resources);
  } else {
    entry->place = Entry::Place::kWaitingThere;
    in_class->there.emplace(entry->sequence, entry);
    ++in_class->waiting_at[node];
  }
  entry->message.set_request_id(entry->forward_id);
  entry->message.set_now_or_never(now_or_never);
  if (actions_->Forward(node, entry->message)) return;
  const NodeId tried = node;
  forwarded_.erase(entry->forward_id);
  view_.Dropped(tried, entry->forward_id);
  Detach(entry);
  Unreachable(tried);
  Place(entry);
}

void LeaseRouter::Hold(Entry* entry) {
  entry->place = Entry::Place::kHeld;
  entry->in_class->held.emplace(entry->sequence, entry);
  ++held_;
}

void LeaseRouter::Refuse(Entry* entry, const std::string& why) {
  RequestLeaseReply reply = ReplyOf(RequestLeaseReply::REFUSED);
  reply.set_message(why);
  Finish(entry, reply);
}

void LeaseRouter::FinishCancelled(Entry* entry) {
  Finish(entry, ReplyOf(RequestLeaseReply::CANCELLED));
}

void LeaseRouter::Finish(Entry* entry, const RequestLeaseReply& reply) {
  const RequestKey key = entry->key;
  Erase(entry);
  actions_->Answer(key.first, key.second, reply);
}

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

void LeaseRouter::Watch(const PlacementGroupId& id) {
  Group& group = groups_[id];
  const absl::Time now = clock_->Now();
  if (group.watching || now - group.watched < kWatchPause) return;
  group.watching = true;
  group.watched = now;
  if (groups_.size() > kGroupsMax) ForgetUnusedGroups();
  actions_->WatchGroup(id);
}

void LeaseRouter::ForgetUnusedGroups() {
  absl::flat_hash_set<PlacementGroupId> used;
  for (const auto& [number, in_class] : classes_) used.insert(in_class->key.bundle.group);
  absl::erase_if(groups_, [&](const auto& entry) {
    return !entry.second.watching && !used.contains(entry.first);
  });
}

void LeaseRouter::GroupPlaced(const wire::v1::PlacementGroupInfo& info) {
  const absl::StatusOr<PlacementGroupId> id =
      PlacementGroupId::FromBinary(info.spec().placement_group_id());
  if (!id.ok()) return;
  Group& group = groups_[*id];
  group.watching = false;
  group.bundles.clear();
  for (const wire::v1::Bundle& bundle : info.spec().bundles()) {
    const absl::StatusOr<NodeId> node = NodeId::FromBinary(bundle.node_id());
    absl::StatusOr<ResourceSet> resources = ResourceSet::FromWire(bundle.resources());
    group.bundles.push_back({node.ok() ? *node : NodeId::Nil(),
                             resources.ok() ? *std::move(resources) : ResourceSet()});
  }
  SpillServed(*id);
  PlaceAgain(*id);
}

void LeaseRouter::BundlesChanged(const PlacementGroupId& group) {
  // What went from here may be elsewhere, or gone for good.
  if (auto known = groups_.find(group); known != groups_.end()) {
    std::vector<Group::Place>& bundles = known->second.bundles;
    for (size_t i = 0; i < bundles.size(); ++i) {
      const bool went =
          bundles[i].node == options_.self && !queue_->HasCommitted({group, static_cast<int>(i)});
      if (went) bundles[i].node = NodeId::Nil();
    }
  }
  PlaceAgain(group);
}

// Those of the group that wait here or in the own queue.
void LeaseRouter::PlaceAgain(const PlacementGroupId& group) {
  std::vector<RequestKey> waiting;
  for (const auto& [number, in_class] : classes_) {
    if (in_class->key.bundle.group != group) continue;
    for (const RequestKey& key : KeysOf(in_class->held)) waiting.push_back(key);
    for (const RequestKey& key : KeysOf(in_class->queued)) waiting.push_back(key);
  }
  PlaceAgain(waiting);
  // Served requests that wait for what is not here: perhaps it is elsewhere now.
  for (const auto& [key, bundle] : queue_->WaitingFor(group)) {
    if (!requests_.contains(key) && !queue_->HasCommitted(bundle)) return Watch(group);
  }
}

void LeaseRouter::GroupRemoved(const PlacementGroupId& group) {
  groups_.erase(group);
  std::vector<RequestKey> held;
  for (const auto& [number, in_class] : classes_) {
    if (in_class->key.bundle.group != group) continue;
    for (const RequestKey& key : KeysOf(in_class->held)) held.push_back(key);
  }
  for (const RequestKey& key : held) {
    Finish(requests_.at(key).get(), ReplyOf(RequestLeaseReply::GROUP_REMOVED));
  }
}

// --- Moving

void LeaseRouter::Rebalance() {
  if (view_.gains() != gains_seen_) RebalanceAll();
}

// What is free on this node changes nothing: what can run here waits in the own queue.
void LeaseRouter::RebalanceAll() {
  gains_seen_ = view_.gains();
  SyncSelf();
  std::vector<std::shared_ptr<Class>> waiting;
  for (const auto& [number, in_class] : classes_) {
    const bool waits =
        !in_class->held.empty() || !in_class->queued.empty() || !in_class->there.empty();
    if (waits && in_class->key.bundle.IsNode()) waiting.push_back(in_class);
  }
  for (const std::shared_ptr<Class>& in_class : waiting) Rebalance(in_class.get());
}

void LeaseRouter::Rebalance(Class* in_class) {
  const ClassKey& key = in_class->key;
  // What stays where it was sent; the rest waits for its node to be heard of.
  if (key.affinity.IsBound()) return PlaceAgain(KeysOf(in_class->held));
  while (Entry* entry = NextToMove(*in_class)) {
    const NodeId at = entry->place == Entry::Place::kQueue ? options_.self : entry->node;
    const std::optional<NodeId> node = chooser_.WithRoom(key.needs, key.spread, at);
    if (!node.has_value()) break;
    Move(entry, *node);
  }
  while (!in_class->held.empty()) {
    Entry* entry = in_class->held.begin()->second;
    if (chooser_.MayWaitAt(key.needs, options_.self)) {
      Detach(entry);
      Enqueue(entry);
    } else if (const auto wait_at = NodeToWaitAt(*in_class); wait_at.has_value()) {
      Detach(entry);
      Send(entry, *wait_at, /*now_or_never=*/false);
    } else {
      break;
    }
  }
}

// The oldest.
LeaseRouter::Entry* LeaseRouter::NextToMove(const Class& in_class) {
  Entry* oldest = nullptr;
  for (const Entries* entries : {&in_class.held, &in_class.queued, &in_class.there}) {
    if (entries->empty()) continue;
    Entry* first = entries->begin()->second;
    if (oldest == nullptr || first->sequence < oldest->sequence) oldest = first;
  }
  return oldest;
}

void LeaseRouter::Move(Entry* entry, const NodeId& node) {
  switch (entry->place) {
    case Entry::Place::kQueue:
      if (Withdraw(entry)) Start(entry, node);
      break;
    case Entry::Place::kWaitingThere:
      CancelThere(entry, Then::kPlaceAgain);
      entry->target = node;
      view_.Reserve(node, entry->ask.resources);
      break;
    default:
      Detach(entry);
      Start(entry, node);
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

void LeaseRouter::NextRound(RequestKey key) {
  Entry* entry = requests_.at(key).get();
  rounds_.erase({entry->round_at, key});
  entry->round_at = absl::InfiniteFuture();
  if (entry->in_class->key.affinity.kind == Affinity::Kind::kFail) return GiveUpWaiting(entry);
  if (entry->place == Entry::Place::kQueue) {
    if (Withdraw(entry)) Place(entry);
  } else if (entry->place == Entry::Place::kWaitingThere) {
    CancelThere(entry, Then::kPlaceAgain);
  }
}

// The node that it names has had no room for too long.
void LeaseRouter::GiveUpWaiting(Entry* entry) {
  switch (entry->place) {
    case Entry::Place::kQueue:
      if (!Withdraw(entry)) return;
      break;
    case Entry::Place::kAsked:
    case Entry::Place::kWaitingThere:
      return CancelThere(entry, Then::kRefuse);
    case Entry::Place::kNowhere:
    case Entry::Place::kHeld:
      break;
  }
  Refuse(entry, WhyUnavailable(entry->in_class->key));
}

// Only the oldest is warned of: what waits behind it waits for the same.
void LeaseRouter::WarnAndGiveUp(Class* in_class) {
  const absl::Time now = clock_->Now();
  while (!in_class->held.empty()) {
    Entry* oldest = in_class->held.begin()->second;
    const bool infeasible = IsInfeasible(in_class->key);
    if (infeasible && now - oldest->since >= options_.infeasible_timeout) {
      Refuse(oldest, ExplainHeld(*oldest));
      continue;
    }
    if (now - oldest->since < options_.warn_after || in_class->warned == oldest->sequence) return;
    in_class->warned = oldest->sequence;
    return actions_->Warn({oldest->key.first, oldest->key.second, oldest->ask.task_name, infeasible,
                           ExplainHeld(*oldest)});
  }
}

bool LeaseRouter::IsInfeasible(const ClassKey& key) {
  if (key.bundle.IsNode()) return !chooser_.IsFeasible(key.needs);
  auto group = groups_.find(key.bundle.group);
  if (group == groups_.end() || group->second.bundles.empty()) return false;
  const std::vector<Group::Place>& bundles = group->second.bundles;
  return std::none_of(bundles.begin(), bundles.end(), [&](const Group::Place& place) {
    return key.needs.resources.FitsIn(place.resources);
  });
}

std::optional<std::pair<NodeId, uint64_t>> LeaseRouter::WaitsAt(ClientId client,
                                                                uint64_t request_id) const {
  auto found = requests_.find({client, request_id});
  if (found == requests_.end() || found->second->forward_id == 0) return std::nullopt;
  return std::make_pair(found->second->node, found->second->forward_id);
}

std::string LeaseRouter::Explain(ClientId client, uint64_t request_id) {
  auto found = requests_.find({client, request_id});
  if (found == requests_.end() || found->second->place != Entry::Place::kHeld) {
    return queue_->Explain(client, request_id);
  }
  return ExplainHeld(*found->second);
}

std::string LeaseRouter::ExplainHeld(const Entry& entry) {
  const ClassKey& key = entry.in_class->key;
  const bool infeasible = IsInfeasible(key);
  if (!key.bundle.IsNode()) {
    return infeasible ? ExplainSmallBundles(entry.ask.task_name, key.bundle.group, key.needs)
                      : ExplainUnplacedGroup(entry.ask.task_name, key.bundle.group);
  }
  if (infeasible) return ExplainInfeasible(entry.ask.task_name, key.needs, view_);
  return absl::StrCat("The task ", entry.ask.task_name, " waits for ",
                      key.needs.resources.ToString(),
                      ": all nodes that could run it are in use, or cannot be reached. It runs "
                      "once other tasks and actors give enough back.");
}

std::vector<wire::v1::Demand> LeaseRouter::Demands(size_t kinds_max) {
  struct Waiting {
    uint64_t count = 0;
    const Entry* oldest = nullptr;
    bool infeasible = false;
  };
  absl::flat_hash_map<const Class*, uint64_t> starting;  // has its resources, waits for a worker
  for (const RequestKey& key : queue_->AwaitingWorkers()) {
    auto found = requests_.find(key);
    if (found != requests_.end()) ++starting[found->second->in_class];
  }
  std::vector<ResourceSet> order;
  absl::flat_hash_map<ResourceSet, Waiting> by_resources;
  for (const auto& [number, in_class] : classes_) {
    if (!in_class->key.bundle.IsNode()) continue;
    uint64_t count = in_class->held.size() + in_class->queued.size() + in_class->there.size();
    const Entry* oldest = NextToMove(*in_class);
    if (auto gone = starting.find(in_class.get()); gone != starting.end()) {
      count -= std::min(count, gone->second);
    }
    if (count == 0) continue;
    const ResourceSet& resources = in_class->key.needs.resources;
    if (!by_resources.contains(resources)) {
      if (order.size() == kinds_max) continue;
      order.push_back(resources);
    }
    Waiting& waiting = by_resources[resources];
    waiting.count += std::max<uint64_t>(count, in_class->backlog);
    waiting.infeasible |= IsInfeasible(in_class->key);
    if (waiting.oldest == nullptr || oldest->sequence < waiting.oldest->sequence) {
      waiting.oldest = oldest;
    }
  }
  std::vector<wire::v1::Demand> demands;
  for (const ResourceSet& resources : order) {
    const Waiting& waiting = by_resources.at(resources);
    wire::v1::Demand& demand = demands.emplace_back();
    *demand.mutable_resources() = resources.ToWire();
    demand.set_count(waiting.count);
    demand.set_infeasible(waiting.infeasible);
    demand.set_reason(ReasonOf(*waiting.oldest));
  }
  return demands;
}

std::string LeaseRouter::ReasonOf(const Entry& entry) {
  if (entry.place == Entry::Place::kHeld) return ExplainHeld(entry);
  if (entry.place == Entry::Place::kQueue)
    return queue_->Explain(entry.key.first, entry.key.second);
  return absl::StrCat("The task ", entry.ask.task_name, " waits for ",
                      entry.ask.resources.ToString(), " at node ", entry.node.Hex(), ".");
}

std::string LeaseRouter::WhyRefused(const ClassKey& key) const {
  const std::string start =
      absl::StrCat("its NodeAffinitySchedulingStrategy with soft=False names the node ",
                   key.affinity.node.Hex());
  const ClusterView::Node* node = view_.Find(key.affinity.node);
  if (node == nullptr) {
    return absl::StrCat(start,
                        ", which is not in the cluster. Name a node of ray.nodes() that is "
                        "alive, or pass soft=True.");
  }
  if (node->draining) {
    return absl::StrCat(start,
                        ", which is being drained: nothing new is placed there. Name another "
                        "node, or pass soft=True.");
  }
  return absl::StrCat(start, ", which can never hold the ", key.needs.resources.ToString(),
                      " that it asks for: it has ", node->total.ToString(),
                      " in total. Name another node, ask for less, or pass soft=True.");
}

std::string LeaseRouter::WhyUnavailable(const ClassKey& key) {
  return absl::StrCat(
      "its NodeAffinitySchedulingStrategy with _fail_on_unavailable=True names the "
      "node ",
      key.affinity.node.Hex(), ", which does not have the ", key.needs.resources.ToString(),
      " that it asks for free now. Try again when other tasks and actors there "
      "have ended, or wait for it without _fail_on_unavailable.");
}

// --- Invariants

void LeaseRouter::CheckInvariants() {
  chooser_.CheckInvariants();
  size_t held = 0;
  size_t there = 0;
  size_t entries = 0;
  for (const auto& [number, in_class] : classes_) {
    MANTA_CHECK(class_numbers_.at(in_class->key) == number);
    MANTA_CHECK(in_class->entries > 0);
    entries += in_class->entries;
    held += in_class->held.size();
    for (const auto& [sequence, entry] : in_class->held) {
      MANTA_CHECK(entry->place == Entry::Place::kHeld);
    }
    for (const auto& [sequence, entry] : in_class->queued) {
      MANTA_CHECK(entry->place == Entry::Place::kQueue);
    }
  }
  MANTA_CHECK(held == held_ && entries == requests_.size());
  for (const auto& [key, entry] : requests_) {
    const bool is_there =
        entry->place == Entry::Place::kAsked || entry->place == Entry::Place::kWaitingThere;
    MANTA_CHECK_MSG(entry->place != Entry::Place::kNowhere, "ROUTE-1");
    MANTA_CHECK_MSG(is_there == (entry->forward_id != 0), "ROUTE-1");
    const bool in_queue = queue_->Has(key.first, key.second);
    MANTA_CHECK_MSG(in_queue == (entry->place == Entry::Place::kQueue), "ROUTE-1");
    if (!is_there) continue;
    ++there;
    MANTA_CHECK(forwarded_.at(entry->forward_id).entry == entry.get());
    MANTA_CHECK(forwarded_.at(entry->forward_id).node == entry->node);
    MANTA_CHECK(view_.Find(entry->node) != nullptr);
  }
  for (const auto& [id, forwarded] : forwarded_) there -= forwarded.entry != nullptr ? 1 : 0;
  MANTA_CHECK(there == 0);
  for (const auto& [lease, remote] : remote_leases_) {
    MANTA_CHECK_MSG(view_.Find(remote.node) != nullptr, "ROUTE-3");
  }
}

}  // namespace ray::scheduling
