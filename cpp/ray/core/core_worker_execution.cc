// The executing side: calls in, their arguments, replies out.
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ray/base/check.h"
#include "ray/base/clock.h"
#include "ray/base/logging.h"
#include "ray/core/core_worker.h"
#include "ray/net/parse_frame.h"
#include "ray/wire/v1/objects.pb.h"
#include "ray/wire/v1/workers.pb.h"

namespace ray::core {

using base::ObjectId;
using base::TaskId;

namespace {

constexpr int kArgsIndex = -1;

ArgumentBytes CopyInline(std::string_view bytes) { return {Buffer::Copy(bytes), nullptr}; }

AddressPtr CreatorOf(const wire::v1::CreateActor& request) {
  auto owner = WorkerAddress::FromProto(request.spec().owner());
  return owner.ok() ? *std::move(owner) : nullptr;
}

}  // namespace

// ----------------------------------------------------------------------------------------------
// calls in

void CoreWorker::OnTemplate(const PeerPtr& peer, const net::Frame& frame) {
  auto message = net::ParseMetadata<wire::v1::TaskTemplate>(frame);
  if (!message.ok()) return peer->connection->Close(message.status());
  if (message->template_id() > SentTemplates::kNumbersMax) {
    return peer->connection->Close(absl::InvalidArgumentError("more task templates than agreed"));
  }
  auto received = std::make_shared<ReceivedTemplate>();
  received->name = message->name();
  received->function = std::string(frame.payload);
  received->num_returns = static_cast<int>(message->num_returns());
  if (message->returns_mode() == 1) received->num_returns = kDynamicReturns;
  if (message->streaming()) received->num_returns = kStreamingReturns;
  received->concurrency_group = message->concurrency_group();
  received->retry_exceptions = message->retry_exceptions();
  received->exception_types = message->exception_types();
  received->stream_backpressure = message->stream_backpressure();
  received->objects_per_yield = message->objects_per_yield();
  received->max_calls = message->max_calls();
  received->strategy = message->strategy().SerializeAsString();
  for (const auto& [name, quantity] : message->resources().quantities()) {
    received->resources[name] = quantity;
  }
  if (!message->actor_id().empty()) {
    auto actor = base::ActorId::FromBinary(message->actor_id());
    if (!actor.ok()) return peer->connection->Close(actor.status());
    received->actor_id = *actor;
  }
  auto job = base::JobId::FromBinary(message->job_id());
  if (!job.ok()) return peer->connection->Close(job.status());
  received->job_id = *job;
  // An actor keeps the namespace that it was created in; a worker takes its tasks'.
  if (creation_request_ == nullptr && options_.kind != wire::v1::DRIVER) {
    identity_.job_namespace = message->job_namespace();
  }
  peer->received_templates[message->template_id()] = std::move(received);
}

void CoreWorker::OnPushTask(const PeerPtr& peer, const net::Frame& frame) {
  auto task = ParsePushTask(frame.metadata, frame.payload);
  if (!task.ok()) return peer->connection->Close(task.status());
  auto found = peer->received_templates.find(task->template_id);
  if (found == peer->received_templates.end()) {
    return peer->connection->Close(
        absl::InvalidArgumentError("PUSH_TASK with a template that was not announced"));
  }
  auto call = std::make_shared<IncomingCall>();
  call->caller = peer;
  call->correlation_id = frame.correlation_id;
  call->task_template = found->second;
  worker_job_ = found->second->job_id;
  AcceptCall(call, *std::move(task));
}

void CoreWorker::OnCreateActor(const net::Frame& frame) {
  auto request = net::ParseMetadata<wire::v1::CreateActor>(frame);
  wire::v1::CreateActorReply refusal;
  if (!request.ok() || creation_request_ != nullptr) {
    refusal.set_message("this worker cannot become an actor");
    return raylet_->Reply(wire::v1::CREATE_ACTOR, frame.correlation_id, refusal);
  }
  auto shared = std::make_shared<const wire::v1::CreateActor>(*std::move(request));
  auto task = ParsePushTask(shared->spec().args_metadata(), shared->spec().args_payload());
  auto job = base::JobId::FromBinary(shared->job_id());
  if (!task.ok() || !job.ok()) {
    refusal.set_message("malformed creation call");
    return raylet_->Reply(wire::v1::CREATE_ACTOR, frame.correlation_id, refusal);
  }
  creation_request_ = shared;
  creation_correlation_ = frame.correlation_id;
  worker_job_ = *job;
  identity_.job_id = *job;
  identity_.job_namespace = shared->job_namespace();
  AcceptCall(std::make_shared<IncomingCall>(), *std::move(task));
}

// Gathers the arguments and queues the call at once: it keeps its place while they are under way.
void CoreWorker::AcceptCall(const IncomingCallPtr& call, PushTaskFrame frame) {
  call->task_id = frame.task_id;
  call->attempt = frame.attempt;
  call->out_of_turn = frame.out_of_turn;
  call->references.resize(frame.refs.size());
  call->fetching = 1;
  if (frame.args_object.IsNil()) {
    call->args = CopyInline(frame.args);
  } else {
    StoredObject args{frame.args_object, {}};
    AddressPtr owner =
        call->caller == nullptr ? CreatorOf(*creation_request_) : call->caller->address;
    if (owner != nullptr && owner->node_id != self_->node_id) args.sources = {owner->node_id};
    FetchStored(call, args, owner, kArgsIndex);
  }
  for (size_t i = 0; i < frame.refs.size(); ++i) FetchArgument(call, frame.refs[i], i);
  if (!receiver_.Enqueue(call)) {
    MANTA_LOG(kWarning, "task ", call->task_id.Hex(), " came twice: the second is ignored");
    return;
  }
  if (retiring_ && call->caller != nullptr) {
    receiver_.Recall([&](const IncomingCall& queued) { return &queued == call.get(); });
    return ReturnToOwner({call});
  }
  if (blocked_threads_ > 0 && call->caller != nullptr && call->task_template->actor_id.IsNil()) {
    // The running task waits, maybe for this very one: it must not wait behind it.
    receiver_.Recall([&](const IncomingCall& queued) { return &queued == call.get(); });
    return ReturnToOwner({call});
  }
  ArgumentArrived(call);
}

void CoreWorker::FetchArgument(const IncomingCallPtr& call, const RefArgument& ref, size_t index) {
  IncomingCall::Reference& reference = call->references[index];
  reference.position = ref.position;
  reference.keyword = ref.keyword;
  if (ref.kind == RefArgument::Kind::kInline) {
    reference.value = CopyInline(ref.value);
    return;
  }
  auto owner = WorkerAddress::Parse(ref.owner_address);
  if (!owner.ok()) return;  // the value stays empty and is reported when the call starts
  if (ref.kind == RefArgument::Kind::kByOwner) {
    return FetchByOwner(call, ref.object_id, *owner, static_cast<int>(index));
  }
  StoredObject object{ref.object_id, ref.sources};
  // A copy here may be dropped to make room, unless it is the only one: then the others count.
  if (ref.sources.size() == 1 && ref.sources[0] == self_->node_id) object.sources.clear();
  FetchStored(call, object, *owner, static_cast<int>(index));
}

void CoreWorker::FetchByOwner(const IncomingCallPtr& call, const ObjectId& id,
                              const AddressPtr& owner, int index) {
  ++call->fetching;
  objects_.Pin(id, owner);
  objects_.WhenReady(id, [this, call, index, owner, id] {
    mutex_.AssertHeld();
    ObjectTable::Entry* entry = objects_.Find(id);
    if (entry->state == ObjectState::kInline) {
      ArgumentAt(call, index).inline_bytes = entry->value;
    } else {
      FetchStored(call, InStore(id, *entry), owner, index);
    }
    objects_.Unpin(id);
    ArgumentArrived(call);
  });
  peers_->FlushAll();
}

void CoreWorker::FetchStored(const IncomingCallPtr& call, const StoredObject& object,
                             const AddressPtr& owner, int index) {
  ++call->fetching;
  store_->Fetch({object}, [this, call, object, owner, index](std::vector<FetchedObject> fetched) {
    mutex_.AssertHeld();
    const bool lost = fetched[0].pin == nullptr && !fetched[0].no_memory;
    if (fetched[0].pin != nullptr) {
      ArgumentAt(call, index).stored = std::move(fetched[0].pin);
      Copied(object.id, owner, object.sources);
    } else if (lost && owner != nullptr && index != kArgsIndex) {
      if (HandBack(call, object)) return;
      // The call belongs to this process: it waits until its argument is there again.
      objects_.Pin(object.id, owner);
      CopiesLost(object.id, LocationsOf(object), fetched[0].reason);
      FetchByOwner(call, object.id, owner, index);
      objects_.Unpin(object.id);
    } else {
      call->argument_error = AbsenceError(object.id, fetched[0]);
    }
    ArgumentArrived(call);
  });
}

ArgumentBytes& CoreWorker::ArgumentAt(const IncomingCallPtr& call, int index) {
  return index == kArgsIndex ? call->args : call->references[static_cast<size_t>(index)].value;
}

// A task must not hold a worker while its argument is computed again, which may need that worker.
bool CoreWorker::HandBack(const IncomingCallPtr& call, const StoredObject& argument) {
  if (call->caller == nullptr || !call->task_template->actor_id.IsNil()) return false;
  ReportLost(call->caller, argument);
  ReturnToOwner(
      receiver_.Recall([&](const IncomingCall& queued) { return &queued == call.get(); }));
  return true;
}

// In front of what says that the task comes back. The answer is of no interest.
void CoreWorker::ReportLost(const PeerPtr& to, const StoredObject& object) {
  wire::v1::ObjectRequest request;
  request.set_object_id(object.id.BinaryString());
  for (const base::NodeId& node : LocationsOf(object)) request.add_lost_at(node.BinaryString());
  to->connection->Call(wire::v1::GET_OBJECT, request, [](absl::StatusOr<net::Frame>) {});
}

void CoreWorker::ArgumentArrived(const IncomingCallPtr& call) { --call->fetching; }

IncomingCallPtr CoreWorker::NextCall(Interrupted interrupted) {
  IncomingCallPtr call;
  auto ready = [&] {
    mutex_.AssertHeld();
    if (call != nullptr || exit_requested_.load()) return true;  // a wait asks more than once
    call = receiver_.PopRunnable();
    return call != nullptr;
  };
  {
    absl::MutexLock lock(&mutex_);
    Drain();
    if (ready()) {
      if (call != nullptr) call->started_nanos = base::MonotonicNanos();
      return call;
    }
    store_->Flush();
    peers_->FlushAll();
  }
  driver_->WaitUntil(ready, kNoDeadline, interrupted);
  if (call != nullptr) call->started_nanos = base::MonotonicNanos();
  return call;
}

void CoreWorker::WatchOtherLoop(int fd) {
  absl::MutexLock lock(&mutex_);
  other_loop_.fd = fd;
}

CoreWorker::Events CoreWorker::AwaitEvents(int64_t deadline, Interrupted interrupted) {
  Events events;
  auto something = [&] {
    mutex_.AssertHeld();
    events = EventsNow();
    return events.calls || events.other_loop;
  };
  {
    absl::MutexLock lock(&mutex_);
    Drain();
    // Not watched all the time: it stays ready until the other loop has run.
    other_loop_.ready = false;
    if (!std::exchange(other_loop_.watched, true)) {
      loop_.Watch(other_loop_.fd, EPOLLIN, [this](uint32_t) {
        mutex_.AssertHeld();
        other_loop_.ready = true;
        other_loop_.watched = false;
        loop_.Unwatch(other_loop_.fd);
      });
    }
    if (something()) return events;
    store_->Flush();
    peers_->FlushAll();
  }
  if (deadline > base::MonotonicNanos()) {
    driver_->WaitUntil(something, deadline, interrupted);
    return events;
  }
  driver_->PollOnce();
  absl::MutexLock lock(&mutex_);
  return EventsNow();
}

CoreWorker::Events CoreWorker::EventsNow() const {
  return {.calls = receiver_.HasRunnable() || !cancelled_running_.empty() ||
                   exit_requested_.load() || stream_room_changed_,
          .other_loop = other_loop_.ready};
}

void CoreWorker::WaitForExit(Interrupted interrupted) {
  driver_->WaitUntil([this] { return exit_requested_.load(); }, kNoDeadline, interrupted);
}

IncomingCallPtr CoreWorker::TakeCall() {
  absl::MutexLock lock(&mutex_);
  if (exit_requested_.load()) return nullptr;
  Drain();
  IncomingCallPtr call = receiver_.PopRunnable();
  if (call != nullptr) call->started_nanos = base::MonotonicNanos();
  return call;
}

// ----------------------------------------------------------------------------------------------
// replies out

void CoreWorker::Reply(const IncomingCallPtr& call, TaskStatus status,
                       std::vector<ResultValue> results) {
  const int64_t now = base::MonotonicNanos();
  const auto run_micros = static_cast<uint32_t>(
      std::min<int64_t>((now - call->started_nanos) / 1000, std::numeric_limits<uint32_t>::max()));
  absl::MutexLock lock(&mutex_);
  RecordRun(*call, status, now);
  receiver_.Finish(*call);
  unread_items_.Ended(call->task_id);
  ProtectContained(call, results);
  call->args = {};
  call->references.clear();
  Drain();
  objects_.RegisterUnregistered();
  if (objects_.registrations_under_way()) {
    held_replies_.push_back({call, status, run_micros, std::move(results)});
  } else {
    ReplyToCaller(call, status, run_micros, results);
  }
}

// REF-1: an owner registers the caller in its name; others keep the reference until the caller has
// registered itself.
void CoreWorker::ProtectContained(const IncomingCallPtr& call,
                                  const std::vector<ResultValue>& results) {
  std::vector<ObjectId> pinned;
  bool contains_some = false;
  for (const ResultValue& result : results) {
    contains_some = contains_some || !result.contained.empty();
    for (const ContainedObject& inner : result.contained) {
      ObjectTable::Entry* entry = objects_.Find(inner.id);
      if (entry == nullptr) continue;
      if (entry->owned) {
        objects_.AddBorrower(inner.id, call->caller->worker_id, 1);
      } else {
        objects_.Pin(inner.id, inner.owner);
        pinned.push_back(inner.id);
      }
    }
  }
  if (!contains_some) return;
  HandedOver& handed_over = handed_over_[call->task_id];
  handed_over.caller = call->caller->worker_id;
  handed_over.batches.push_back(std::move(pinned));
}

void CoreWorker::SendHeldReplies() {
  for (const HeldReply& held : std::exchange(held_replies_, {})) {
    ReplyToCaller(held.call, held.status, held.run_micros, held.results);
  }
}

ReturnValue CoreWorker::ToReturnValue(const ResultValue& result) const {
  ReturnValue value;
  if (result.inline_value != nullptr) {
    value.value = result.inline_value->view();
  } else {
    value.kind = ReturnValue::Kind::kInStore;
    value.size_bytes = result.stored_bytes;
  }
  for (const ContainedObject& inner : result.contained) {
    const AddressPtr& owner = inner.owner == nullptr ? self_ : inner.owner;
    value.contained.push_back({inner.id, owner->serialized});
  }
  return value;
}

void CoreWorker::ReplyToCaller(const IncomingCallPtr& call, TaskStatus status, uint32_t run_micros,
                               const std::vector<ResultValue>& results) {
  TaskReplyFrame frame;
  frame.status = status;
  frame.run_micros = run_micros;
  frame.leaving = retiring_;
  for (const ResultValue& result : results) frame.returns.push_back(ToReturnValue(result));
  std::string metadata;
  std::vector<std::string_view> payload;
  PackTaskReply(frame, &metadata, &payload);
  auto flush =
      receiver_.queued() > 0 ? net::Connection::Flush::kDefer : net::Connection::Flush::kNow;
  call->caller->connection->SendRaw(wire::v1::PUSH_TASK, net::kReplyFlag, call->correlation_id,
                                    metadata, payload, flush);
  peers_->MarkDirty(call->caller);
}

void CoreWorker::RecordRun(const IncomingCall& call, TaskStatus status, int64_t ended_nanos) {
  if (config_.task_events_kept_max <= 0) return;
  if (runs_.size() >= static_cast<size_t>(config_.task_events_batch_max)) {
    ++runs_dropped_;
    return;
  }
  if (runs_.empty()) {
    loop_.RunAfter(absl::Milliseconds(config_.task_events_interval_ms), [this] {
      mutex_.AssertHeld();
      SendTaskEvents();
    });
  }
  runs_.push_back({call.task_template, call.task_id, call.attempt, status != TaskStatus::kOk,
                   call.started_nanos, ended_nanos});
}

void CoreWorker::SendTaskEvents() {
  if (runs_.empty() || shut_down_.load()) return;
  wire::v1::TaskEvents message;
  message.set_worker_id(identity_.worker_id.BinaryString());
  message.set_pid(pid_);
  message.set_dropped(runs_dropped_);
  const int64_t since_boot = base::MonotonicNanos();
  const int64_t since_epoch = absl::ToUnixNanos(absl::Now());
  auto unix_micros = [&](int64_t nanos) { return (since_epoch - (since_boot - nanos)) / 1000; };
  for (const Run& run : runs_) {
    wire::v1::TaskEvent& event = *message.add_events();
    event.set_task_id(run.task.BinaryString());
    event.set_name(run.of->name);
    event.set_start_us(unix_micros(run.started_nanos));
    event.set_end_us(unix_micros(run.ended_nanos));
    event.set_failed(run.failed);
    event.set_attempt(run.attempt);
    if (!run.of->actor_id.IsNil()) event.set_actor_id(run.of->actor_id.BinaryString());
  }
  runs_.clear();
  raylet_->Send(wire::v1::TASK_EVENTS, message, {}, net::Connection::Flush::kCoalesce);
}

void CoreWorker::Abandon(const IncomingCallPtr& call) {
  absl::MutexLock lock(&mutex_);
  receiver_.Finish(*call);
}

void CoreWorker::ReplyCreation(bool ok, std::string_view creation_error, int default_limit,
                               const std::vector<std::pair<std::string, int>>& groups) {
  absl::MutexLock lock(&mutex_);
  for (const IncomingCallPtr& call : receiver_.Running()) {
    if (call->caller == nullptr) receiver_.Finish(*call);
  }
  if (ok) receiver_.SetGroups(default_limit, groups);
  wire::v1::CreateActorReply reply;
  reply.set_ok(ok);
  reply.set_creation_error(std::string(creation_error));
  raylet_->Reply(wire::v1::CREATE_ACTOR, creation_correlation_, reply);
}

void CoreWorker::FlushReplies() {
  absl::MutexLock lock(&mutex_);
  Drain();
  SendTaskEvents();
  if (store_ != nullptr) store_->Flush();
  peers_->FlushAll();
}

// ----------------------------------------------------------------------------------------------
// recall and cancel

// Each call is answered, with nothing, so that its owner does not expect the answer for ever.
void CoreWorker::ReturnToOwner(const std::vector<IncomingCallPtr>& calls) {
  absl::flat_hash_map<PeerPtr, wire::v1::TaskIds> by_peer;
  for (const IncomingCallPtr& call : calls) {
    by_peer[call->caller].add_task_ids(call->task_id.BinaryString());
    call->caller->connection->Reply(wire::v1::PUSH_TASK, call->correlation_id, wire::v1::TaskIds(),
                                    {}, net::Connection::Flush::kDefer);
  }
  for (const auto& [peer, message] : by_peer) {
    peer->connection->Send(wire::v1::TASKS_RECALLED, message);
  }
}

void CoreWorker::OnRecallTasks(const PeerPtr& peer, const net::Frame& frame) {
  auto message = net::ParseMetadata<wire::v1::TaskIds>(frame);
  auto ids = message.ok() ? net::ParseIds<TaskId>(message->task_ids()) : message.status();
  if (!ids.ok()) return peer->connection->Close(ids.status());
  ReturnToOwner(receiver_.Recall([&](const IncomingCall& call) {
    return call.caller == peer && std::find(ids->begin(), ids->end(), call.task_id) != ids->end();
  }));
}

void CoreWorker::BeginBlocked() {
  if (blocked_threads_++ > 0) return;
  wire::v1::WorkerBlocked message;
  message.set_blocked(true);
  raylet_->Send(wire::v1::WORKER_BLOCKED, message);
  // Whatever is queued behind the task that now waits runs elsewhere. Actor calls stay: they belong
  // here.
  ReturnToOwner(receiver_.Recall([](const IncomingCall& call) {
    return call.caller != nullptr && call.task_template->actor_id.IsNil();
  }));
  peers_->FlushAll();
}

void CoreWorker::EndBlocked() {
  if (--blocked_threads_ > 0) return;
  wire::v1::WorkerBlocked message;
  message.set_blocked(false);
  raylet_->Send(wire::v1::WORKER_BLOCKED, message);
}

void CoreWorker::OnCancelTask(const PeerPtr& peer, const net::Frame& frame) {
  auto message = net::ParseMetadata<wire::v1::CancelTask>(frame);
  auto id = message.ok() ? TaskId::FromBinary(message->task_id()) : message.status();
  if (!id.ok()) return peer->connection->Close(id.status());
  if (auto owned = pending_.find(*id); owned != pending_.end()) {
    return CancelOwned(owned->second, message->force(), message->recursive());  // a borrower asked
  }
  SystemError error;
  error.code = "TASK_CANCELLED";
  error.message = "the task was cancelled before it ran";
  for (const IncomingCallPtr& call :
       receiver_.Recall([&](const IncomingCall& queued) { return queued.task_id == *id; })) {
    BufferPtr value = SerializeSystemError(error);
    std::vector<ResultValue> results(
        static_cast<size_t>(std::max(call->task_template->num_returns, 0)), ResultValue{value, {}});
    if (call->task_template->num_returns < 0) results.assign(1, ResultValue{value, {}});
    ReplyToCaller(call, TaskStatus::kError, 0, results);
  }
  if (message->only_queued()) return;
  IncomingCallPtr running = receiver_.FindRunning(*id);
  if (running == nullptr) return;
  if (message->recursive()) CancelChildren(*id, message->force());
  if (message->force()) {
    peers_->FlushAll();  // what its children must hear
    _exit(1);
  }
  running->cancelled = true;
  if (other_loop_.fd >= 0) cancelled_running_.push_back(*id);
  if (on_cancel_running_) on_cancel_running_(*running);
  if (running->interruptible) EndIfItStays(*id);
}

// A task that catches the interrupt, or never returns to the interpreter, is ended with this
// process.
void CoreWorker::EndIfItStays(const TaskId& id) {
  if (config_.cancel_grace_ms <= 0) return;
  loop_.RunAfter(absl::Milliseconds(config_.cancel_grace_ms), [this, id] {
    mutex_.AssertHeld();
    if (receiver_.FindRunning(id) == nullptr) return;
    MANTA_LOG(kWarning, "the cancelled task ", id.Hex(), " did not end: ending its worker");
    peers_->FlushAll();
    _exit(1);
  });
}

void CoreWorker::SetCancelHandler(std::function<void(IncomingCall&)> handler) {
  absl::MutexLock lock(&mutex_);
  on_cancel_running_ = std::move(handler);
}

std::vector<TaskId> CoreWorker::TakeCancelled() {
  absl::MutexLock lock(&mutex_);
  stream_room_changed_ = false;
  return std::exchange(cancelled_running_, {});
}

// ----------------------------------------------------------------------------------------------
// exit

void CoreWorker::AnnounceExit(bool intended, std::string_view reason) {
  absl::MutexLock lock(&mutex_);
  wire::v1::WorkerExiting message;
  message.set_intended(intended);
  message.set_reason(std::string(reason));
  raylet_->Send(wire::v1::WORKER_EXITING, message);
}

void CoreWorker::RetireAfterThisCall() {
  absl::MutexLock lock(&mutex_);
  retiring_ = true;
  ReturnToOwner(receiver_.Recall([](const IncomingCall&) { return true; }));
}

std::optional<wire::v1::LeaseInstances> CoreWorker::TakeInstances() {
  if (!has_new_instances_.exchange(false)) return std::nullopt;
  absl::MutexLock lock(&mutex_);
  return std::exchange(new_instances_, std::nullopt);
}

void CoreWorker::ReportEnvironmentError(std::string_view message) {
  AnnounceExit(false, message);
  absl::MutexLock lock(&mutex_);
  raylet_->FlushNow();
}

void CoreWorker::RequestExit() {
  exit_requested_.store(true);
  loop_.Post([] {});  // every thread that waits looks again
}

}  // namespace ray::core
