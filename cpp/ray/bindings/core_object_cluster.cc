// What the cluster keeps and tells: placement groups, the key-value table, its state, and what its
// workers have printed and run.
#include <pybind11/stl.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "ray/bindings/cluster_state.h"
#include "ray/bindings/core_object.h"
#include "ray/bindings/errors.h"
#include "ray/bindings/gil.h"
#include "ray/bindings/object_ref.h"
#include "ray/bindings/scheduling.h"
#include "ray/bindings/value_codec.h"
#include "ray/bindings/waiting.h"

namespace ray::bindings {
namespace {

using core::CoreWorker;

// -- placement groups

base::PlacementGroupId ToGroupId(const py::bytes& bytes) {
  return ValueOrRaise(base::PlacementGroupId::FromBinary(std::string_view(bytes)));
}

py::bytes CreatePlacementGroup(const Core& core, const py::kwargs& options) {
  core.RequireLive();
  wire::v1::PlacementGroupSpec spec = ToPlacementGroup(options);
  const base::PlacementGroupId id = BlockingCall([&](const SignalCheck& interrupted) {
    return core.session()->CreatePlacementGroup(std::move(spec), interrupted);
  });
  return py::bytes(id.BinaryString());
}

void RemovePlacementGroup(const Core& core, const py::bytes& id) {
  core.RequireLive();
  core.session()->RemovePlacementGroup(ToGroupId(id));
}

// None: it was not there in time.
py::object WaitPlacementGroup(const Core& core, const py::bytes& id, const py::object& timeout) {
  const base::PlacementGroupId group = ToGroupId(id);
  const int64_t deadline = DeadlineAfter(timeout);
  SignalCheck interrupted;
  absl::StatusOr<wire::v1::PlacementGroupInfo> info = wire::v1::PlacementGroupInfo();
  {
    GilRelease release;
    info = core.session()->WaitPlacementGroup(group, deadline, interrupted);
  }
  if (absl::IsDeadlineExceeded(info.status())) return py::none();
  return PlacementGroupDict(ValueOrRaise(std::move(info)))["state"];
}

py::object PlacementGroupReady(const Core& core, const py::bytes& id, const py::object& value) {
  core.RequireLive();
  const base::PlacementGroupId group = ToGroupId(id);
  EncodedValue encoded(value);
  auto ready = core.session()->PlacementGroupReady(group, core::Serialize(encoded.parts()));
  return WrapReference(core.session(), ready, nullptr);
}

py::list ListPlacementGroups(const Core& core, const py::bytes& id, const std::string& name,
                             const std::string& group_namespace) {
  wire::v1::PlacementGroupRequest request;
  request.set_placement_group_id(std::string(id));
  request.set_name(name);
  request.set_group_namespace(group_namespace);
  const auto found = BlockingCall([&](const SignalCheck& interrupted) {
    return core.session()->ListPlacementGroups(request, interrupted);
  });
  py::list rows;
  for (const auto& info : found.groups()) rows.append(PlacementGroupDict(info));
  return rows;
}

void RegisterPlacementGroups(py::class_<Core>& type) {
  type.def("create_placement_group", &CreatePlacementGroup)
      .def("remove_placement_group", &RemovePlacementGroup, py::arg("group_id"))
      .def("wait_placement_group", &WaitPlacementGroup, py::arg("group_id"), py::arg("timeout"))
      .def("placement_group_ready", &PlacementGroupReady, py::arg("group_id"), py::arg("value"))
      .def("list_placement_groups", &ListPlacementGroups, py::arg("group_id") = py::bytes(),
           py::arg("name") = "", py::arg("namespace") = "");
}

// -- the key-value table

using Request = wire::v1::KvRequest;

wire::v1::KvReply Kv(
    const Core& core, Request::Op op, const py::bytes& key, const std::string& kv_namespace,
    absl::FunctionRef<void(Request*)> fill = [](Request*) {}) {
  Request request;
  request.set_op(op);
  request.set_key(std::string(key));
  request.set_kv_namespace(kv_namespace);
  fill(&request);
  return BlockingCall(
      [&](const SignalCheck& interrupted) { return core.session()->Kv(request, interrupted); });
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

py::object KvGet(const Core& core, const py::bytes& key, const std::string& kv_namespace) {
  const auto reply = Kv(core, Request::GET, key, kv_namespace);
  return reply.found() ? py::object(py::bytes(reply.value())) : py::none();
}

bool KvPut(const Core& core, const py::bytes& key, const py::bytes& value, bool overwrite,
           const std::string& kv_namespace) {
  CheckKvValue(core, value);
  const auto reply = Kv(core, Request::PUT, key, kv_namespace, [&](Request* request) {
    request->set_value(std::string(value));
    request->set_overwrite(overwrite);
  });
  return reply.found();
}

uint64_t KvDelete(const Core& core, const py::bytes& key, bool by_prefix,
                  const std::string& kv_namespace) {
  const auto reply = Kv(core, Request::DELETE, key, kv_namespace,
                        [&](Request* request) { request->set_prefix(by_prefix); });
  return reply.count();
}

bool KvExists(const Core& core, const py::bytes& key, const std::string& kv_namespace) {
  return Kv(core, Request::EXISTS, key, kv_namespace).found();
}

py::list KvKeys(const Core& core, const py::bytes& prefix, const std::string& kv_namespace) {
  const auto reply = Kv(core, Request::KEYS, prefix, kv_namespace);
  py::list keys;
  for (const std::string& key : reply.keys()) keys.append(py::bytes(key));
  return keys;
}

void RegisterKv(py::class_<Core>& type) {
  type.def("kv_get", &KvGet, py::arg("key"), py::arg("namespace"))
      .def("kv_put", &KvPut, py::arg("key"), py::arg("value"), py::arg("overwrite"),
           py::arg("namespace"))
      .def("kv_del", &KvDelete, py::arg("key"), py::arg("by_prefix"), py::arg("namespace"))
      .def("kv_exists", &KvExists, py::arg("key"), py::arg("namespace"))
      .def("kv_keys", &KvKeys, py::arg("prefix"), py::arg("namespace"));
}

// -- nodes and stores

py::dict ClusterState(const Core& core) {
  return ClusterStateDict(BlockingCall(
      [&](const SignalCheck& interrupted) { return core.session()->ClusterState(interrupted); }));
}

void DrainNode(const Core& core, const py::bytes& node_id, const std::string& reason,
               int64_t deadline_ms) {
  wire::v1::DrainNode request;
  request.set_node_id(std::string(node_id));
  request.set_reason(reason);
  request.set_deadline_ms(deadline_ms);
  BlockingCall([&](const SignalCheck& interrupted) {
    return core.session()->DrainNode(request, interrupted);
  });
}

py::dict StoreStats(const Core& core) {
  const auto stats = BlockingCall(
      [&](const SignalCheck& interrupted) { return core.session()->StoreStats(interrupted); });
  py::dict out;
  out["capacity_bytes"] = stats.capacity_bytes();
  out["allocated_bytes"] = stats.allocated_bytes();
  out["objects"] = stats.objects();
  out["breakdown"] = stats.breakdown();
  return out;
}

// -- what workers print and run

py::object NextMessages(const Core& core, const py::object& timeout) {
  absl::Duration limit =
      timeout.is_none() ? absl::InfiniteDuration() : absl::Seconds(timeout.cast<double>());
  std::vector<CoreWorker::Message> messages;
  {
    GilRelease release;
    messages = core.session()->NextMessages(limit);
  }
  if (messages.empty() && core.session()->has_ended()) return py::none();
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

py::tuple TaskEvents(const Core& core) {
  const auto found = BlockingCall(
      [&](const SignalCheck& interrupted) { return core.session()->ListTaskEvents(interrupted); });
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

void FlushLogs(const Core& core, double timeout) {
  const int64_t deadline = DeadlineAfter(py::float_(timeout));
  const SignalCheck interrupted;
  {
    GilRelease release;
    // A raylet that does not answer in time has nothing to print either.
    core.session()->FlushLogs(deadline, interrupted).IgnoreError();
  }
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();  // Ctrl-C
}

}  // namespace

void RegisterCluster(py::class_<Core>& type) {
  RegisterPlacementGroups(type);
  RegisterKv(type);
  type.def("cluster_state", &ClusterState)
      .def("drain_node", &DrainNode, py::arg("node_id"), py::kw_only(), py::arg("reason"),
           py::arg("deadline_ms"))
      .def("store_stats", &StoreStats)
      .def("next_messages", &NextMessages, py::arg("timeout") = py::none())
      .def("task_events", &TaskEvents)
      .def("flush_logs", &FlushLogs, py::arg("timeout"));
}

}  // namespace ray::bindings
