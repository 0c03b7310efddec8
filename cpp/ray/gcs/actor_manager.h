// The life of every actor: registered, placed on a node with room or in a bundle of its placement
// group, created there, restarted when it is lost, dead. The states and their order are in
// actor_state.h; why actors end is in actor_death.h.
//
// Incarnations are numbered by num_restarts. A message about another incarnation than the present
// one is out of date and changes nothing (a worker that it proves to be running is ended).
//
// Owner: ControlPlane.   Threads: loop-bound.   Blocks as the storage does.
// Errors: in the reply or the returned status. kInvalidArgument: malformed, nothing was changed.
// kNotFound: no such actor. kAlreadyExists: the name is taken. kFailedPrecondition: the owner is
// dead.
//   ACTOR-1  a change is in the storage before anybody hears of it (unless the storage fails, see
//            actor_table.h).
//   ACTOR-2  revision grows with each change that is published; num_restarts never shrinks.
//   ACTOR-3  an actor has at most one incarnation that the GCS will let live.
//   ACTOR-4  num_restarts <= restarts_max, unless that is -1.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ray/base/ids.h"
#include "ray/gcs/actor_death.h"
#include "ray/gcs/actor_table.h"
#include "ray/gcs/deadlines.h"
#include "ray/gcs/node_manager.h"
#include "ray/gcs/node_sender.h"
#include "ray/gcs/placement_group_manager.h"
#include "ray/gcs/storage.h"
#include "ray/gcs/v1/gcs.pb.h"
#include "ray/wire/v1/actors.pb.h"
#include "ray/wire/v1/cluster.pb.h"
#include "ray/wire/v1/connection.pb.h"

namespace ray::gcs {

// What a registering node says of actors.
struct NodeActors {
  static absl::StatusOr<NodeActors> FromRegistration(const v1::RegisterNode& request);

  std::map<base::ActorId, wire::v1::ActorInfo> live;
  std::set<base::ActorId> watched;
};

class ActorManager {
 public:
  struct Options {
    // An ALIVE actor that its node does not name when it registers again is given this long to be
    // explained.
    absl::Duration confirm_timeout = absl::Seconds(5);
    // After a node refused an actor, or came back while it was creating one.
    absl::Duration retry_interval = absl::Milliseconds(100);
    absl::Duration pending_warning = absl::Seconds(5);
    int64_t dead_actors_max = 10000;
  };

  using OnDead = std::function<void(const base::ActorId&)>;

  // `on_dead` must not call the manager.
  ActorManager(Options options, Storage* storage, Deadlines* deadlines, NodeManager* nodes,
               PlacementGroupManager* groups, NodeSender* sender, OnDead on_dead)
      : options_(options),
        deadlines_(deadlines),
        nodes_(nodes),
        groups_(groups),
        sender_(sender),
        storage_(storage),
        on_dead_(std::move(on_dead)),
        table_(options.dead_actors_max, storage, deadlines) {}

  absl::Status Load();

  // -- requests
  wire::v1::RegisterActorReply Register(const wire::v1::RegisterActor& request,
                                        const std::string& job_namespace);
  wire::v1::ActorInfoReply Get(const wire::v1::SubscribeActor& request) const;
  wire::v1::ActorInfoReply GetNamed(const wire::v1::GetNamedActor& request) const;
  wire::v1::ListNamedActorsReply ListNamed(const wire::v1::ListNamedActors& request) const;
  v1::ListActorsReply List() const;
  // Known and not DEAD.
  bool Lives(const base::ActorId& actor) const;
  bool HasLiving(const base::JobId& job) const;
  // Those that wait for room, each with the reason; a thousand at most.
  void AddPendingTo(wire::v1::ClusterStateReply* reply) const;
  // With no_restart = false the kill counts as a restart, if one is left.
  // `with_effect` is stored with what the kill changes.
  absl::Status Kill(const wire::v1::KillActor& request, WriteBatch with_effect = {});
  // Detached actors have no scope: nothing happens to them.
  absl::Status OutOfScope(const wire::v1::ActorOutOfScope& request);

