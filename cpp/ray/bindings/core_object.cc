#include "ray/bindings/core_object.h"

#include <pybind11/stl.h>
#include <unistd.h>

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "ray/base/fixed_point.h"
#include "ray/bindings/call_arguments.h"
#include "ray/bindings/cluster_state.h"
#include "ray/bindings/errors.h"
#include "ray/bindings/gil.h"
#include "ray/bindings/object_ref.h"
#include "ray/bindings/object_stream.h"
#include "ray/bindings/python_state.h"
#include "ray/bindings/ready_queue.h"
#include "ray/bindings/scheduling.h"
#include "ray/bindings/value_codec.h"
#include "ray/bindings/waiting.h"

namespace ray::bindings {
namespace {

using core::CoreWorker;
using net::LoopDriver;
using Session = std::shared_ptr<CoreWorker>;

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

// One process's way to one actor.
struct ActorClient {
  Session session;
  base::ActorId id;

  py::object Submit(const PyTaskTemplate& of, const py::tuple& args, const py::object& kwargs) {
    core::CallArguments arguments = BuildArguments(session, of.task_template->name, args, kwargs);
    auto task =
        session->SubmitActorCall(id, of.task_template, std::move(arguments), SubmittingTask());
    if (!task.has_value()) {
      RaiseSystemError("PENDING_CALLS_LIMIT",
                       absl::StrCat("the actor ", id.Hex(),
                                    " has as many pending calls as its max_pending_calls allows"));
    }
    return WrapReturns(session, *task, of.task_template->num_returns);
  }
  std::string State() const { return wire::v1::ActorState_Name(session->StateOfActor(id)); }
};

class Core {
 public:
  Core(Session session, bool is_driver)
      : session_(std::move(session)), execution_(session_), is_driver_(is_driver) {}

  static std::unique_ptr<Core> Connect(const CoreWorker::Options& options) {
    absl::StatusOr<Session> worker = absl::InternalError("");
    {
      GilRelease release;
      worker = CoreWorker::Connect(options);
    }
    return std::make_unique<Core>(ValueOrRaise(std::move(worker)),
                                  options.kind == wire::v1::DRIVER);
  }

  const Session& session() const { return session_; }
  Execution& execution() { return execution_; }
  bool is_driver() const { return is_driver_; }

  void Shutdown() {
    GilRelease release;
    session_->Shutdown();
  }

  // -- objects

