// Actors: `_raylet.ActorClient`, and what Core creates, finds and kills.
#include <pybind11/stl.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/bindings/call_arguments.h"
#include "ray/bindings/core_object.h"
#include "ray/bindings/errors.h"
#include "ray/bindings/gil.h"
#include "ray/bindings/object_ref.h"
#include "ray/bindings/scheduling.h"
#include "ray/bindings/waiting.h"

namespace ray::bindings {
namespace {

using core::CoreWorker;

base::ActorId ToActorId(const py::bytes& bytes) {
  return ValueOrRaise(base::ActorId::FromBinary(std::string_view(bytes)));
}

// One process's way to one actor.
struct ActorClient {
  Core::Session session;
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

wire::v1::ActorSpec ToActorSpec(const py::kwargs& options) {
  wire::v1::ActorSpec spec;
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
  return spec;
}

py::tuple CreateActor(const Core& core, const py::kwargs& options) {
  core.RequireLive();
  CoreWorker::NewActor actor;
  actor.spec = ToActorSpec(options);
  actor.get_if_exists = options["get_if_exists"].cast<bool>();
  actor.arguments = BuildArguments(core.session(), actor.spec.class_name() + ".__init__",
                                   options["args"].cast<py::tuple>(), options["kwargs"]);
  if (options.contains("contained_refs")) {
    for (py::handle ref : options["contained_refs"]) {
      ObjectRef& inside = AsObjectRef(ref.ptr());
      actor.arguments.nested.push_back({inside.id(), inside.owner()});
    }
  }
  const auto handle = BlockingCall([&](const SignalCheck& interrupted) {
    return core.session()->CreateActor(std::move(actor), interrupted);
  });
  py::object lifetime = py::none();
  if (!handle.handle_ref.IsNil()) {
    lifetime = WrapReference(core.session(), handle.handle_ref, nullptr);
  }
  py::object existing = py::none();
  if (handle.existing_blob.has_value()) existing = py::bytes(*handle.existing_blob);
  return py::make_tuple(ActorClient{core.session(), handle.id}, lifetime, existing);
}

ActorClient ClientOf(const Core& core, const py::bytes& actor_id) {
  const base::ActorId id = ToActorId(actor_id);
  core.session()->KnowActor(id, -1);
  return {core.session(), id};
}

py::tuple GetNamedActor(const Core& core, const std::string& name,
                        const std::string& actor_namespace) {
  const auto found = BlockingCall([&](const SignalCheck& interrupted) {
    return core.session()->GetNamedActor(name, actor_namespace, interrupted);
  });
  return py::make_tuple(py::bytes(found.actor_id()), py::bytes(found.handle_blob()));
}

std::vector<std::pair<std::string, std::string>> ListNamedActors(const Core& core,
                                                                 bool all_namespaces) {
  const auto named = BlockingCall([&](const SignalCheck& interrupted) {
    return core.session()->ListNamedActors(all_namespaces, interrupted);
  });
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& entry : named.actors()) out.emplace_back(entry.name(), entry.actor_namespace());
  return out;
}

void KillActor(const Core& core, const py::bytes& actor_id, bool no_restart) {
  const base::ActorId id = ToActorId(actor_id);
  BlockingCall([&](const SignalCheck& interrupted) {
    return core.session()->KillActor(id, no_restart, interrupted);
  });
}

}  // namespace

void RegisterActors(py::module_& module, py::class_<Core>& type) {
  py::class_<ActorClient>(module, "ActorClient")
      .def_property_readonly(
          "actor_id", [](const ActorClient& self) { return py::bytes(self.id.BinaryString()); })
      .def("submit", &ActorClient::Submit, py::arg("template"), py::arg("args"), py::arg("kwargs"))
      .def("state", &ActorClient::State);
  type.def("create_actor", &CreateActor)
      .def("actor_client", &ClientOf, py::arg("actor_id"))
      .def("get_named_actor", &GetNamedActor, py::arg("name"), py::arg("namespace"))
      .def("list_named_actors", &ListNamedActors, py::arg("all_namespaces"))
      .def("kill_actor", &KillActor, py::arg("actor_id"), py::arg("no_restart"));
}

}  // namespace ray::bindings
