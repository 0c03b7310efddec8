// Nodes that pull from each other, also copies in the making, over a virtual network that delays,
// repeats and loses messages, while nodes die and memory is short. Replay a failure with
// --gtest_filter=*/<seed>.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "ray/transfer/offer_table.h"
#include "ray/transfer/pull_manager.h"
#include "ray/transfer/push_table.h"

namespace ray::transfer {
namespace {

using base::NodeId;
using base::ObjectId;

constexpr size_t kNodes = 6;
constexpr size_t kObjects = 40;
constexpr uint64_t kCapacity = 2000;
constexpr uint64_t kChunk = 64;

class Cluster;

// A raylet as far as transfer goes: both sides, and a store that knows sizes only.
class Node final : public PullManager::Actions {
 public:
  Node(Cluster* cluster, const NodeId& node_id);

  struct Copy {
    uint64_t size = 0;
    bool primary = false;
    bool complete = false;
    bool held = false;
    std::set<uint64_t> parts = {};  // of one that is not complete, by their offsets
  };
  struct Request {
    std::set<size_t> wanted;   // objects
    std::set<size_t> missing;  // of these
  };

  void Want(std::vector<PullManager::Wanted> wanted, std::set<size_t> objects,
            PullPriority priority);
  void Resolve(const ObjectId& id);
  void CancelSome();
  void Check() const;
  void TryReserve(const ObjectId& object, uint64_t size, int tries);
  bool MakeRoom(uint64_t size);

  void Grant(const NodeId& reader, const ObjectId& object, PullAnswer* answer, uint32_t tier_below);
  void EndGrant(const NodeId& reader, const ObjectId& object);

  void Ask(const NodeId& node, const ObjectId& id, uint64_t number, uint32_t tier_below) override;
  void AskMore(const NodeId& node, const ObjectId& id, uint64_t number,
               uint64_t known_bytes) override;
  void End(const NodeId& node, const ObjectId& id, bool fetched) override;
  void Reserve(const ObjectId& id, const ObjectFacts& facts) override;
  void Fetch(const NodeId& node, const ObjectId& id, store::Extent part, uint64_t number) override;
  void Seal(const ObjectId& id, bool hold) override;
  void Unhold(const ObjectId& id) override { copies.at(id).held = false; }
  void Abort(const ObjectId& id) override {
    offers.GiveUp(id);
    offers.AfterReaders(id, [this, id] { Drop(id); });
  }
  void Fail(const ObjectId& id, PullFailure failure, const std::string& reason) override;
  void Drop(const ObjectId& id) {
    used -= copies.at(id).size;
    copies.erase(id);
  }

  Cluster* const cluster;
  const NodeId id;
  bool alive = true;
  PullManager pulls;
  PushTable pushes{2};
  OfferTable offers;
  std::set<std::pair<NodeId, ObjectId>> partial_grants;
  std::map<ObjectId, Copy> copies;
  uint64_t used = 0;
  std::map<PullManager::RequestId, Request> requests;
  std::map<NodeId, uint64_t> epochs;                     // of the connection to a node
  std::map<NodeId, absl::Time> last_delivery;            // frames of a connection keep their order
  std::map<uint64_t, std::pair<NodeId, ObjectId>> asks;  // without an answer
  std::map<uint64_t, std::pair<NodeId, ObjectId>> asks_for_more;
  std::vector<ObjectId> failed_now;
};

class Cluster {
 public:
  explicit Cluster(uint32_t seed) : random_(seed), with_faults_(seed % 2 == 0) {
    for (size_t i = 0; i < kNodes; ++i) {
      NodeId id;
      id.mutable_data()[0] = static_cast<uint8_t>(i);
      ids_.push_back(id);
      nodes_[id] = std::make_unique<Node>(this, id);
    }
    for (size_t i = 0; i < kObjects; ++i) {
      ObjectId id;
      id.mutable_data()[0] = static_cast<uint8_t>(i);
      objects_.push_back(id);
      Node& home = AnyNode();
      const uint64_t size = 1 + Random(Random(6) == 0 ? 900 : 200);
      if (home.used + size > kCapacity / 2) continue;  // exists nowhere
      home.copies[id] = {.size = size, .primary = true, .complete = true};
      home.used += size;
      homes_[id] = home.id;
      if (size >= 4 * kChunk || large_.empty()) large_.push_back(i);
    }
  }

