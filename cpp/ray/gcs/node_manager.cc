#include "ray/gcs/node_manager.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/id_field.h"

namespace ray::gcs {
namespace {

using base::NodeId;
using resources::ResourceSet;
using wire::v1::SchedulingStrategy;

constexpr std::string_view kTable = "nodes";
constexpr std::string_view kDrainsTable = "node_drains";
// A node that says more is cut short; the figures are for people and an autoscaler.
constexpr int kDemandsMax = 100;

struct Capacity {
  ResourceSet total;
  ResourceSet available;
};

absl::StatusOr<Capacity> ParseCapacity(const wire::v1::ResourceSet& total,
                                       const wire::v1::ResourceSet& available) {
  Capacity capacity;
  MANTA_ASSIGN_OR_RETURN(capacity.total, ResourceSet::FromWire(total));
  MANTA_ASSIGN_OR_RETURN(capacity.available, ResourceSet::FromWire(available));
  return capacity;
}

scheduling::Labels LabelsOf(const wire::v1::NodeState& state) {
  scheduling::Labels labels(state.labels().begin(), state.labels().end());
  labels[scheduling::kNodeIdLabel] = base::BytesToHex(state.node_id());
  return labels;
}

// What waits at a node is for who asks for the state of the cluster.
wire::v1::NodeState ForOtherNodes(const wire::v1::NodeState& state) {
  wire::v1::NodeState shown = state;
  shown.clear_demands();
  return shown;
}

bool IsNamed(const NodeId& node, const SchedulingStrategy& strategy) {
  return strategy.node_affinity().node_id() == node.Binary();
}

// Whether the strategy has nothing against the node.
bool IsAllowed(const NodeId& node, const scheduling::Labels& labels,
               const SchedulingStrategy& strategy) {
  const bool must_be_named = strategy.has_node_affinity() && !strategy.node_affinity().soft();
  if (must_be_named && !IsNamed(node, strategy)) return false;
  return scheduling::LabelChoice(strategy, labels) >= 0;
}

}  // namespace

absl::Status NodeManager::Load() {
  absl::Status damage;
  MANTA_RETURN_IF_ERROR(
      storage_->Scan(kTable, "", [&](std::string_view key, std::string_view value) {
        v1::NodeRecord record;
        auto id = ParseId<NodeId>(key, "key of a node");
        const bool parsed = record.ParseFromArray(value.data(), static_cast<int>(value.size()));
        auto total = ResourceSet::FromWire(record.state().total());
        if (!id.ok() || !parsed || !total.ok()) {
          damage = absl::DataLossError(absl::StrCat("unreadable node ", base::BytesToHex(key)));
          return false;
        }
        Node& node = nodes_[*id];
        // What it can hold counts before it is back, or what names it would be given up.
        node.total = *std::move(total);
        node.state = std::move(*record.mutable_state());
        node.labels = LabelsOf(node.state);
        node.death_number = record.death_number();
        return true;
      }));
  MANTA_RETURN_IF_ERROR(damage);
  MANTA_RETURN_IF_ERROR(
      storage_->Scan(kDrainsTable, "", [&](std::string_view key, std::string_view value) {
        auto id = ParseId<NodeId>(key, "key of a drain");
        if (!id.ok() ||
            !drains_[*id].ParseFromArray(value.data(), static_cast<int>(value.size()))) {
          damage = absl::DataLossError(absl::StrCat("unreadable drain ", base::BytesToHex(key)));
        }
        return damage.ok();
      }));
  MANTA_RETURN_IF_ERROR(damage);
  for (const auto& [id, node] : nodes_) {
    if (node.death_number > 0) {
      dead_[node.death_number] = id;
    } else {
      WatchSilence(id);
    }
  }
  return absl::OkStatus();
}

absl::Status NodeManager::Save(const Node& node) {
  v1::NodeRecord record;
  *record.mutable_state() = node.state;
  record.set_death_number(node.death_number);
  return storage_->Put(kTable, node.state.node_id(), record.SerializeAsString());
}

bool NodeManager::IsDead(const NodeId& node) const {
  auto found = nodes_.find(node);
  return found != nodes_.end() && found->second.death_number > 0;
}

NodeManager::Node* NodeManager::FindAlive(const NodeId& node) {
  auto found = nodes_.find(node);
  return found == nodes_.end() || found->second.death_number > 0 ? nullptr : &found->second;
}

absl::Status NodeManager::Register(const NodeId& id, const wire::v1::NodeState& state) {
  MANTA_ASSIGN_OR_RETURN(Capacity capacity, ParseCapacity(state.total(), state.available()));
  auto known = nodes_.find(id);
  if (known != nodes_.end() && known->second.death_number > 0) {
    return absl::FailedPreconditionError(absl::StrCat("node ", id.Hex(), " was declared dead (",
                                                      known->second.state.death_reason(),
                                                      ") and cannot come back under this id"));
  }
  Node node;
  node.state = state;
  node.state.set_node_id(id.BinaryString());
  node.state.set_alive(true);
  node.total = std::move(capacity.total);
  node.room = std::move(capacity.available);
  node.labels = LabelsOf(node.state);
  node.connected = true;
  node.channel = known == nodes_.end() ? 1 : known->second.channel + 1;
  const bool knows_of_drain = state.draining();
  node.state.set_draining(state.draining() || drains_.contains(id));
  MANTA_RETURN_IF_ERROR(Save(node));
  const bool draining = node.state.draining();
  nodes_[id] = std::move(node);
  if (draining && !knows_of_drain) TellToDrain(id);
  Announce(id, absl::ZeroDuration());
  return absl::OkStatus();
}

absl::Status NodeManager::Drain(const wire::v1::DrainNode& request) {
  MANTA_ASSIGN_OR_RETURN(NodeId id, ParseId<NodeId>(request.node_id(), "node_id"));
  Node* node = FindAlive(id);
  if (node == nullptr) {
    return absl::NotFoundError(absl::StrCat("no node ", id.Hex(), " is alive in this cluster"));
  }
  if (node->state.is_head()) {
    return absl::FailedPreconditionError(
        "the head node cannot be drained: the cluster's control plane runs there");
  }
  Node draining = *node;
  draining.state.set_draining(true);
  MANTA_RETURN_IF_ERROR(storage_->Put(kDrainsTable, id.Binary(), request.SerializeAsString()));
  MANTA_RETURN_IF_ERROR(Save(draining));
  drains_[id] = request;
  *node = std::move(draining);
  MANTA_LOG(kInfo, "node ", id.Hex(), " is drained: ", request.reason());
  TellToDrain(id);
  Announce(id, absl::ZeroDuration());
  return absl::OkStatus();
}

void NodeManager::TellToDrain(const NodeId& id) const {
  v1::GcsMessage message;
  *message.mutable_drain() = drains_.at(id);
  sender_->Send(id, message);
}

void NodeManager::SendOthersTo(const NodeId& receiver) const {
  v1::GcsMessage message;
  v1::NodesChanged& changed = *message.mutable_nodes_changed();
  for (const auto& [id, node] : nodes_) {
    if (id != receiver) *changed.add_nodes() = ForOtherNodes(node.state);
  }
  if (changed.nodes_size() > 0) sender_->Send(receiver, message);
}

absl::Status NodeManager::Leave(const NodeId& id, const v1::NodeLeaving& message) {
  if (FindAlive(id) != nullptr) Die(id, message.reason());
  return absl::OkStatus();
}

void NodeManager::Disconnect(const NodeId& id) {
  Node* node = FindAlive(id);
  if (node == nullptr) return;
  node->connected = false;
  WatchSilence(id);
}

void NodeManager::WatchSilence(const NodeId& id) {
  const uint64_t channel = nodes_[id].channel;
  deadlines_->After(options_.dead_timeout, [this, id, channel] {
    if (FindSilent(id, channel) == nullptr) return;
    Die(id, absl::StrCat("no contact for ", absl::FormatDuration(options_.dead_timeout)));
  });
  if (probe_ != nullptr) Probe(id, channel);
}

// Again and again: a process that is just being torn down may still be listening.
void NodeManager::Probe(const NodeId& id, uint64_t channel) {
  const Node* node = FindSilent(id, channel);
  if (node == nullptr || node->state.tcp_endpoint().empty()) return;
  probe_->Ask(node->state.tcp_endpoint(), [this, id, channel](bool refused) {
    if (FindSilent(id, channel) == nullptr) return;
    if (refused) return Die(id, "its raylet has ended without a word");
    deadlines_->After(options_.probe_interval, [this, id, channel] { Probe(id, channel); });
  });
}

NodeManager::Node* NodeManager::FindSilent(const NodeId& id, uint64_t channel) {
  Node* node = FindAlive(id);
  return node == nullptr || node->connected || node->channel != channel ? nullptr : node;
}

void NodeManager::Die(const NodeId& id, const std::string& reason) {
  Node& node = nodes_[id];
  MANTA_LOG(kWarning, "node ", id.Hex(), " (", node.state.ip(), ") is dead: ", reason);
  node.connected = false;
  node.state.set_alive(false);
  node.state.set_draining(false);
  node.state.clear_demands();
  node.state.set_death_reason(reason);
  node.state.clear_available();
  node.death_number = dead_.empty() ? 1 : dead_.rbegin()->first + 1;
  dead_[node.death_number] = id;
  // Death stands even if it cannot be written: after a restart the node would be watched and found
  // dead again.
  if (absl::Status status = Save(node); !status.ok()) {
    MANTA_LOG(kError, "cannot store the death of node ", id.Hex(), ": ", status.ToString());
  }
  if (drains_.erase(id) > 0) {
    if (absl::Status status = storage_->Delete(kDrainsTable, id.Binary()); !status.ok()) {
      MANTA_LOG(kWarning, "a drain stays in the storage: ", status.ToString());
    }
  }
  Announce(id, absl::ZeroDuration());
  on_dead_(id);
  if (static_cast<int64_t>(dead_.size()) > options_.dead_nodes_max) ForgetOldestDead();
}

void NodeManager::ForgetOldestDead() {
  NodeId oldest = dead_.begin()->second;
  if (absl::Status status = storage_->Delete(kTable, oldest.Binary()); !status.ok()) {
    MANTA_LOG(kWarning, "a dead node stays in the storage: ", status.ToString());
  }
  dead_.erase(dead_.begin());
  nodes_.erase(oldest);
}

absl::Status NodeManager::Report(const NodeId& id, const v1::NodeReport& report) {
  MANTA_ASSIGN_OR_RETURN(Capacity capacity, ParseCapacity(report.total(), report.available()));
  Node* node = FindAlive(id);
  if (node == nullptr || report.sequence() < node->report_sequence) return absl::OkStatus();
  node->report_sequence = report.sequence();
  node->total = std::move(capacity.total);
  node->room = std::move(capacity.available);
  *node->state.mutable_total() = report.total();
  *node->state.mutable_available() = report.available();
  node->state.set_store_used_bytes(report.store_used_bytes());
  node->state.set_spilled_bytes(report.spilled_bytes());
  *node->state.mutable_demands() = report.demands();
  if (report.demands_size() > kDemandsMax) {
    node->state.mutable_demands()->DeleteSubrange(kDemandsMax, report.demands_size() - kDemandsMax);
  }
  Announce(id, options_.broadcast_interval);
  return absl::OkStatus();
}

void NodeManager::Announce(const NodeId& node, absl::Duration delay) {
  // Nobody to tell: a node joins with a full view anyway. Keeps a cluster of one node quiet.
  if (nodes_.size() == 1) return;
  changed_.insert(node);
  if (delay == absl::ZeroDuration()) return Broadcast();
  if (broadcast_pending_) return;
  broadcast_pending_ = true;
  deadlines_->After(delay, [this] {
    broadcast_pending_ = false;
    Broadcast();
  });
}

void NodeManager::Broadcast() {
  v1::GcsMessage message;
  for (const NodeId& id : changed_) {
    if (auto node = nodes_.find(id); node != nodes_.end()) {
      *message.mutable_nodes_changed()->add_nodes() = ForOtherNodes(node->second.state);
    }
  }
  for (const auto& [id, node] : nodes_) {
    bool only_itself = changed_.size() == 1 && *changed_.begin() == id;
    if (node.connected && !only_itself) sender_->Send(id, message);
  }
  changed_.clear();
}

std::vector<NodeId> NodeManager::Dead() const {
  std::vector<NodeId> dead;
  for (const auto& [number, id] : dead_) dead.push_back(id);
  return dead;
}

wire::v1::ClusterStateReply NodeManager::ClusterState() const {
  wire::v1::ClusterStateReply reply;
  for (const auto& [id, node] : nodes_) *reply.add_nodes() = node.state;
  return reply;
}

NodeId NodeManager::NodeToWaitFor(const ResourceSet& request,
                                  const SchedulingStrategy& strategy) const {
  if (!strategy.has_node_affinity() || strategy.node_affinity().spill_on_unavailable()) return {};
  const absl::StatusOr<NodeId> id = NodeId::FromBinary(strategy.node_affinity().node_id());
  auto named = id.ok() ? nodes_.find(*id) : nodes_.end();
  if (named == nodes_.end()) return {};
  const auto& [name, node] = *named;
  const bool could_hold_it = node.death_number == 0 && !node.state.draining() &&
                             request.FitsIn(node.total) && IsAllowed(name, node.labels, strategy);
  return could_hold_it ? name : NodeId::Nil();
}

std::optional<NodeId> NodeManager::FindRoom(const ResourceSet& request,
                                            const SchedulingStrategy& strategy,
                                            const NodeId& preferred) const {
  const NodeId only = NodeToWaitFor(request, strategy);
  // Smaller is better, from the first on.
  using Rank = std::tuple<bool, int, bool, bool, double>;
  std::optional<NodeId> best;
  Rank best_rank;
  for (const auto& [id, node] : nodes_) {
    if (!node.IsOpen() || !request.FitsIn(node.room)) continue;
    if (!only.IsNil() && id != only) continue;
    if (!IsAllowed(id, node.labels, strategy)) continue;
    const Rank rank(!IsNamed(id, strategy), scheduling::LabelChoice(strategy, node.labels),
                    !scheduling::MatchesAll(strategy.preferred_labels(), node.labels),
                    !strategy.spread() && id != preferred,
                    scheduling::LoadWith(request, node.total, node.room));
    if (best.has_value() && rank >= best_rank) continue;
    best = id;
    best_rank = rank;
  }
  return best;
}

bool NodeManager::IsFeasible(const ResourceSet& request, const SchedulingStrategy& strategy) const {
  return std::any_of(nodes_.begin(), nodes_.end(), [&](const auto& entry) {
    const auto& [id, node] = entry;
    return node.death_number == 0 && !node.state.draining() && request.FitsIn(node.total) &&
           IsAllowed(id, node.labels, strategy);
  });
}

std::vector<scheduling::NodeView> NodeManager::View() const {
  std::vector<scheduling::NodeView> view;
  for (const auto& [id, node] : nodes_) {
    if (node.IsOpen()) view.push_back({id, node.total, node.room, node.labels, 0});
  }
  return view;
}

void NodeManager::ChangeHold(const NodeId& id, const ResourceSet& before,
                             const ResourceSet& after) {
  Node* node = FindAlive(id);
  if (node == nullptr) return;
  node->room += before;
  node->room -= after;
  // What was given back may have been in the last report already.
  for (const auto& [name, quantity] : before) {
    node->room.Set(name, std::min(node->room.Get(name), node->total.Get(name)));
  }
}

}  // namespace ray::gcs
