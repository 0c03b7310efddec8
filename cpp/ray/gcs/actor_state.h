// The life of an actor, as states of protos/ray/wire/v1/actors.proto:
//
//   PENDING_CREATION --created--> ALIVE
//   ALIVE --worker or node lost, restarts left--> RESTARTING --created--> ALIVE
//   PENDING_CREATION, RESTARTING --worker lost in __init__, restarts left--> RESTARTING
//   any but DEAD --killed, out of scope, exit, no restarts left, ...--> DEAD, for good
//
// Threads: constants.
#pragma once

#include <utility>

#include "ray/wire/v1/actors.pb.h"

namespace ray::gcs {

inline constexpr std::pair<wire::v1::ActorState, wire::v1::ActorState> kActorTransitions[] = {
    {wire::v1::PENDING_CREATION, wire::v1::ALIVE},
    {wire::v1::PENDING_CREATION, wire::v1::RESTARTING},
    {wire::v1::PENDING_CREATION, wire::v1::DEAD},
    {wire::v1::ALIVE, wire::v1::RESTARTING},
    {wire::v1::ALIVE, wire::v1::DEAD},
    {wire::v1::RESTARTING, wire::v1::ALIVE},
    {wire::v1::RESTARTING, wire::v1::RESTARTING},
    {wire::v1::RESTARTING, wire::v1::DEAD},
};

constexpr bool CanChange(wire::v1::ActorState from, wire::v1::ActorState to) {
  for (const auto& transition : kActorTransitions) {
    if (transition.first == from && transition.second == to) return true;
  }
  return false;
}

static_assert(CanChange(wire::v1::ALIVE, wire::v1::RESTARTING));
static_assert(!CanChange(wire::v1::DEAD, wire::v1::RESTARTING));
static_assert(!CanChange(wire::v1::ALIVE, wire::v1::PENDING_CREATION));

}  // namespace ray::gcs
