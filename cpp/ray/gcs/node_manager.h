// Nodes: who is there, with what, since when not; and which of them has room.
//
// A node is known from its registration until well after its death. It stays alive through a break
// of its channel that is shorter than dead_timeout; meanwhile nothing is placed on it. After a
// restart of the GCS every node of the storage counts as one whose channel has just broken.
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
    int64_t dead_nodes_max = 100;
  };
  using OnDead = std::function<void(const base::NodeId&)>;

  NodeManager(Options options, Storage* storage, Deadlines* deadlines, NodeSender* sender,
              OnDead on_dead)
      : options_(options),
        storage_(storage),
        deadlines_(deadlines),
        sender_(sender),
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

  // Alive and remembered dead nodes.
  wire::v1::ClusterStateReply ClusterState() const;

  // A connected node with room for the request that its strategy allows. Of several, in this order:
  // the one that it names, the rules it would rather have met, `preferred` (unless it is to be
  // spread), the node that it loads the least.
  std::optional<base::NodeId> FindRoom(const resources::ResourceSet& request,
                                       const wire::v1::SchedulingStrategy& strategy,
                                       const base::NodeId& preferred) const;
  // Whether some node that the strategy allows could satisfy the request, were nothing else running
  // there.
  bool IsFeasible(const resources::ResourceSet& request,
                  const wire::v1::SchedulingStrategy& strategy) const;
  // The connected nodes, for who places several things at once.
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
  };

  Node* FindAlive(const base::NodeId& node);
  void WatchSilence(const base::NodeId& node);
  void Die(const base::NodeId& node, const std::string& reason);
  void ForgetOldestDead();
  void Announce(const base::NodeId& node, absl::Duration delay);
  void Broadcast();
  absl::Status Save(const Node& node);

  const Options options_;
  Storage* const storage_;
  Deadlines* const deadlines_;
  NodeSender* const sender_;
  const OnDead on_dead_;

  std::map<base::NodeId, Node> nodes_;
  std::map<uint64_t, base::NodeId> dead_;  // by death number
  std::set<base::NodeId> changed_;         // to be broadcast
  bool broadcast_pending_ = false;
};

}  // namespace ray::gcs
