#include "ray/bindings/core_object.h"

#include <pybind11/stl.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/base/fixed_point.h"
#include "ray/bindings/call_arguments.h"
#include "ray/bindings/errors.h"
#include "ray/bindings/gil.h"
#include "ray/bindings/object_ref.h"
#include "ray/bindings/object_stream.h"
#include "ray/bindings/python_state.h"
#include "ray/bindings/scheduling.h"
#include "ray/bindings/value_codec.h"
#include "ray/bindings/waiting.h"

namespace ray::bindings {

using core::CoreWorker;
using net::LoopDriver;
using Session = Core::Session;

std::unique_ptr<Core> Core::Connect(const CoreWorker::Options& options) {
  absl::StatusOr<Session> worker = absl::InternalError("");
  {
    GilRelease release;
    worker = CoreWorker::Connect(options);
  }
  return std::make_unique<Core>(ValueOrRaise(std::move(worker)), options.kind == wire::v1::DRIVER);
}

void Core::Shutdown() {
  GilRelease release;
  session_->Shutdown();
}

void Core::RequireLive() const {
  if (session_->is_shut_down()) {
    RaiseSystemError("NOT_CONNECTED", "this session has ended; call ray.init() again");
  }
}

// -- objects

py::object Core::Put(const py::object& value) {
  RequireLive();
  EncodedValue encoded(value);
  auto contained = encoded.references().Contained();
  if (encoded.size() <= static_cast<size_t>(session_->config().inline_object_max_bytes)) {
    auto id = session_->PutInline(core::Serialize(encoded.parts()), std::move(contained));
    return WrapReference(session_, id, nullptr);
  }
  SignalCheck interrupted;
  absl::StatusOr<base::ObjectId> stored = base::ObjectId();
  {
    core::ValueParts parts = encoded.parts();
    GilRelease release;
    stored = session_->PutInStore(parts, base::ObjectId::Nil(), session_->self_address(), "put",
                                  std::move(contained), interrupted);
  }
  StoredOrRaise(stored.status());
  return WrapReference(session_, *stored, nullptr);
}

py::object Core::GetOne(const py::object& ref, const py::object& timeout) {
  const base::ObjectId& id = IdOf(ref.ptr());
  if (core::BufferPtr value = session_->TryGetInline(id); value != nullptr) {
    return DecodeValue({std::move(value), nullptr});
  }
  return DecodeValue(Fetch({&id, 1}, timeout)[0]);
}

py::list Core::Get(const py::list& refs, const py::object& timeout) {
  std::vector<base::ObjectId> ids;
  ids.reserve(refs.size());
  for (py::handle ref : refs) ids.push_back(IdOf(ref.ptr()));
  std::vector<core::ArgumentBytes> values = Fetch(ids, timeout);
  py::list out(values.size());
  for (size_t i = 0; i < values.size(); ++i) out[i] = DecodeValue(values[i]);
  return out;
}

py::tuple Core::Wait(const py::list& waitables, int64_t num_returns, const py::object& timeout,
                     bool fetch_local) {
  const py::tuple refs(waitables);  // another thread may change the list meanwhile
  const std::vector<core::HeldReference*> held = HeldIn(refs);
  if (num_returns < 1 || static_cast<size_t>(num_returns) > held.size()) {
    throw py::value_error(absl::StrCat("num_returns must be between 1 and ", held.size(),
                                       ", the number of ObjectRefs, but is ", num_returns, "."));
  }
  std::vector<bool> ready;
  int64_t deadline = DeadlineAfter(timeout);
  SignalCheck interrupted;
  absl::StatusOr<LoopDriver::Outcome> outcome = LoopDriver::Outcome::kDone;
  {
    GilRelease release;
    outcome = session_->Wait(held, static_cast<size_t>(num_returns), fetch_local, deadline,
                             interrupted, &ready);
  }
  if (!outcome.ok()) throw py::value_error(std::string(outcome.status().message()));
  if (*outcome == LoopDriver::Outcome::kInterrupted) RaiseInterrupted(*session_);
  const auto ready_count = static_cast<size_t>(std::count(ready.begin(), ready.end(), true));
  py::list yes(ready_count), no(held.size() - ready_count);
  Py_ssize_t next_yes = 0, next_no = 0;
  for (size_t i = 0; i < held.size(); ++i) {
    PyObject* ref = PyTuple_GET_ITEM(refs.ptr(), static_cast<Py_ssize_t>(i));
    Py_INCREF(ref);
    if (ready[i]) {
      PyList_SET_ITEM(yes.ptr(), next_yes++, ref);
    } else {
      PyList_SET_ITEM(no.ptr(), next_no++, ref);
    }
  }
  return py::make_tuple(yes, no);
}

py::object Core::Defer(const std::shared_ptr<ReadyQueue>& queue, uint64_t wanted, uint64_t gone) {
  RequireLive();
  CoreWorker::DeferredEvents events;
  if (queue != nullptr) {
    events.wanted = [queue, wanted] { queue->Push(wanted); };
    events.gone = [queue, gone] { queue->Push(gone); };
  }
  auto id = session_->Defer(std::move(events));
  return WrapReference(session_, id, nullptr);
}

void Core::Fulfil(const py::bytes& object_id, const py::object& value, bool is_error) {
  RequireLive();
  auto id = ValueOrRaise(base::ObjectId::FromBinary(std::string_view(object_id)));
  const EncodedValue encoded = is_error ? EncodedValue::Error(value) : EncodedValue(value);
  auto contained = encoded.references().Contained();
  SignalCheck interrupted;
  absl::Status stored;
  {
    core::ValueParts parts = encoded.parts();
    GilRelease release;
    stored = session_->Fulfil(id, parts, std::move(contained), "deferred", interrupted);
  }
  StoredOrRaise(stored);
}

bool Core::NotifyWhenReady(const py::object& ref, const std::shared_ptr<ReadyQueue>& queue,
                           uint64_t token, bool flush) {
  return !session_->NotifyWhenReady(
      IdOf(ref.ptr()), [queue, token] { queue->Push(token); }, flush);
}

std::vector<uint64_t> Core::AwaitReady(const std::shared_ptr<ReadyQueue>& queue) {
  GilRelease release;
  return queue->WaitDriving(session_.get());
}

py::dict Core::ReferenceCounts() {
  py::dict out;
  for (const auto& counts : session_->CountReferences()) {
    out[py::str(counts.id.Hex())] = py::make_tuple(counts.local, counts.other);
  }
  return out;
}

// -- tasks

py::object Core::SubmitTask(const PyTaskTemplate& of, const py::tuple& args,
                            const py::object& kwargs) {
  RequireLive();
  core::CallArguments arguments = BuildArguments(session_, of.task_template->name, args, kwargs);
  base::TaskId task =
      session_->SubmitTask(of.task_template, std::move(arguments), SubmittingTask());
  return WrapReturns(session_, task, of.task_template->num_returns);
}

void Core::Cancel(const py::object& ref, bool force, bool recursive) {
  session_->Cancel(IdOf(ref.ptr()), force, recursive);
}

void Core::CancelUnlessStarted(const py::object& ref) {
  session_->CancelUnlessStarted(IdOf(ref.ptr()));
}

std::string Core::WhyPending(const py::object& ref) {
  const base::ObjectId& id = IdOf(ref.ptr());
  return BlockingCall(
      [&](const SignalCheck& interrupted) { return session_->WhyPending(id, interrupted); });
}

void Core::ReportEnvironmentError(const std::string& message) {
  GilRelease release;
  session_->ReportEnvironmentError(message);
}

py::dict Core::CurrentTask() {
  py::dict out;
  const RunningTask* task = bindings::CurrentTask();
  auto job = session_->CurrentJob();
  py::dict resources;
  if (task == nullptr) {
    out["task_id"] = py::bytes(base::DriverTaskId(job).BinaryString());
    out["task_name"] = "";
    out["actor_id"] = py::bytes();
    out["attempt"] = 0;
  } else {
    out["task_id"] = py::bytes(task->task_id.BinaryString());
    out["task_name"] = task->task_template->name;
    out["actor_id"] = py::bytes();
    out["attempt"] = task->attempt;
    out["cancelled"] = task->call != nullptr && task->call->cancelled.load();
    if (const auto& callable = task->task_template->loaded; callable != nullptr) {
      out["function"] = py::reinterpret_borrow<py::object>(static_cast<PyObject*>(callable.get()));
    }
    for (const auto& [name, raw] : task->task_template->resources) {
      resources[py::str(name)] = base::FixedPoint::FromRaw(raw).ToDouble();
    }
  }
  out["placement_group"] = py::none();
  if (task != nullptr && !task->task_template->strategy.empty()) {
    wire::v1::SchedulingStrategy strategy;
    strategy.ParseFromString(task->task_template->strategy);
    out["placement_group"] = PlacementGroupOf(strategy);
  }
  out["num_restarts"] = 0;
  if (const auto& creation = execution_.creation(); creation != nullptr) {
    out["actor_id"] = py::bytes(creation->spec().actor_id());
    out["num_restarts"] = creation->num_restarts();
    resources = ResourceDict(creation->spec().lifetime_resources());
    out["placement_group"] = PlacementGroupOf(creation->spec().strategy());
  }
  out["resources"] = resources;
  return out;
}

void Core::RequireOwn(PyObject* ref) const {
  if (!IsObjectRef(ref)) {
    throw py::type_error(absl::StrCat("an ObjectRef is needed, not a ", Py_TYPE(ref)->tp_name));
  }
  RequireSession(session_, ref);
}

const base::ObjectId& Core::IdOf(PyObject* ref) const {
  RequireLive();
  RequireOwn(ref);
  return AsObjectRef(ref).id();
}

std::vector<core::HeldReference*> Core::HeldIn(const py::tuple& refs) const {
  RequireLive();
  std::vector<core::HeldReference*> held;
  held.reserve(refs.size());
  for (py::handle ref : refs) {
    RequireOwn(ref.ptr());
    held.push_back(AsObjectRef(ref.ptr()).held());
  }
  return held;
}

std::vector<core::ArgumentBytes> Core::Fetch(absl::Span<const base::ObjectId> ids,
                                             const py::object& timeout) {
  int64_t deadline = DeadlineAfter(timeout);
  const base::TaskId waiter = SubmittingTask();
  SignalCheck interrupted;
  CoreWorker::GetResult result;
  {
    GilRelease release;
    result = session_->Get(ids, deadline, interrupted, waiter);
  }
  if (result.outcome == LoopDriver::Outcome::kDone) return std::move(result.values);
  // A timeout must not hide that one of them has failed already.
  for (const core::ArgumentBytes& value : result.values) {
    if (value.inline_bytes != nullptr) DecodeValue(value);
  }
  if (result.outcome == LoopDriver::Outcome::kInterrupted) RaiseInterrupted(*session_);
  RaiseSystemError("GET_TIMEOUT",
                   absl::StrCat("Get timed out: ", ids.size(),
                                ids.size() == 1 ? " object was not ready in time."
                                                : " objects were not all ready in time."));
}

py::object WrapReturns(const Session& session, const base::TaskId& task, int num_returns) {
  if (num_returns == 0) return py::none();
  if (num_returns == core::kStreamingReturns) {
    return State().hooks.attr("stream_reader")(std::make_unique<ObjectStream>(session, task));
  }
  if (num_returns == core::kDynamicReturns || num_returns == 1) {
    return WrapReference(session, base::ReturnObjectId(task, 1), nullptr);
  }
  py::list refs;
  for (int i = 1; i <= num_returns; ++i) {
    refs.append(
        WrapReference(session, base::ReturnObjectId(task, static_cast<uint32_t>(i)), nullptr));
  }
  return refs;
}

namespace {

CoreWorker::Options DriverOptions(const std::string& endpoint, const std::string& job_namespace,
                                  const std::string& entrypoint, bool log_to_driver,
                                  const std::string& log_file) {
  CoreWorker::Options options;
  options.raylet_endpoint = endpoint;
  options.kind = wire::v1::DRIVER;
  options.job_namespace = job_namespace;
  options.entrypoint = entrypoint;
  options.log_to_driver = log_to_driver;
  options.log_file = log_file;
  return options;
}

CoreWorker::Options WorkerOptions(const std::string& endpoint, uint64_t startup_token,
                                  const std::string& log_file) {
  CoreWorker::Options options;
  options.raylet_endpoint = endpoint;
  options.startup_token = startup_token;
  options.log_file = log_file;
  // A worker without its raylet has no reason to live, and nobody who would end it.
  options.on_raylet_lost = [] { _exit(1); };
  return options;
}

template <typename Read>
auto Identity(Read read) {
  return [read](const Core& self) { return read(self.session()->identity()); };
}

void RegisterIdentity(py::class_<Core>& type) {
  using Id = CoreWorker::Identity;
  type.def_property_readonly(
          "node_id", Identity([](const Id& id) { return py::bytes(id.node_id.BinaryString()); }))
      .def_property_readonly("worker_id", Identity([](const Id& id) {
                               return py::bytes(id.worker_id.BinaryString());
                             }))
      .def_property_readonly(
          "job_id",
          [](const Core& self) { return py::bytes(self.session()->CurrentJob().BinaryString()); })
      .def_property_readonly("node_ip", Identity([](const Id& id) { return id.node_ip; }))
      .def_property_readonly("session_dir", Identity([](const Id& id) { return id.session_dir; }))
      .def_property_readonly("gcs_address", Identity([](const Id& id) { return id.gcs_address; }))
      .def_property_readonly("namespace", Identity([](const Id& id) { return id.job_namespace; }))
      .def_property_readonly("config", Identity([](const Id& id) { return id.config; }))
      .def_property_readonly("is_driver", &Core::is_driver);
}

void RegisterWorkerSide(py::class_<Core>& type) {
  type.def("serve", [](Core& self,
                       const py::object& callbacks) { return self.execution().Serve(callbacks); })
      .def("serve_thread", [](Core& self) { self.execution().ServeThread(); })
      .def("watch_other_loop", [](Core& self, int fd) { self.session()->WatchOtherLoop(fd); })
      .def("await_events",
           [](Core& self, const py::object& timeout) {
             return self.execution().AwaitEvents(timeout);
           })
      .def("take_calls", [](Core& self, int limit) { return self.execution().TakeCalls(limit); })
      .def("exit_actor",
           [](Core& self, const std::string& reason) { self.execution().ExitActor(reason); })
      .def("current_task", &Core::CurrentTask);
}

}  // namespace

void RegisterCore(py::module_& module) {
  module.def(
      "set_current_call_variable",
      [](const py::object& variable) { State().current_call = variable; }, py::arg("variable"));
  py::class_<ReadyQueue, std::shared_ptr<ReadyQueue>>(module, "ReadyQueue")
      .def(py::init<>())
      .def("fileno", &ReadyQueue::fd)
      .def("drain", &ReadyQueue::Drain)
      .def("wait", &ReadyQueue::Wait, py::call_guard<GilRelease>())
      .def("close", &ReadyQueue::Close);
  py::class_<Core> type(module, "Core");
  type.def_static(
          "connect_driver",
          [](const std::string& endpoint, const std::string& job_namespace,
             const std::string& entrypoint, bool log_to_driver, const std::string& log_file) {
            return Core::Connect(
                DriverOptions(endpoint, job_namespace, entrypoint, log_to_driver, log_file));
          },
          py::arg("raylet_endpoint"), py::kw_only(), py::arg("namespace"), py::arg("entrypoint"),
          py::arg("log_to_driver"), py::arg("log_file"))
      .def_static(
          "connect_worker",
          [](const std::string& endpoint, uint64_t startup_token, const std::string& listen_host,
             const std::string& log_file) {
            CoreWorker::Options options = WorkerOptions(endpoint, startup_token, log_file);
            options.listen_host = listen_host;
            return Core::Connect(options);
          },
          py::arg("raylet_endpoint"), py::kw_only(), py::arg("startup_token"),
          py::arg("listen_host"), py::arg("log_file"))
      .def_static(
          "connect_setup",
          [](const std::string& endpoint, uint64_t startup_token, const std::string& log_file) {
            CoreWorker::Options options = WorkerOptions(endpoint, startup_token, log_file);
            options.kind = wire::v1::WORKER_SETUP;
            return Core::Connect(options);
          },
          py::arg("raylet_endpoint"), py::kw_only(), py::arg("startup_token"), py::arg("log_file"))
      .def_static(
          "connect_tool",
          [](const std::string& endpoint) {
            CoreWorker::Options options;
            options.raylet_endpoint = endpoint;
            options.kind = wire::v1::TOOL;
            return Core::Connect(options);
          },
          py::arg("raylet_endpoint"))
      .def("report_environment_error", &Core::ReportEnvironmentError, py::arg("message"))
      .def("shutdown", &Core::Shutdown)
      .def("put", &Core::Put)
      .def("get", &Core::Get, py::arg("refs"), py::arg("timeout"))
      .def("get_one", &Core::GetOne, py::arg("ref"), py::arg("timeout"))
      .def("wait", &Core::Wait, py::arg("waitables"), py::arg("num_returns"), py::arg("timeout"),
           py::arg("fetch_local"))
      .def("notify_when_ready", &Core::NotifyWhenReady, py::arg("ref"), py::arg("queue"),
           py::arg("token"), py::arg("flush"))
      .def("defer", &Core::Defer, py::arg("queue"), py::arg("wanted") = 0, py::arg("gone") = 0)
      .def("fulfil", &Core::Fulfil, py::arg("object_id"), py::arg("value"),
           py::arg("is_error") = false)
      .def("await_ready", &Core::AwaitReady, py::arg("queue"))
      .def("ref_counts", &Core::ReferenceCounts)
      .def("submit_task", &Core::SubmitTask, py::arg("template"), py::arg("args"),
           py::arg("kwargs"))
      .def("why_pending", &Core::WhyPending, py::arg("ref"))
      .def("cancel", &Core::Cancel, py::arg("ref"), py::arg("force"), py::arg("recursive"))
      .def("cancel_unless_started", &Core::CancelUnlessStarted, py::arg("ref"));
  RegisterActors(module, type);
  RegisterCluster(type);
  RegisterIdentity(type);
  RegisterWorkerSide(type);
  module.def(
      "set_current_core",
      [](const py::object& core) {
        State().current = core.is_none() ? nullptr : core.cast<Core&>().session();
      },
      py::arg("core"));
}

}  // namespace ray::bindings
