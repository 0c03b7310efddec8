// What clients ask about placement groups: relayed to the GCS.
//
// Creations and removals go to the GCS in one order and one call at a time, with all that has come
// meanwhile in the next. A removal is answered once it is in that order, and sent until the GCS
// has it; a creation is answered once the GCS has it. Questions are held back until the GCS knows
// all that came before them; that a group is created is often known here.
//
// Owner: Raylet.   Threads: loop-bound.   Errors: those of the GCS travel in the replies.
// Frames: CREATE_PLACEMENT_GROUP, REMOVE_PLACEMENT_GROUP, WAIT_PLACEMENT_GROUP,
// LIST_PLACEMENT_GROUPS in; TASK_PENDING_WARNING out, once for each reason why a group that
// somebody waits for is not there.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/gcs/gcs_client.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/bundle_host.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/frame_router.h"
#include "ray/wire/v1/placement_groups.pb.h"

namespace ray::raylet {

class PlacementGroupRelay {
 public:
  // What became of groups that were asked for by Watch: one of them, once.
  struct Events {
    std::function<void(const wire::v1::PlacementGroupInfo&)> on_placed;
    std::function<void(const base::PlacementGroupId&)> on_removed;
  };
  using Deferred = absl::AnyInvocable<void()>;

  // All pointers outlive the relay.
  PlacementGroupRelay(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
                      const ClientRegistry* clients, gcs::GcsClient* gcs, BundleHost* bundles,
                      Events events);
  ~PlacementGroupRelay();

  // Requests of this node wait for the group: finds out where its bundles are, or that it never
  // will be there. Harmless when it is being watched.
  void Watch(const base::PlacementGroupId& group);
  // Runs it once the GCS knows all creations and removals that have come: at once, if it does.
  void AfterChanges(Deferred run);

 private:
  using Reply = wire::v1::PlacementGroupsReply;
  struct Waiting;
  struct Change {
    gcs::v1::PlacementGroupChange message;
    std::optional<Responder> responder;  // who waits for its outcome
  };

  absl::Status OnCreate(const wire::v1::PlacementGroupSpec& message, const Responder& responder);
  absl::Status OnRemove(const wire::v1::PlacementGroupRequest& message, const Responder& responder);
  absl::Status OnWait(const Client& client, const wire::v1::WaitPlacementGroup& message,
                      const Responder& responder);
  absl::Status OnList(const wire::v1::PlacementGroupRequest& message, const Responder& responder);

  void Queue(gcs::v1::PlacementGroupChange change, std::optional<Responder> responder);
  void SendChanges();
  void OnChanged(const absl::StatusOr<gcs::v1::ChangePlacementGroupsReply>& reply);
  void RemoveLater(Change change);
  void Answer(const std::shared_ptr<Waiting>& waiting);
  void AskAndAnswer(const std::shared_ptr<Waiting>& waiting);
  void Warn(Waiting* waiting, const wire::v1::PlacementGroupInfo& info);
  void AskForWatched(const base::PlacementGroupId& group);
  void OnWatched(const base::PlacementGroupId& group, const absl::StatusOr<Reply>& reply);

  net::EventLoop* const loop_;
  const base::Clock* const clock_;
  const ClientRegistry* const clients_;
  gcs::GcsClient* const gcs_;
  BundleHost* const bundles_;
  const Events events_;
  // Callbacks that come back after the relay's end see that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::deque<Change> changes_;  // the first `sent_` of them are under way
  size_t sent_ = 0;
  uint64_t changes_done_ = 0;
  std::deque<std::pair<uint64_t, Deferred>> questions_;  // with the changes they come after
  absl::flat_hash_set<base::PlacementGroupId> watched_;
};

}  // namespace ray::raylet
