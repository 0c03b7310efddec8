// What clients ask about actors: relayed to the GCS, with one watch a node and actor however many
// clients subscribe.
//
// A client may name an actor right after it sent REGISTER_ACTOR, without waiting for the answer:
// what it asks then is held back until the GCS knows the actor.
//
// Owner: Raylet.   Threads: loop-bound.   Errors: those of the GCS travel in the replies.
// Frames: REGISTER_ACTOR, GET_NAMED_ACTOR, LIST_NAMED_ACTORS, KILL_ACTOR, SUBSCRIBE_ACTOR,
// ACTOR_OUT_OF_SCOPE in; ACTOR_CHANGED out.
//   RELAY-1  a subscriber hears of each state that this node hears of, by revision, until DEAD.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "ray/base/ids.h"
#include "ray/gcs/gcs_client.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/frame_router.h"
#include "ray/wire/v1/actors.pb.h"

namespace ray::raylet {

class ActorRelay {
 public:
  using Deferred = absl::AnyInvocable<void()>;
  // Runs what it is given once the GCS knows the placement groups that were made before.
  using AfterGroups = std::function<void(Deferred)>;

  // All pointers outlive the relay.
  ActorRelay(FrameRouter* router, const ClientRegistry* clients, gcs::GcsClient* gcs,
             AfterGroups after_groups);

  // From the GCS.
  void ActorChanged(const wire::v1::ActorInfo& info);
  void ClientGone(const Client& client);
  // For the registration after a reconnect.
  std::vector<std::string> WatchedActors() const;

 private:
  // An actor that some client subscribed to and that is not known to be dead.
  struct Watched {
    wire::v1::ActorInfo info;  // revision 0: nothing is known yet
    absl::flat_hash_set<scheduling::ClientId> subscribers;
    std::vector<std::pair<scheduling::ClientId, Responder>> waiting;  // for the first info
  };

  absl::Status OnRegister(const wire::v1::RegisterActor& message, const Responder& responder);
  absl::Status OnSubscribe(const Client& client, const wire::v1::SubscribeActor& message,
                           const Responder& responder);
  absl::Status OnKill(const wire::v1::KillActor& message, const Responder& responder);
  absl::Status OnOutOfScope(const wire::v1::ActorOutOfScope& message);
  void RelayNames(FrameRouter* router);

  void AfterRegistration(const base::ActorId& actor, Deferred run);
  void RegistrationDone(const base::ActorId& actor);
  void Subscribe(scheduling::ClientId client, const base::ActorId& actor,
                 const Responder& responder);
  void SubscriptionAnswered(const base::ActorId& actor,
                            const absl::StatusOr<wire::v1::ActorInfoReply>& reply);

  const ClientRegistry* const clients_;
  gcs::GcsClient* const gcs_;
  const AfterGroups after_groups_;
  absl::flat_hash_map<base::ActorId, std::vector<Deferred>> registering_;
  absl::flat_hash_map<base::ActorId, Watched> watched_;
};

}  // namespace ray::raylet
