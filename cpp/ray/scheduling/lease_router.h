// Where the lease requests of this node's processes wait, in a cluster of many nodes.
//
// Each request is at one place at a time: in the own LeaseQueue, at another node's raylet, or here,
// because no node can take it as things are.
//   - A node has room by the view: the request goes there. Another raylet is asked to grant it now
//     or never; if it declines, its answer corrects the view and the request is placed anew.
//   - No node has room: it waits where it could run, in the own queue if that can ever be. Else at
//     the other nodes, a few at each, so that it is granted the moment something is free there; the
//     rest waits here.
//   - The view says that a node got room: requests that wait elsewhere move there, oldest first.
//     One at another node moves only once that node has confirmed that it dropped it.
//   - A request for a bundle goes to the node that holds it; one for any bundle of a group is tried
//     at the nodes that hold some in turn, and keeps changing between them while it waits.
//   - A node dies, or cannot be reached: what was there is placed anew.
//   - No node of the cluster could ever hold it: it waits here and its owner is warned; after
//     infeasible_timeout it is refused. Hard affinity to a node that cannot be is refused at once.
//   - Affinity that must not wait is refused when its node has had no room for a moment: as long as
//     it takes to give back what is held there without being used.
//
// Requests of other raylets are for the own queue only (Serve). They are idempotent: ids of one
// raylet's requests grow, and one that is not new is ignored.
//
// Owner: LeaseService.   Threads: thread-compatible (the raylet's loop).   Never blocks. Actions
// are called from inside the methods and must not call back into the router or the queue, save that
// LeaseQueue's actions call Settled.
//   ROUTE-1  a request is at most at one place, and answered once.
//   ROUTE-2  a grant that nobody waits for any more is returned.
//   ROUTE-3  leases at other nodes are known with their holder until they are returned, or the node
//            or the way to it is lost.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/scheduling/cluster_view.h"
#include "ray/scheduling/lease_queue.h"
#include "ray/scheduling/node_choice.h"
#include "ray/scheduling/strategy.h"
#include "ray/wire/v1/cluster.pb.h"
#include "ray/wire/v1/leases.pb.h"
#include "ray/wire/v1/placement_groups.pb.h"

namespace ray::scheduling {

class LeaseRouter {
 public:
  struct Options {
    base::NodeId self;
    Labels labels;  // of this node
    double spread_threshold = 0.5;
    double top_k_fraction = 0.2;
    absl::Duration warn_after = absl::Seconds(5);
    absl::Duration infeasible_timeout = absl::InfiniteDuration();
    uint64_t seed = 0;
  };

  class Actions {
   public:
    virtual ~Actions() = default;
    // The answer to a request of a process of this node, or of a raylet that was served.
    virtual void Answer(ClientId client, uint64_t request_id,
                        const wire::v1::RequestLeaseReply& reply) = 0;
    // Asks another raylet. What comes back goes to Answered, later. False: it cannot be asked.
    virtual bool Forward(const base::NodeId& node, const wire::v1::RequestLease& request) = 0;
    virtual void CancelForwarded(const base::NodeId& node, uint64_t forward_id) = 0;
    virtual void ReturnLease(const base::NodeId& node, const base::LeaseId& lease,
                             LeaseEnd end) = 0;
    virtual void Warn(const LeaseWarning& warning) = 0;
    // Find out where the group's bundles are: GroupPlaced or GroupRemoved follow. Harmless when
    // that is under way.
    virtual void WatchGroup(const base::PlacementGroupId& group) = 0;
  };

  // All pointers outlive the router.
  LeaseRouter(Options options, LeaseQueue* queue, const base::Clock* clock, Actions* actions);
  ~LeaseRouter();

  // -- From processes of this node.
  // kInvalidArgument, kAlreadyExists: what no well-behaved client sends.
  absl::Status Request(ClientId client, wire::v1::RequestLease message);
  // Answered with CANCELLED if it is still open and no grant was faster.
  void Cancel(ClientId client, uint64_t request_id);
  // Whether the client holds this lease at another node; if not, it may be one of the queue.
  bool Return(const base::LeaseId& lease, ClientId client, bool worker_broken);
  // Its requests go. Its leases at other nodes are returned, and their workers killed.
  void ClientGone(ClientId client);

