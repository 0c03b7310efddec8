// Runs tasks on leased workers. Sans-I/O: events and the time come in, actions go out.
//
// Tasks whose leases are interchangeable, and that would rather run on the same node, form a class.
// A class asks for leases as long as tasks
// wait that its workers cannot take at once; each worker gets one task, or several in flight once
// the class has proved short: as many as fill `pipeline_target` at the measured run time. What
// waits behind a task that turns out long is taken back (TASKS_RECALLED when the worker blocks,
// RecallTasks when it stalls) and runs elsewhere. An idle lease lingers for the next task, one that
// others wait for only as long as it takes a caller to come with its next task.
// Each task that is to be spread has a lease of its own, so that its raylet chooses the node.
//   SUBMIT-1  a task is in exactly one place: a class's queue, one worker's in-flight list, or its
//   caller's hands. SUBMIT-2  a task with max_retries = 0 is never behind another one: nobody could
//   say whether it ran. SUBMIT-3  after a reclaim no lease is kept idle, and a busy one ends at a
//   task boundary once its slice is over; so does one that was granted while others waited.
//
// Threads: thread-compatible; the core worker's mutex. Actions are called inline and must not
// re-enter. Errors: unknown ids are ignored (late answers).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"
#include "ray/core/task.h"
#include "ray/core/worker_address.h"

namespace ray::core {

class TaskSubmitter {
 public:
  // Classes without tasks, workers and requests are forgotten once there are so many; till then
  // each remembers how long its tasks run.
  static constexpr size_t kClassesKept = 1000;

  struct Options {
    int64_t pipeline_target_nanos = 2'000'000;
    int64_t stall_nanos = 5'000'000;
    int64_t linger_nanos = 100'000'000;
    int64_t contended_linger_nanos = 1'000'000;
    int64_t slice_nanos = 10'000'000;
    size_t depth_max = 256;
    size_t lease_requests_max = 16;
  };
  class Actions {
   public:
    virtual ~Actions() = default;
    // `example`: a task of the class.
    virtual void RequestLease(uint64_t request_id, const Task& example, size_t backlog) = 0;
    virtual void CancelLease(uint64_t request_id) = 0;
    virtual void ReturnLease(const base::LeaseId& lease, bool worker_broken) = 0;
    virtual void PushTask(const AddressPtr& worker, const TaskPtr& task) = 0;
    virtual void RecallTasks(const AddressPtr& worker, const std::vector<base::TaskId>& tasks) = 0;
  };

  TaskSubmitter(const Options& options, Actions* actions) : options_(options), actions_(actions) {}

  // Requires that every reference argument has a value.
  void Submit(TaskPtr task, int64_t now);
  // True if the task waited here and is now forgotten.
  bool RemoveQueued(const base::TaskId& task);

  // `contended`: others wait for the resources.
  void OnLeaseGranted(uint64_t request_id, const base::LeaseId& lease, AddressPtr worker,
                      bool contended, int64_t now);
  // Returns the tasks of the class that cannot run any more (refused), for the caller to fail. A
  // cancelled request returns none and is made again if tasks wait.
  std::vector<TaskPtr> OnLeaseRefused(uint64_t request_id, bool cancelled);
  // `leaving`: the worker hands back what else it was sent, and takes no more.
  void OnTaskDone(const base::WorkerId& worker, const base::TaskId& task, uint32_t run_micros,
                  bool leaving, int64_t now);
  // The worker handed these back before it started them: its running task waits or is long.
  void OnTasksRecalled(const base::WorkerId& worker, const std::vector<base::TaskId>& tasks,
                       int64_t now);
  // One of them is the caller's again. False: the worker does not have it.
  bool TakeBack(const base::WorkerId& worker, const base::TaskId& task);
  // The connection to a worker broke. Returns its tasks in flight, oldest first, for the caller to
  // retry or fail.
  std::vector<TaskPtr> OnWorkerLost(const base::WorkerId& worker, int64_t now);
  void OnReclaim(int64_t now);
  // The group is about to be removed: from now on no lease in it is kept idle, or its worker would
  // be killed with the group.
  void OnGroupRemoved(const base::PlacementGroupId& group, int64_t now);

  // Call every tick_nanos() while active().
  void Tick(int64_t now);
  bool active() const { return !workers_.empty(); }
  int64_t tick_nanos() const {
    return contended_ > 0 ? options_.contended_linger_nanos : options_.stall_nanos;
  }

  // Workers on lease there.
  std::vector<AddressPtr> WorkersOn(const base::NodeId& node) const;

  // Whether a worker of this node has a task of ours.
  bool RunsSomethingOn(const base::NodeId& node) const;
  std::optional<AddressPtr> WorkerRunning(const base::TaskId& task) const;
  // A lease request that the task waits for; nullopt if none is open for it.
  std::optional<uint64_t> RequestFor(const Task& task) const;
  size_t queued() const;
  size_t classes() const { return classes_.size(); }
  void CheckInvariants() const;

 private:
  struct Class;
  struct Worker {
    base::LeaseId lease;
    AddressPtr address;
    Class* of = nullptr;
    std::deque<TaskPtr> in_flight;  // oldest first
    int64_t granted_at = 0;
    int64_t idle_since = 0;  // meaningful while in_flight is empty
    int64_t head_since = 0;  // when the oldest task came to the head
    bool stalled = false;    // its head runs long: give it nothing more until it is done
    bool contended = false;  // give it nothing more after its slice
    bool leaving = false;    // reclaimed: the same, and give it back as soon as it is idle
    bool retired = false;    // it takes nothing more
    bool used = false;       // it has been given a task
  };
  struct Request {
    uint64_t id;
    bool cancelled;
  };
  struct Class {
    TaskPtr example;
    std::deque<TaskPtr> queue;
    std::vector<Worker*> workers;
    std::vector<Request> requests;  // under way; bounded by lease_requests_max
    double run_nanos = -1;          // moving average; < 0: not known
    bool removed = false;           // with its placement group
  };

  static std::string KeyOf(const Task& task);
  Class& ClassOf(const TaskPtr& task);
  void ForgetUnusedClasses();
  Class* TakeRequest(uint64_t request_id);
  size_t Depth(const Class& of) const;
  bool CanTake(const Worker& worker, const Task& task, size_t depth, int64_t now) const;
  Worker* PickWorker(Class& of, const Task& task, int64_t now);
  void Dispatch(Class& of, int64_t now);
  void BalanceRequests(Class& of);
  void Push(Worker& worker, TaskPtr task, int64_t now);
  void ReturnWorker(Worker* worker, bool broken);
  bool ReturnIfUnwanted(Worker* worker, int64_t now);
  bool IsSliceOver(const Worker& worker, int64_t now) const;

  const Options options_;
  Actions* const actions_;
  uint64_t next_request_ = 1;
  absl::flat_hash_map<std::string, std::unique_ptr<Class>>
      classes_;                              // one a distinct resource shape
  size_t classes_forget_at_ = kClassesKept;  // so many
  absl::flat_hash_map<uint64_t, Class*> requests_;
  absl::flat_hash_map<base::WorkerId, std::unique_ptr<Worker>> workers_;  // leased now
  absl::flat_hash_map<base::TaskId, Worker*> running_;                    // in flight
  size_t contended_ = 0;                                                  // of workers_
};

}  // namespace ray::core
