// The executing side: calls that arrived, in order, until a thread runs them. Sans-I/O.
//
// Calls belong to a concurrency group (one for plain tasks and actors); a group runs up to `limit`
// at a time. Calls of one group start in the order they arrived; one whose arguments are still
// being fetched holds back those behind it. Those that come out of turn compute again what was lost
// and start first, each as soon as its arguments are there: what they compute may be an argument of
// those in the queue.
//   RECV-1  a call is queued, running, or gone; it leaves by exactly one Finish or Recall.
//   RECV-2  a group never runs more than its limit.
//
// Threads: thread-compatible; the core worker's mutex.   Errors: none.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "ray/base/ids.h"
#include "ray/core/buffer.h"
#include "ray/core/peer.h"
#include "ray/core/store_client.h"
#include "ray/core/task_frames.h"

namespace ray::core {

// The bytes of an argument, wherever they lie: exactly one of the two is set.
struct ArgumentBytes {
  BufferPtr inline_bytes;
  PinnedObjectPtr stored;
  std::string_view view() const {
    return stored != nullptr ? stored->view() : inline_bytes->view();
  }
};

struct IncomingCall {
  struct Reference {
    int32_t position = -1;
    std::string keyword;
    ArgumentBytes value;
  };
  PeerPtr caller;  // null: the creation of this actor, asked for by the raylet
  uint64_t correlation_id = 0;
  base::TaskId task_id;
  uint32_t attempt = 0;
  bool out_of_turn = false;
  ReceivedTemplatePtr task_template;
  ArgumentBytes args;
  std::vector<Reference> references;
  uint32_t fetching = 0;  // arguments under way
  BufferPtr
      argument_error;  // an argument's error or loss: the call is answered with it and does not run
  std::atomic<bool> cancelled{false};
  bool interruptible = false;  // runs in a thread that a cancel may interrupt
  int64_t started_nanos = 0;
  uint64_t items_consumed = 0;  // streaming: what the reader has read
};
using IncomingCallPtr = std::shared_ptr<IncomingCall>;

class TaskReceiver {
 public:
  TaskReceiver();

  // Replaces the groups: the default group "" and named ones. Requires that no call runs; queued
  // ones move over.
  void SetGroups(int default_limit, const std::vector<std::pair<std::string, int>>& groups);
  bool HasGroup(const std::string& name) const { return groups_.contains(name); }

  // False: a call of this id is queued or running already (a peer sent it twice), and this one was
  // not taken.
  bool Enqueue(IncomingCallPtr call);
  // Some call could start now.
  bool HasRunnable() const;
  // Takes the next call that may start (null if none), counting it as running.
  IncomingCallPtr PopRunnable();
  void Finish(const IncomingCall& call);

  // Takes back what has not started and matches; in arrival order.
  std::vector<IncomingCallPtr> Recall(absl::FunctionRef<bool(const IncomingCall&)> matches);
  IncomingCallPtr FindRunning(const base::TaskId& task) const;
  // The running calls that a queued one waits for; none if it is not queued, or could start.
  std::vector<IncomingCallPtr> RunningAheadOf(const base::TaskId& queued);
  std::vector<IncomingCallPtr> Running() const;

  size_t queued() const { return queued_; }
  size_t running() const { return running_.size(); }
  void CheckInvariants() const;

 private:
  struct Group {
    int limit = 1;
    int running = 0;
    std::deque<IncomingCallPtr> queue;
    std::vector<IncomingCallPtr> out_of_turn;  // nearly always empty
    bool CanStart() const {
      return running < limit && ((!queue.empty() && queue.front()->fetching == 0) ||
                                 (!out_of_turn.empty() && CanStartOutOfTurn()));
    }
    bool CanStartOutOfTurn() const;
    IncomingCallPtr TakeFirst();  // requires CanStart
  };
  Group& GroupOf(const IncomingCall& call);

  absl::flat_hash_map<std::string, Group> groups_;
  Group* default_group_;
  absl::flat_hash_map<base::TaskId, IncomingCallPtr> running_;
  absl::flat_hash_set<base::TaskId> known_;  // queued or running
  size_t queued_ = 0;
};

}  // namespace ray::core
