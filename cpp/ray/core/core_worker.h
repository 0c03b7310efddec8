// The core worker of a driver or worker process: owns and borrows objects, submits tasks, runs
// calls. It wires the sans-I/O parts (ObjectTable, TaskSubmitter, ActorSubmitter, TaskReceiver) to
// the raylet, to other core workers and to the store, behind one mutex: a monitor that user threads
// and the loop's handlers enter in turn.
//
// Owner: the bindings; one a session.   Threads: thread-safe unless said otherwise. Methods marked
// "blocks" drive the event loop and must be called without the GIL; the others hold the mutex for
// microseconds and may be called with it. The core worker itself never takes the GIL and calls back
// into nothing but `Options::on_raylet_lost`. Errors: absl::Status where the caller can act; a
// task's failure is an error value of its return objects.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "ray/base/config.h"
#include "ray/base/ids.h"
#include "ray/core/actor_submitter.h"
#include "ray/core/lineage.h"
#include "ray/core/object_table.h"
#include "ray/core/peers.h"
#include "ray/core/release_queue.h"
#include "ray/core/serialized_value.h"
#include "ray/core/store_client.h"
#include "ray/core/stream_table.h"
#include "ray/core/task.h"
#include "ray/core/task_receiver.h"
#include "ray/core/task_submitter.h"
#include "ray/core/unread_items.h"
#include "ray/net/loop_driver.h"
#include "ray/store/parallel_copy.h"
#include "ray/wire/v1/actors.pb.h"
#include "ray/wire/v1/cluster.pb.h"
#include "ray/wire/v1/connection.pb.h"
#include "ray/wire/v1/frame_type.pb.h"
#include "ray/wire/v1/leases.pb.h"
#include "ray/wire/v1/logs.pb.h"
#include "ray/wire/v1/placement_groups.pb.h"
#include "ray/wire/v1/resources.pb.h"
#include "ray/wire/v1/store.pb.h"
#include "ray/wire/v1/task_events.pb.h"
#include "ray/wire/v1/tasks.pb.h"

