#include "tests/sim/lease_cluster.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "ray/base/check.h"

namespace ray::sim {

using base::LeaseId;
using base::NodeId;
using base::WorkerId;
using resources::ResourceSet;
using scheduling::ClientId;
using scheduling::LeaseEnd;
using scheduling::LeaseQueue;
using scheduling::LeaseRouter;
using wire::v1::RequestLeaseReply;

namespace {

constexpr absl::Duration kInfeasibleTimeout = absl::Seconds(3);
constexpr absl::Duration kDeathIsNoticed = absl::Milliseconds(300);
// More than this without an end is a hang.
constexpr absl::Duration kLongest = absl::Minutes(30);

template <typename Id>
Id IdFrom(uint64_t number) {
  std::string bytes(Id::kSize, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(number >> (8 * i));
  return Id::FromTrusted(bytes.data());
}

}  // namespace

struct LeaseCluster::Task {
  ResourceSet resources;
  absl::Duration length;
  bool spread = false;
  std::optional<size_t> affinity;
  bool soft = false;
  std::optional<size_t> preferred;
  bool only_b = false;  // a rule about labels
};

// A process of a node that runs its tasks on leased workers.
struct LeaseCluster::Owner {
  size_t node = 0;
  ClientId client = 0;
  bool alive = true;
  uint64_t last_request = 0;
  std::map<uint64_t, Task> open;
  std::map<LeaseId, Task> running;
};

// A connection: `from` asks, `to` answers.
struct LeaseCluster::Link {
  size_t from = 0;
  size_t to = 0;
  ClientId client = 0;  // of `from`, at `to`
  bool open = true;
  absl::Time last_forth;
  absl::Time last_back;
  std::set<uint64_t> unanswered;
};

class LeaseCluster::Node final : public LeaseQueue::Actions, public LeaseRouter::Actions {
 public:
  Node(LeaseCluster* cluster, size_t number, const NodeId& id, const ResourceSet& total,
       scheduling::Labels node_labels)
      : number(number),
        id(id),
        labels(node_labels),
        queue({.warn_after = absl::Seconds(5)}, resources::NodeResources(total), &cluster->clock_,
              this),
        router({.self = id,
                .labels = std::move(node_labels),
                .infeasible_timeout = kInfeasibleTimeout,
                .seed = cluster->options_.seed * 1000 + number},
               &queue, &cluster->clock_, this),
        cluster_(cluster) {}

  // Runs the timers when they are due.
  void Arm() {
    const absl::Time next = std::min(queue.NextTick(), router.NextTick());
    if (next >= armed_ || next == absl::InfiniteFuture()) return;
    const absl::Duration delay = std::max(absl::Microseconds(1), next - cluster_->clock_.Now());
    armed_ = cluster_->clock_.Now() + delay;
    cluster_->After(delay, [cluster = cluster_, number = number, at = armed_] {
      Node* node = cluster->nodes_[number].get();
      if (node == nullptr || node->armed_ != at) return;
      node->armed_ = absl::InfiniteFuture();
      node->queue.Tick();
      node->router.Tick();
      cluster->Touch(number);
    });
  }
  void Check() {
    queue.CheckInvariants();
    router.CheckInvariants();
  }

