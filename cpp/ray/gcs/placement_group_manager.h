// The life of every placement group: registered, its bundles set aside on nodes, set aside again
// when a node is lost, removed.
//
//   PENDING --every bundle is set aside--> CREATED --a node with bundles died--> RESCHEDULING
//   --set aside again--> CREATED          any --removed, or its creator is gone--> REMOVED, for
//   good
//
// Placement. Where bundles without a node go is decided over what the nodes reported
// (scheduling/bundle_placement.h). Then, in one attempt at a time for each group, every node chosen
// is asked to set its share aside (PrepareBundles), all or none of it. Once each has, the group is
// stored as CREATED and the nodes are told that their bundles may be used (CommitBundles). If one
// refuses or dies, the others give their shares back and the attempt is made again, after a pause
// that grows.
//
// Groups without room wait. They are looked at when some node may have more room, at most once a
// look_interval, with one look for all that ask for the same.
//
// Owner: ControlPlane.   Threads: loop-bound.   Blocks as the storage does.
// Errors: in the reply or the returned status. kInvalidArgument: malformed, nothing was changed.
// kNotFound: no such group. kAlreadyExists: the name is taken.
//   GROUP-1  a change is in the storage before anybody hears of it (unless the storage fails, see
//            placement_group_table.h).
//   GROUP-2  a group has at most one attempt under way; what an earlier one set aside is returned.
//   GROUP-3  a node that registers again keeps what the table says, and nothing else.
//   GROUP-4  each waiter is called once.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/gcs/deadlines.h"
#include "ray/gcs/node_manager.h"
#include "ray/gcs/node_sender.h"
#include "ray/gcs/placement_group_table.h"
#include "ray/gcs/storage.h"
#include "ray/gcs/v1/gcs.pb.h"
#include "ray/wire/v1/cluster.pb.h"
#include "ray/wire/v1/placement_groups.pb.h"

namespace ray::gcs {

// What a registering node has set aside, by group.
using NodeBundles = std::map<base::PlacementGroupId, std::vector<uint32_t>>;
absl::StatusOr<NodeBundles> BundlesOfRegistration(const v1::RegisterNode& request);

class PlacementGroupManager {
 public:
  struct Options {
    absl::Duration look_interval = absl::Milliseconds(10);
    // Before an attempt is made again; doubles with each that fails in a row, up to retry_max.
    absl::Duration retry_interval = absl::Milliseconds(100);
    absl::Duration retry_max = absl::Seconds(2);
    absl::Duration pending_warning = absl::Seconds(5);
    absl::Duration wait_max = absl::Seconds(15);  // a wait is answered by then
    int64_t removed_max = 1000;
  };
  struct Environment {
    const base::Clock* clock = nullptr;
    std::function<absl::Time()> wall_clock;  // for create_time_ms
    Storage* storage = nullptr;
    Deadlines* deadlines = nullptr;
    NodeManager* nodes = nullptr;
    NodeSender* sender = nullptr;
    // Before its bundles are returned. Must not call the manager.
    std::function<void(const base::PlacementGroupId&)> on_removed;
  };
  // A bundle with room.
  struct Spot {
    base::NodeId node;
    uint32_t index = 0;
  };
  using WaitCallback = absl::AnyInvocable<void(wire::v1::PlacementGroupsReply)>;

  PlacementGroupManager(Options options, Environment environment)
      : options_(options),
        environment_(std::move(environment)),
        table_(options.removed_max, environment_.storage, environment_.deadlines) {}

  absl::Status Load();

  // -- requests
  absl::Status Create(const wire::v1::PlacementGroupSpec& spec, const std::string& job_namespace);
  // Harmless for one that is removed already.
  absl::Status Remove(const base::PlacementGroupId& group);
  // Answers once the group is created or removed; with its present state after the timeout, after
  // wait_max, or when the reason why it waits has been found out.
  void Wait(const wire::v1::WaitPlacementGroup& request, WaitCallback callback);
  wire::v1::PlacementGroupsReply List(const wire::v1::PlacementGroupRequest& request) const;
  // Those that are not placed, each with the reason; a thousand at most.
  void AddPendingTo(wire::v1::ClusterStateReply* reply) const;
  // Answers every wait now: the server is about to end.
  void EndWaits();

  // -- from the nodes' channels
  absl::Status OnBundlesPrepared(const base::NodeId& node, const v1::BundlesPrepared& message);

  // -- what happens around
  void OnNodeRegistered(const base::NodeId& node, const NodeBundles& held);
  void OnNodeDead(const base::NodeId& node);
  void OnJobFinished(const base::JobId& job);
  bool IsCreator(const base::ActorId& actor) const;
  std::set<base::ActorId> Creators() const;
  void OnCreatorDead(const base::ActorId& actor);
  // Some node may have more room than before.
  void PlaceWaiting();

  // -- for actors
  // Not removed, and known.
  bool Exists(const base::PlacementGroupId& group) const;
  // A bundle that is set aside and has room; `index` < 0: any.
  std::optional<Spot> FindRoom(const base::PlacementGroupId& group, int index,
                               const resources::ResourceSet& request) const;
  // Changes the guess of a bundle's room: `before` is no longer held there, `after` is. Harmless
  // for what is not there any more.
  void ChangeHold(const base::PlacementGroupId& group, uint32_t index,
                  const resources::ResourceSet& before, const resources::ResourceSet& after);

 private:
  void Enqueue(PlacementGroup* group);
  void Look();
  bool TryPlace(PlacementGroup* group);
  std::optional<std::vector<base::NodeId>> ChooseNodes(
      const PlacementGroup& group, const std::vector<uint32_t>& indices,
      std::vector<scheduling::NodeView> nodes) const;
  void BeginAttempt(PlacementGroup* group, const std::vector<uint32_t>& indices,
                    const std::vector<base::NodeId>& nodes);
  void Commit(PlacementGroup* group);
  void Abort(PlacementGroup* group, const base::NodeId& because_of);
  void RetryLater(PlacementGroup* group);
  void LoseBundles(PlacementGroup* group, const base::NodeId& node);
  void RemoveGroup(PlacementGroup* group);
  void RemoveAll(const std::vector<base::PlacementGroupId>& ids);

  void ExplainLater(const PlacementGroup& group);
  void ExplainWait(const base::PlacementGroupId& id);
  std::string PendingReason(const PlacementGroup& group) const;
  wire::v1::PlacementGroupInfo Explained(const PlacementGroup& group) const;
  void AnswerWaiters(PlacementGroup* group);

  void SendPrepare(const PlacementGroup& group, const base::NodeId& node,
                   const std::vector<uint32_t>& indices, uint64_t attempt);
  void TellNodes(const PlacementGroup& group);
  void SendCommit(const PlacementGroup& group, const base::NodeId& node,
                  const std::vector<uint32_t>& indices);
  void SendReturn(const base::PlacementGroupId& group, const base::NodeId& node,
                  const std::vector<uint32_t>& indices, bool removed);

  const Options options_;
  const Environment environment_;
  PlacementGroupTable table_;
  std::map<uint64_t, base::PlacementGroupId> waiting_;  // for room, by queue number
  uint64_t last_queue_number_ = 0;
  uint64_t last_waiter_ = 0;
  absl::Time last_look_ = absl::InfinitePast();
  bool look_due_ = false;
};

}  // namespace ray::gcs
