// The life of a lease, from the moment it holds resources. (A request that still waits for
// resources is no lease.)
//
//   kAwaitingWorker --worker ready--> kRunning <--runs again / blocks--> kBlocked
//          |                             |                                  |
//          +-----------------------------+------> kEnded <------------------+
//
// Threads: immutable.
#pragma once

#include <cstdint>

namespace ray::scheduling {

enum class LeaseState : uint8_t {
  kAwaitingWorker,  // holds resources; no worker process is ready for it yet
  kRunning,         // a worker belongs to it
  kBlocked,         // as kRunning, but the worker waits for others and has lent its CPUs
  kEnded,           // holds nothing
};
inline constexpr int kLeaseStates = 4;

constexpr bool MayFollow(LeaseState from, LeaseState to) {
  constexpr bool kTable[kLeaseStates][kLeaseStates] = {
      // to: kAwaitingWorker, kRunning, kBlocked, kEnded
      /* kAwaitingWorker */ {false, true, false, true},
      /* kRunning        */ {false, false, true, true},
      /* kBlocked        */ {false, true, false, true},
      /* kEnded          */ {false, false, false, false},
  };
  return kTable[static_cast<int>(from)][static_cast<int>(to)];
}

}  // namespace ray::scheduling
