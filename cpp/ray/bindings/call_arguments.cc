#include "ray/bindings/call_arguments.h"

#include <pybind11/stl.h>

#include <atomic>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/fixed_point.h"
#include "ray/bindings/errors.h"
#include "ray/bindings/gil.h"
#include "ray/bindings/object_ref.h"
#include "ray/bindings/python_state.h"
#include "ray/bindings/scheduling.h"
#include "ray/bindings/value_codec.h"

namespace ray::bindings {
namespace {

const core::BufferPtr& NoArguments() {
  static auto* empty = new core::BufferPtr([] {
    EncodedValue value{py::tuple()};
    return core::Serialize(value.parts());
  }());
  return *empty;
}

core::Task::TopLevelRef TopLevel(const std::shared_ptr<core::CoreWorker>& session,
                                 PyObject* object) {
  RequireSession(session, object);
  ObjectRef& ref = AsObjectRef(object);
  core::Task::TopLevelRef top;
  top.id = ref.id();
  top.owner = ref.owner();
  return top;
}

// Arguments with the references at top level taken out.
py::tuple TakeOutRefs(const std::shared_ptr<core::CoreWorker>& session, const py::tuple& args,
                      std::vector<core::Task::TopLevelRef>* refs) {
  py::tuple rest(args.size());
  for (size_t i = 0; i < args.size(); ++i) {
    PyObject* value = PyTuple_GET_ITEM(args.ptr(), static_cast<Py_ssize_t>(i));
    if (IsObjectRef(value)) {
      refs->push_back(TopLevel(session, value));
      refs->back().position = static_cast<int32_t>(i);
      rest[i] = py::none();
    } else {
      rest[i] = py::reinterpret_borrow<py::object>(value);
    }
  }
  return rest;
}

py::dict TakeOutRefs(const std::shared_ptr<core::CoreWorker>& session, const py::dict& kwargs,
                     std::vector<core::Task::TopLevelRef>* refs) {
  py::dict rest;
  for (auto [key, value] : kwargs) {
    if (IsObjectRef(value.ptr())) {
      refs->push_back(TopLevel(session, value.ptr()));
      refs->back().keyword = py::cast<std::string>(key);
    } else {
      rest[key] = value;
    }
  }
  return rest;
}

bool HasRefs(const py::tuple& args) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args.ptr()); ++i) {
    if (IsObjectRef(PyTuple_GET_ITEM(args.ptr(), i))) return true;
  }
  return false;
}

bool CanEncode(const py::object& value) {
  try {
    EncodedValue encoded(value);
    return true;
  } catch (py::error_already_set&) {
    return false;
  }
}

// Raises the error of the argument that is to blame; `error` is what serializing all of them
// raised.
[[noreturn]] void BlameArgument(const std::string& name, const py::tuple& args,
                                const py::object& kwargs, const py::object& error) {
  auto describe = State().hooks.attr("describe_argument_error");
  for (size_t i = 0; i < args.size(); ++i) {
    py::object value = args[i];
    if (!CanEncode(value)) RaisePython(describe(name, i, py::none(), value, error));
  }
  if (!kwargs.is_none()) {
    for (auto [key, item] : py::reinterpret_borrow<py::dict>(kwargs)) {
      auto value = py::reinterpret_borrow<py::object>(item);
      if (!CanEncode(value)) RaisePython(describe(name, py::none(), key, value, error));
    }
  }
  RaisePython(error);
}

void Encode(const std::shared_ptr<core::CoreWorker>& session, const std::string& name,
            const py::object& payload, core::CallArguments* arguments) {
  EncodedValue encoded(payload);
  arguments->nested = encoded.references().Contained();
  if (encoded.size() <= static_cast<size_t>(session->config().inline_object_max_bytes)) {
    arguments->args = core::Serialize(encoded.parts());
    return;
  }
  SignalCheck interrupted;
  absl::StatusOr<base::ObjectId> stored = base::ObjectId();
  {
    core::ValueParts parts = encoded.parts();
    GilRelease release;
    stored = session->PutInStore(parts, base::ObjectId::Nil(), session->self_address(),
                                 absl::StrCat("arguments of ", name), {}, interrupted);
  }
  StoredOrRaise(stored.status());
  arguments->args_object = *stored;
}

std::string SchedulingClass(const core::TaskTemplate& of) {
  std::string key;
  for (const auto& [name, quantity] : of.resources) absl::StrAppend(&key, name, "=", quantity, ";");
  absl::StrAppend(&key, of.runtime_env_hash);
  if (of.max_retries == 0) absl::StrAppend(&key, ";once");  // not to be ended for its memory
  if (!of.strategy.empty()) absl::StrAppend(&key, ";", of.strategy);
  if (of.max_calls > 0) absl::StrAppend(&key, ";", of.function);  // its workers end for it alone
  return key;
}

}  // namespace