  // -- From the queue.
  std::optional<WorkerId> AcquireWorker(const LeaseId& lease, const base::JobId&,
                                        const std::string&) override {
    const WorkerId worker = IdFrom<WorkerId>(++cluster_->last_id_);
    if (cluster_->Chance(0.7)) return worker;
    starting_.insert(lease);
    cluster_->After(absl::Milliseconds(1 + cluster_->Any(50)),
                    [cluster = cluster_, number = number, lease, worker] {
                      Node* node = cluster->nodes_[number].get();
                      if (node == nullptr || node->starting_.erase(lease) == 0) return;
                      node->queue.WorkerReady(lease, worker);
                      cluster->Touch(number);
                    });
    return std::nullopt;
  }
  void AbandonWorker(const LeaseId& lease) override { starting_.erase(lease); }
  void ReleaseWorker(const WorkerId& worker, scheduling::WorkerAfter after) override {
    auto found = running_.find(worker);
    MANTA_CHECK(found != running_.end());
    used_ -= found->second.second;
    const LeaseId lease = found->second.first;
    running_.erase(found);
    cluster_->LeaseEnded(lease, after != scheduling::WorkerAfter::kKill);
  }
  void GrantLease(const scheduling::LeaseGrant& grant) override {
    used_ += grant.allocation->quantities();
    MANTA_CHECK_MSG(used_.FitsIn(queue.resources().total()), "a resource is granted twice");
    MANTA_CHECK(
        running_.emplace(grant.worker, std::pair(grant.lease, grant.allocation->quantities()))
            .second);
    cluster_->live_leases_.insert(grant.lease);
    RequestLeaseReply reply;
    reply.set_outcome(RequestLeaseReply::GRANTED);
    reply.set_lease_id(grant.lease.BinaryString());
    reply.mutable_worker()->set_node_id(id.BinaryString());
    Settle(grant.client, grant.request_id, reply);
  }
  void RefuseLease(ClientId client, uint64_t request_id) override {
    RequestLeaseReply reply;
    reply.set_outcome(RequestLeaseReply::GROUP_REMOVED);
    Settle(client, request_id, reply);
  }
  void GiveUp(ClientId client, uint64_t request_id, const std::string&) override {
    RequestLeaseReply reply;
    reply.set_outcome(RequestLeaseReply::REFUSED);
    Settle(client, request_id, reply);
  }
  void ReclaimLeases(ClientId) override {}
  void Warn(const scheduling::LeaseWarning&) override {}
  void Settle(ClientId client, uint64_t request_id, const RequestLeaseReply& reply) {
    router.Settled(client, request_id);
    Answer(client, request_id, reply);
  }

  // -- From the router.
  void Answer(ClientId client, uint64_t request_id, const RequestLeaseReply& reply) override {
    cluster_->Answered(number, client, request_id, reply);
  }
  bool Forward(const NodeId& node, const wire::v1::RequestLease& request) override {
    const size_t to = cluster_->node_of_.at(node);
    // Its socket refuses; of a machine that vanished one hears nothing.
    if (cluster_->dead_.contains(to) && cluster_->Chance(0.5)) return false;
    Link* link = cluster_->LinkFrom(number, to);
    link->unanswered.insert(request.request_id());
    cluster_->Deliver(link, /*forth=*/true, [client = link->client, request](Node* there) {
      MANTA_CHECK(there->router.Serve(client, request).ok());
    });
    return true;
  }
  void CancelForwarded(const NodeId& node, uint64_t forward_id) override {
    Link* link = cluster_->LinkFrom(number, cluster_->node_of_.at(node));
    cluster_->Deliver(link, /*forth=*/true, [client = link->client, forward_id](Node* there) {
      if (!there->queue.Cancel(client, forward_id)) return;
      RequestLeaseReply reply;
      reply.set_outcome(RequestLeaseReply::CANCELLED);
      there->Answer(client, forward_id, reply);
    });
  }
  void ReturnLease(const NodeId& node, const LeaseId& lease, LeaseEnd end) override {
    Link* link = cluster_->LinkFrom(number, cluster_->node_of_.at(node));
    cluster_->Deliver(link, /*forth=*/true, [client = link->client, lease, end](Node* there) {
      there->queue.Return(client, lease, end).IgnoreError();
    });
  }
  void WatchGroup(const base::PlacementGroupId&) override {}

  // The leases of its workers, when it dies.
  std::vector<LeaseId> Running() const {
    std::vector<LeaseId> leases;
    for (const auto& [worker, lease] : running_) leases.push_back(lease.first);
    return leases;
  }