  // -- from the nodes' channels
  absl::Status OnActorCreated(const base::NodeId& node, const v1::ActorCreated& message);
  absl::Status OnWorkerDied(const base::NodeId& node, const v1::WorkerDied& message);
  absl::Status OnWatchActor(const base::NodeId& node, const v1::WatchActor& message);

  // -- what happens around
  void OnNodeRegistered(const base::NodeId& node, const NodeActors& actors);
  void OnNodeDead(const base::NodeId& node);
  void OnJobFinished(const base::JobId& job, const base::WorkerId& driver);
  // Ends the actors that are in it, wherever they run, and those that were to be.
  void OnGroupRemoved(const base::PlacementGroupId& group);
  // Some node may have more room than before.
  void PlaceWaiting();

 private:
  // What is to become of the worker process of an incarnation that ends.
  enum class Worker { kIsGone, kFinishCall, kKill };

  struct Spot {
    base::NodeId node;
    std::optional<uint32_t> bundle;
  };

  absl::Status Accept(const wire::v1::RegisterActor& request, const std::string& job_namespace,
                      wire::v1::RegisterActorReply* reply);

  // False: there is no room.
  bool TryPlace(Actor* actor);
  std::optional<ActorEnd> WhyNever(const Actor& actor) const;
  std::optional<Spot> FindRoom(const Actor& actor) const;
  void Place(Actor* actor);
  void Wait(Actor* actor);
  void ExplainWait(const base::ActorId& id, uint64_t num_restarts);
  void GiveUpWaiting(const base::ActorId& id, uint64_t num_restarts);
  void RetryElsewhere(Actor* actor);
  void SendCreate(const Actor& actor);
  void SendKill(const base::NodeId& node, const base::ActorId& actor, uint64_t num_restarts,
                bool force, const std::string& reason);
  void Hold(Actor* actor, const resources::ResourceSet& amount);
  void ChangeHold(const base::PlacementGroupId& group, const Spot& spot,
                  const resources::ResourceSet& before, const resources::ResourceSet& after);

  void MarkAlive(Actor* actor, const wire::v1::Address& address, int64_t pid);
  void EndIncarnation(Actor* actor, const ActorEnd& end, Worker worker);
  void EndForGood(Actor* actor, const ActorEnd& end, Worker worker);
  void LeaveNode(Actor* actor, const ActorEnd& end, Worker worker);
  void EndAll(const std::vector<base::ActorId>& ids, const ActorEnd& end);
  void OnOwnerDead(const base::WorkerId& owner);
  absl::Status LoadDeadOwners();
  void RememberDeadOwner(const base::WorkerId& owner);
  std::set<base::ActorId> ActorsThatOutliveJob(const base::JobId& job) const;

  void Reconcile(const base::NodeId& node, const base::ActorId& id,
                 const wire::v1::ActorInfo& live);
  void QuestionMissing(const base::NodeId& node, const NodeActors& actors);
  void CreateAgainUnlessCreated(const base::ActorId& id, uint64_t num_restarts);
  void EndUnlessConfirmed(const base::ActorId& id, uint64_t num_restarts);

  void Change(Actor* actor, wire::v1::ActorState state);
  void Publish(const Actor& actor);
  void SendState(const base::NodeId& node, const Actor& actor);
  void Watch(const base::NodeId& node, const base::ActorId& id);
  void Unwatch(const base::NodeId& node);

  const Options options_;
  Deadlines* const deadlines_;
  NodeManager* const nodes_;
  PlacementGroupManager* const groups_;
  NodeSender* const sender_;
  Storage* const storage_;
  const OnDead on_dead_;

  ActorTable table_;
  // By request, as text: those that ask for the same in the same place. Some may not wait any more.
  std::map<std::string, std::deque<base::ActorId>> waiting_;
  std::map<base::ActorId, std::set<base::NodeId>> watchers_;
  // Owners that died lately: a registration that was overtaken by its owner's death must not leave
  // an orphan.
  absl::flat_hash_set<base::WorkerId> dead_owners_;
  std::map<uint64_t, base::WorkerId> dead_owners_order_;
};

}  // namespace ray::gcs