  // -- From other raylets.
  absl::Status Serve(ClientId raylet, const wire::v1::RequestLease& message);
  // Whether Serve would ignore it, because it had it before.
  bool IsRepeated(ClientId raylet, uint64_t request_id) const;
  void RayletGone(ClientId raylet);

  // -- From the own queue: it has answered the request. Harmless for one it had not from here.
  void Settled(ClientId client, uint64_t request_id);

  // -- From the raylets that were asked.
  void Answered(const base::NodeId& node, uint64_t forward_id,
                const absl::StatusOr<wire::v1::RequestLeaseReply>& reply);
  // The connection is lost, and the leases there with it.
  void NodeLost(const base::NodeId& node);
  // It does not answer for a while: what it was asked for is asked for elsewhere, and grants that
  // come nevertheless are given back.
  void NodeSilent(const base::NodeId& node);
  // The request of this node's process that became `forward_id`.
  std::optional<std::pair<ClientId, uint64_t>> Origin(uint64_t forward_id) const;
  // Those who hold leases at the node.
  std::vector<ClientId> HoldersAt(const base::NodeId& node) const;

  // -- From the GCS. After some of these: Rebalance.
  void NodeChanged(const wire::v1::NodeState& state);
  void NodeDead(const base::NodeId& node);
  // This node takes nothing new any more.
  void Drain();
  void GroupPlaced(const wire::v1::PlacementGroupInfo& info);
  void GroupRemoved(const base::PlacementGroupId& group);
  // Bundles of the group came to this node, or went from it.
  void BundlesChanged(const base::PlacementGroupId& group);
  // What is free may have changed: requests move to where there is room.
  void Rebalance();

  // Where to ask why the request still waits: another raylet and the id there. Nullopt: Explain.
  std::optional<std::pair<base::NodeId, uint64_t>> WaitsAt(ClientId client,
                                                           uint64_t request_id) const;
  // In whole sentences; "" if it does not wait.
  std::string Explain(ClientId client, uint64_t request_id);
  // The requests that wait and the tasks behind them, by what they ask for: at most `kinds_max`
  // kinds. Those for bundles are part of what their group waits for.
  std::vector<wire::v1::Demand> Demands(size_t kinds_max);

  void Tick();
  // InfiniteFuture: nothing depends on time.
  absl::Time NextTick() const;

  const ClusterView& view() const { return view_; }
  size_t requests() const { return requests_.size(); }
  size_t forwarded() const { return forwarded_.size(); }
  size_t remote_leases() const { return remote_leases_.size(); }
  // MANTA_CHECKs ROUTE-1 and ROUTE-3 in O(everything): for tests.
  void CheckInvariants();

 private:
  using RequestKey = std::pair<ClientId, uint64_t>;
  struct Entry;
  struct Class;
  struct ClassKey {
    ClientId client = 0;
    NodeNeeds needs;
    BundleRef bundle;
    Affinity affinity;
    bool spread = false;

    friend bool operator==(const ClassKey&, const ClassKey&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const ClassKey& key) {
      return H::combine(std::move(h), key.client, key.needs, key.bundle, key.affinity, key.spread);
    }
  };
  // Where the bundles of a group are, by index.
  struct Group {
    struct Place {
      base::NodeId node;  // nil: nowhere, or it died
      resources::ResourceSet resources;
    };
    std::vector<Place> bundles;  // empty: not known
    bool watching = false;
    absl::Time watched = absl::InfinitePast();
  };
  enum class Then : uint8_t;
  // By age.
  using Entries = absl::btree_map<uint64_t, Entry*>;
  struct Forwarded {
    base::NodeId node;
    Entry* entry = nullptr;  // null: nobody wants it any more
  };
  struct RemoteLease {
    base::NodeId node;
    ClientId client = 0;
    uint64_t number = 0;  // in the order of grants
  };