  uint32_t Random(uint32_t below) { return static_cast<uint32_t>(random_() % below); }
  Node& AnyNode() { return *nodes_.at(ids_[Random(static_cast<uint32_t>(ids_.size()))]); }
  Node& At(const NodeId& id) { return *nodes_.at(id); }
  const ObjectId& object(size_t i) const { return objects_.at(i); }
  base::VirtualClock* clock() { return &clock_; }
  bool with_faults() const { return with_faults_ && !quiet_; }
  bool with_faults_ever() const { return with_faults_; }
  // A living node has it and keeps it.
  bool IsSafe(const ObjectId& id) {
    auto home = homes_.find(id);
    return home != homes_.end() && At(home->second).alive;
  }
  const NodeId* HomeOf(const ObjectId& id) const {
    auto home = homes_.find(id);
    return home == homes_.end() ? nullptr : &home->second;
  }

  void After(absl::Duration delay, std::function<void()> run) {
    events_.emplace(std::pair(clock_.Now() + delay, ++last_event_), std::move(run));
  }
  absl::Duration Delay() { return absl::Microseconds(1 + Random(20'000)); }
  // Over the connection from one node to another, in order; not if it breaks before.
  void Deliver(Node& from, const NodeId& to, std::function<void()> run) {
    absl::Time& last = from.last_delivery[to];
    last = std::max(last, clock_.Now() + Delay());
    After(last - clock_.Now(), [&from, to, epoch = from.epochs[to], run = std::move(run)] {
      if (from.alive && from.epochs[to] == epoch) run();
    });
  }
  void BreakConnection(Node& from, Node& to) {
    ++from.epochs[to.id];
    EndGrants(to, from.id);
    for (const auto& [number, ask] : std::map(from.asks_for_more)) {
      if (ask.first != to.id) continue;
      from.asks_for_more.erase(number);
      from.pulls.OnMore(ask.second, number, 0);
    }
    for (const auto& [number, ask] : std::map(from.asks)) {
      if (ask.first != to.id) continue;
      from.asks.erase(number);
      from.pulls.OnAnswer(ask.second, number,
                          {.outcome = PullAnswer::Outcome::kBroken, .reason = "broke"});
    }
  }
  void EndGrants(Node& source, const NodeId& reader) {
    for (const ObjectId& object : source.pushes.Disconnected(reader)) {
      source.EndGrant(reader, object);
    }
  }
  void Kill(Node& node) {
    node.alive = false;
    for (const NodeId& id : ids_) {
      Node& other = At(id);
      if (!other.alive) continue;
      BreakConnection(other, node);
      EndGrants(other, node.id);
      After(Delay(), [&other, dead = node.id] {
        if (other.alive) other.pulls.NodeGone(dead);
      });
    }
  }

  void SubmitSome() {
    std::vector<size_t> some;
    for (uint32_t n = 1 + Random(4); n > 0; --n) some.push_back(Random(kObjects));
    Submit(AnyNode(), some);
  }
  void Broadcast() {
    const size_t i = large_[Random(static_cast<uint32_t>(large_.size()))];
    for (const NodeId& id : ids_) Submit(At(id), {i});
  }
  void Submit(Node& node, const std::vector<size_t>& some) {
    if (!node.alive) return;
    std::vector<PullManager::Wanted> wanted;
    std::set<size_t> missing;
    for (const size_t i : some) {
      auto copy = node.copies.find(objects_[i]);
      const bool here = copy != node.copies.end() && copy->second.complete;
      if (copy != node.copies.end() && copy->second.primary) continue;
      PullManager::Wanted one{.id = objects_[i], .here = here};
      if (const NodeId* home = HomeOf(objects_[i])) one.sources.push_back(*home);
      while (Random(2) == 0) one.sources.push_back(ids_[Random(kNodes)]);
      if (!here) missing.insert(i);
      wanted.push_back(std::move(one));
    }
    if (missing.empty()) return;
    node.Want(std::move(wanted), std::move(missing),
              Random(3) == 0 ? PullPriority::kPrefetch : PullPriority::kGet);
  }

  void Step() {
    const uint32_t dice = Random(100);
    if (dice < 30) SubmitSome();
    if (dice == 30) AnyNode().CancelSome();
    if (dice > 30 && dice < 34) Broadcast();
    if (with_faults()) {
      if (dice == 40) BreakConnection(AnyNode(), AnyNode());
      if (dice == 41 && Random(60) == 0 && living() > 2) Kill(AnyNode());
      if (dice == 42) AnyNode().pulls.Revoke();
    }
    Run(absl::Microseconds(Random(5000)));
  }
  size_t living() const {
    size_t count = 0;
    for (const auto& [id, node] : nodes_) count += node->alive ? 1 : 0;
    return count;
  }
  void Run(absl::Duration time) {
    const absl::Time until = clock_.Now() + time;
    while (true) {
      absl::Time next = absl::InfiniteFuture();
      if (!events_.empty()) next = events_.begin()->first.first;
      for (const auto& [id, node] : nodes_) {
        if (node->alive) next = std::min(next, node->pulls.NextDeadline());
      }
      if (next > until) break;
      clock_.Advance(std::max(next - clock_.Now(), absl::ZeroDuration()));
      for (const auto& [id, node] : nodes_) {
        if (node->alive && node->pulls.NextDeadline() <= clock_.Now()) node->pulls.Tick();
      }
      if (events_.empty() || events_.begin()->first.first > clock_.Now()) continue;
      auto event = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      event();
      for (const auto& [id, node] : nodes_) node->Check();
    }
    clock_.Advance(until - clock_.Now());
  }
  void BeQuiet() { quiet_ = true; }
  const std::map<NodeId, std::unique_ptr<Node>>& nodes() const { return nodes_; }

  uint64_t fetched = 0;
  uint64_t fetched_from_partial = 0;  // parts

 private:
  std::mt19937 random_;
  const bool with_faults_;
  bool quiet_ = false;
  base::VirtualClock clock_;
  std::vector<NodeId> ids_;
  std::map<NodeId, std::unique_ptr<Node>> nodes_;
  std::vector<ObjectId> objects_;
  std::map<ObjectId, NodeId> homes_;
  std::vector<size_t> large_;
  std::map<std::pair<absl::Time, uint64_t>, std::function<void()>> events_;
  uint64_t last_event_ = 0;
};

Node::Node(Cluster* of, const NodeId& node_id)
    : cluster(of),
      id(node_id),
      pulls({.self = node_id,
             .memory_limit = kCapacity / 2,
             .chunk_bytes = kChunk,
             .chunks_per_node = 3,
             .asked_max = 5},
            of->clock(), this) {}

void Node::Want(std::vector<PullManager::Wanted> wanted, std::set<size_t> objects,
                PullPriority priority) {
  // Answers and failures come by events, never within this call, but for objects without sources.
  std::set<size_t> missing = std::move(objects);
  failed_now.clear();
  const PullManager::RequestId request = pulls.Pull(std::move(wanted), priority);
  for (const ObjectId& failed : failed_now) {
    std::erase_if(missing, [&](size_t i) { return cluster->object(i) == failed; });
  }
  if (missing.empty()) return pulls.Cancel(request);
  requests[request] = {missing, std::move(missing)};
}

void Node::Resolve(const ObjectId& object) {
  for (auto it = requests.begin(); it != requests.end();) {
    std::erase_if(it->second.missing, [&](size_t i) { return cluster->object(i) == object; });
    if (!it->second.missing.empty()) {
      ++it;
      continue;
    }
    const PullManager::RequestId request = it->first;
    it = requests.erase(it);
    pulls.Cancel(request);
  }
}

void Node::CancelSome() {
  if (!alive || requests.empty()) return;
  const PullManager::RequestId request = requests.begin()->first;
  requests.erase(requests.begin());
  pulls.Cancel(request);
}

void Node::Check() const {
  if (!alive) return;
  pulls.CheckInvariants();
  pushes.CheckInvariants();
  ASSERT_LE(used, kCapacity);
}

void Node::Grant(const NodeId& reader, const ObjectId& object, PullAnswer* answer,
                 uint32_t tier_below) {
  answer->outcome = PullAnswer::Outcome::kAbsent;
  auto copy = copies.find(object);
  if (copy == copies.end()) return;
  const bool complete = copy->second.complete;
  const auto partial = complete ? std::nullopt : pulls.FindPartial(object);
  if (!complete && !partial.has_value()) return;
  if (partial.has_value() && tier_below > 0 && partial->tier >= tier_below) return;
  const uint64_t size = copy->second.size;
  const PushKind kind = tier_below > 0       ? PushKind::kResumed
                        : size >= 4 * kChunk ? PushKind::kLarge
                                             : PushKind::kSmall;
  const PushTable::Verdict verdict = pushes.Begin(reader, object, kind);
  if (!verdict.granted) {
    answer->outcome = PullAnswer::Outcome::kBusy;
    answer->other_nodes = verdict.other_nodes;
    return;
  }
  answer->outcome = PullAnswer::Outcome::kReady;
  answer->facts.size_bytes = size;
  if (complete) return;
  answer->available_bytes = *offers.Begin(object, partial->available_bytes);
  answer->tier = partial->tier;
  partial_grants.emplace(reader, object);
}

void Node::EndGrant(const NodeId& reader, const ObjectId& object) {
  if (partial_grants.erase({reader, object}) == 0) return;
  offers.Forget(reader, object);
  // Once the last of it was acknowledged.
  cluster->After(cluster->Delay(), [this, object] { offers.End(object); });
}

void Node::Ask(const NodeId& node, const ObjectId& object, uint64_t number, uint32_t tier_below) {
  Node& source = cluster->At(node);
  if (!source.alive) {
    return cluster->After(absl::ZeroDuration(), [this, object, number] {
      if (!alive) return;
      pulls.OnAnswer(object, number, {.outcome = PullAnswer::Outcome::kAbsent, .reason = "dead"});
    });
  }
  asks[number] = {node, object};
  cluster->Deliver(*this, node, [this, &source, object, number, tier_below] {
    PullAnswer answer;
    source.Grant(id, object, &answer, tier_below);
    const int times = cluster->with_faults() && cluster->Random(5) == 0 ? 2 : 1;
    for (int i = 0; i < times; ++i) {
      cluster->Deliver(*this, source.id, [this, object, number, answer] {
        asks.erase(number);
        pulls.OnAnswer(object, number, answer);
      });
    }
  });
}

void Node::AskMore(const NodeId& node, const ObjectId& object, uint64_t number,
                   uint64_t known_bytes) {
  Node& source = cluster->At(node);
  if (!source.alive) {
    return cluster->After(absl::ZeroDuration(), [this, object, number] {
      if (alive) pulls.OnMore(object, number, 0);
    });
  }
  asks_for_more[number] = {node, object};
  cluster->Deliver(*this, node, [this, &source, object, number, known_bytes] {
    auto answer = [this, &source, object, number](uint64_t available) {
      cluster->Deliver(*this, source.id, [this, object, number, available] {
        asks_for_more.erase(number);
        pulls.OnMore(object, number, available);
      });
    };
    if (!source.pushes.IsGranted(id, object)) return answer(0);
    source.offers.AskMore(id, object, known_bytes, std::move(answer));
  });
}

void Node::End(const NodeId& node, const ObjectId& object, bool fetched) {
  Node& source = cluster->At(node);
  cluster->Deliver(*this, node, [this, &source, object, fetched] {
    if (source.pushes.End(id, object, fetched)) source.EndGrant(id, object);
  });
}

bool Node::MakeRoom(uint64_t size) {
  while (used + size > kCapacity) {
    auto victim = copies.begin();
    while (victim != copies.end()) {
      const Copy& copy = victim->second;
      bool pinned = copy.primary || !copy.complete || copy.held;
      for (const auto& [other, node] : cluster->nodes()) {
        pinned = pinned || pushes.IsGranted(other, victim->first);
      }
      if (!pinned) break;
      ++victim;
    }
    if (victim == copies.end()) return false;
    const ObjectId evicted = victim->first;
    Drop(evicted);
    for (auto& [request, waiting] : requests) {
      for (size_t i = 0; i < kObjects; ++i) {
        if (cluster->object(i) == evicted && waiting.wanted.contains(i)) waiting.missing.insert(i);
      }
    }
    cluster->After(absl::ZeroDuration(), [this, evicted] {
      if (alive) pulls.OnEvicted(evicted);
    });
  }
  return true;
}

void Node::Reserve(const ObjectId& object, const ObjectFacts& facts) {
  offers.AfterReaders(object, [this, object, size = facts.size_bytes] {
    cluster->After(cluster->Delay(), [this, object, size] { TryReserve(object, size, 20); });
  });
}

void Node::TryReserve(const ObjectId& object, uint64_t size, int tries) {
  if (!alive) return;
  if (copies.contains(object)) return pulls.OnExists(object);
  if (MakeRoom(size)) {
    copies[object] = {.size = size};
    used += size;
    return pulls.OnReserved(object);
  }
  if (tries == 0) return pulls.OnNoMemory(object, "full");
  cluster->After(absl::Milliseconds(50),
                 [this, object, size, tries] { TryReserve(object, size, tries - 1); });
}

void Node::Fetch(const NodeId& node, const ObjectId& object, store::Extent part, uint64_t number) {
  Node& source = cluster->At(node);
  const int times = cluster->with_faults() && cluster->Random(10) == 0 ? 2 : 1;
  const bool breaks = cluster->with_faults() && cluster->Random(50) == 0;
  for (int i = 0; i < times; ++i) {
    cluster->After(cluster->Delay(), [this, &source, object, part, number, breaks] {
      if (!alive) return;
      auto copy = source.copies.find(object);
      const bool granted = source.alive && !breaks && source.pushes.IsGranted(id, object);
      if (granted) {
        // PUSH-2, OFFER-1: what is granted is there.
        ASSERT_TRUE(copy != source.copies.end());
        ASSERT_TRUE(copy->second.complete || copy->second.parts.contains(part.offset));
        ASSERT_LE(part.end(), copy->second.size);
        cluster->fetched_from_partial += copy->second.complete ? 0 : 1;
      }
      // PULL-2: bytes never arrive where there is no memory for them.
      auto into = copies.find(object);
      if (granted && into != copies.end()) {
        ASSERT_EQ(into->second.size, copy->second.size);
        into->second.parts.insert(part.offset);
      }
      pulls.OnFetched(object, number, granted ? "" : "refused");
      if (const auto partial = pulls.FindPartial(object); partial.has_value()) {
        offers.Grow(object, partial->available_bytes);
      }
    });
  }
}

void Node::Seal(const ObjectId& object, bool hold) {
  Copy& copy = copies.at(object);
  ASSERT_FALSE(copy.complete);
  ASSERT_EQ(copy.parts.size(), (copy.size + kChunk - 1) / kChunk);
  copy.complete = true;
  offers.Grow(object, UINT64_MAX);
  copy.held = hold;
  ++cluster->fetched;
  cluster->After(absl::ZeroDuration(), [this, object] {
    auto it = copies.find(object);
    if (alive && it != copies.end() && it->second.complete) Resolve(object);
  });
}

void Node::Fail(const ObjectId& object, PullFailure failure, const std::string& reason) {
  // Without faults, what somebody keeps is found.
  if (failure == PullFailure::kLost && !cluster->with_faults_ever()) {
    ASSERT_FALSE(cluster->IsSafe(object)) << reason;
  }
  failed_now.push_back(object);
  cluster->After(absl::ZeroDuration(), [this, object] {
    if (!alive) return;
    // Should it come and go for others, that is nothing to these requests.
    for (auto& [request, waiting] : requests) {
      std::erase_if(waiting.wanted, [&](size_t i) { return cluster->object(i) == object; });
    }
    Resolve(object);
  });
}

class TransferRandom : public testing::TestWithParam<uint32_t> {};

TEST_P(TransferRandom, EveryRequestEndsAndNothingIsLeft) {
  Cluster cluster(GetParam());
  for (int step = 0; step < 3000; ++step) {
    cluster.Step();
    if (HasFailure()) FAIL() << "at step " << step;
  }
  cluster.BeQuiet();
  cluster.Run(absl::Seconds(120));
  for (const auto& [id, node] : cluster.nodes()) {
    if (!node->alive) continue;
    EXPECT_TRUE(node->requests.empty()) << "a request never ends";
    EXPECT_EQ(node->pulls.pulls(), 0u);
    EXPECT_EQ(node->pulls.fetching_bytes(), 0u);
    EXPECT_EQ(node->pushes.grants(), 0u) << "a pin is never given back";
    EXPECT_EQ(node->offers.offers(), 0u);
    for (const auto& [object, copy] : node->copies) {
      EXPECT_TRUE(copy.complete && !copy.held);
    }
  }
  EXPECT_GT(cluster.fetched, 100u) << "or the test shows little";
  EXPECT_GT(cluster.fetched_from_partial, 0u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, TransferRandom, testing::Range(1u, 41u));

}  // namespace
}  // namespace ray::transfer
