#include "ray/bindings/execution.h"

#include <pthread.h>
#include <pybind11/stl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/clock.h"
#include "ray/bindings/call_arguments.h"
#include "ray/bindings/core_object.h"
#include "ray/bindings/dropped_objects.h"
#include "ray/bindings/errors.h"
#include "ray/bindings/gil.h"
#include "ray/bindings/python_state.h"
#include "ray/bindings/value_codec.h"
#include "ray/bindings/waiting.h"

namespace ray::bindings {

using core::IncomingCallPtr;
using core::TaskStatus;

namespace {

thread_local const RunningTask* running_task = nullptr;

class RunningScope {
 public:
  explicit RunningScope(const RunningTask* task) : outer_(std::exchange(running_task, task)) {}
  ~RunningScope() { running_task = outer_; }

 private:
  const RunningTask* const outer_;
};

RunningTask ContextOf(const core::IncomingCall& call) {
  RunningTask task;
  task.task_id = call.task_id;
  task.actor_id = base::ActorOf(call.task_id);
  task.task_template = call.task_template;
  task.attempt = call.attempt;
  task.call = &call;
  return task;
}

py::object TaskCancelled(const core::IncomingCall& call) {
  core::SystemError error;
  error.code = "TASK_CANCELLED";
  error.message = absl::StrCat("the task ", call.task_template->name, " was cancelled");
  error.details = {{"task_id", call.task_id.Hex()}};
  return MakeSystemError(error);
}

// Tells the worker which devices it may use: their ids by resource, and the variables that confine
// it to them. `grant` is a LeaseInstances or a CreateActor.
template <typename Grant>
void UseDevices(const py::object& callbacks, const Grant& grant) {
  py::dict ids;
  py::dict environment;
  for (const auto& [resource, instances] : grant.instances()) {
    ids[py::str(resource)] =
        std::vector<std::string>(instances.ids().begin(), instances.ids().end());
  }
  for (const auto& [name, value] : grant.environment()) environment[py::str(name)] = value;
  callbacks.attr("use_devices")(ids, environment);
}

size_t ReturnCount(const core::ReceivedTemplate& of) {
  return of.num_returns < 0 ? 1 : static_cast<size_t>(of.num_returns);
}

}  // namespace

const RunningTask* CurrentTask() { return running_task; }

// ----------------------------------------------------------------------------------------------
// loops

py::object Execution::Serve(const py::object& callbacks) {
  callbacks_ = callbacks;
  InstallCancelHandler();
  SignalCheck interrupted;
  while (!session_->exit_requested() && !leaving_.has_value()) {
    IncomingCallPtr call;
    if (mode_ == Mode::kThreads) {
      // The actor's own threads run its calls; this one only waits for the end.
      GilRelease release;
      session_->WaitForExit(interrupted);
    } else {
      GilRelease release;
      call = session_->NextCall(interrupted);
    }
    if (PyErr_Occurred() != nullptr)
      PyErr_Clear();  // an interrupt that was meant for a call that has ended
    if (call == nullptr) continue;
    if (!Run(call)) break;
    if (mode_ == Mode::kAsyncio) return py::str("asyncio");
  }
  {
    GilRelease release;
    if (leaving_.has_value()) session_->AnnounceExit(true, *leaving_);
    session_->FlushReplies();
  }
  return py::none();
}

void Execution::ServeThread() {
  SignalCheck interrupted;
  while (!session_->exit_requested()) {
    IncomingCallPtr call;
    {
      GilRelease release;
      call = session_->NextCall(interrupted);
    }
    if (call != nullptr && !Run(call)) break;
  }
}

void Execution::ExitActor(const std::string& reason) {
  leaving_ = reason;
  if (mode_ == Mode::kMainThread) return;  // Serve ends after this call
  GilRelease release;
  session_->AnnounceExit(true, reason);
  session_->RequestExit();
}

bool Execution::Run(const IncomingCallPtr& call) {
  ReleaseDroppedObjects();
  if (call->caller == nullptr) {
    Create(call);
    return true;
  }
  UseNewDevices();
  CountCall(*call->task_template);
  RunningTask context = ContextOf(*call);
  RunningScope scope(&context);
  bool go_on = RunToReply(call);
  if (call->cancelled) {
    // The interrupt may have come when the function had already returned: it must not hit the next
    // one.
    if (PyErr_CheckSignals() != 0) PyErr_Clear();
  }
  return go_on && !leaving_.has_value();
}

void Execution::UseNewDevices() {
  auto instances = session_->TakeInstances();
  if (instances.has_value()) UseDevices(callbacks_, *instances);
}

// The call that reaches max_calls is the last one of this process, of any function.
void Execution::CountCall(const core::ReceivedTemplate& of) {
  if (of.max_calls == 0 || ++calls_[of.function] < of.max_calls) return;
  session_->RetireAfterThisCall();
}

// Every way out of here either answers the call or ends the process.
bool Execution::RunToReply(const IncomingCallPtr& call) {
  py::object exception;
  try {
    if (call->argument_error != nullptr) {
      auto cause = DecodeError(call->argument_error->view());
      ReplyError(call, State().hooks.attr("dependency_error")(call->task_template->name, cause),
                 false);
      return true;
    }
    py::object value = CallWithArguments(*call);
    if (leaving_.has_value()) {
      session_->Abandon(call);
      return false;
    }
    if (call->cancelled) {  // it went on, but nobody wants what it made
      ReplyException(call, TaskCancelled(*call));
    } else if (call->task_template->num_returns < 0) {
      RunStream(call, value);
    } else {
      ReplyValue(call, value);
    }
    return true;
  } catch (py::error_already_set& failure) {
    exception = ExceptionOf(failure);
  }
  if (LeaveOnSystemExit(call, exception)) return false;
  ReplyException(call, std::move(exception));
  return true;
}

// The arguments end with the call: a reference inside them that nobody kept need not be registered
// with its owner.
py::object Execution::CallWithArguments(const core::IncomingCall& call) {
  py::object function = CallableOf(call);  // first: it enters the job, whose modules they may need
  UnpackedArguments arguments = UnpackArguments(call);
  PyObject* result = PyObject_Call(function.ptr(), arguments.args.ptr(), arguments.kwargs.ptr());
  if (result == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

// SystemExit ends the process: on purpose for an actor, as a crash for a task (its caller decides
// about retries).
bool Execution::LeaveOnSystemExit(const IncomingCallPtr& call, const py::object& exception) {
  bool system_exit =
      py::isinstance(exception, py::reinterpret_borrow<py::object>(PyExc_SystemExit));
  if (!system_exit && !leaving_.has_value()) return false;
  session_->Abandon(call);
  bool of_actor = static_cast<bool>(instance_);
  if (of_actor && !leaving_.has_value()) {
    ExitActor(absl::StrCat("The actor exited: ", call->task_template->name, " raised SystemExit."));
  }
  GilRelease release;
  session_->FlushReplies();
  session_->RequestExit();
  return true;
}

void Execution::ReplyException(const IncomingCallPtr& call, py::object exception) {
  auto hooks = State().hooks;
  py::object actor_repr = py::none();
  bool interrupted =
      py::isinstance(exception, py::reinterpret_borrow<py::object>(PyExc_KeyboardInterrupt));
  if (call->cancelled && interrupted) exception = TaskCancelled(*call);
  const core::ReceivedTemplate& of = *call->task_template;
  bool retryable = false;
  try {
    if (instance_) actor_repr = py::repr(instance_);
    retryable = !call->cancelled && of.retry_exceptions &&
                hooks.attr("is_retryable")(exception, py::bytes(of.exception_types)).cast<bool>();
    ReplyError(call, hooks.attr("task_error")(exception, of.name, actor_repr), retryable);
  } catch (py::error_already_set& failure) {
    // Even describing the error failed (a repr that raises): say that much.
    py::object plain = py::reinterpret_borrow<py::object>(PyExc_RuntimeError)(
        absl::StrCat(of.name, " failed, and so did describing its error: ", failure.what()));
    ReplyError(call, hooks.attr("task_error")(plain, of.name, py::none()), retryable);
  }
}

// Python looks for the group of each child from then on.
void Execution::NoteCapture(const wire::v1::SchedulingStrategy& strategy) {
  if (strategy.bundle().capture_child_tasks()) callbacks_.attr("capture_child_tasks")();
}

py::object Execution::CallableOf(const core::IncomingCall& call) {
  const core::ReceivedTemplate& of = *call.task_template;
  if (of.loaded != nullptr) {
    return py::reinterpret_borrow<py::object>(static_cast<PyObject*>(of.loaded.get()));
  }
  py::object callable;
  if (of.actor_id.IsNil()) {
    wire::v1::SchedulingStrategy strategy;
    strategy.ParseFromString(of.strategy);
    NoteCapture(strategy);
    callable = callbacks_.attr("load_function")(py::bytes(of.function));
  } else {
    if (!of.concurrency_group.empty() && !groups_.contains(of.concurrency_group)) {
      throw py::value_error(
          absl::StrCat("the actor has no concurrency group '", of.concurrency_group, "'"));
    }
    callable = callbacks_.attr("get_method")(instance_, of.function);
  }
  of.loaded = KeepObject(callable);
  return callable;
}

// ----------------------------------------------------------------------------------------------
// replies

core::ResultValue Execution::MakeResult(const IncomingCallPtr& call, size_t index,
                                        const py::object& value) {
  EncodedValue encoded(value);
  core::ResultValue result;
  result.contained = encoded.references().Contained();
  if (encoded.size() <= static_cast<size_t>(session_->config().inline_object_max_bytes)) {
    result.inline_value = core::Serialize(encoded.parts());
    return result;
  }
  result.stored_bytes = encoded.size();
  auto id = base::ReturnObjectId(call->task_id, static_cast<uint32_t>(index + 1));
  absl::StatusOr<base::ObjectId> stored = id;
  {
    core::ValueParts parts = encoded.parts();
    GilRelease release;
    stored = session_->PutInStore(parts, id, call->caller->address,
                                  absl::StrCat("return of ", call->task_template->name), {},
                                  [] { return false; });
  }
  StoredOrRaise(stored.status());
  return result;
}

std::vector<py::object> Execution::SplitReturns(const IncomingCallPtr& call,
                                                const py::object& value) {
  const core::ReceivedTemplate& of = *call->task_template;
  if (of.num_returns == 0) return {};
  if (of.num_returns < 0 || of.num_returns == 1) return {value};
  py::list values = State().hooks.attr("check_returns")(value, of.num_returns, of.name);
  std::vector<py::object> split;
  for (py::handle item : values) split.push_back(py::reinterpret_borrow<py::object>(item));
  return split;
}

void Execution::ReplyValue(const IncomingCallPtr& call, const py::object& value) {
  std::vector<core::ResultValue> results;
  std::vector<py::object> values = SplitReturns(call, value);
  for (size_t i = 0; i < values.size(); ++i) results.push_back(MakeResult(call, i, values[i]));
  session_->Reply(call, TaskStatus::kOk, std::move(results));
}

core::ResultValue Execution::MakeError(const py::object& exception) {
  core::ResultValue result;
  EncodedValue encoded = EncodedValue::Error(exception);
  result.contained = encoded.references().Contained();
  result.inline_value = core::Serialize(encoded.parts());
  return result;
}

void Execution::ReplyError(const IncomingCallPtr& call, const py::object& exception,
                           bool retryable) {
  std::vector<core::ResultValue> results(ReturnCount(*call->task_template), MakeError(exception));
  session_->Reply(call, retryable ? TaskStatus::kRetryableError : TaskStatus::kError,
                  std::move(results));
}

// ----------------------------------------------------------------------------------------------
// actors

void Execution::Create(const IncomingCallPtr& call) {
  creation_ = session_->creation_request();
  const wire::v1::ActorSpec& spec = creation_->spec();
  std::string creation_error;
  bool ok = false;
  bool is_asyncio = false;
  int default_limit = 1;
  std::vector<std::pair<std::string, int>> limits;
  auto description = std::make_shared<core::ReceivedTemplate>();
  description->name = absl::StrCat(spec.class_name(), ".__init__");
  RunningTask context;
  context.task_id = call->task_id;
  context.actor_id = base::ActorOf(call->task_id);
  context.task_template = description;
  RunningScope scope(&context);
  try {
    if (call->argument_error != nullptr) {
      RaisePython(State().hooks.attr("dependency_error")(
          description->name, DecodeError(call->argument_error->view())));
    }
    for (const core::IncomingCall::Reference& reference : call->references) {
      py::object error;
      DecodeValue(reference.value, &error);
      if (error) RaisePython(State().hooks.attr("dependency_error")(description->name, error));
    }
    UseDevices(callbacks_, *creation_);
    callbacks_.attr("enter_job")();  // before anything of the user's is unpickled
    UnpackedArguments arguments = UnpackArguments(*call);
    py::dict info;
    info["actor_id"] = py::bytes(spec.actor_id());
    info["class_name"] = spec.class_name();
    info["name"] = spec.name();
    info["namespace"] = spec.actor_namespace();
    info["max_concurrency"] = spec.concurrency_max();
    info["is_asyncio"] = spec.is_asyncio();
    info["num_restarts"] = creation_->num_restarts();
    info["handle_blob"] = py::bytes(spec.handle_blob());
    NoteCapture(spec.strategy());
    py::tuple created = callbacks_.attr("create_actor")(py::bytes(spec.class_blob()),
                                                        arguments.args, arguments.kwargs, info);
    instance_ = created[0];
    is_asyncio = created[1].cast<bool>();
    for (auto [name, limit] : created[2].cast<py::dict>()) {
      auto group = name.cast<std::string>();
      groups_.insert(group);
      if (group.empty()) {
        default_limit = limit.cast<int>();
      } else {
        limits.emplace_back(group, limit.cast<int>());
      }
    }
    ok = true;
  } catch (py::error_already_set& failure) {
    py::object error =
        State().hooks.attr("task_error")(ExceptionOf(failure), description->name, py::none());
    EncodedValue encoded = EncodedValue::Error(error);
    creation_error = std::string(core::Serialize(encoded.parts())->view());
  }
  if (ok && is_asyncio) {
    mode_ = Mode::kAsyncio;
  } else if (ok && (default_limit > 1 || !limits.empty())) {
    mode_ = Mode::kThreads;
  }
  session_->ReplyCreation(ok, creation_error, default_limit, limits);
}

// ----------------------------------------------------------------------------------------------
// event loops

// A call that an event loop runs; see Call in _raylet.pyi.
struct Execution::AsyncCall {
  Execution* execution;
  IncomingCallPtr call;
  py::object method;
  py::tuple args;
  py::dict kwargs;
  bool ended = false;
  uint64_t items = 0;  // sent so far

  // True the first time.
  bool End() {
    execution->async_calls_.erase(call->task_id);
    return !std::exchange(ended, true);
  }
  void Reply(const py::object& value) {
    if (!End()) return;
    if (call->cancelled) return execution->ReplyException(call, TaskCancelled(*call));
    try {
      execution->ReplyValue(call, value);
    } catch (py::error_already_set& failure) {
      execution->ReplyException(call, ExceptionOf(failure));
    }
  }
  void SendItem(const py::object& item) {
    if (!ended) execution->SendYield(call, &items, item);
  }
  bool HasRoom() const { return execution->session_->HasStreamRoom(*call, items); }
  void EndStream() {
    if (End()) execution->EndStream(call, items);
  }
  void Fail(const py::object& error) {
    if (!End()) return;
    if (execution->LeaveOnSystemExit(call, error)) return;
    bool was_cancelled = call->cancelled;
    execution->ReplyException(call, was_cancelled ? TaskCancelled(*call) : error);
  }
};

py::tuple Execution::AwaitEvents(const py::object& timeout) {
  const int64_t deadline = DeadlineAfter(timeout);
  SignalCheck interrupted;
  core::CoreWorker::Events events;
  if (deadline <= base::MonotonicNanos()) {
    events = session_->AwaitEvents(deadline, interrupted);  // does not block
  } else {
    GilRelease release;
    events = session_->AwaitEvents(deadline, interrupted);
  }
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  return py::make_tuple(events.calls, events.other_loop);
}

py::object Execution::TakeCalls(int limit) {
  ReleaseDroppedObjects();
  py::list taken;
  for (const base::TaskId& id : session_->TakeCancelled()) {
    auto it = async_calls_.find(id);
    if (it != async_calls_.end()) taken.append(it->second);
  }
  while (taken.size() < static_cast<size_t>(limit)) {
    IncomingCallPtr call = session_->TakeCall();
    if (call == nullptr) break;
    RunningTask context = ContextOf(*call);
    RunningScope scope(&context);
    try {
      if (call->argument_error != nullptr) {
        RaisePython(State().hooks.attr("dependency_error")(
            call->task_template->name, DecodeError(call->argument_error->view())));
      }
      UnpackedArguments arguments = UnpackArguments(*call);
      auto made = std::make_unique<AsyncCall>(
          AsyncCall{this, call, CallableOf(*call), arguments.args, arguments.kwargs});
      py::object wrapped = py::cast(std::move(made));
      async_calls_[call->task_id] = wrapped;
      taken.append(wrapped);
    } catch (py::error_already_set& failure) {
      ReplyException(call, ExceptionOf(failure));
    }
  }
  if (!session_->exit_requested()) return taken;
  session_->FlushReplies();
  return py::none();
}

void Execution::InstallCancelHandler() {
  pthread_t main_thread = pthread_self();
  session_->SetCancelHandler([this, main_thread](core::IncomingCall& call) {
    // A task on the main thread is interrupted as Ctrl-C would; calls of actors end by themselves
    // or by their loop.
    call.interruptible = mode_ == Mode::kMainThread && call.caller != nullptr &&
                         call.task_template->actor_id.IsNil();
    if (call.interruptible) pthread_kill(main_thread, SIGINT);
  });
}

base::TaskId SubmittingTask() {
  if (running_task != nullptr) return running_task->task_id;
  if (!State().current_call) return base::TaskId::Nil();
  PyObject* call = nullptr;
  if (PyContextVar_Get(State().current_call.ptr(), Py_None, &call) < 0) {
    throw py::error_already_set();
  }
  auto owned = py::reinterpret_steal<py::object>(call);
  if (owned.is_none()) return base::TaskId::Nil();
  return owned.cast<Execution::AsyncCall&>().call->task_id;
}

void RegisterExecution(py::module_& module) {
  using AsyncCall = Execution::AsyncCall;
  py::class_<AsyncCall>(module, "Call")
      .def_readonly("method", &AsyncCall::method)
      .def_readonly("args", &AsyncCall::args)
      .def_readonly("kwargs", &AsyncCall::kwargs)
      .def_property_readonly("name",
                             [](const AsyncCall& self) { return self.call->task_template->name; })
      .def_property_readonly(
          "task_id",
          [](const AsyncCall& self) { return py::bytes(self.call->task_id.BinaryString()); })
      .def_property_readonly("cancelled",
                             [](const AsyncCall& self) { return self.call->cancelled.load(); })
      .def_property_readonly(
          "is_stream",
          [](const AsyncCall& self) { return self.call->task_template->num_returns < 0; })
      .def("reply", &AsyncCall::Reply, py::arg("value"))
      .def("send_item", &AsyncCall::SendItem, py::arg("item"))
      .def("has_room", &AsyncCall::HasRoom)
      .def("end_stream", &AsyncCall::EndStream)
      .def("fail", &AsyncCall::Fail, py::arg("error"));
}

}  // namespace ray::bindings
