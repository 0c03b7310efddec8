// The worker processes of a node: how many to fork, which one serves whom, when one has ended and
// why. Sans-I/O: a fork is asked for through Actions and answered by Forked, Register and Exited.
//
// A worker runs the code of one job only: from its first use on it belongs to that job. Whoever
// needs a worker names a lease (of a task or an actor), gets an idle worker at once or is queued,
// and one fork is under way for each that waits, starting_max at a time; of an environment that has
// not been set up before, one at a time.
//
// A worker's end has two halves, its broken connection and its exit status, which come in either
// order. The death is reported once both are there, or report_delay after the first.
//
// Owner: WorkerService.   Threads: thread-compatible (the raylet's loop).   Never blocks.
// Actions are called from inside the methods when the pool's state is consistent: they may call the
// pool again, except that Acquire must not be called from WorkerReady.
//   POOL-1  a worker serves at most one lease at a time, and leases of one job only.
//   POOL-2  WorkerDied is called once for each worker that was forked, which is unknown then.
//   POOL-3  after every method, no lease waits for a worker while an idle one fits.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/base/config.h"
#include "ray/base/ids.h"
#include "ray/raylet/worker_state.h"

namespace ray::raylet {

// The number of a fork request; names the worker before it has an id. Never reused.
using StartupToken = uint64_t;

// How the worker's log files begin: LogPrefix-PID.out and .err in the session's log folder.
inline std::string LogPrefix(StartupToken token) { return absl::StrCat("worker-", token); }

// What a runtime environment's hash is of (opaque text). Whoever may acquire a worker of it holds
// it.
using EnvironmentHandle = std::shared_ptr<const std::string>;

// How a process ended: by exit(code) or by a signal.
struct ExitStatus {
  std::optional<int> exit_code;
  std::optional<int> signal;
  uint64_t peak_memory_bytes = 0;  // resident; 0: unknown
};

struct WorkerDeath {
  StartupToken token = 0;
  base::WorkerId worker;             // nil: it never said HELLO
  pid_t pid = 0;                     // 0: its fork was never confirmed
  base::JobId job;                   // nil: it never ran anything
  bool intended = false;             // it left on purpose (exit_actor and the like)
  std::string reason;                // why it left or was ended, "" = nobody had wanted it
  std::optional<ExitStatus> status;  // unknown when the zygote died, or did not tell in time
  bool out_of_memory = false;        // the kernel or the memory monitor killed it for its memory
};

class WorkerPool {
 public:
  enum class Use { kTask, kActor };
  static constexpr size_t kEnvironmentsKept = 1000;

  struct Options {
    size_t num_cpus = 1;       // idle workers up to this number are kept for ever
    size_t prestart = 1;       // forked by Start()
    size_t starting_max = 16;  // forks under way at a time, of one environment
    absl::Duration idle_age_max = absl::Seconds(60);
    absl::Duration register_timeout = absl::Seconds(30);
    absl::Duration environment_timeout = absl::Minutes(10);  // instead, if it has an environment
    absl::Duration exit_grace = absl::Seconds(2);
    absl::Duration report_delay = absl::Milliseconds(200);
    absl::Duration restart_delay =
        absl::Milliseconds(100);  // after a failed start; doubles up to 5 s

    static Options FromConfig(const base::Config& config, size_t num_cpus);
  };

  class Actions {
   public:
    virtual ~Actions() = default;
    // `environment`: what the worker is to set up first; "" = nothing.
    virtual void Fork(StartupToken token, const std::string& environment) = 0;
    virtual void Kill(pid_t pid) = 0;  // SIGKILL
    // EXIT_WORKER(force = false): the worker leaves once what it runs is done.
    virtual void AskToExit(const base::WorkerId& worker, std::string_view reason) = 0;
    // Its process has ended, yet the connection is still open (a child of it holds it).
    virtual void Disconnect(const base::WorkerId& worker) = 0;
    // The worker that `lease` waited for.
    virtual void WorkerReady(Use use, const base::LeaseId& lease, const base::WorkerId& worker) = 0;
    virtual void WorkerDied(const WorkerDeath& death) = 0;
    // No worker can have the environment that `lease` waited for.
    virtual void EnvironmentFailed(Use use, const base::LeaseId& lease, const std::string& why) = 0;
    // Call Tick() then; InfiniteFuture: no need to.
    virtual void SetDeadline(absl::Time deadline) = 0;
  };

  // `clock` and `actions` outlive the pool.
  WorkerPool(Options options, const base::Clock* clock, Actions* actions);
  ~WorkerPool();

  // Forks the first workers.
  void Start();

  // Whoever acquires a worker with `env_hash` means this environment, and keeps the handle for as
  // long as it may. nullptr for the default one.
  [[nodiscard]] EnvironmentHandle Learn(const std::string& env_hash,
                                        const std::string& environment);

  // -- Leases and actors.
  // A worker for this job, or nullopt: WorkerReady follows, unless Abandon comes first.
  std::optional<base::WorkerId> Acquire(Use use, const base::LeaseId& lease, const base::JobId& job,
                                        const std::string& env_hash);
  void Abandon(const base::LeaseId& lease);
  // Its lease ended and it runs nothing. Harmless for a worker that is unknown or leaves.
  void Release(const base::WorkerId& worker);

