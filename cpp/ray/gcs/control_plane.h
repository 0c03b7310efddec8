// The GCS without its sockets: every manager, and who tells whom what has happened. The server (or
// a simulation) feeds it requests, the messages of the nodes' channels and the time; it answers,
// and sends through the NodeSender.
//
// Owner: GcsServer.   Threads: loop-bound.   Blocks as the storage does.
// Errors: a unary call fails as a whole only where its reply has no status of its own. An error
// from a channel's message means that the channel must be closed with it: its peer is malformed
// (kInvalidArgument) or dead (kFailedPrecondition).
#pragma once

#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/base/config.h"
#include "ray/gcs/actor_manager.h"
#include "ray/gcs/answered_requests.h"
#include "ray/gcs/deadlines.h"
#include "ray/gcs/job_manager.h"
#include "ray/gcs/kv_manager.h"
#include "ray/gcs/node_manager.h"
#include "ray/gcs/node_sender.h"
#include "ray/gcs/placement_group_manager.h"
#include "ray/gcs/storage.h"
#include "ray/gcs/v1/gcs.pb.h"

namespace ray::gcs {

class ControlPlane {
 public:
  // All outlive the control plane.
  struct Environment {
    const base::Clock* clock = nullptr;
    JobManager::WallClock wall_clock;
    Storage* storage = nullptr;
    NodeSender* sender = nullptr;
    NodeProbe* probe = nullptr;  // null: nodes die of silence only
  };

  ControlPlane(const base::Config& config, Environment environment);

  // Once, before anything else: reads the storage.
  absl::Status Load();

  // -- time
  absl::Time NextDeadline() const { return deadlines_.Next(); }
  void RunDeadlines() { deadlines_.RunDue(); }

  // -- the nodes' channels. RegisterNode answers through the sender: the channel must be able to
  // send by then.
  absl::Status RegisterNode(const base::NodeId& node, const v1::RegisterNode& request);
  absl::Status HandleNodeMessage(const base::NodeId& node, const v1::NodeMessage& message);
  void NodeDisconnected(const base::NodeId& node) { nodes_.Disconnect(node); }

  // -- unary calls
  absl::StatusOr<wire::v1::RegisterActorReply> RegisterActor(
      const wire::v1::RegisterActor& request);
  absl::StatusOr<wire::v1::ActorInfoReply> GetActor(const wire::v1::SubscribeActor& request);
  absl::StatusOr<wire::v1::ActorInfoReply> GetNamedActor(const wire::v1::GetNamedActor& request);
  absl::StatusOr<wire::v1::ListNamedActorsReply> ListNamedActors(
      const wire::v1::ListNamedActors& request);
  absl::StatusOr<v1::ListActorsReply> ListActors(const v1::ListActorsRequest& request);
  // These two would take effect twice: one that comes again has the same id, and is answered as
  // before. "": it has none.
  absl::StatusOr<wire::v1::StatusReply> KillActor(const wire::v1::KillActor& request,
                                                  const std::string& request_id);
  absl::StatusOr<wire::v1::KvReply> Kv(const wire::v1::KvRequest& request,
                                       const std::string& request_id);
  absl::StatusOr<wire::v1::StatusReply> ActorOutOfScope(const wire::v1::ActorOutOfScope& request);
  absl::StatusOr<v1::ChangePlacementGroupsReply> ChangePlacementGroups(
      const v1::ChangePlacementGroupsRequest& request);
  absl::StatusOr<wire::v1::PlacementGroupsReply> ListPlacementGroups(
      const wire::v1::PlacementGroupRequest& request);
  // Answers later: when the group is created or removed, or after a while.
  void WaitPlacementGroup(const wire::v1::WaitPlacementGroup& request,
                          PlacementGroupManager::WaitCallback callback) {
    groups_.Wait(request, std::move(callback));
  }
  // Answers everybody who waits: the server is about to end.
  void EndWaits() { groups_.EndWaits(); }
  absl::StatusOr<v1::AddJobReply> AddJob(const v1::AddJobRequest& request);
  absl::StatusOr<wire::v1::StatusReply> FinishJob(const v1::FinishJobRequest& request);
  absl::StatusOr<v1::ListJobsReply> ListJobs(const v1::ListJobsRequest& request);
  absl::StatusOr<wire::v1::ClusterStateReply> ClusterState(
      const wire::v1::ClusterStateRequest& request);
  absl::StatusOr<wire::v1::StatusReply> DrainNode(const wire::v1::DrainNode& request);

 private:
  absl::Status LoadIncarnation();
  void FinishWhatWasBegun();
  void ForgetIfGone(const base::JobId& job);
  absl::Status Dispatch(const base::NodeId& node, const v1::NodeMessage& message);
  absl::Status Finish(const base::JobId& job);
  absl::Status Change(const v1::PlacementGroupChange& change);
  absl::Status CheckCreatorLives(const base::PlacementGroupId& group,
                                 const wire::v1::PlacementGroupSpec& spec) const;
  void OnActorDead(const base::ActorId& actor);
  void PlaceWaiting();
  void OnNodeDead(const base::NodeId& node);

  const std::map<std::string, std::string> config_;  // for the nodes
  const Environment environment_;
  uint64_t incarnation_ = 0;
  Deadlines deadlines_;
  JobManager jobs_;
  AnsweredRequests answered_;
  KvManager kv_;
  NodeManager nodes_;
  PlacementGroupManager groups_;
  ActorManager actors_;
};

}  // namespace ray::gcs
