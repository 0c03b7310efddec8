// Sends the calls of this process to actors: in order for each actor, held while a call's arguments
// are pending or the actor is not there, sent again after a restart within the retry budget.
// Sans-I/O.
//   CALL-1  calls reach an incarnation in the order they were submitted; a call whose arguments are
//           pending holds back those behind it. But for calls that compute a lost value again (out
//           of turn): what waits in the queue may wait for that value, so they go first.
//   CALL-2  a call that was in flight when its incarnation died runs again only if it had retries
//           left; else its error waits for the verdict: ActorUnavailable if the actor restarts,
//           ActorDied if it does not. So does one whose connection broke although the incarnation
//           lives: then the verdict is ActorUnavailable, and calls go on over a new connection.
//   CALL-3  every submitted call ends in exactly one reply or one Actions::Fail.
//   CALL-4  of actors that are dead and have no calls at most kDeadActorsKept are kept.
//
// Threads: thread-compatible; the core worker's mutex. Actions are called inline and must not
// re-enter. Errors: stale information (an older revision) is ignored.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"
#include "ray/core/serialized_value.h"
#include "ray/core/task.h"
#include "ray/core/worker_address.h"
#include "ray/wire/v1/actors.pb.h"

namespace ray::core {

class ActorSubmitter {
 public:
  static constexpr size_t kDeadActorsKept = 1000;

  class Actions {
   public:
    virtual ~Actions() = default;
    // Connects if need be. A peer that cannot be reached ends in OnConnectionLost.
    virtual void PushCall(const AddressPtr& worker, const TaskPtr& task) = 0;
    virtual void Fail(const TaskPtr& task, const SystemError& error) = 0;
    // Ask to be told about this actor from now on (OnActorInfo).
    virtual void Subscribe(const base::ActorId& actor) = 0;
    // Call AskIfCutOff in a moment: if the incarnation has ended, news of that come first.
    virtual void AskLater(const base::ActorId& actor) = 0;
    // The actor will never run again: what its creation kept alive can go.
    virtual void ActorDead(const base::ActorId& actor) = 0;
    virtual bool IsConnected(const base::WorkerId& worker) = 0;
  };

  explicit ActorSubmitter(Actions* actions) : actions_(actions) {}

  // Idempotent. `pending_calls_max` < 0: no limit. Call it before each use of a handle: of the
  // actors that have died only the latest kDeadActorsKept are remembered; of one that is not, its
  // death is asked for again.
  void AddActor(const base::ActorId& actor, int32_t pending_calls_max);
  bool Knows(const base::ActorId& actor) const { return actors_.contains(actor); }
  size_t actors() const { return actors_.size(); }

  // False when the actor's limit of pending calls is reached; the call is not taken then.
  bool HasRoom(const base::ActorId& actor) const;
  // One that is out of turn goes ahead of those that were not sent: it is resolved.
  void Submit(const TaskPtr& task);
  void OnResolved(const TaskPtr& task);
  bool RemoveQueued(const TaskPtr& task);
  std::optional<AddressPtr> WorkerRunning(const TaskPtr& task) const;

  void OnActorInfo(const wire::v1::ActorInfo& info);
  // The worker that calls go to now; nil: none.
  base::WorkerId WorkerOf(const base::ActorId& actor) const;
  // The GCS has ended the incarnation that is this worker: it gets no more calls. What becomes of
  // the actor comes by OnActorInfo.
  void IncarnationEnds(const base::ActorId& actor, const base::WorkerId& worker);
  // The worker of some actor (or of none) cannot be reached any more.
  void OnConnectionLost(const base::WorkerId& worker);
  // Asks what has become of an actor whose connection broke, if nothing was heard since.
  void AskIfCutOff(const base::ActorId& actor);
  void OnTaskDone(const TaskPtr& task);
  // The call raised and may run again on the same incarnation: to the back of the queue, as a new
  // attempt.
  void Retry(const TaskPtr& task);

  // What the call waits for, in whole sentences.
  std::string Explain(const Task& task) const;
  // "" while it is not known.
  std::string ClassNameOf(const base::ActorId& actor) const;
  wire::v1::ActorState StateOf(const base::ActorId& actor) const;
  void CheckInvariants() const;

 private:
  struct Actor {
    base::ActorId id;
    wire::v1::ActorState state = wire::v1::PENDING_CREATION;
    uint64_t revision = 0;
    int32_t pending_calls_max = -1;
    AddressPtr address;               // ALIVE and not known to be broken
    std::deque<TaskPtr> queue;        // not sent; submission order
    std::deque<TaskPtr> in_flight;    // sent to `address`'s incarnation; submission order
    std::vector<TaskPtr> no_verdict;  // CALL-2: lost, no retries, the actor's fate unknown
    bool asked = false;               // whether it lives, although its connection broke
    bool was_alive = false;           // some incarnation was, as far as this process has heard
    std::string description;          // "Counter" or "": class name for messages
    std::string pending_reason;       // what the GCS says that its creation waits for
    std::optional<SystemError> death;
  };

  Actor* Find(const base::ActorId& actor);
  const Actor* Find(const base::ActorId& actor) const;
  void Flush(Actor& actor);
  void LoseInFlight(Actor& actor);
  void FailAll(std::vector<TaskPtr> tasks, const SystemError& error);
  void Die(Actor& actor);
  void ForgetOldest();
  SystemError DeathError(const Actor& actor, const wire::v1::ActorInfo& info) const;
  static bool IsCutOff(const Actor& actor);
  SystemError UnavailableError(const Actor& actor, const char* why) const;

  Actions* const actions_;
  absl::flat_hash_map<base::ActorId, std::unique_ptr<Actor>> actors_;
  absl::flat_hash_map<base::WorkerId, Actor*>
      by_worker_;                   // of actors with in-flight calls or an address
  std::deque<base::ActorId> dead_;  // without calls; oldest first, at most kDeadActorsKept
};

}  // namespace ray::core