namespace ray::core {

// The arguments of a call, ready to travel: either inline bytes or an object in the store.
struct CallArguments {
  BufferPtr args;
  base::ObjectId args_object;
  std::vector<Task::TopLevelRef> refs;
  std::vector<ContainedObject> nested;  // references inside values
};

// A value that was computed here and goes to the caller.
struct ResultValue {
  BufferPtr inline_value;     // null: it was written to the store under its return id
  uint64_t stored_bytes = 0;  // then
  std::vector<ContainedObject> contained;
};

class CoreWorker final : public std::enable_shared_from_this<CoreWorker>,
                         private ObjectTable::Actions,
                         private TaskSubmitter::Actions,
                         private ActorSubmitter::Actions {
 public:
  struct Options {
    std::string raylet_endpoint;
    // DRIVER, WORKER, TOOL, or WORKER_SETUP: a worker, before it is one, for its environment's
    // files.
    wire::v1::ProcessKind kind = wire::v1::WORKER;
    std::string job_namespace;   // driver
    std::string entrypoint;      // driver
    bool log_to_driver = false;  // driver
    uint64_t startup_token = 0;  // worker
    std::string listen_host;     // worker: where it listens for other nodes; "" = it does not
    std::string log_file;
    std::function<void()>
        on_raylet_lost;  // worker: ends the process; called once, from whoever drives the loop
  };
  struct Identity {
    base::NodeId node_id;
    base::WorkerId worker_id;
    base::JobId job_id;
    std::string node_ip;
    std::string session_dir;
    std::string gcs_address;
    std::string job_namespace;
    std::map<std::string, std::string> config;
  };
  using Interrupted = absl::FunctionRef<bool()>;
  static constexpr int64_t kNoDeadline = INT64_MAX;  // deadlines are MonotonicNanos

  // Blocks until the raylet has answered. kUnavailable, or the raylet's reason for refusing.
  static absl::StatusOr<std::shared_ptr<CoreWorker>> Connect(const Options& options);
  ~CoreWorker() override;
  // Ends the session: waits in progress return kCancelled. Blocks until the background thread is
  // gone. Idempotent.
  void Shutdown();
  bool is_shut_down() const { return shut_down_.load(); }
  // It was shut down, or its raylet is gone: nothing will come any more.
  bool has_ended() const { return shut_down_.load() || raylet_lost_.load(); }
  // Those of its parts; for tests and simulation.
  void CheckInvariants();

  Identity identity() const;
  const base::Config& config() const { return config_; }
  AddressPtr self_address() const { return self_; }
  base::JobId CurrentJob();

  // -- references (core_worker_objects.cc)
  void AddLocalReference(const base::ObjectId& id, const AddressPtr& owner);
  // From any thread at any time, even inside an allocation.
  void ReleaseLater(ReleaseQueue::Kind kind, const base::ObjectId& id) {
    if (release_queue_.Push(kind, id)) ScheduleDrain();
  }
  AddressPtr OwnerOf(const base::ObjectId& id);
  struct ReferenceCounts {
    base::ObjectId id;
    uint32_t local;
    uint32_t other;
  };
  std::vector<ReferenceCounts> CountReferences();

  // -- objects (core_worker_objects.cc)
  // The new object has one local reference, which the caller takes over.
  base::ObjectId PutInline(BufferPtr value, std::vector<ContainedObject> contained);
  // Writes a value to the store: blocks while the store is full. The id gets one local reference if
  // `id` is nil (a put); else it is a return value of a task that `owner` owns.
  absl::StatusOr<base::ObjectId> PutInStore(const ValueParts& parts, const base::ObjectId& id,
                                            const AddressPtr& owner, std::string_view note,
                                            std::vector<ContainedObject> contained,
                                            Interrupted interrupted);
  struct GetResult {
    net::LoopDriver::Outcome outcome;
    std::vector<ArgumentBytes> values;  // kDone: as many as ids, each set
  };
  // Blocks. `waiter`: the call that waits, or nil. One that would wait for itself for ever gets an
  // error (code DEADLOCK) instead of the values, unless it has a deadline.
  GetResult Get(absl::Span<const base::ObjectId> ids, int64_t deadline, Interrupted interrupted,
                const base::TaskId& waiter);
  // The inline value if it is here now; does not block.
  BufferPtr TryGetInline(const base::ObjectId& id);
  // Blocks until `num_ready` are ready or the deadline. `ready` is in input order and has at most
  // num_ready marks. `fetch_local`: what is in the store of another node is brought here, and is
  // ready once it is here, or cannot come for want of memory.
  // kInvalidArgument: one of them is named twice.
  absl::StatusOr<net::LoopDriver::Outcome> Wait(absl::Span<HeldReference* const> references,
                                                size_t num_ready, bool fetch_local,
                                                int64_t deadline, Interrupted interrupted,
                                                std::vector<bool>* ready);
  // Runs `ready` (under the mutex, on some thread, without the GIL) once the object has a value or
  // the session has ended. False: that is so now, and `ready` is dropped. `flush`: what is buffered
  // for others is sent; not needed by a thread that calls DriveUnlessWanted next.
  bool NotifyWhenReady(const base::ObjectId& id, absl::AnyInvocable<void()> ready, bool flush);

  // -- deferred objects (core_worker_deferred.cc): their value is made when somebody asks for it
  // Both run under the mutex, on some thread, without the GIL.
  struct DeferredEvents {
    // Somebody waits for the value: Fulfil is due. Again if the value was lost with its node.
    absl::AnyInvocable<void()> wanted;
    // No reference is left anywhere. Once, and the last event.
    absl::AnyInvocable<void()> gone;
  };
  // A new object without a value, with one local reference, which the caller takes over. Without
  // events: its maker gives it a value before anybody else knows of it.
  base::ObjectId Defer(DeferredEvents events);
  // Gives a deferred object its value; a second value is ignored. Blocks, for a large value while
  // the store is full.
  absl::Status Fulfil(const base::ObjectId& id, const ValueParts& parts,
                      std::vector<ContainedObject> contained, std::string_view note,
                      Interrupted interrupted);

  // -- tasks (core_worker_tasks.cc)
  // Each return object has one local reference, which the caller takes over.
  // `parent`: the task that submits it, or nil.
  base::TaskId SubmitTask(TemplatePtr task_template, CallArguments arguments,
                          const base::TaskId& parent);
  void Cancel(const base::ObjectId& id, bool force, bool recursive);
  // Ends a task of this process as cancelled if it has not started; one that has goes on as if
  // nobody had asked. Which of both it was, its return object tells.
  void CancelUnlessStarted(const base::ObjectId& id);
  // What the object waits for, in whole sentences; "" if it is ready. Blocks for the raylet.
  absl::StatusOr<std::string> WhyPending(const base::ObjectId& id, Interrupted interrupted);

  // -- streams of generator tasks (core_worker_streams.cc); see stream_table.h
  base::ObjectId PeekStream(const base::TaskId& task);
  StreamTable::Step AdvanceStream(const base::TaskId& task, const base::ObjectId& peeked);
  // The executing side: sends item `index` to the caller.
  void SendStreamItem(const IncomingCallPtr& call, uint64_t index, ResultValue item);
  // Whether the reader has read enough of the `sent` items for another one, and the readers of an
  // actor with a limit enough of all its items.
  bool HasStreamRoom(const IncomingCall& call, uint64_t sent);
  // Blocks until it has, or the call was cancelled.
  void WaitForStreamRoom(const IncomingCallPtr& call, uint64_t sent, Interrupted interrupted);

  // -- actors (core_worker_actors.cc)
  struct NewActor {
    wire::v1::ActorSpec spec;  // without ids, owner and arguments
    bool get_if_exists = false;
    CallArguments arguments;
  };
  struct ActorHandle {
    base::ActorId id;
    base::ObjectId
        handle_ref;  // nil: detached, or an existing actor. Else with one local reference
    std::optional<std::string> existing_blob;  // get_if_exists found this one
  };
  // Blocks for a named actor only. kAlreadyExists: the name is taken.
  absl::StatusOr<ActorHandle> CreateActor(NewActor actor, Interrupted interrupted);
  void KnowActor(const base::ActorId& id, int32_t pending_calls_max);
  // nullopt: the actor's limit of pending calls is reached.
  std::optional<base::TaskId> SubmitActorCall(const base::ActorId& id, TemplatePtr task_template,
                                              CallArguments arguments, const base::TaskId& parent);
  absl::Status KillActor(const base::ActorId& id, bool no_restart, Interrupted interrupted);
  wire::v1::ActorState StateOfActor(const base::ActorId& id);

  // -- placement groups (core_worker_groups.cc)
  // Takes a spec without an id. Blocks for a named group only. kAlreadyExists: the name is taken.
  absl::StatusOr<base::PlacementGroupId> CreatePlacementGroup(wire::v1::PlacementGroupSpec spec,
                                                              Interrupted interrupted);
  // Does not block; what a process of this node asks about the group afterwards finds it removed.
  void RemovePlacementGroup(const base::PlacementGroupId& id);
  // Blocks until it is created or removed. At the deadline, if that lies ahead: kDeadlineExceeded,
  // or its present state; after it, its present state.
  absl::StatusOr<wire::v1::PlacementGroupInfo> WaitPlacementGroup(const base::PlacementGroupId& id,
                                                                  int64_t deadline,
                                                                  Interrupted interrupted);
  // Blocks.
  absl::StatusOr<wire::v1::PlacementGroupsReply> ListPlacementGroups(
      const wire::v1::PlacementGroupRequest& request, Interrupted interrupted);
  // A new object, with one local reference, that becomes `value` once the group is created, and an
  // error if it is removed before.
  base::ObjectId PlacementGroupReady(const base::PlacementGroupId& id, BufferPtr value);

  // For a thread that serves completions, such as callbacks of futures: drives the loop while no
  // other thread needs it, until `done()` holds (true; evaluated under the mutex) or the core
  // worker is shut down. False: wait elsewhere for a moment (net::LoopDriver::DriveUnlessWanted).
  bool DriveUnlessWanted(absl::FunctionRef<bool()> done);

  // -- execution (core_worker_execution.cc)
  // Blocks until a call may start or the process is to exit (null). A creation has caller == null.
  IncomingCallPtr NextCall(Interrupted interrupted);
  // Blocks until the process is to exit.
  void WaitForExit(Interrupted interrupted);
  IncomingCallPtr TakeCall();  // does not block; null: none may start now
  std::shared_ptr<const wire::v1::CreateActor> creation_request() { return creation_request_; }
  void Reply(const IncomingCallPtr& call, TaskStatus status, std::vector<ResultValue> results);
  // The call ends without an answer: the process is about to exit, and the caller will hear of
  // that.
  void Abandon(const IncomingCallPtr& call);
  void ReplyCreation(bool ok, std::string_view creation_error, int default_limit,
                     const std::vector<std::pair<std::string, int>>& groups);
  // For a thread that runs another event loop (asyncio) on top of this one: AwaitEvents waits for
  // both, and so has calls without a hand-off between threads. `fd` is readable when the other
  // loop has something to do; it belongs to the caller.
  void WatchOtherLoop(int fd);
  struct Events {
    bool calls = false;  // TakeCall, TakeCancelled or HasStreamRoom may have news, or it is the end
    bool other_loop = false;
  };
  // Blocks until there is one or the deadline is reached; polls once if it is already.
  Events AwaitEvents(int64_t deadline, Interrupted interrupted);
  // The running calls that were cancelled since it was last asked.
  std::vector<base::TaskId> TakeCancelled();
  // `handler` runs under the mutex when a running call is cancelled; it must return at once. It
  // marks a call that it interrupts as `interruptible`.
  void SetCancelHandler(std::function<void(IncomingCall&)> handler);
  void AnnounceExit(bool intended, std::string_view reason);
  bool exit_requested() const { return exit_requested_.load(); }
  void RequestExit();
  void FlushReplies();
  // The running call is the last: what else was sent goes back to its owners, and the raylet ends
  // this process.
  void RetireAfterThisCall();
  // The devices that the tasks from here on may use, if they have changed since the last time.
  std::optional<wire::v1::LeaseInstances> TakeInstances();
  // WORKER_SETUP: why the environment cannot be set up. Blocks until it is sent.
  void ReportEnvironmentError(std::string_view message);

  // -- cluster (core_worker_cluster.cc). Blocking calls to the raylet, most of them relayed to the
  // GCS.
  absl::StatusOr<wire::v1::KvReply> Kv(const wire::v1::KvRequest& request, Interrupted interrupted);
  absl::StatusOr<wire::v1::ClusterStateReply> ClusterState(Interrupted interrupted);
  absl::Status DrainNode(const wire::v1::DrainNode& request, Interrupted interrupted);
  absl::StatusOr<wire::v1::StoreStatsReply> StoreStats(Interrupted interrupted);
  absl::StatusOr<wire::v1::ActorInfo> GetNamedActor(std::string_view name,
                                                    std::string_view job_namespace,
                                                    Interrupted interrupted);
  absl::StatusOr<wire::v1::ListNamedActorsReply> ListNamedActors(bool all_namespaces,
                                                                 Interrupted interrupted);
  // What the workers of this node have run lately, and how much of it was dropped.
  absl::StatusOr<wire::v1::TaskEventsReply> ListTaskEvents(Interrupted interrupted);
  absl::Status FlushLogs(int64_t deadline, Interrupted interrupted);

  // What the driver's user should read. Bounded: the oldest are dropped, and counted in a line.
  struct Message {
    bool is_warning = false;
    wire::v1::LogLines lines;
  };
  // Blocks until there are some, `timeout` has passed or the session ended (both: empty). On a lock
  // of its own, not on the loop.
  std::vector<Message> NextMessages(absl::Duration timeout);

 private:
  explicit CoreWorker(const Options& options);
  absl::Status Start();
  absl::StatusOr<net::HandshakeResult> Handshake(int fd);
  absl::Status UseHelloReply(const net::HandshakeResult& result);

  // Frames.
  void OnRayletFrame(const net::Frame& frame) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnRayletLost(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnPeerFrame(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnPeerLost(const PeerPtr& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AskIfAlive(const PeerPtr& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PushMessage(Message message);
  void PushWarning(std::string_view name, std::string_view text);
  void WakeReaders();
  void ExitWhenNotNeeded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeBackHandedOver(const base::WorkerId& caller) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  template <typename Reply>
  absl::StatusOr<Reply> CallRaylet(wire::v1::FrameType type,
                                   const google::protobuf::MessageLite& request, int64_t deadline,
                                   Interrupted interrupted);

  // ObjectTable::Actions
  void RegisterBorrow(const base::ObjectId& id, const AddressPtr& owner) override;
  void ReleaseBorrow(const base::ObjectId& id, const AddressPtr& owner,
                     uint32_t registrations) override;
  void FetchFromOwner(const base::ObjectId& id, const AddressPtr& owner) override;
  void Recover(const base::ObjectId& id) override;
  bool CanRecover(const base::ObjectId& id) override;
  void FreeStored(const base::ObjectId& id, const base::NodeId& node) override;
  void KeepCopy(const base::ObjectId& id, const base::NodeId& node) override;
  void OwnedObjectGone(const base::ObjectId& id) override;
  // TaskSubmitter::Actions
  void RequestLease(uint64_t request_id, const Task& example, size_t backlog) override;
  void CancelLease(uint64_t request_id) override;
  void ReturnLease(const base::LeaseId& lease, bool worker_broken) override;
  void PushTask(const AddressPtr& worker, const TaskPtr& task) override;
  void RecallTasks(const AddressPtr& worker, const std::vector<base::TaskId>& tasks) override;
  // ActorSubmitter::Actions
  void PushCall(const AddressPtr& worker, const TaskPtr& task) override;
  void Fail(const TaskPtr& task, const SystemError& error) override;
  void Subscribe(const base::ActorId& actor) override;
  void AskLater(const base::ActorId& actor) override;
  void ActorDead(const base::ActorId& actor) override;
  bool IsConnected(const base::WorkerId& worker) override;

  // Objects.
  void ScheduleDrain();
  void Drain() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndPin(const base::ObjectId& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnObjectRequest(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AnswerObjectRequest(const PeerPtr& peer, uint64_t correlation_id, const base::ObjectId& id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Where the object may be, if that is not this node.
  std::vector<base::NodeId> LocationsOf(const StoredObject& object) const;
  StoredObject InStore(const base::ObjectId& id, const ObjectTable::Entry& entry) const;
  // It has been fetched: its owner should know of the copy here.
  void Copied(const base::ObjectId& id, const AddressPtr& owner,
              const std::vector<base::NodeId>& sources) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnObjectCopied(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Its own raylet says: another node keeps the object from now on.
  void OnPrimaryMoved(const net::Frame& frame) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnObjectReply(const base::ObjectId& id, const absl::StatusOr<net::Frame>& reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnAddBorrower(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnRemoveBorrower(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnBorrowAnswer(const base::ObjectId& id, bool known) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A get under way: one thread's; its parts arrive under the mutex.
  struct GetState {
    absl::Span<const base::ObjectId> ids;
    std::vector<ArgumentBytes> values;
    std::vector<bool> asked;  // of the store
    size_t next = 0;          // every value before this one is here
    base::TaskId waiter;      // the call that waits; nil: none, or it has a deadline
    uint64_t probes = 0;      // rounds of probing
    uint64_t cycle = 0;       // the latest round that came back
    BufferPtr deadlock;       // set once it is certain that the values never come
  };
  using GetStatePtr = std::shared_ptr<GetState>;
  bool AdvanceGet(const std::shared_ptr<GetState>& state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AskStore(const std::shared_ptr<GetState>& state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeFetched(const GetStatePtr& state, size_t position, const StoredObject& object,
                   FetchedObject fetched) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A wait under way that brings objects here: one thread's.
  struct LocalWait {
    absl::flat_hash_set<base::ObjectId> without_room;  // these cannot come
  };
  ObjectTable::Entry* EntryOf(HeldReference* reference) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsReady(HeldReference* reference, const LocalWait* wait)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BringHere(const StoredObject& object) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnBrought(const StoredObject& object, const FetchedObject* failed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Waits like LoopDriver::WaitUntil, and lets the raylet and the callers know when a running task
  // is blocked.
  net::LoopDriver::Outcome WaitBlocked(absl::FunctionRef<bool()> done, int64_t deadline,
                                       Interrupted interrupted, const GetStatePtr& get = nullptr);
  void BeginBlocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndBlocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Tasks.
  TaskPtr MakeTask(const base::TaskId& id, TemplatePtr task_template, CallArguments arguments,
                   const base::TaskId& parent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PinArguments(Task* task, const CallArguments& arguments)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddReturns(const Task& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Calls OnResolved when every reference argument has a value.
  void Resolve(const TaskPtr& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnResolved(const TaskPtr& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  BufferPtr ArgumentError(const Task& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendTask(const PeerPtr& peer, const TaskPtr& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint32_t TemplateNumber(const PeerPtr& peer, const Task& task)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Has small arguments that this process owns sent along, from this node's store.
  void PushArguments(const Task& task, const base::NodeId& to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PackRefs(const Task& task, PushTaskFrame* frame) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnTaskReply(const PeerPtr& peer, const TaskPtr& task, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StoreReturns(const PeerPtr& peer, const Task& task, const TaskReplyFrame& reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StoreReturn(const PeerPtr& peer, const base::ObjectId& id, const ReturnValue& value)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeContained(const PeerPtr& peer, const base::ObjectId& id, const ReturnValue& value)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ConfirmTaken(const PeerPtr& peer, const base::TaskId& task)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ChooseNode(Task* task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndTask(const TaskPtr& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FreeLeftBehind(Task* task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FailWith(const TaskPtr& task, const BufferPtr& error) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnTasksLost(const AddressPtr& worker, const std::vector<TaskPtr>& tasks)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whatever was expected of that worker will not come.
  void LoseWorker(const AddressPtr& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tasks that have lost their worker, until it is decided what becomes of them.
  using LostTasks = std::shared_ptr<std::vector<TaskPtr>>;
  void OnDeathKnown(const std::vector<TaskPtr>& tasks, const SystemError& death, bool was_alone)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Nobody can say yet how the worker ended: those that may run again in any case do.
  void RunAgainUnexplained(const LostTasks& lost) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FailCancelled(const TaskPtr& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunAgainLater(const TaskPtr& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool RemoveDelayed(const base::TaskId& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CancelChildren(const base::TaskId& parent, bool force) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<wire::v1::LeaseExplanation> ExplainLease(const wire::v1::ExplainLease& request,
                                                          Interrupted interrupted);
  absl::StatusOr<std::string> ExplainGroup(const base::PlacementGroupId& group,
                                           Interrupted interrupted);
  std::string ExplainArguments(const Task& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CancelOwned(TaskPtr task, bool force, bool recursive) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Fails a task that waits in this process; else passes the message on to where it is.
  void FailOrTellWorker(TaskPtr task, wire::v1::CancelTask message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendInstances(const AddressPtr& worker, const wire::v1::RequestLeaseReply& lease)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnLeaseReply(uint64_t request_id, const absl::StatusOr<net::Frame>& reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool WaitsForLost(const Task& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnTasksRecalled(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ScheduleTick() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendRefsTaken() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Recovery.
  void OnNodeGone(const net::Frame& frame) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CopiesLost(const base::ObjectId& id, const std::vector<base::NodeId>& nodes,
                  const std::string& reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ComputeAgain(const base::ObjectId& id, const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Resubmit(const TaskPtr& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PinAll(Task* task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void KeepLineage(const TaskPtr& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LetGo(const TaskPtr& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HoldsForLineage(const ContainedObject& mentioned) const;
  bool IsOwned(const ContainedObject& mentioned) const;
  bool AskForDeferred(const base::ObjectId& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Deadlocks.
  void ProbeLater(const GetStatePtr& get) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnProbe(const PeerPtr& peer, const net::Frame& frame) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ProbeObject(wire::v1::Probe probe, const base::ObjectId& id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ProbeTask(const wire::v1::Probe& probe, const base::TaskId& id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ProbeCall(wire::v1::Probe probe, const IncomingCall& call)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnCycle(const wire::v1::Probe& probe, GetState* get) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Streams.
  void OnStreamItem(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnStreamConsumed(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendConsumed(const base::TaskId& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CloseStream(const base::TaskId& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasRoomForItem(const IncomingCall& call, uint64_t sent) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of all unread items of this actor; 0: none.
  uint32_t UnreadItemsLimit() const {
    return creation_request_ == nullptr ? 0 : creation_request_->spec().stream_backpressure();
  }

  // Actors.
  void RegisterActor(const wire::v1::RegisterActor& request,
                     absl::AnyInvocable<void(const wire::v1::RegisterActorReply&)> done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Subscribe(const base::ActorId& actor, int attempts_left)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ActorHandle NewHandle(bool detached) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool CanBeMadeAnew(const base::ActorId& actor) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ActorHandle MakeAnew(const base::ActorId& actor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NotRegistered(const base::ActorId& actor, const wire::v1::RegisterActorReply& reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetMakingIfUnused(const base::ActorId& actor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HearOfActor(const wire::v1::ActorInfo& info) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetNotCreated(const ActorHandle& handle) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Abandon(const ActorHandle& handle, const wire::v1::RegisterActorReply& reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MarkActorDead(const base::ActorId& id, wire::v1::ActorDeathCause cause,
                     std::string_view message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Execution.
  void OnTemplate(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnPushTask(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnCreateActor(const net::Frame& frame) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnRecallTasks(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnCancelTask(const PeerPtr& peer, const net::Frame& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RecordRun(const IncomingCall& call, TaskStatus status, int64_t ended_nanos)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendTaskEvents() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndIfItStays(const base::TaskId& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AcceptCall(const IncomingCallPtr& call, PushTaskFrame frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FetchArgument(const IncomingCallPtr& call, const RefArgument& ref, size_t index)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FetchByOwner(const IncomingCallPtr& call, const base::ObjectId& id, const AddressPtr& owner,
                    int index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FetchStored(const IncomingCallPtr& call, const StoredObject& object, const AddressPtr& owner,
                   int index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static ArgumentBytes& ArgumentAt(const IncomingCallPtr& call, int index);
  // No copy of the argument was found. True: the call was handed back to its owner for that.
  bool HandBack(const IncomingCallPtr& call, const StoredObject& argument)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReportLost(const PeerPtr& to, const StoredObject& object)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ArgumentArrived(const IncomingCallPtr& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ChangeGroup(wire::v1::FrameType type, const google::protobuf::MessageLite& request,
                   const base::PlacementGroupId& id);
  Events EventsNow() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReturnToOwner(const std::vector<IncomingCallPtr>& calls)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Views of `result`.
  ReturnValue ToReturnValue(const ResultValue& result) const;
  void ReplyToCaller(const IncomingCallPtr& call, TaskStatus status, uint32_t run_micros,
                     const std::vector<ResultValue>& results) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ProtectContained(const IncomingCallPtr& call, const std::vector<ResultValue>& results)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendHeldReplies() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const pid_t pid_ = getpid();
  base::Config config_;

  // Lock order: mutex_ is the only lock held while calling into the parts below; nothing else is
  // taken under it but the event loop's post lock and the message lock.
  absl::Mutex mutex_;
  net::EventLoop loop_{&mutex_};
  std::unique_ptr<net::LoopDriver> driver_;  // set in Start, then constant
  std::shared_ptr<net::Connection> raylet_;  // set in Start; its methods need mutex_
  std::unique_ptr<Peers> peers_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<StoreClient> store_ ABSL_GUARDED_BY(mutex_);
  store::CopyOptions copy_options_;                    // constant after Start
  std::shared_ptr<store::SharedMemory> store_memory_;  // constant after Start
  AddressPtr self_;                                    // constant after Start
  Identity identity_ ABSL_GUARDED_BY(mutex_);

  ReleaseQueue release_queue_;
  std::atomic<bool> drain_scheduled_{false};  // from the order to drain until its look
  std::atomic<bool> shut_down_{false};
  std::atomic<bool> raylet_lost_{false};
  std::atomic<bool> exit_requested_{false};

  ObjectTable objects_ ABSL_GUARDED_BY(mutex_){this};
  StreamTable streams_ ABSL_GUARDED_BY(mutex_){&objects_};
  // Calls of actors that ended before everything was read: who is told what is read later.
  absl::flat_hash_map<base::TaskId, base::WorkerId> ended_streams_ ABSL_GUARDED_BY(mutex_);
  Lineage lineage_ ABSL_GUARDED_BY(mutex_);
  // Borrowed objects of which no copy was found where their owner said.
  absl::flat_hash_map<base::ObjectId, std::vector<base::NodeId>> lost_at_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<TaskSubmitter> tasks_ ABSL_GUARDED_BY(mutex_);
  ActorSubmitter actors_ ABSL_GUARDED_BY(mutex_){this};
  TaskReceiver receiver_ ABSL_GUARDED_BY(mutex_);
  base::TaskIdGenerator task_ids_ ABSL_GUARDED_BY(mutex_);
  base::TaskId put_task_ ABSL_GUARDED_BY(mutex_);  // puts of this process count under this task
  uint32_t put_index_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<base::TaskId, TaskPtr> pending_
      ABSL_GUARDED_BY(mutex_);  // submitted, not ended
  // Those whose worker was ended for memory: they run again when their timers end.
  absl::flat_hash_map<base::TaskId, net::EventLoop::TimerId> delayed_ ABSL_GUARDED_BY(mutex_);
  bool tick_scheduled_ ABSL_GUARDED_BY(mutex_) = false;
  // By this process, of late: until the nodes know, they would still run what is submitted to them.
  absl::flat_hash_set<base::PlacementGroupId> removed_groups_ ABSL_GUARDED_BY(mutex_);

  // Owned, not detached actors that are in scope: handle reference -> actor.
  absl::flat_hash_map<base::ObjectId, base::ActorId> handle_refs_ ABSL_GUARDED_BY(mutex_);
  // What an actor of this process is made of: kept until it is dead, and for as long as results of
  // its calls could be computed again.
  struct ActorMaking {
    std::vector<base::ObjectId> pins;              // what its arguments mention: a restart needs it
    std::optional<wire::v1::RegisterActor> again;  // to make it anew; nullopt: it may not be
    base::ActorId successor;                       // it was made anew as this one
    size_t kept_calls = 0;                         // in the lineage
    bool dead = false;
  };
  absl::flat_hash_map<base::ActorId, ActorMaking> makings_ ABSL_GUARDED_BY(mutex_);

  // Execution.
  struct HeldReply {
    IncomingCallPtr call;
    TaskStatus status;
    uint32_t run_micros;
    std::vector<ResultValue> results;
  };
  std::vector<HeldReply> held_replies_
      ABSL_GUARDED_BY(mutex_);  // wait for borrow registrations (REF-2)
  // References inside results and stream items, pinned until the caller has registered them.
  struct HandedOver {
    base::WorkerId caller;
    std::deque<std::vector<base::ObjectId>> batches;  // one a REFS_TAKEN
  };
  absl::flat_hash_map<base::TaskId, HandedOver> handed_over_ ABSL_GUARDED_BY(mutex_);
  // Objects of PlacementGroupReady that have no value yet.
  absl::flat_hash_map<base::ObjectId, base::PlacementGroupId> awaited_groups_
      ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<base::ObjectId, DeferredEvents> deferred_ ABSL_GUARDED_BY(mutex_);
  struct RefsTaken {
    PeerPtr peer;
    base::TaskId task;
  };
  std::vector<RefsTaken> refs_taken_
      ABSL_GUARDED_BY(mutex_);  // to be sent once registrations are answered
  std::shared_ptr<const wire::v1::CreateActor>
      creation_request_;  // set once, before the creation call runs
  uint64_t creation_correlation_ ABSL_GUARDED_BY(mutex_) = 0;
  base::JobId worker_job_ ABSL_GUARDED_BY(mutex_);
  struct OtherLoop {
    int fd = -1;
    bool watched = false;  // from each wait until it was ready once
    bool ready = false;
  };
  OtherLoop other_loop_ ABSL_GUARDED_BY(mutex_);
  std::vector<base::TaskId> cancelled_running_ ABSL_GUARDED_BY(mutex_);
  std::function<void(IncomingCall&)> on_cancel_running_ ABSL_GUARDED_BY(mutex_);
  int blocked_threads_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<base::TaskId, GetStatePtr> blocked_gets_
      ABSL_GUARDED_BY(mutex_);  // by waiter
  std::vector<LocalWait*> local_waits_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<base::ObjectId> coming_here_ ABSL_GUARDED_BY(mutex_);  // for waits
  uint64_t waits_ ABSL_GUARDED_BY(mutex_) = 0;                               // so far
  uint64_t brought_ ABSL_GUARDED_BY(mutex_) = 0;      // grows whenever one of them is through
  UnreadItems unread_items_ ABSL_GUARDED_BY(mutex_);  // of an actor with a limit for them
  bool stream_room_changed_ ABSL_GUARDED_BY(mutex_) = false;  // since TakeCancelled
  // What ran here since the raylet was told; bounded by task_events_batch_max.
  struct Run {
    ReceivedTemplatePtr of;
    base::TaskId task;
    uint32_t attempt;
    bool failed;
    int64_t started_nanos;
    int64_t ended_nanos;
  };
  std::vector<Run> runs_ ABSL_GUARDED_BY(mutex_);
  uint64_t runs_dropped_ ABSL_GUARDED_BY(mutex_) = 0;  // since this process started
  bool retiring_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> has_new_instances_{false};  // so that calls without news need no lock
  std::optional<wire::v1::LeaseInstances> new_instances_ ABSL_GUARDED_BY(mutex_);

  absl::Mutex message_mutex_ ABSL_ACQUIRED_AFTER(mutex_);
  std::deque<Message> messages_ ABSL_GUARDED_BY(message_mutex_);
  uint64_t messages_dropped_ ABSL_GUARDED_BY(message_mutex_) = 0;
};

// The error value of an object that the store did not give.
BufferPtr AbsenceError(const base::ObjectId& id, const FetchedObject& absent);

// The object whose references are an owned actor's handles.
base::ObjectId HandleReferenceOf(const base::ActorId& actor);

}  // namespace ray::core