void RaiseForeignReference(PyObject* object) {
  throw py::value_error(absl::StrCat("ObjectRef(", AsObjectRef(object).id().Hex(),
                                     ") does not belong to this session: it was made before "
                                     "ray.shutdown(), or from bytes alone."));
}

core::CallArguments BuildArguments(const std::shared_ptr<core::CoreWorker>& session,
                                   const std::string& name, const py::tuple& args,
                                   const py::object& kwargs) {
  core::CallArguments arguments;
  bool has_kwargs = !kwargs.is_none() && PyDict_GET_SIZE(kwargs.ptr()) > 0;
  if (args.empty() && !has_kwargs) {
    arguments.args = NoArguments();
    return arguments;
  }
  py::object payload = HasRefs(args) ? TakeOutRefs(session, args, &arguments.refs) : args;
  if (has_kwargs) {
    py::list both;
    both.append(payload);
    both.append(TakeOutRefs(session, py::reinterpret_borrow<py::dict>(kwargs), &arguments.refs));
    payload = both;
  }
  try {
    Encode(session, name, payload, &arguments);
  } catch (py::error_already_set& failure) {
    if (!failure.matches(PyExc_TypeError)) throw;
    py::object error = ExceptionOf(failure);
    BlameArgument(name, args, kwargs, error);
  }
  return arguments;
}

UnpackedArguments UnpackArguments(const core::IncomingCall& call) {
  py::object payload = DecodeValue(call.args);
  UnpackedArguments unpacked;
  if (PyList_CheckExact(payload.ptr())) {
    auto both = py::reinterpret_steal<py::list>(payload.release());
    unpacked.args = both[0];
    unpacked.kwargs = both[1];
  } else {
    unpacked.args = py::reinterpret_steal<py::tuple>(payload.release());
  }
  for (const core::IncomingCall::Reference& reference : call.references) {
    py::object value = DecodeValue(reference.value);
    if (reference.position < 0) {
      unpacked.kwargs[py::str(reference.keyword)] = value;
    } else if (static_cast<size_t>(reference.position) < unpacked.args.size()) {
      unpacked.args[static_cast<size_t>(reference.position)] = value;
    }
  }
  return unpacked;
}

void RegisterTaskTemplate(py::module_& module) {
  py::class_<PyTaskTemplate>(module, "TaskTemplate")
      .def(py::init([](const std::string& name, const py::bytes& function, int num_returns,
                       const std::map<std::string, double>& resources, int max_retries,
                       bool retry_exceptions, const py::bytes& exception_types,
                       const std::string& concurrency_group, const py::sequence& contained_refs,
                       uint32_t stream_backpressure, const py::bytes& runtime_env_hash,
                       const std::string& runtime_env, uint32_t max_calls, const py::dict& strategy,
                       uint32_t objects_per_yield) {
             static std::atomic<uint64_t> next_uid{1};
             auto made = std::make_shared<core::TaskTemplate>();
             auto result = std::make_unique<PyTaskTemplate>();
             made->uid = next_uid.fetch_add(1);
             made->name = name;
             made->function = function;
             made->num_returns = num_returns;
             for (const auto& [resource, quantity] : resources) {
               made->resources[resource] = base::FixedPoint::FromDouble(quantity).raw();
             }
             made->max_retries = max_retries;
             made->retry_exceptions = retry_exceptions;
             made->exception_types = exception_types;
             made->concurrency_group = concurrency_group;
             made->runtime_env_hash = runtime_env_hash;
             made->runtime_env = runtime_env;
             made->max_calls = max_calls;
             const wire::v1::SchedulingStrategy placed = ToStrategy(strategy);
             made->strategy = placed.SerializeAsString();
             made->spread = placed.spread();
             const auto group =
                 base::PlacementGroupId::FromBinary(placed.bundle().placement_group_id());
             if (group.ok()) made->group = *group;
             made->stream_backpressure = stream_backpressure;
             made->objects_per_yield = objects_per_yield;
             for (py::handle ref : contained_refs) {
               ObjectRef& inside = AsObjectRef(ref.ptr());
               made->contains.push_back({inside.id(), inside.owner()});
               result->contained_refs.push_back(py::reinterpret_borrow<py::object>(ref));
             }
             made->scheduling_class = SchedulingClass(*made);
             result->task_template = std::move(made);
             return result;
           }),
           py::kw_only(), py::arg("name"), py::arg("function"), py::arg("num_returns"),
           py::arg("resources"), py::arg("max_retries"), py::arg("retry_exceptions"),
           py::arg("exception_types") = py::bytes(), py::arg("concurrency_group") = "",
           py::arg("contained_refs") = py::tuple(), py::arg("stream_backpressure") = 0,
           py::arg("runtime_env_hash") = py::bytes(), py::arg("runtime_env") = "",
           py::arg("max_calls") = 0, py::arg("strategy") = py::dict(),
           py::arg("objects_per_yield") = 0);
}

}  // namespace ray::bindings
