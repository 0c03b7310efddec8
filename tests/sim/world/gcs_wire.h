// What a raylet and the GCS say to each other in the virtual world, where there is no gRPC: packets
// of one socket for the node's channel and of another one for unary calls.
// Threads: one.
#pragma once

#include <cstdint>

namespace ray::sim {

enum class GcsPacket : uint16_t {
  kNodeMessage,  // raylet -> GCS, body: a NodeMessage
  kGcsMessage,   // GCS -> raylet, body: a GcsMessage
  kRefused,      // GCS -> raylet, why the channel ends: the code is the number
  kCall,         // flags: the method; payload: the request's id
  kReply,        // flags: the status code; payload: its message
};

enum class GcsMethod : uint16_t {
  kRegisterActor,
  kGetActor,
  kGetNamedActor,
  kListNamedActors,
  kListActors,
  kKillActor,
  kActorOutOfScope,
  kChangePlacementGroups,
  kWaitPlacementGroup,
  kListPlacementGroups,
  kAddJob,
  kFinishJob,
  kListJobs,
  kKv,
  kClusterState,
  kDrainNode,
};

}  // namespace ray::sim
