// The life of a worker process, as its raylet sees it.
//
//   kStarting --HELLO--> kIdle <--lease granted / returned--> kLeased
//      |                   |  \--becomes an actor--> kActor      |
//      |                   |                            |        |
//      +-------------------+-----> kExiting <-----------+--------+      (then the record goes)
//
// Threads: immutable.
#pragma once

#include <cstdint>
#include <string_view>

namespace ray::raylet {

enum class WorkerState : uint8_t {
  kStarting,  // its fork was asked for; it has not said HELLO
  kIdle,      // waits for a lease or an actor
  kLeased,    // runs tasks of the holder of its lease
  kActor,     // is an actor, or will be one
  kExiting,   // was told to go, says that it goes, broke its connection, or has ended
};
inline constexpr int kWorkerStates = 5;

constexpr bool MayFollow(WorkerState from, WorkerState to) {
  constexpr bool kTable[kWorkerStates][kWorkerStates] = {
      // to:      kStarting, kIdle, kLeased, kActor, kExiting
      /* kStarting */ {false, true, false, false, true},
      /* kIdle     */ {false, false, true, true, true},
      /* kLeased   */ {false, true, false, false, true},
      /* kActor    */ {false, false, false, false, true},
      /* kExiting  */ {false, false, false, false, false},
  };
  return kTable[static_cast<int>(from)][static_cast<int>(to)];
}

}  // namespace ray::raylet
