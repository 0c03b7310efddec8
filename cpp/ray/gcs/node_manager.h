// Nodes: who is there, with what, since when not; and which of them has room.
//
// A node is known from its registration until well after its death. It stays alive through a break
// of its channel that is shorter than dead_timeout; meanwhile nothing is placed on it, and it is
// asked from outside whether its process lives: if not, it is dead at once. After a restart of the
// GCS every node of the storage counts as one whose channel has just broken.
//
// A draining node lives and is counted, but nothing new is placed on it. The order to drain is kept
// in the storage and given again to a node that registers without knowing of it.
//
// Room is a guess that the raylet may refute: what the node reported last, less what has been
// placed there since.
//
// Owner: ControlPlane.   Threads: loop-bound.   Blocks as the storage does.
// Errors: kInvalidArgument for a malformed message; kFailedPrecondition for a node that was
// declared dead (it must not come back under its old id: its actors were restarted elsewhere).
//   NODES-1  a node that is dead stays dead, and on_dead has been called once for it.
//   NODES-2  at most dead_nodes_max dead nodes are remembered, the latest ones.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ray/base/ids.h"
#include "ray/gcs/deadlines.h"
#include "ray/gcs/node_probe.h"
#include "ray/gcs/node_sender.h"
#include "ray/gcs/storage.h"
#include "ray/gcs/v1/gcs.pb.h"
#include "ray/gcs/v1/storage.pb.h"
#include "ray/resources/resource_set.h"
#include "ray/scheduling/bundle_placement.h"

namespace ray::gcs {

class NodeManager {
 public:
  struct Options {
    absl::Duration dead_timeout = absl::Seconds(5);
    // Reports of several nodes travel to the others together, this much later at most.
    absl::Duration broadcast_interval = absl::Milliseconds(100);
    // A node whose channel is broken is asked this often whether its process lives.
    absl::Duration probe_interval = absl::Milliseconds(50);
    int64_t dead_nodes_max = 100;
  };
  using OnDead = std::function<void(const base::NodeId&)>;

  // `probe` may be null: silence alone tells of deaths then.
  NodeManager(Options options, Storage* storage, Deadlines* deadlines, NodeSender* sender,
              NodeProbe* probe, OnDead on_dead)
      : options_(options),
        storage_(storage),
        deadlines_(deadlines),
        sender_(sender),
        probe_(probe),
        on_dead_(std::move(on_dead)) {}

  absl::Status Load();

  // A node's channel opened, the first time or again.
  absl::Status Register(const base::NodeId& node, const wire::v1::NodeState& state);
  // Tells a node that has just registered about all others.
  void SendOthersTo(const base::NodeId& node) const;
  // It ends on purpose: dead from now on.
  absl::Status Leave(const base::NodeId& node, const v1::NodeLeaving& message);
  // Its channel broke.
  void Disconnect(const base::NodeId& node);
  absl::Status Report(const base::NodeId& node, const v1::NodeReport& report);
  // kFailedPrecondition for the head node. Harmless for one that is draining already, whose order
  // is replaced.
  absl::Status Drain(const wire::v1::DrainNode& request);

  std::vector<base::NodeId> Dead() const;       // those that are remembered
  bool IsDead(const base::NodeId& node) const;  // one of these
  // Alive and remembered dead nodes.
  wire::v1::ClusterStateReply ClusterState() const;

  // A node that is connected and not draining, with room for the request, that its strategy allows:
  // only the one that it names, unless that could never hold it or it may spill. Of several, in
  // this order: the one that it names, the rules it would rather have met, `preferred` (unless it
  // is to be spread), the node that it loads the least.
  std::optional<base::NodeId> FindRoom(const resources::ResourceSet& request,
                                       const wire::v1::SchedulingStrategy& strategy,
                                       const base::NodeId& preferred) const;
  // Whether some node that the strategy allows could satisfy the request, were nothing else running
  // there.
  bool IsFeasible(const resources::ResourceSet& request,
                  const wire::v1::SchedulingStrategy& strategy) const;
  // The nodes on which something may be placed, for who places several things at once.
  std::vector<scheduling::NodeView> View() const;
  // Changes the guess of a node's room: `before` is no longer held there, `after` is. Harmless for
  // an unknown node.
  void ChangeHold(const base::NodeId& node, const resources::ResourceSet& before,
                  const resources::ResourceSet& after);

 private:
  struct Node {
    wire::v1::NodeState state;  // as last reported
    resources::ResourceSet total;
    resources::ResourceSet room;
    scheduling::Labels labels;
    bool connected = false;
    uint64_t channel = 0;  // counts registrations, so that an old break does not end a new channel
    uint64_t report_sequence = 0;
    uint64_t death_number = 0;

    bool IsOpen() const { return connected && !state.draining(); }
  };

  Node* FindAlive(const base::NodeId& node);
  // The node that it is to wait for; nil if any node will do.
  base::NodeId NodeToWaitFor(const resources::ResourceSet& request,
                             const wire::v1::SchedulingStrategy& strategy) const;
  void WatchSilence(const base::NodeId& node);
  void Probe(const base::NodeId& node, uint64_t channel);
  // A node that has not come back since this channel of it broke. Null: it has, or is dead.
  Node* FindSilent(const base::NodeId& node, uint64_t channel);
  void TellToDrain(const base::NodeId& node) const;
  void Die(const base::NodeId& node, const std::string& reason);
  void ForgetOldestDead();
  void Announce(const base::NodeId& node, absl::Duration delay);
  void Broadcast();
  absl::Status Save(const Node& node);

  const Options options_;
  Storage* const storage_;
  Deadlines* const deadlines_;
  NodeSender* const sender_;
  NodeProbe* const probe_;
  const OnDead on_dead_;

  std::map<base::NodeId, Node> nodes_;
  std::map<base::NodeId, wire::v1::DrainNode> drains_;  // of draining nodes
  std::map<uint64_t, base::NodeId> dead_;               // by death number
  std::set<base::NodeId> changed_;                      // to be broadcast
  bool broadcast_pending_ = false;
};

}  // namespace ray::gcs
