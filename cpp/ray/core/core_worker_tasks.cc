// The submitting side of tasks and actor calls: arguments, leases, frames out, replies in, retries.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/clock.h"
#include "ray/base/logging.h"
#include "ray/core/core_worker.h"
#include "ray/net/parse_frame.h"
#include "ray/wire/v1/workers.pb.h"

namespace ray::core {

using base::ObjectId;
using base::TaskId;

namespace {

constexpr char kOutOfMemory[] = "OUT_OF_MEMORY";
// For how a worker ended, before a task that may run again does. A raylet that is well, if slow for
// want of memory, has answered by then.
constexpr absl::Duration kVerdictPatience = absl::Seconds(2);
constexpr absl::Duration kMemoryRetryDelayMax = absl::Minutes(1);

const char* RefusalCode(wire::v1::RequestLeaseReply::Outcome outcome) {
  switch (outcome) {
    case wire::v1::RequestLeaseReply::ENVIRONMENT_FAILED:
      return "RUNTIME_ENV_SETUP";
    case wire::v1::RequestLeaseReply::GROUP_REMOVED:
      return "TASK_GROUP_REMOVED";
    default:
      return "TASK_UNSCHEDULABLE";
  }
}

SystemError DescribeDeath(const absl::StatusOr<net::Frame>& frame) {
  SystemError error;
  error.code = "WORKER_CRASHED";
  error.message = "the worker process of the task ended unexpectedly";
  auto death = frame.ok() ? net::ParseMetadata<wire::v1::WorkerDeathReply>(*frame) : frame.status();
  if (death.ok() && death->node_died()) {
    error.code = "NODE_DIED";
    error.message = absl::StrCat("the node on which the task ran is dead: ", death->message());
    return error;
  }
  if (!death.ok() || !death->known()) {
    error.message += ". Its last output is in the session's logs folder.";
    return error;
  }
  if (death->out_of_memory()) error.code = kOutOfMemory;
  absl::StrAppend(&error.message, ": ", death->message());
  return error;
}

}  // namespace

// ----------------------------------------------------------------------------------------------
// submission

TaskId CoreWorker::SubmitTask(TemplatePtr task_template, CallArguments arguments,
                              const TaskId& parent) {
  absl::MutexLock lock(&mutex_);
  Drain();
  TaskId id = task_ids_.Next(base::NilActorOf(worker_job_));
  TaskPtr task = MakeTask(id, std::move(task_template), std::move(arguments), parent);
  if (removed_groups_.contains(task->task_template->group)) {
    SystemError error;
    error.code = "TASK_GROUP_REMOVED";
    error.message = "its placement group was removed before the task was submitted";
    Fail(task, error);
  } else {
    Resolve(task);
  }
  return id;
}

TaskPtr CoreWorker::MakeTask(const TaskId& id, TemplatePtr task_template, CallArguments arguments,
                             const TaskId& parent) {
  auto task = std::make_shared<Task>();
  task->id = id;
  task->parent = parent;
  task->retries_left = task_template->max_retries;
  task->task_template = std::move(task_template);
  PinArguments(task.get(), arguments);
  task->args = std::move(arguments.args);
  task->args_object = arguments.args_object;
  task->refs = std::move(arguments.refs);
  AddReturns(*task);
  pending_.emplace(id, task);
  return task;
}

// Whatever the arguments mention lives until the task has ended.
void CoreWorker::PinArguments(Task* task, const CallArguments& arguments) {
  auto pin = [&](const ObjectId& id, const AddressPtr& owner) {
    mutex_.AssertHeld();
    objects_.Pin(id, owner);
    task->mentions.push_back({id, owner});
  };
  for (const Task::TopLevelRef& ref : arguments.refs) pin(ref.id, ref.owner);
  for (const ContainedObject& nested : arguments.nested) pin(nested.id, nested.owner);
  if (!arguments.args_object.IsNil()) {
    // Put for this call alone: the pin takes the place of the put's local reference.
    pin(arguments.args_object, nullptr);
    objects_.RemoveLocal(arguments.args_object);
  }
  if (task->task_template == nullptr) return;
  for (const ContainedObject& inside : task->task_template->contains) pin(inside.id, inside.owner);
}

void CoreWorker::AddReturns(const Task& task) {
  int count = task.task_template->return_objects();
  for (int i = 1; i <= count; ++i) {
    objects_.AddOwned(base::ReturnObjectId(task.id, static_cast<uint32_t>(i))).local = 1;
  }
  const TaskTemplate& of = *task.task_template;
  if (of.is_stream()) streams_.Open(task.id, of.num_returns == kStreamingReturns);
}

void CoreWorker::Resolve(const TaskPtr& task) {
  if (task->refs.empty()) return OnResolved(task);
  task->unresolved = 1;  // holds OnResolved back until every reference was looked at
  for (const Task::TopLevelRef& ref : task->refs) {
    ObjectTable::Entry* entry = objects_.Find(ref.id);
    if (entry->state != ObjectState::kPending) continue;
    ++task->unresolved;
    objects_.WhenReady(ref.id, [this, task] {
      mutex_.AssertHeld();
      if (--task->unresolved == 0) OnResolved(task);
    });
  }
  if (--task->unresolved == 0) OnResolved(task);
}

void CoreWorker::OnResolved(const TaskPtr& task) {
  if (!pending_.contains(task->id)) return;  // cancelled meanwhile
  if (BufferPtr error = ArgumentError(*task); error != nullptr) {
    actors_.RemoveQueued(task);
    return FailWith(task, error);
  }
  if (task->out_of_turn) {
    actors_.AddActor(task->actor_id, /*pending_calls_max=*/-1);  // it may be forgotten
    return actors_.Submit(task);
  }
  if (!task->actor_id.IsNil()) return actors_.OnResolved(task);
  ChooseNode(task.get());
  tasks_->Submit(task, base::MonotonicNanos());
  ScheduleTick();
}

// Where most bytes of the arguments lie, if that is another node.
void CoreWorker::ChooseNode(Task* task) {
  task->preferred_node = {};
  absl::flat_hash_map<base::NodeId, uint64_t> bytes;
  for (const Task::TopLevelRef& ref : task->refs) {
    ObjectTable::Entry* entry = objects_.Find(ref.id);
    if (entry->state == ObjectState::kInStore) bytes[entry->node] += entry->size_bytes + 1;
  }
  auto most = std::max_element(bytes.begin(), bytes.end(),
                               [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most != bytes.end() && most->first != self_->node_id) task->preferred_node = most->first;
}

BufferPtr CoreWorker::ArgumentError(const Task& task) {
  for (const Task::TopLevelRef& ref : task.refs) {
    ObjectTable::Entry* entry = objects_.Find(ref.id);
    if (entry->state != ObjectState::kInline) continue;
    auto value = ParseValue(entry->value->view());
    if (value.ok() && !IsError(value->kind)) continue;
    return SerializeDependencyError({task.task_template->name, std::string(entry->value->view())});
  }
  return nullptr;
}

// ----------------------------------------------------------------------------------------------
// leases

void CoreWorker::RequestLease(uint64_t request_id, const Task& example, size_t backlog) {
  const TaskTemplate& of = *example.task_template;
  wire::v1::RequestLease request;
  if (!example.preferred_node.IsNil()) {
    request.set_preferred_node(example.preferred_node.BinaryString());
  }
  request.set_retriable(of.max_retries != 0);
  request.set_request_id(request_id);
  for (const auto& [name, quantity] : of.resources) {
    (*request.mutable_resources()->mutable_quantities())[name] = quantity;
  }
  request.set_backlog(static_cast<uint32_t>(backlog));
  mutex_.AssertHeld();
  request.set_job_id(worker_job_.BinaryString());
  request.set_task_name(of.name);
  request.set_retriable(of.max_retries != 0);
  request.set_runtime_env_hash(of.runtime_env_hash);
  request.set_runtime_env(of.runtime_env);
  if (!of.strategy.empty()) request.mutable_strategy()->ParseFromString(of.strategy);
  raylet_->Call(wire::v1::REQUEST_LEASE, request,
                [this, request_id](absl::StatusOr<net::Frame> reply) {
                  mutex_.AssertHeld();
                  OnLeaseReply(request_id, reply);
                });
}

void CoreWorker::OnLeaseReply(uint64_t request_id, const absl::StatusOr<net::Frame>& reply) {
  if (!reply.ok()) return;  // the raylet is gone; every wait ends with that
  auto lease = net::ParseMetadata<wire::v1::RequestLeaseReply>(*reply);
  if (!lease.ok()) {
    MANTA_LOG(kError, "malformed lease reply");
    return;
  }
  if (lease->outcome() == wire::v1::RequestLeaseReply::GRANTED) {
    auto id = base::LeaseId::FromBinary(lease->lease_id());
    auto address = WorkerAddress::FromProto(lease->worker());
    if (!id.ok() || !address.ok()) {
      MANTA_LOG(kError, "malformed lease reply");
      return;
    }
    SendInstances(*address, *lease);
    tasks_->OnLeaseGranted(request_id, *id, *std::move(address), lease->contended(),
                           base::MonotonicNanos());
    return ScheduleTick();
  }
  bool cancelled = lease->outcome() == wire::v1::RequestLeaseReply::CANCELLED;
  SystemError error;
  error.code = RefusalCode(lease->outcome());
  error.message = lease->message();
  for (const TaskPtr& task : tasks_->OnLeaseRefused(request_id, cancelled)) Fail(task, error);
}

// Ahead of the first task, on the same connection.
void CoreWorker::SendInstances(const AddressPtr& worker, const wire::v1::RequestLeaseReply& lease) {
  if (lease.instances().empty()) return;
  PeerPtr peer = peers_->Get(worker);
  if (peer == nullptr) return;
  wire::v1::LeaseInstances message;
  *message.mutable_instances() = lease.instances();
  *message.mutable_environment() = lease.environment();
  peer->connection->Send(wire::v1::USE_INSTANCES, message);
}

void CoreWorker::CancelLease(uint64_t request_id) {
  wire::v1::CancelLease message;
  message.set_request_id(request_id);
  raylet_->Send(wire::v1::CANCEL_LEASE, message);
}

void CoreWorker::ReturnLease(const base::LeaseId& lease, bool worker_broken) {
  wire::v1::ReturnLease message;
  message.set_lease_id(lease.BinaryString());
  message.set_worker_broken(worker_broken);
  raylet_->Send(wire::v1::RETURN_LEASE, message);
}

// While leases are held the submitter looks at its clock: for stalls and for leases that lingered.
void CoreWorker::ScheduleTick() {
  if (tick_scheduled_ || !tasks_->active()) return;
  tick_scheduled_ = true;
  loop_.RunAfter(absl::Nanoseconds(tasks_->tick_nanos()), [this] {
    mutex_.AssertHeld();
    tick_scheduled_ = false;
    if (shut_down_.load()) return;
    tasks_->Tick(base::MonotonicNanos());
    ScheduleTick();
  });
}

// ----------------------------------------------------------------------------------------------
// frames

void CoreWorker::PushTask(const AddressPtr& worker, const TaskPtr& task) {
  mutex_.AssertHeld();
  PeerPtr peer = peers_->Get(worker);
  if (peer != nullptr) return SendTask(peer, task);
  loop_.Post([this, worker] {
    mutex_.AssertHeld();
    LoseWorker(worker);
  });
}

void CoreWorker::PushCall(const AddressPtr& worker, const TaskPtr& task) { PushTask(worker, task); }

void CoreWorker::SendTask(const PeerPtr& peer, const TaskPtr& task) {
  if (peer->address->node_id != self_->node_id) PushArguments(*task, peer->address->node_id);
  PushTaskFrame frame;
  frame.task_id = task->id;
  frame.template_id = TemplateNumber(peer, *task);
  frame.attempt = task->attempt;
  frame.out_of_turn = task->out_of_turn;
  frame.args_object = task->args_object;
  if (task->args != nullptr) frame.args = task->args->view();
  PackRefs(*task, &frame);
  std::string metadata;
  std::vector<std::string_view> payload;
  PackPushTask(frame, &metadata, &payload);
  uint64_t correlation_id = peer->connection->NextCorrelationId();
  peer->connection->ExpectReply(correlation_id,
                                [this, peer, task](absl::StatusOr<net::Frame> reply) {
                                  mutex_.AssertHeld();
                                  if (reply.ok()) OnTaskReply(peer, task, *reply);
                                });
  peer->connection->SendRaw(wire::v1::PUSH_TASK, 0, correlation_id, metadata, payload,
                            net::Connection::Flush::kCoalesce);
  peers_->MarkDirty(peer);
}

// An owner that has had a copy sent counts it as one that is there: so it is freed with the others,
// and sent once. Of a borrowed object that would be for its owner to know: it is pulled.
void CoreWorker::PushArguments(const Task& task, const base::NodeId& to) {
  wire::v1::StorePush message;
  const auto add = [&](const ObjectId& id) {
    mutex_.AssertHeld();
    const ObjectTable::Entry* entry = objects_.Find(id);
    const bool in_store = entry != nullptr && entry->owned && entry->state == ObjectState::kInStore;
    if (!in_store || static_cast<int64_t>(entry->size_bytes) > config_.object_push_max_bytes) {
      return;
    }
    const std::vector<base::NodeId> known = entry->Locations();
    const auto has = [&](const base::NodeId& node) {
      return std::count(known.begin(), known.end(), node) > 0;
    };
    if (!has(self_->node_id) || has(to)) return;
    message.add_object_ids(id.BinaryString());
    objects_.AddCopy(id, to);
  };
  for (const Task::TopLevelRef& ref : task.refs) add(ref.id);
  if (!task.args_object.IsNil()) add(task.args_object);
  if (message.object_ids().empty()) return;
  message.set_node_id(to.BinaryString());
  raylet_->Send(wire::v1::STORE_PUSH, message);
}

void CoreWorker::PackRefs(const Task& task, PushTaskFrame* frame) {
  for (const Task::TopLevelRef& ref : task.refs) {
    RefArgument argument;
    argument.position = ref.position;
    argument.keyword = ref.keyword;
    argument.object_id = ref.id;
    ObjectTable::Entry* entry = objects_.Find(ref.id);
    if (entry->state == ObjectState::kInline) {
      argument.kind = RefArgument::Kind::kInline;
      argument.value = entry->value->view();
    } else {
      argument.kind = RefArgument::Kind::kInStore;
      argument.sources = entry->Locations();
      argument.owner_address = (entry->owned ? self_ : entry->owner)->serialized;
    }
    frame->refs.push_back(std::move(argument));
  }
}

uint32_t CoreWorker::TemplateNumber(const PeerPtr& peer, const Task& task) {
  const TaskTemplate& of = *task.task_template;
  const SentTemplates::Number number = peer->sent_templates.Of(of.uid);
  if (!number.is_new) return number.number;
  wire::v1::TaskTemplate message;
  message.set_template_id(number.number);
  message.set_name(of.name);
  message.set_num_returns(static_cast<uint32_t>(of.return_objects()));
  message.set_returns_mode(of.num_returns == kDynamicReturns ? 1 : 0);
  message.set_streaming(of.num_returns == kStreamingReturns);
  message.set_stream_backpressure(of.stream_backpressure);
  message.set_objects_per_yield(of.objects_per_yield);
  message.set_max_calls(of.max_calls);
  if (!task.actor_id.IsNil()) message.set_actor_id(task.actor_id.BinaryString());
  message.set_concurrency_group(of.concurrency_group);
  message.set_job_id(worker_job_.BinaryString());
  message.set_job_namespace(identity_.job_namespace);
  message.set_retry_exceptions(of.retry_exceptions);
  message.set_exception_types(of.exception_types);
  for (const auto& [name, quantity] : of.resources) {
    (*message.mutable_resources()->mutable_quantities())[name] = quantity;
  }
  if (!of.strategy.empty()) message.mutable_strategy()->ParseFromString(of.strategy);
  peer->connection->Send(wire::v1::TASK_TEMPLATE, message, of.function,
                         net::Connection::Flush::kDefer);
  return number.number;
}

void CoreWorker::OnTaskReply(const PeerPtr& peer, const TaskPtr& task, const net::Frame& frame) {
  if (frame.metadata.empty()) return;  // handed back: TASKS_RECALLED follows
  auto reply = ParseTaskReply(frame.metadata, frame.payload);
  if (!reply.ok() ||
      reply->returns.size() != static_cast<size_t>(task->task_template->return_objects())) {
    return peer->connection->Close(absl::InvalidArgumentError("malformed PUSH_TASK reply"));
  }
  if (!pending_.contains(task->id)) return;  // cancelled here, or answered twice
  bool again = reply->status == TaskStatus::kRetryableError && task->TakeRetry();
  if (task->actor_id.IsNil()) {
    tasks_->OnTaskDone(peer->worker_id, task->id, reply->run_micros, reply->leaving,
                       base::MonotonicNanos());
    if (again) return tasks_->Submit(task, base::MonotonicNanos());
  } else {
    if (again) return actors_.Retry(task);
    actors_.OnTaskDone(task);
  }
  StoreReturns(peer, *task, *reply);
  EndTask(task);
}

void CoreWorker::StoreReturns(const PeerPtr& peer, const Task& task, const TaskReplyFrame& reply) {
  bool took_refs = false;
  for (size_t i = 0; i < reply.returns.size(); ++i) {
    StoreReturn(peer, base::ReturnObjectId(task.id, static_cast<uint32_t>(i + 1)),
                reply.returns[i]);
    took_refs = took_refs || !reply.returns[i].contained.empty();
  }
  if (task.task_template->is_stream()) {
    bool failed = reply.status != TaskStatus::kOk;
    streams_.End(task.id, failed ? Buffer::Copy(reply.returns[0].value) : nullptr);
  }
  if (took_refs) ConfirmTaken(peer, task.id);
}

void CoreWorker::StoreReturn(const PeerPtr& peer, const ObjectId& id, const ReturnValue& value) {
  TakeContained(peer, id, value);
  if (value.kind == ReturnValue::Kind::kInline) {
    objects_.SetInline(id, Buffer::Copy(value.value));
  } else if (objects_.Find(id) != nullptr) {
    objects_.SetInStore(id, peer->address->node_id, value.size_bytes);
    objects_.AddCopy(id, peer->address->node_id);  // of what a retry has made once more
  } else {
    FreeStored(id, peer->address->node_id);  // nobody waits for it any more
  }
}

void CoreWorker::TakeContained(const PeerPtr& peer, const ObjectId& id, const ReturnValue& value) {
  std::vector<ContainedObject> contained;
  for (const ContainedReference& reference : value.contained) {
    auto owner = WorkerAddress::Parse(reference.owner_address);
    if (owner.ok()) contained.push_back({reference.object_id, *std::move(owner)});
  }
  objects_.SetContains(id, std::move(contained), peer->worker_id);
}

// The sender may let go of what the value contains, once this process is registered with the
// owners.
void CoreWorker::ConfirmTaken(const PeerPtr& peer, const TaskId& task) {
  refs_taken_.push_back({peer, task});
  objects_.RegisterUnregistered();
  if (!objects_.registrations_under_way()) SendRefsTaken();
}

void CoreWorker::SendRefsTaken() {
  for (const RefsTaken& taken : std::exchange(refs_taken_, {})) {
    wire::v1::TaskIds message;
    message.add_task_ids(taken.task.BinaryString());
    taken.peer->connection->Send(wire::v1::REFS_TAKEN, message, {},
                                 net::Connection::Flush::kCoalesce);
    peers_->MarkDirty(taken.peer);
  }
}

// ----------------------------------------------------------------------------------------------
// ends

void CoreWorker::EndTask(const TaskPtr& task) {
  pending_.erase(task->id);
  const bool counts_unread =
      !task->actor_id.IsNil() && task->task_template->stream_backpressure > 0;
  if (counts_unread && streams_.IsOpen(task->id)) ended_streams_[task->id] = task->producer;
  FreeLeftBehind(task.get());
  KeepLineage(task);
  for (const ContainedObject& mentioned : task->mentions) objects_.Unpin(mentioned.id);
}

// A worker that died may have written results before, of which it could not tell.
void CoreWorker::FreeLeftBehind(Task* task) {
  for (const base::NodeId& node : std::exchange(task->lost_on, {})) {
    for (int i = 1; i <= task->task_template->return_objects(); ++i) {
      const ObjectId id = base::ReturnObjectId(task->id, static_cast<uint32_t>(i));
      const ObjectTable::Entry* entry = objects_.Find(id);
      if (entry != nullptr && entry->state == ObjectState::kInStore) {
        const std::vector<base::NodeId> known = entry->Locations();
        if (std::find(known.begin(), known.end(), node) != known.end()) continue;
      }
      FreeStored(id, node);
    }
  }
}

void CoreWorker::FailWith(const TaskPtr& task, const BufferPtr& error) {
  if (!pending_.contains(task->id)) return;
  int count = task->task_template->return_objects();
  for (int i = 1; i <= count; ++i) {
    objects_.SetInline(base::ReturnObjectId(task->id, static_cast<uint32_t>(i)), error);
  }
  if (task->task_template->is_stream()) streams_.End(task->id, error);
  EndTask(task);
}

void CoreWorker::Fail(const TaskPtr& task, const SystemError& error) {
  mutex_.AssertHeld();
  SystemError of_task = error;
  of_task.details.emplace_back("task_name", task->task_template->name);
  FailWith(task, SerializeSystemError(of_task));
}

// The raylet knows how the worker ended once it has reaped it, within milliseconds. That says
// whether memory was short, when a task better waits before it runs again, and it says what error
// the others end with. A raylet that does not answer holds up none that may run again.
void CoreWorker::OnTasksLost(const AddressPtr& worker, const std::vector<TaskPtr>& tasks) {
  const auto lost = std::make_shared<std::vector<TaskPtr>>();
  for (const TaskPtr& task : tasks) {
    task->lost_on.push_back(worker->node_id);
    task->cancelled ? FailCancelled(task) : lost->push_back(task);
  }
  if (lost->empty()) return;
  const bool was_alone = !tasks_->RunsSomethingOn(worker->node_id);
  wire::v1::WorkerDeathRequest request;
  request.set_worker_id(worker->worker_id.BinaryString());
  if (worker->node_id != self_->node_id) request.set_node_id(worker->node_id.BinaryString());
  raylet_->Call(wire::v1::WORKER_DEATH, request,
                [this, lost, was_alone](const absl::StatusOr<net::Frame>& frame) {
                  mutex_.AssertHeld();
                  const std::vector<TaskPtr> undecided = std::exchange(*lost, {});
                  if (!shut_down_.load()) OnDeathKnown(undecided, DescribeDeath(frame), was_alone);
                });
  loop_.RunAfter(kVerdictPatience, [this, lost] {
    mutex_.AssertHeld();
    if (!shut_down_.load()) RunAgainUnexplained(lost);
  });
}

void CoreWorker::RunAgainUnexplained(const LostTasks& lost) {
  std::vector<TaskPtr> undecided;
  for (const TaskPtr& task : std::exchange(*lost, {})) {
    if (!task->TakeRetry()) {
      undecided.push_back(task);
      continue;
    }
    MANTA_LOG(kInfo, "task ", task->task_template->name,
              " lost its worker, and nobody says how that ended: attempt ", task->attempt);
    Resolve(task);
  }
  *lost = std::move(undecided);
}

void CoreWorker::OnDeathKnown(const std::vector<TaskPtr>& tasks, const SystemError& death,
                              bool was_alone) {
  const bool out_of_memory = death.code == kOutOfMemory;
  for (const TaskPtr& task : tasks) {
    if (task->cancelled) {
      FailCancelled(task);
    } else if (out_of_memory ? task->TakeMemoryRetry(was_alone) : task->TakeRetry()) {
      MANTA_LOG(kInfo, "task ", task->task_template->name, " lost its worker: attempt ",
                task->attempt, out_of_memory ? ", once memory has had time to be freed" : "");
      if (out_of_memory) {
        RunAgainLater(task);
      } else {
        Resolve(task);  // an argument may be lost with the worker's node
      }
    } else {
      Fail(task, death);
    }
  }
}

void CoreWorker::FailCancelled(const TaskPtr& task) {
  SystemError cancelled;
  cancelled.code = "TASK_CANCELLED";
  cancelled.message = "the task was cancelled, and its worker ended";
  Fail(task, cancelled);
}

// What took the memory may take it again: each time it gets longer to be gone.
void CoreWorker::RunAgainLater(const TaskPtr& task) {
  const int doublings = static_cast<int>(std::min<uint32_t>(task->memory_deaths - 1, 30));
  const absl::Duration delay =
      std::min(absl::Milliseconds(config_.task_oom_retry_delay_ms) * (int64_t{1} << doublings),
               kMemoryRetryDelayMax);
  delayed_[task->id] = loop_.RunAfter(delay, [this, task] {
    mutex_.AssertHeld();
    delayed_.erase(task->id);
    if (!shut_down_.load()) Resolve(task);
  });
}

bool CoreWorker::RemoveDelayed(const TaskId& task) {
  auto delayed = delayed_.extract(task);
  if (delayed.empty()) return false;
  loop_.Cancel(delayed.mapped());
  return true;
}

void CoreWorker::RecallTasks(const AddressPtr& worker, const std::vector<TaskId>& tasks) {
  mutex_.AssertHeld();
  PeerPtr peer = peers_->FindConnected(worker->worker_id);
  if (peer == nullptr) return;
  wire::v1::TaskIds message;
  for (const TaskId& id : tasks) message.add_task_ids(id.BinaryString());
  peer->connection->Send(wire::v1::RECALL_TASKS, message);
}

void CoreWorker::OnTasksRecalled(const PeerPtr& peer, const net::Frame& frame) {
  auto message = net::ParseMetadata<wire::v1::TaskIds>(frame);
  auto ids = message.ok() ? net::ParseIds<TaskId>(message->task_ids()) : message.status();
  if (!ids.ok()) return peer->connection->Close(ids.status());
  std::vector<TaskId> again;
  for (const TaskId& id : *ids) {
    auto it = pending_.find(id);
    if (it == pending_.end() || !WaitsForLost(*it->second)) {
      again.push_back(id);
    } else if (tasks_->TakeBack(peer->worker_id, id)) {
      Resolve(it->second);
    }
  }
  tasks_->OnTasksRecalled(peer->worker_id, again, base::MonotonicNanos());
  ScheduleTick();
}

// Whether an argument is gone that was there when the task was sent.
bool CoreWorker::WaitsForLost(const Task& task) {
  return std::any_of(task.refs.begin(), task.refs.end(), [this](const Task::TopLevelRef& ref) {
    mutex_.AssertHeld();
    return objects_.Find(ref.id)->state == ObjectState::kPending;
  });
}

void CoreWorker::Cancel(const ObjectId& id, bool force, bool recursive) {
  absl::MutexLock lock(&mutex_);
  Drain();
  TaskId task_id = base::TaskOf(id);
  auto it = pending_.find(task_id);
  if (it == pending_.end()) {
    // A borrowed reference: its owner knows the task.
    ObjectTable::Entry* entry = objects_.Find(id);
    if (entry == nullptr || entry->owned) return;
    if (PeerPtr peer = peers_->Get(entry->owner); peer != nullptr) {
      wire::v1::CancelTask message;
      message.set_task_id(task_id.BinaryString());
      message.set_force(force);
      message.set_recursive(recursive);
      peer->connection->Send(wire::v1::CANCEL_TASK, message);
    }
    return;
  }
  CancelOwned(it->second, force, recursive);
}

void CoreWorker::CancelOwned(TaskPtr task, bool force, bool recursive) {
  task->cancelled = true;
  task->retries_left = 0;
  wire::v1::CancelTask message;
  message.set_force(force && task->actor_id.IsNil());  // an actor's process has other calls
  message.set_recursive(recursive);
  FailOrTellWorker(task, std::move(message));
}

void CoreWorker::CancelUnlessStarted(const ObjectId& id) {
  absl::MutexLock lock(&mutex_);
  Drain();
  auto it = pending_.find(base::TaskOf(id));
  if (it == pending_.end()) return;
  wire::v1::CancelTask message;
  message.set_only_queued(true);
  FailOrTellWorker(it->second, std::move(message));
}

void CoreWorker::FailOrTellWorker(TaskPtr task, wire::v1::CancelTask message) {
  const bool of_actor = !task->actor_id.IsNil();
  const bool waits = task->unresolved > 0 ||
                     (of_actor ? actors_.RemoveQueued(task)
                               : tasks_->RemoveQueued(task->id) || RemoveDelayed(task->id));
  if (waits) {
    actors_.RemoveQueued(task);
    SystemError error;
    error.code = "TASK_CANCELLED";
    error.message = "the task was cancelled before it ran";
    return Fail(task, error);
  }
  auto worker = of_actor ? actors_.WorkerRunning(task) : tasks_->WorkerRunning(task->id);
  PeerPtr peer = worker.has_value() ? peers_->FindConnected((*worker)->worker_id) : nullptr;
  if (peer == nullptr) return;
  message.set_task_id(task->id.BinaryString());
  peer->connection->Send(wire::v1::CANCEL_TASK, message);
}

void CoreWorker::CancelChildren(const TaskId& parent, bool force) {
  std::vector<TaskPtr> children;
  for (const auto& [id, task] : pending_) {
    if (task->parent == parent) children.push_back(task);
  }
  for (const TaskPtr& child : children) CancelOwned(child, force, /*recursive=*/true);
}

}  // namespace ray::core