  // Placing. After these the entry may be gone.
  void Place(Entry* entry);
  bool PlaceByAffinity(Entry* entry);
  void PlaceInGroup(Entry* entry);
  void PlaceInAnyBundle(Entry* entry);
  void Start(Entry* entry, const base::NodeId& node);
  bool Enqueue(Entry* entry);
  void Send(Entry* entry, const base::NodeId& node, bool now_or_never);
  void Hold(Entry* entry);
  void Refuse(Entry* entry, const std::string& why);
  void FinishCancelled(Entry* entry);
  void Finish(Entry* entry, const wire::v1::RequestLeaseReply& reply);
  std::optional<base::NodeId> NodeToWaitAt(const Class& in_class);
  std::vector<base::NodeId> NodesOf(const BundleRef& bundle,
                                    const resources::ResourceSet& resources) const;

  // Moving.
  void RebalanceAll();
  void Rebalance(Class* in_class);
  static Entry* NextToMove(const Class& in_class);
  void Move(Entry* entry, const base::NodeId& node);
  bool Withdraw(Entry* entry);
  void CancelThere(Entry* entry, Then then);
  void PlaceAgain(const std::vector<RequestKey>& keys);
  void PlaceAgain(const base::PlacementGroupId& group);
  void NextRound(RequestKey key);
  void GiveUpWaiting(Entry* entry);

  // Answers.
  void Continue(Entry* entry, const base::NodeId& node, wire::v1::RequestLeaseReply reply);
  void GiveBack(const base::NodeId& node, const wire::v1::RequestLeaseReply& reply);

  // Groups.
  void Watch(const base::PlacementGroupId& group);
  void ForgetUnusedGroups();
  bool IsPlacedHere(const BundleRef& bundle) const;
  void SpillServed(const base::PlacementGroupId& group);

  // Bookkeeping.
  Class* ClassOf(const Entry& entry, const wire::v1::RequestLease& message);
  void Detach(Entry* entry);
  void Erase(Entry* entry);
  void Unreachable(const base::NodeId& node);
  void SyncSelf();
  static std::vector<RequestKey> KeysOf(const Entries& entries);

  // Time and words.
  void WarnAndGiveUp(Class* in_class);
  bool IsInfeasible(const ClassKey& key);
  std::string ExplainHeld(const Entry& entry);
  std::string ReasonOf(const Entry& entry);
  std::string WhyRefused(const ClassKey& key) const;
  static std::string WhyUnavailable(const ClassKey& key);

  const Options options_;
  LeaseQueue* const queue_;
  const base::Clock* const clock_;
  Actions* const actions_;
  ClusterView view_;
  NodeChooser chooser_;
  bool draining_ = false;

  uint64_t gains_seen_ = 0;  // of the view, by Rebalance

  uint64_t last_sequence_ = 0;
  uint64_t last_forward_ = 0;
  absl::flat_hash_map<RequestKey, std::unique_ptr<Entry>> requests_;
  absl::flat_hash_map<ClassKey, uint64_t> class_numbers_;
  absl::btree_map<uint64_t, std::shared_ptr<Class>> classes_;  // by number
  uint64_t last_class_ = 0;
  absl::btree_map<uint64_t, Forwarded> forwarded_;
  absl::flat_hash_map<base::LeaseId, RemoteLease> remote_leases_;
  absl::flat_hash_map<base::PlacementGroupId, Group> groups_;
  absl::flat_hash_map<ClientId, uint64_t> newest_served_;  // of each raylet
  absl::btree_map<base::NodeId, absl::Time> unreachable_;  // until when they are not tried
  // Nodes of which an answer says something else than their last report, with when that ends.
  std::deque<std::pair<absl::Time, base::NodeId>> corrected_;
  absl::flat_hash_set<base::NodeId> is_corrected_;
  // Those that keep changing between the bundles of their group, or will not wait any longer, by
  // when.
  absl::btree_set<std::pair<absl::Time, RequestKey>> rounds_;
  size_t held_ = 0;
  absl::Time last_tick_ = absl::InfinitePast();
};

}  // namespace ray::scheduling
