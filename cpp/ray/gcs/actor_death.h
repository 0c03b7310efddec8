// Why an incarnation of an actor ended, and the sentence that tells its callers.
// Threads: immutable values.
#pragma once

#include <string>
#include <string_view>

#include "ray/base/ids.h"
#include "ray/wire/v1/actors.pb.h"

namespace ray::gcs {

// What ended an incarnation. `reason` completes the sentence "The actor died because ...".
struct ActorEnd {
  wire::v1::ActorDeathCause cause = wire::v1::DEATH_UNSPECIFIED;
  std::string reason;
  std::string creation_error;  // CREATION_FAILED: the pickled exception
};

ActorEnd KilledByUser();
ActorEnd OutOfScope();
ActorEnd IntendedExit(std::string_view reason);
ActorEnd WorkerLost(std::string_view detail);
ActorEnd WorkerLostInCreation(std::string_view detail);
ActorEnd CreationFailed(std::string_view message, std::string creation_error);
ActorEnd EnvironmentFailed(std::string_view message);
ActorEnd NodeLost(const base::NodeId& node);
ActorEnd OwnerLost(const base::WorkerId& owner);
ActorEnd JobEnded(const base::JobId& job);
ActorEnd GroupRemoved(const base::PlacementGroupId& group);
// Hard affinity to a node that is not there, or that lacks what the actor asks for (ever, or now if
// it must not wait).
ActorEnd Unschedulable(std::string_view why);

// The whole message of a DEAD actor.
std::string DeathMessage(const ActorEnd& end, const wire::v1::ActorInfo& info,
                         int32_t restarts_max);
// Of one that starts again; `info` already counts the new incarnation.
std::string RestartMessage(const ActorEnd& end, const wire::v1::ActorInfo& info,
                           int32_t restarts_max);

}  // namespace ray::gcs