  // -- From the zygote.
  void Forked(StartupToken token, pid_t pid);
  void Exited(StartupToken token, ExitStatus status);
  // The zygote died: its answers will not come. Forks under way are asked for again.
  void ZygoteLost();

  // -- From connections.
  // Whether a worker with this token is awaited.
  bool Expects(StartupToken token) const;
  // HELLO came. Requires Expects(token) and a new worker id.
  void Register(StartupToken token, const base::WorkerId& worker, pid_t pid);
  // The forked process cannot set the environment up that it was forked for, and ends. Whoever
  // waits for a worker with this environment hears why. Harmless for an unknown token.
  void EnvironmentFailed(StartupToken token, const std::string& why);
  // WORKER_EXITING: the worker leaves.
  void Leaving(const base::WorkerId& worker, bool intended, std::string reason);
  void Disconnected(const base::WorkerId& worker);

  // -- Ending workers. Harmless for an unknown worker.
  void Kill(const base::WorkerId& worker, std::string reason);
  // As Kill: memory is short.
  void KillForMemory(const base::WorkerId& worker, std::string reason);
  // Asks, and kills after exit_grace when `patient` is false.
  void AskToExit(const base::WorkerId& worker, std::string reason, bool patient);
  // Kills the workers of the job that serve nobody; the others end with their leases and actors.
  void JobFinished(const base::JobId& job);

  void Tick();

  // -- Questions.
  std::optional<base::JobId> JobOf(pid_t pid) const;      // nullopt: no worker, or no job yet
  base::JobId JobOf(const base::WorkerId& worker) const;  // nil: unknown or no job yet
  bool Knows(const base::WorkerId& worker) const { return by_id_.contains(worker); }
  std::vector<pid_t> Pids() const;
  pid_t PidOf(const base::WorkerId& worker) const;  // 0: unknown
  std::vector<base::WorkerId> IdleWorkers() const;
  size_t size() const { return workers_.size(); }
  size_t idle() const { return idle_count_; }
  size_t waiting() const { return waiting_.size(); }
  size_t environments() const { return environments_.size() + starting_.size() + proven_.size(); }

  // MANTA_CHECKs POOL-1, POOL-3 and the indices: for tests.
  void CheckInvariants() const;

 private:
  struct Worker;
  // Workers and leases are matched by environment and job; nil: a worker that has none yet.
  using Key = std::pair<std::string, base::JobId>;
  struct Waiting {
    uint64_t order;
    Use use;
    base::LeaseId lease;
  };
  using WaitingList = std::list<Waiting>;

  Worker* FindByToken(StartupToken token) const;
  Worker* FindById(const base::WorkerId& worker) const;
  void Transition(Worker* worker, WorkerState to);
  void SetPid(Worker* worker, pid_t pid);
  void SetDeadline(Worker* worker, absl::Time deadline);

  Worker* PickIdle(Use use, const std::string& env_hash, const base::JobId& job);
  Worker* NewestIdle(const Key& key);
  void RemoveFromIdle(Worker* worker);
  void Assign(Worker* worker, Use use, const base::JobId& job);
  void BecomeIdle(Worker* worker);
  void ServeWaiting(Worker* worker);
  std::optional<Key> KeyOfOldestWaiting(const Worker& worker) const;
  Waiting TakeWaiting(const Key& key, WaitingList::iterator waiting);

  void ForkAsNeeded();
  void Fork(const std::string& env_hash);
  void DelayForks();
  void StoppedStarting(const std::string& env_hash);

  void BeginExit(Worker* worker, std::string reason);
  void KillNow(Worker* worker);
  void OnDeadline(Worker* worker);
  void OnHalfEnded(Worker* worker);
  void ReportDeath(Worker* worker);
  void Settle();

  const Options options_;
  const base::Clock* const clock_;
  Actions* const actions_;

  StartupToken next_token_ = 1;
  uint64_t next_order_ = 1;
  absl::flat_hash_map<StartupToken, std::unique_ptr<Worker>> workers_;
  absl::flat_hash_map<base::WorkerId, Worker*> by_id_;
  absl::flat_hash_map<pid_t, Worker*> by_pid_;

  absl::btree_map<Key, std::set<std::pair<absl::Time, StartupToken>>> idle_;  // by idle since
  size_t idle_count_ = 0;
  absl::btree_map<Key, WaitingList> waiting_lists_;
  absl::flat_hash_map<base::LeaseId, std::pair<Key, WaitingList::iterator>> waiting_;
  absl::flat_hash_map<std::string, size_t> starting_;  // by environment
  // By hash. Those that nobody holds are swept once there are twice as many as after the last time.
  absl::flat_hash_map<std::string, std::weak_ptr<const std::string>> environments_;
  size_t environments_sweep_at_ = kEnvironmentsKept;
  // Environments of workers that came up. All are forgotten once there are kEnvironmentsKept: then
  // workers of each are forked one at a time once more.
  absl::flat_hash_set<std::string> proven_;

  int start_failures_ = 0;  // in a row
  absl::Time fork_not_before_ = absl::InfinitePast();
  std::set<std::pair<absl::Time, StartupToken>> deadlines_;  // token 0: forks may go on
  absl::Time armed_ = absl::InfiniteFuture();
};

}  // namespace ray::raylet
