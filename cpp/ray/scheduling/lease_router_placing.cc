// Where a request goes: placed, moved when there is room elsewhere, given back, answered.
#include "ray/base/check.h"
#include "ray/scheduling/lease_router_parts.h"
#include "ray/scheduling/strategy.h"

namespace ray::scheduling {

using base::NodeId;
using wire::v1::RequestLeaseReply;

namespace {

// Requests of one class that wait at one other node, at most: as many as may get something there
// before the next ones can follow.
constexpr size_t kWaitingThereMax = 4;
// A node that a request names may have joined a moment before, and not be in the view yet.
constexpr absl::Duration kUnknownNodeGrace = absl::Milliseconds(500);
// What must not wait does so long: by then who holds leases without using them has given them back.
constexpr absl::Duration kUnavailableGrace = absl::Milliseconds(500);

}  // namespace

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

}  // namespace ray::scheduling