  py::object Put(const py::object& value) {
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

  py::object GetOne(const py::object& ref, const py::object& timeout) {
    const base::ObjectId& id = IdOf(ref.ptr());
    if (core::BufferPtr value = session_->TryGetInline(id); value != nullptr) {
      return DecodeValue({std::move(value), nullptr});
    }
    return DecodeValue(Fetch({&id, 1}, timeout)[0]);
  }

  py::list Get(const py::list& refs, const py::object& timeout) {
    std::vector<base::ObjectId> ids;
    ids.reserve(refs.size());
    for (py::handle ref : refs) ids.push_back(IdOf(ref.ptr()));
    std::vector<core::ArgumentBytes> values = Fetch(ids, timeout);
    py::list out(values.size());
    for (size_t i = 0; i < values.size(); ++i) out[i] = DecodeValue(values[i]);
    return out;
  }

  py::tuple Wait(const py::list& waitables, int64_t num_returns, const py::object& timeout,
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

  py::object Defer(const std::shared_ptr<ReadyQueue>& queue, uint64_t wanted, uint64_t gone) {
    RequireLive();
    CoreWorker::DeferredEvents events;
    if (queue != nullptr) {
      events.wanted = [queue, wanted] { queue->Push(wanted); };
      events.gone = [queue, gone] { queue->Push(gone); };
    }
    auto id = session_->Defer(std::move(events));
    return WrapReference(session_, id, nullptr);
  }

  void Fulfil(const py::bytes& object_id, const py::object& value, bool is_error) {
    RequireLive();
    auto id = ValueOrRaise(base::ObjectId::FromBinary(std::string_view(object_id)));
    if (is_error) return FulfilWith(id, EncodedValue::Error(value));
    FulfilWith(id, EncodedValue(value));
  }

  bool NotifyWhenReady(const py::object& ref, const std::shared_ptr<ReadyQueue>& queue,
                       uint64_t token) {
    return !session_->NotifyWhenReady(IdOf(ref.ptr()), [queue, token] { queue->Push(token); });
  }

  py::dict ReferenceCounts() {
    py::dict out;
    for (const auto& counts : session_->CountReferences()) {
      out[py::str(counts.id.Hex())] = py::make_tuple(counts.local, counts.other);
    }
    return out;
  }

  // -- tasks

  py::object SubmitTask(const PyTaskTemplate& of, const py::tuple& args, const py::object& kwargs) {
    RequireLive();
    core::CallArguments arguments = BuildArguments(session_, of.task_template->name, args, kwargs);
    base::TaskId task =
        session_->SubmitTask(of.task_template, std::move(arguments), SubmittingTask());
    return WrapReturns(session_, task, of.task_template->num_returns);
  }

  void Cancel(const py::object& ref, bool force, bool recursive) {
    session_->Cancel(IdOf(ref.ptr()), force, recursive);
  }

  std::string WhyPending(const py::object& ref) {
    const base::ObjectId& id = IdOf(ref.ptr());
    SignalCheck interrupted;
    absl::StatusOr<std::string> why = "";
    {
      GilRelease release;
      why = session_->WhyPending(id, interrupted);
    }
    return ValueOrRaise(std::move(why));
  }

  void ReportEnvironmentError(const std::string& message) {
    GilRelease release;
    session_->ReportEnvironmentError(message);
  }

  // -- actors

  py::tuple CreateActor(const py::kwargs& options) {
    RequireLive();
    CoreWorker::NewActor actor;
    wire::v1::ActorSpec& spec = actor.spec;
    spec.set_class_blob(options["class_blob"].cast<std::string>());
    spec.set_class_name(options["class_name"].cast<std::string>());
    spec.set_name(options["name"].cast<std::string>());
    spec.set_actor_namespace(options["namespace"].cast<std::string>());
    spec.set_detached(options["detached"].cast<bool>());
    PutResources(options["creation_resources"].cast<std::map<std::string, double>>(),
                 spec.mutable_creation_resources());
    PutResources(options["lifetime_resources"].cast<std::map<std::string, double>>(),
                 spec.mutable_lifetime_resources());
    spec.set_restarts_max(options["max_restarts"].cast<int>());
    spec.set_task_retries_max(options["max_task_retries"].cast<int>());
    spec.set_concurrency_max(options["max_concurrency"].cast<uint32_t>());
    spec.set_is_asyncio(options["is_asyncio"].cast<bool>());
    spec.set_pending_calls_max(options["max_pending_calls"].cast<int>());
    spec.set_stream_backpressure(options["stream_backpressure"].cast<uint32_t>());
    spec.set_handle_blob(options["handle_blob"].cast<std::string>());
    if (options.contains("runtime_env_hash")) {
      spec.set_runtime_env_hash(options["runtime_env_hash"].cast<std::string>());
      spec.set_runtime_env(options["runtime_env"].cast<std::string>());
    }
    if (options.contains("strategy")) *spec.mutable_strategy() = ToStrategy(options["strategy"]);
    actor.get_if_exists = options["get_if_exists"].cast<bool>();
    actor.arguments = BuildArguments(session_, spec.class_name() + ".__init__",
                                     options["args"].cast<py::tuple>(), options["kwargs"]);
    if (options.contains("contained_refs")) {
      for (py::handle ref : options["contained_refs"]) {
        ObjectRef& inside = AsObjectRef(ref.ptr());
        actor.arguments.nested.push_back({inside.id(), inside.owner()});
      }
    }
    SignalCheck interrupted;
    absl::StatusOr<CoreWorker::ActorHandle> created = CoreWorker::ActorHandle();
    {
      GilRelease release;
      created = session_->CreateActor(std::move(actor), interrupted);
    }
    CoreWorker::ActorHandle handle = ValueOrRaise(std::move(created));
    py::object lifetime = py::none();
    if (!handle.handle_ref.IsNil()) lifetime = WrapReference(session_, handle.handle_ref, nullptr);
    py::object existing = py::none();
    if (handle.existing_blob.has_value()) existing = py::bytes(*handle.existing_blob);
    return py::make_tuple(ActorClient{session_, handle.id}, lifetime, existing);
  }

  ActorClient ClientOf(const py::bytes& actor_id) {
    auto id = ValueOrRaise(base::ActorId::FromBinary(std::string_view(actor_id)));
    session_->KnowActor(id, -1);
    return {session_, id};
  }

  py::tuple GetNamedActor(const std::string& name, const std::string& job_namespace) {
    SignalCheck interrupted;
    absl::StatusOr<wire::v1::ActorInfo> info = wire::v1::ActorInfo();
    {
      GilRelease release;
      info = session_->GetNamedActor(name, job_namespace, interrupted);
    }
    auto found = ValueOrRaise(std::move(info));
    return py::make_tuple(py::bytes(found.actor_id()), py::bytes(found.handle_blob()));
  }

  std::vector<std::pair<std::string, std::string>> ListNamedActors(bool all_namespaces) {
    SignalCheck interrupted;
    absl::StatusOr<wire::v1::ListNamedActorsReply> reply = wire::v1::ListNamedActorsReply();
    {
      GilRelease release;
      reply = session_->ListNamedActors(all_namespaces, interrupted);
    }
    std::vector<std::pair<std::string, std::string>> out;
    auto actors = ValueOrRaise(std::move(reply));
    for (const auto& entry : actors.actors()) {
      out.emplace_back(entry.name(), entry.actor_namespace());
    }
    return out;
  }

  void KillActor(const py::bytes& actor_id, bool no_restart) {
    auto id = ValueOrRaise(base::ActorId::FromBinary(std::string_view(actor_id)));
    SignalCheck interrupted;
    absl::Status status;
    {
      GilRelease release;
      status = session_->KillActor(id, no_restart, interrupted);
    }
    OkOrRaise(status);
  }

  // -- placement groups

  py::bytes CreatePlacementGroup(const py::kwargs& options) {
    RequireLive();
    wire::v1::PlacementGroupSpec spec = ToPlacementGroup(options);
    SignalCheck interrupted;
    absl::StatusOr<base::PlacementGroupId> created = base::PlacementGroupId();
    {
      GilRelease release;
      created = session_->CreatePlacementGroup(std::move(spec), interrupted);
    }
    return py::bytes(ValueOrRaise(std::move(created)).BinaryString());
  }

  void RemovePlacementGroup(const py::bytes& id) {
    RequireLive();
    session_->RemovePlacementGroup(
        ValueOrRaise(base::PlacementGroupId::FromBinary(std::string_view(id))));
  }

  // None: it was not there in time.
  py::object WaitPlacementGroup(const py::bytes& id, const py::object& timeout) {
    auto group = ValueOrRaise(base::PlacementGroupId::FromBinary(std::string_view(id)));
    int64_t deadline = DeadlineAfter(timeout);
    SignalCheck interrupted;
    absl::StatusOr<wire::v1::PlacementGroupInfo> info = wire::v1::PlacementGroupInfo();
    {
      GilRelease release;
      info = session_->WaitPlacementGroup(group, deadline, interrupted);
    }
    if (absl::IsDeadlineExceeded(info.status())) return py::none();
    return PlacementGroupDict(ValueOrRaise(std::move(info)))["state"];
  }

  py::object PlacementGroupReady(const py::bytes& id, const py::object& value) {
    RequireLive();
    auto group = ValueOrRaise(base::PlacementGroupId::FromBinary(std::string_view(id)));
    EncodedValue encoded(value);
    auto ready = session_->PlacementGroupReady(group, core::Serialize(encoded.parts()));
    return WrapReference(session_, ready, nullptr);
  }

  py::list ListPlacementGroups(const py::bytes& id, const std::string& name,
                               const std::string& group_namespace) {
    wire::v1::PlacementGroupRequest request;
    request.set_placement_group_id(std::string(id));
    request.set_name(name);
    request.set_group_namespace(group_namespace);
    SignalCheck interrupted;
    absl::StatusOr<wire::v1::PlacementGroupsReply> reply = wire::v1::PlacementGroupsReply();
    {
      GilRelease release;
      reply = session_->ListPlacementGroups(request, interrupted);
    }
    py::list rows;
    auto groups = ValueOrRaise(std::move(reply));
    for (const auto& info : groups.groups()) rows.append(PlacementGroupDict(info));
    return rows;
  }

  // -- cluster

  py::dict ClusterState() {
    SignalCheck interrupted;
    absl::StatusOr<wire::v1::ClusterStateReply> reply = wire::v1::ClusterStateReply();
    {
      GilRelease release;
      reply = session_->ClusterState(interrupted);
    }
    return ClusterStateDict(ValueOrRaise(std::move(reply)));
  }

  void DrainNode(const py::bytes& node_id, const std::string& reason, int64_t deadline_ms) {
    wire::v1::DrainNode request;
    request.set_node_id(std::string(node_id));
    request.set_reason(reason);
    request.set_deadline_ms(deadline_ms);
    SignalCheck interrupted;
    absl::Status status;
    {
      GilRelease release;
      status = session_->DrainNode(request, interrupted);
    }
    OkOrRaise(status);
  }

  wire::v1::KvReply Kv(wire::v1::KvRequest::Op op, const py::bytes& key,
                       const std::string& kv_namespace,
                       const std::function<void(wire::v1::KvRequest*)>& fill = nullptr) {
    wire::v1::KvRequest request;
    request.set_op(op);
    request.set_key(std::string(key));
    request.set_kv_namespace(kv_namespace);
    if (fill) fill(&request);
    SignalCheck interrupted;
    absl::StatusOr<wire::v1::KvReply> reply = wire::v1::KvReply();
    {
      GilRelease release;
      reply = session_->Kv(request, interrupted);
    }
    return ValueOrRaise(std::move(reply));
  }

  py::dict StoreStats() {
    SignalCheck interrupted;
    absl::StatusOr<wire::v1::StoreStatsReply> reply = wire::v1::StoreStatsReply();
    {
      GilRelease release;
      reply = session_->StoreStats(interrupted);
    }
    auto stats = ValueOrRaise(std::move(reply));
    py::dict out;
    out["capacity_bytes"] = stats.capacity_bytes();
    out["allocated_bytes"] = stats.allocated_bytes();
    out["objects"] = stats.objects();
    out["breakdown"] = stats.breakdown();
    return out;
  }

  // -- logs

  py::object NextMessages(const py::object& timeout) {
    absl::Duration limit =
        timeout.is_none() ? absl::InfiniteDuration() : absl::Seconds(timeout.cast<double>());
    std::vector<CoreWorker::Message> messages;
    {
      GilRelease release;
      messages = session_->NextMessages(limit);
    }
    if (messages.empty() && session_->is_shut_down()) return py::none();
    py::list out;
    for (const auto& message : messages) {
      const wire::v1::LogLines& lines = message.lines;
      py::list text;
      for (const std::string& line : lines.lines()) {
        text.append(py::reinterpret_steal<py::object>(
            PyUnicode_DecodeUTF8(line.data(), static_cast<Py_ssize_t>(line.size()), "replace")));
      }
      out.append(py::make_tuple(message.is_warning ? "warning" : "log", lines.pid(), lines.name(),
                                lines.ip(), lines.is_stderr(), text));
    }
    return out;
  }

  py::tuple TaskEvents() {
    SignalCheck interrupted;
    absl::StatusOr<wire::v1::TaskEventsReply> reply = wire::v1::TaskEventsReply();
    {
      GilRelease release;
      reply = session_->ListTaskEvents(interrupted);
    }
    auto found = ValueOrRaise(std::move(reply));
    uint64_t dropped = found.dropped();
    std::map<std::string, uint64_t> dropped_by_worker;
    py::list events;
    for (const wire::v1::TaskEvents& batch : found.workers()) {
      dropped_by_worker[batch.worker_id()] = batch.dropped();
      for (const wire::v1::TaskEvent& event : batch.events()) {
        events.append(py::make_tuple(py::bytes(batch.worker_id()), batch.pid(),
                                     py::bytes(event.task_id()), py::bytes(event.actor_id()),
                                     event.name(), event.start_us(), event.end_us(), event.failed(),
                                     event.attempt()));
      }
    }
    for (const auto& [worker, count] : dropped_by_worker) dropped += count;
    return py::make_tuple(events, dropped);
  }

  void FlushLogs(double timeout) {
    SignalCheck interrupted;
    int64_t deadline = DeadlineAfter(py::float_(timeout));
    GilRelease release;
    // A raylet that does not answer in time has nothing to print either.
    session_->FlushLogs(deadline, interrupted).IgnoreError();
  }

  py::dict CurrentTask() {
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
        out["function"] =
            py::reinterpret_borrow<py::object>(static_cast<PyObject*>(callable.get()));
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

 private:
  void FulfilWith(const base::ObjectId& id, const EncodedValue& encoded) {
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

  void RequireLive() const {
    if (session_->is_shut_down()) {
      RaiseSystemError("NOT_CONNECTED", "this session has ended; call ray.init() again");
    }
  }

  // A reference of this session.
  void RequireOwn(PyObject* ref) const {
    if (!IsObjectRef(ref)) {
      throw py::type_error(absl::StrCat("an ObjectRef is needed, not a ", Py_TYPE(ref)->tp_name));
    }
    RequireSession(session_, ref);
  }

  const base::ObjectId& IdOf(PyObject* ref) const {
    RequireLive();
    RequireOwn(ref);
    return AsObjectRef(ref).id();
  }

  std::vector<core::HeldReference*> HeldIn(const py::tuple& refs) const {
    RequireLive();
    std::vector<core::HeldReference*> held;
    held.reserve(refs.size());
    for (py::handle ref : refs) {
      RequireOwn(ref.ptr());
      held.push_back(AsObjectRef(ref.ptr()).held());
    }
    return held;
  }

  std::vector<core::ArgumentBytes> Fetch(absl::Span<const base::ObjectId> ids,
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

  const Session session_;
  Execution execution_;
  const bool is_driver_;
};

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

// A larger one would end the connection to the raylet, or be refused by the GCS.
void CheckKvValue(const Core& core, const py::bytes& value) {
  const int64_t limit = core.session()->config().kv_value_max_bytes;
  const auto size = static_cast<int64_t>(PyBytes_GET_SIZE(value.ptr()));
  if (size <= limit) return;
  Raise(absl::InvalidArgumentError(
      absl::StrCat("The value has ", size, " bytes, and the key-value table takes ", limit,
                   " at most (kv_value_max_bytes). Put it with ray.put and keep the reference, or "
                   "split it over several keys.")));
}

void RegisterKv(py::class_<Core>& type) {
  using Request = wire::v1::KvRequest;
  type.def(
          "kv_get",
          [](Core& self, const py::bytes& key, const std::string& ns) -> py::object {
            auto reply = self.Kv(Request::GET, key, ns);
            return reply.found() ? py::object(py::bytes(reply.value())) : py::none();
          },
          py::arg("key"), py::arg("namespace"))
      .def(
          "kv_put",
          [](Core& self, const py::bytes& key, const py::bytes& value, bool overwrite,
             const std::string& ns) {
            CheckKvValue(self, value);
            return self
                .Kv(Request::PUT, key, ns,
                    [&](Request* request) {
                      request->set_value(std::string(value));
                      request->set_overwrite(overwrite);
                    })
                .found();
          },
          py::arg("key"), py::arg("value"), py::arg("overwrite"), py::arg("namespace"))
      .def(
          "kv_del",
          [](Core& self, const py::bytes& key, bool by_prefix, const std::string& ns) {
            return self
                .Kv(Request::DELETE, key, ns,
                    [&](Request* request) { request->set_prefix(by_prefix); })
                .count();
          },
          py::arg("key"), py::arg("by_prefix"), py::arg("namespace"))
      .def(
          "kv_exists",
          [](Core& self, const py::bytes& key, const std::string& ns) {
            return self.Kv(Request::EXISTS, key, ns).found();
          },
          py::arg("key"), py::arg("namespace"))
      .def(
          "kv_keys",
          [](Core& self, const py::bytes& prefix, const std::string& ns) {
            py::list keys;
            auto reply = self.Kv(Request::KEYS, prefix, ns);
            for (const std::string& key : reply.keys()) {
              keys.append(py::bytes(key));
            }
            return keys;
          },
          py::arg("prefix"), py::arg("namespace"));
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
  py::class_<ActorClient>(module, "ActorClient")
      .def_property_readonly(
          "actor_id", [](const ActorClient& self) { return py::bytes(self.id.BinaryString()); })
      .def("submit", &ActorClient::Submit, py::arg("template"), py::arg("args"), py::arg("kwargs"))
      .def("state", &ActorClient::State);

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
           py::arg("token"))
      .def("defer", &Core::Defer, py::arg("queue"), py::arg("wanted") = 0, py::arg("gone") = 0)
      .def("fulfil", &Core::Fulfil, py::arg("object_id"), py::arg("value"),
           py::arg("is_error") = false)
      .def("ref_counts", &Core::ReferenceCounts)
      .def("submit_task", &Core::SubmitTask, py::arg("template"), py::arg("args"),
           py::arg("kwargs"))
      .def("why_pending", &Core::WhyPending, py::arg("ref"))
      .def("cancel", &Core::Cancel, py::arg("ref"), py::arg("force"), py::arg("recursive"))
      .def("create_actor", &Core::CreateActor)
      .def("actor_client", &Core::ClientOf, py::arg("actor_id"))
      .def("get_named_actor", &Core::GetNamedActor, py::arg("name"), py::arg("namespace"))
      .def("list_named_actors", &Core::ListNamedActors, py::arg("all_namespaces"))
      .def("kill_actor", &Core::KillActor, py::arg("actor_id"), py::arg("no_restart"))
      .def("create_placement_group", &Core::CreatePlacementGroup)
      .def("remove_placement_group", &Core::RemovePlacementGroup, py::arg("group_id"))
      .def("wait_placement_group", &Core::WaitPlacementGroup, py::arg("group_id"),
           py::arg("timeout"))
      .def("placement_group_ready", &Core::PlacementGroupReady, py::arg("group_id"),
           py::arg("value"))
      .def("list_placement_groups", &Core::ListPlacementGroups, py::arg("group_id") = py::bytes(),
           py::arg("name") = "", py::arg("namespace") = "")
      .def("cluster_state", &Core::ClusterState)
      .def("drain_node", &Core::DrainNode, py::arg("node_id"), py::kw_only(), py::arg("reason"),
           py::arg("deadline_ms"))
      .def("store_stats", &Core::StoreStats)
      .def("next_messages", &Core::NextMessages, py::arg("timeout") = py::none())
      .def("task_events", &Core::TaskEvents)
      .def("flush_logs", &Core::FlushLogs, py::arg("timeout"));
  RegisterIdentity(type);
  RegisterKv(type);
  RegisterWorkerSide(type);
  module.def(
      "set_current_core",
      [](const py::object& core) {
        State().current = core.is_none() ? nullptr : core.cast<Core&>().session();
      },
      py::arg("core"));
}

}  // namespace ray::bindings
