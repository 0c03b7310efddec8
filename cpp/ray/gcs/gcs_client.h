// The raylet's client of the GCS: the node's channel, kept alive across restarts of the GCS, and
// the unary calls.
//
// Delivery on the channel: what the GCS must not miss (ActorCreated, WorkerDied) is kept until the
// GCS says that it has stored it, and sent again after a reconnect, in order. A report is replaced
// by a newer one while it waits. What the registration says anyway (resources, live and watched
// actors) is not queued while there is no connection.
//
// Owner: the raylet; not destroyed inside an event or callback.   Threads: loop-bound; gRPC's
// threads only post to the loop.   Never blocks, save the destructor (a moment, until gRPC has let
// go of cancelled calls).
// Errors: a lost connection is retried each reconnect_interval for as long as the client lives.
// Three answers are final and end the attempts: kUnauthenticated (wrong token), kFailedPrecondition
// (the GCS has declared this node dead: the raylet must exit) and kInvalidArgument (our
// registration is malformed). on_disconnected tells them apart.
//   CLIENT-1  events and callbacks run on the loop, never inside a method of the client, and never
//             after ~GcsClient.
//   CLIENT-2  each unary callback runs exactly once while the client lives.
//   CLIENT-3  on_disconnected runs once for all attempts that fail in a row, and once more for a
//             final answer.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/gcs/v1/gcs.pb.h"
#include "ray/net/event_loop.h"
#include "ray/net/tls_credentials.h"
#include "ray/wire/v1/actors.pb.h"
#include "ray/wire/v1/cluster.pb.h"
#include "ray/wire/v1/connection.pb.h"
#include "ray/wire/v1/placement_groups.pb.h"

namespace ray::gcs {

class GcsClient {
 public:
  struct Options {
    std::string address;      // "unix:PATH" or "tcp:HOST:PORT"
    std::string token;        // "" = the GCS has none
    net::TlsCredentials tls;  // for an address of TCP
    // How often their files are looked at, for connections that are made later; zero: never.
    absl::Duration tls_files_interval = absl::Seconds(10);
    absl::Duration rpc_timeout = absl::Seconds(30);
    absl::Duration reconnect_interval = absl::Milliseconds(200);
  };

  // An event without a function is ignored.
  struct Events {
    std::function<void(const v1::NodeRegistered&)> on_registered;
    std::function<void(const wire::v1::ActorInfo&)> on_actor_changed;
    // After a reconnect the GCS may ask again for an incarnation (actor_id, num_restarts) that is
    // already being created or runs here: ignore that one.
    std::function<void(const wire::v1::CreateActor&)> on_create_actor;
    // May name an incarnation that is gone: ignore it then.
    std::function<void(const v1::KillWorker&)> on_kill_worker;
    // States that replace those known of these nodes; after each registration, of every other node.
    std::function<void(const v1::NodesChanged&)> on_nodes_changed;
    // Orders of the bundles that are to be set aside here; after a reconnect they may come again.
    std::function<void(const v1::PrepareBundles&)> on_prepare_bundles;
    std::function<void(const v1::CommitBundles&)> on_commit_bundles;
    std::function<void(const v1::ReturnBundles&)> on_return_bundles;
    std::function<void(const wire::v1::DrainNode&)> on_drain;
    std::function<void(const absl::Status& why)> on_disconnected;
  };

  // Builds the registration: called on the loop for each attempt to connect, so that it says what
  // is true then.
  using Registration = std::function<v1::RegisterNode()>;

  template <typename Reply>
  using Callback = absl::AnyInvocable<void(absl::StatusOr<Reply>)>;

  // `loop` outlives the client.
  GcsClient(net::EventLoop* loop, Options options, Events events);
  ~GcsClient();
  GcsClient(const GcsClient&) = delete;
  GcsClient& operator=(const GcsClient&) = delete;

  // Opens the node's channel. Once; tools that only make unary calls never do.
  void Start(Registration registration);
  bool registered() const;
  // The GCS serves (again), as somebody knows: a lost connection is made without a pause, also one
  // of which the end is noticed a moment later.
  void ReconnectNow();

  void Report(const v1::NodeReport& report);
  void ActorCreated(const v1::ActorCreated& created);
  void WorkerDied(const v1::WorkerDied& died);
  // Not said again after a reconnect: the GCS asks again then.
  void BundlesPrepared(const v1::BundlesPrepared& prepared);
  // This node ends on purpose: it is dead from now on. Nothing else is sent afterwards, and a lost
  // connection is not made again.
  void Leave(const std::string& reason);
  // The GCS has heard Leave(), or cannot hear it.
  bool left() const;
  // The GCS answers with the actor's present state as on_actor_changed, and with each change from
  // then on. The next registration must name the actor in watched_actors.
  void WatchActor(const std::string& actor_id);

  // Unary calls: all idempotent, retried on UNAVAILABLE until rpc_timeout (then kDeadlineExceeded
  // or kUnavailable). An outcome of the operation itself (a name that is taken, an unknown actor)
  // is in the reply's status field.
  void RegisterActor(const wire::v1::RegisterActor& request,
                     Callback<wire::v1::RegisterActorReply> callback);
  void GetActor(const wire::v1::SubscribeActor& request,
                Callback<wire::v1::ActorInfoReply> callback);
  void GetNamedActor(const wire::v1::GetNamedActor& request,
                     Callback<wire::v1::ActorInfoReply> callback);
  void ListNamedActors(const wire::v1::ListNamedActors& request,
                       Callback<wire::v1::ListNamedActorsReply> callback);
  void ListActors(const v1::ListActorsRequest& request, Callback<v1::ListActorsReply> callback);
  void KillActor(const wire::v1::KillActor& request, Callback<wire::v1::StatusReply> callback);
  void ActorOutOfScope(const wire::v1::ActorOutOfScope& request,
                       Callback<wire::v1::StatusReply> callback);
  void ChangePlacementGroups(const v1::ChangePlacementGroupsRequest& request,
                             Callback<v1::ChangePlacementGroupsReply> callback);
  // The GCS answers within half of rpc_timeout, whatever the request's timeout is: ask again then.
  void WaitPlacementGroup(const wire::v1::WaitPlacementGroup& request,
                          Callback<wire::v1::PlacementGroupsReply> callback);
  void ListPlacementGroups(const wire::v1::PlacementGroupRequest& request,
                           Callback<wire::v1::PlacementGroupsReply> callback);
  void AddJob(const v1::AddJobRequest& request, Callback<v1::AddJobReply> callback);
  void FinishJob(const v1::FinishJobRequest& request, Callback<wire::v1::StatusReply> callback);
  void ListJobs(const v1::ListJobsRequest& request, Callback<v1::ListJobsReply> callback);
  void Kv(const wire::v1::KvRequest& request, Callback<wire::v1::KvReply> callback);
  void ClusterState(const wire::v1::ClusterStateRequest& request,
                    Callback<wire::v1::ClusterStateReply> callback);
  void DrainNode(const wire::v1::DrainNode& request, Callback<wire::v1::StatusReply> callback);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ray::gcs