  const size_t number;
  const NodeId id;
  const scheduling::Labels labels;
  LeaseQueue queue;
  LeaseRouter router;
  bool draining = false;
  ResourceSet reported;
  std::map<ClientId, Link*> raylets;  // that ask this one

 private:
  LeaseCluster* const cluster_;
  absl::Time armed_ = absl::InfiniteFuture();
  std::set<LeaseId> starting_;
  std::map<WorkerId, std::pair<LeaseId, ResourceSet>> running_;
  ResourceSet used_;
};

LeaseCluster::LeaseCluster(Options options) : options_(options), random_(options.seed) {
  for (size_t i = 0; i < options_.nodes; ++i) {
    ResourceSet total{{"CPU", static_cast<double>(1 + Any(4))}};
    if (i % 4 == 3) total += ResourceSet{{"GPU", static_cast<double>(1 + Any(2))}};
    const NodeId id = IdFrom<NodeId>(random_());
    node_of_[id] = i;
    ids_.push_back(id);
    nodes_.push_back(std::make_unique<Node>(this, i, id, total,
                                            scheduling::Labels{{"zone", i % 3 == 0 ? "a" : "b"}}));
  }
  for (size_t i = 0; i < options_.owner_nodes * options_.owners_per_node; ++i) {
    auto owner = std::make_unique<Owner>();
    owner->node = i % options_.owner_nodes;
    owner->client = ++last_id_;
    owner_of_[owner->client] = i;
    owners_.push_back(std::move(owner));
  }
}

LeaseCluster::~LeaseCluster() = default;

absl::Duration LeaseCluster::Delay() {
  if (Chance(0.02)) return absl::Milliseconds(5 + Any(100));
  return absl::Microseconds(50 + Any(2000));
}

void LeaseCluster::After(absl::Duration delay, std::function<void()> run) {
  events_.push({clock_.Now() + delay, ++last_event_, std::move(run)});
}

void LeaseCluster::Trace(uint64_t what, uint64_t a, uint64_t b) {
  const auto now = static_cast<uint64_t>(absl::ToUnixNanos(clock_.Now()));
  for (uint64_t value : {now, what, a, b}) {
    outcome_.trace = (outcome_.trace ^ value) * 0x100000001b3ULL + (outcome_.trace >> 29);
  }
}

// After whatever happened at the node.
void LeaseCluster::Touch(size_t number) {
  Node* node = nodes_[number].get();
  if (node == nullptr) return;
  node->Arm();
  if (outcome_.events % options_.check_every == 0) node->Check();
}

// --- The network

LeaseCluster::Link* LeaseCluster::LinkFrom(size_t from, size_t to) {
  std::unique_ptr<Link>& link = links_[{from, to}];
  if (link == nullptr) {
    link = std::make_unique<Link>();
    link->from = from;
    link->to = to;
    link->client = ++last_id_;
    link->last_forth = link->last_back = clock_.Now();
    if (nodes_[to] != nullptr) nodes_[to]->raylets[link->client] = link.get();
  }
  return link.get();
}

void LeaseCluster::Deliver(Link* link, bool forth, std::function<void(Node*)> run) {
  absl::Time& last = forth ? link->last_forth : link->last_back;
  last = std::max(last + absl::Nanoseconds(1), clock_.Now() + Delay());
  auto arrive = [this, link, forth, run = std::move(run)] {
    const size_t at = forth ? link->to : link->from;
    if (!link->open || nodes_[at] == nullptr) return;
    Trace(1, at, forth ? 1 : 0);
    run(nodes_[at].get());
    Touch(at);
  };
  if (options_.faults && Chance(0.01)) {
    After(last - clock_.Now() + absl::Milliseconds(Any(300)), arrive);
  }
  After(last - clock_.Now(), std::move(arrive));
}

// Each side notices in its own time; until then the asker goes on using it, in vain.
void LeaseCluster::Break(size_t from, size_t to) {
  auto found = links_.find({from, to});
  if (found == links_.end() || !found->second->open) return;
  Link* link = found->second.get();
  link->open = false;
  After(Delay(), [this, link] { AskerNotices(link); });
  After(Delay(), [this, link] { ServerNotices(link); });
}

void LeaseCluster::AskerNotices(Link* link) {
  auto found = links_.find({link->from, link->to});
  if (found == links_.end() || found->second.get() != link) return;
  broken_.push_back(std::move(found->second));
  links_.erase(found);
  Node* asker = nodes_[link->from].get();
  if (asker == nullptr) return;
  Trace(2, link->from, link->to);
  for (uint64_t forward_id : link->unanswered) {
    asker->router.Answered(ids_[link->to], forward_id, absl::UnavailableError("broken"));
  }
  asker->router.NodeLost(ids_[link->to]);
  Touch(link->from);
}

void LeaseCluster::ServerNotices(Link* link) {
  Node* server = nodes_[link->to].get();
  if (server == nullptr || server->raylets.erase(link->client) == 0) return;
  Trace(3, link->from, link->to);
  server->queue.ClientGone(link->client);
  server->router.RayletGone(link->client);
  server->router.Rebalance();
  Touch(link->to);
}

// --- The control plane

wire::v1::NodeState LeaseCluster::StateOf(const Node& node) const {
  wire::v1::NodeState state;
  state.set_node_id(node.id.BinaryString());
  state.set_alive(true);
  *state.mutable_total() = node.queue.resources().total().ToWire();
  *state.mutable_available() = node.queue.resources().available().ToWire();
  state.mutable_labels()->insert(node.labels.begin(), node.labels.end());
  state.set_draining(node.draining);
  return state;
}

// In the order in which it was said.
void LeaseCluster::Tell(size_t receiver, std::function<void(Node*)> run) {
  absl::Time& last = told_[receiver];
  last = std::max(last + absl::Nanoseconds(1), clock_.Now() + Delay());
  After(last - clock_.Now(), [this, receiver, run = std::move(run)] {
    Node* node = nodes_[receiver].get();
    if (node == nullptr) return;
    Trace(4, receiver);
    run(node);
    node->router.Rebalance();
    Touch(receiver);
  });
}

void LeaseCluster::Report() {
  std::vector<wire::v1::NodeState> changed;
  for (const auto& node : nodes_) {
    if (node == nullptr || node->queue.resources().available() == node->reported) continue;
    node->reported = node->queue.resources().available();
    changed.push_back(StateOf(*node));
  }
  if (!changed.empty()) {
    auto shared = std::make_shared<std::vector<wire::v1::NodeState>>(std::move(changed));
    for (size_t i = 0; i < options_.owner_nodes; ++i) {
      Tell(i, [shared](Node* node) {
        for (const wire::v1::NodeState& state : *shared) node->router.NodeChanged(state);
      });
    }
  }
  if (!over_) After(options_.report_interval, [this] { Report(); });
}

void LeaseCluster::Drain(size_t number) {
  Node* node = nodes_[number].get();
  if (node == nullptr || node->draining) return;
  Trace(5, number);
  node->draining = true;
  wire::v1::NodeState state = StateOf(*node);
  *state.mutable_available() = node->reported.ToWire();  // which is what the control plane knows
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (i != number && !HasOwners(i)) continue;
    Tell(i, [state](Node* to) { to->router.NodeChanged(state); });
  }
}

void LeaseCluster::Crash(size_t number) {
  if (nodes_[number] == nullptr) return;
  Trace(6, number);
  for (size_t i = 0; i < owners_.size(); ++i) {
    if (owners_[i]->node == number && owners_[i]->alive) OwnerDies(i);
  }
  const std::vector<LeaseId> leases = nodes_[number]->Running();
  nodes_[number].reset();
  dead_.insert(number);
  for (const LeaseId& lease : leases) LeaseEnded(lease, /*returned=*/false);
  std::vector<Link*> links;
  for (const auto& [ends, link] : links_) {
    if (ends.first == number || ends.second == number) links.push_back(link.get());
  }
  for (Link* link : links) {
    link->open = false;
    // Some machines just vanish: then one hears of it from the control plane only.
    if (Chance(0.5)) After(Delay(), [this, link] { AskerNotices(link); });
    After(Delay(), [this, link] { ServerNotices(link); });
  }
  After(kDeathIsNoticed, [this, number] {
    for (size_t i = 0; i < options_.owner_nodes; ++i) {
      Tell(i, [this, number](Node* node) {
        node->router.NodeDead(ids_[number]);
        if (auto link = links_.find({node->number, number}); link != links_.end()) {
          AskerNotices(link->second.get());
        }
      });
    }
  });
}

// --- Owners

LeaseCluster::Task LeaseCluster::RandomTask() {
  Task task;
  const uint64_t kind = Any(20);
  task.resources = kind == 0   ? ResourceSet{{"CPU", 2}}
                   : kind == 1 ? ResourceSet{{"GPU", 0.5}}
                   : kind == 2 ? ResourceSet{{"CPU", 1}, {"GPU", 1}}
                   : kind == 3 ? ResourceSet{{"CPU", 4}}
                   : kind == 4 ? ResourceSet{}
                               : ResourceSet{{"CPU", 1}};
  if (options_.faults && Chance(0.002)) task.resources = ResourceSet{{"TPU", 1}};
  const absl::Duration range = options_.task_max - options_.task_min;
  task.length = options_.task_min + range * (static_cast<double>(Any(1000)) / 1000);
  if (Chance(0.1)) task.spread = true;
  if (Chance(0.1)) task.preferred = Any(options_.nodes);
  if (Chance(0.05)) task.only_b = true;
  if (Chance(0.05)) {
    task.affinity = Any(options_.nodes);
    task.soft = Chance(0.5);
  }
  return task;
}

void LeaseCluster::Submit(size_t number) {
  Owner& owner = *owners_[number];
  while (owner.alive && tasks_left_ > 0 && owner.open.size() < options_.requests_at_once) {
    --tasks_left_;
    Ask(number, RandomTask());
  }
}

void LeaseCluster::Ask(size_t number, const Task& task) {
  Owner& owner = *owners_[number];
  wire::v1::RequestLease request;
  request.set_request_id(++owner.last_request);
  *request.mutable_resources() = task.resources.ToWire();
  request.set_job_id(base::JobIdFromInt(1).BinaryString());
  request.set_task_name("f");
  wire::v1::SchedulingStrategy& strategy = *request.mutable_strategy();
  strategy.set_spread(task.spread);
  if (task.preferred.has_value()) {
    request.set_preferred_node(ids_[*task.preferred].BinaryString());
  }
  if (task.affinity.has_value()) {
    strategy.mutable_node_affinity()->set_node_id(ids_[*task.affinity].BinaryString());
    strategy.mutable_node_affinity()->set_soft(task.soft);
  }
  if (task.only_b) {
    wire::v1::SchedulingStrategy::LabelCondition& rule = *strategy.add_required_labels();
    rule.set_key("zone");
    rule.set_kind(wire::v1::SchedulingStrategy::LabelCondition::IN);
    rule.add_values("b");
  }
  owner.open.emplace(owner.last_request, task);
  MANTA_CHECK(nodes_[owner.node]->router.Request(owner.client, request).ok());
  if (!options_.faults || !Chance(0.03)) return;
  After(absl::Milliseconds(Any(200)), [this, number, id = owner.last_request] {
    Owner& canceller = *owners_[number];
    if (!canceller.alive) return;
    nodes_[canceller.node]->router.Cancel(canceller.client, id);
    Touch(canceller.node);
  });
}

// A raylet's answer to a process of its node, or to another raylet.
void LeaseCluster::Answered(size_t number, ClientId client, uint64_t request_id,
                            const RequestLeaseReply& reply) {
  auto found = owner_of_.find(client);
  if (found == owner_of_.end()) {
    Node& node = *nodes_[number];
    auto link = node.raylets.find(client);
    if (link == node.raylets.end()) return;
    RequestLeaseReply with_available = reply;
    *with_available.mutable_available() = node.queue.resources().available().ToWire();
    Deliver(link->second, /*forth=*/false,
            [link = link->second, from = node.id, request_id, with_available](Node* asker) {
              link->unanswered.erase(request_id);
              asker->router.Answered(from, request_id, with_available);
            });
    return;
  }
  const size_t owner = found->second;
  auto request = owners_[owner]->open.extract(request_id);
  MANTA_CHECK_MSG(!request.empty(), "a request is answered twice");
  MANTA_CHECK(reply.outcome() != RequestLeaseReply::SPILLBACK);
  ++in_flight_;
  After(absl::Microseconds(20), [this, owner, task = request.mapped(), reply] {
    --in_flight_;
    OnReply(owner, task, reply);
  });
}

void LeaseCluster::OnReply(size_t number, const Task& task, const RequestLeaseReply& reply) {
  Owner& owner = *owners_[number];
  Trace(7, number, reply.outcome());
  if (!owner.alive) {
    ++outcome_.orphaned;
    return;
  }
  if (reply.outcome() != RequestLeaseReply::GRANTED) {
    ++(reply.outcome() == RequestLeaseReply::CANCELLED ? outcome_.cancelled : outcome_.refused);
    Submit(number);
    return Touch(owner.node);
  }
  const LeaseId lease = *LeaseId::FromBinary(reply.lease_id());
  MANTA_CHECK_MSG(holders_.emplace(lease, number).second, "a lease has two holders");
  owner.running.emplace(lease, task);
  const bool elsewhere = reply.worker().node_id() != ids_[owner.node].Binary();
  if (elsewhere) ++outcome_.granted_elsewhere;
  // The worker may be gone before its owner could connect to it.
  const bool broken = !live_leases_.contains(lease);
  After(broken ? Delay() : task.length,
        [this, number, lease, broken] { EndTask(number, lease, broken); });
  Submit(number);
  Touch(owner.node);
}

void LeaseCluster::EndTask(size_t number, const LeaseId& lease, bool broken) {
  Owner& owner = *owners_[number];
  auto held = owner.running.extract(lease);
  if (held.empty()) return;  // lost, or its owner died
  Trace(8, number, broken ? 1 : 0);
  holders_.erase(lease);
  Node& node = *nodes_[owner.node];
  if (!node.router.Return(lease, owner.client, broken)) {
    node.queue.Return(owner.client, lease, broken ? LeaseEnd::kBroken : LeaseEnd::kDone)
        .IgnoreError();
  }
  if (broken) {
    ++outcome_.lost;
    Ask(number, held.mapped());
  } else {
    ++outcome_.granted;
  }
  Submit(number);
  Touch(owner.node);
}

// At the node that gave it. One that its owner did not return is lost.
void LeaseCluster::LeaseEnded(const LeaseId& lease, bool returned) {
  live_leases_.erase(lease);
  auto holder = holders_.find(lease);
  if (returned || holder == holders_.end()) return;
  After(Delay(), [this, owner = holder->second, lease] { EndTask(owner, lease, /*broken=*/true); });
}

void LeaseCluster::OwnerDies(size_t number) {
  Owner& owner = *owners_[number];
  if (!owner.alive) return;
  Trace(9, number);
  owner.alive = false;
  outcome_.orphaned += owner.open.size() + owner.running.size();
  for (const auto& [lease, task] : owner.running) holders_.erase(lease);
  owner.open.clear();
  owner.running.clear();
  Node& node = *nodes_[owner.node];
  node.queue.ClientGone(owner.client);
  node.router.ClientGone(owner.client);
  Touch(owner.node);
}

// --- The run

// The first node and its first owner live, so that something is left to do.
void LeaseCluster::PlanFaults() {
  auto at_random = [this](std::function<void()> run) {
    After(absl::Milliseconds(Any(3000)), std::move(run));
  };
  for (size_t i = 0; i < options_.nodes / 4; ++i) {
    at_random([this] { Crash(1 + Any(options_.nodes - 1)); });
  }
  for (size_t i = 0; i < options_.nodes; ++i) {
    at_random([this] { Break(Any(options_.owner_nodes), Any(options_.nodes)); });
  }
  for (size_t i = 0; i < 1 + options_.nodes / 10; ++i) {
    at_random([this] { Drain(1 + Any(options_.nodes - 1)); });
  }
  for (size_t i = 0; i < owners_.size() / 4; ++i) {
    at_random([this] {
      const size_t owner = 1 + Any(owners_.size() - 1);
      if (owners_[owner]->alive) OwnerDies(owner);
    });
  }
}

bool LeaseCluster::IsQuiet() const {
  if (in_flight_ > 0) return false;
  return std::all_of(owners_.begin(), owners_.end(), [&](const auto& owner) {
    return !owner->alive || (owner->open.empty() && owner->running.empty() && tasks_left_ == 0);
  });
}

LeaseCluster::Outcome LeaseCluster::Run() {
  tasks_left_ = options_.tasks;
  const absl::Time start = clock_.Now();
  for (size_t i = 0; i < nodes_.size(); ++i) {
    for (size_t j = 0; j < nodes_.size(); ++j) {
      if (i == j || !HasOwners(i)) continue;
      Tell(i, [state = StateOf(*nodes_[j])](Node* node) { node->router.NodeChanged(state); });
    }
  }
  for (size_t i = 0; i < owners_.size(); ++i) {
    After(absl::Milliseconds(Any(100)), [this, i] {
      Submit(i);
      if (owners_[i]->alive) Touch(owners_[i]->node);
    });
  }
  Report();
  if (options_.faults) PlanFaults();

  absl::Time quiet_since = absl::InfiniteFuture();
  while (!events_.empty() && clock_.Now() < quiet_since + absl::Seconds(5)) {
    Event event = events_.top();
    events_.pop();
    clock_.Advance(event.at - clock_.Now());
    ++outcome_.events;
    event.run();
    if (!IsQuiet()) {
      quiet_since = absl::InfiniteFuture();
    } else if (quiet_since == absl::InfiniteFuture()) {
      quiet_since = clock_.Now();
      outcome_.took = quiet_since - start;
    }
    MANTA_CHECK_MSG(clock_.Now() - start < kLongest, "the cluster hangs");
  }
  over_ = true;
  CheckTheEnd();
  return outcome_;
}

void LeaseCluster::CheckTheEnd() const {
  for (const auto& node : nodes_) {
    if (node == nullptr) continue;
    MANTA_CHECK(node->queue.queued() == 0);
    MANTA_CHECK_MSG(node->queue.leases() == 0, "a lease that nobody holds");
    MANTA_CHECK(node->queue.resources().available() == node->queue.resources().total());
    MANTA_CHECK(node->router.requests() == 0);
    MANTA_CHECK(node->router.forwarded() == 0);
    MANTA_CHECK(node->router.remote_leases() == 0);
    if (!HasOwners(node->number)) continue;
    MANTA_CHECK(node->router.view().size() == nodes_.size() - dead_.size());
    node->router.view().ForEach([&](const scheduling::ClusterView::Node& seen) {
      if (seen.id == node->id) return;  // it looks at itself when it has to decide
      const Node& actual = *nodes_[node_of_.at(seen.id)];
      MANTA_CHECK_MSG(seen.available == actual.queue.resources().available(), "no convergence");
      MANTA_CHECK_MSG(seen.room == seen.available, "VIEW-1");
      MANTA_CHECK(seen.draining == actual.draining);
    });
  }
  const size_t ended = outcome_.granted + outcome_.refused + outcome_.cancelled + outcome_.orphaned;
  MANTA_CHECK(ended == options_.tasks - tasks_left_);
}

}  // namespace ray::sim
