#include "tests/sim/cluster/calls.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"

namespace ray::sim {

core::TemplatePtr Caller::TemplateOf(const Call& call, const CallOptions& options, bool of_actor) {
  std::string resources;
  for (const auto& [name, quantity] : options.resources) {
    absl::StrAppend(&resources, name, "=", quantity, " ");
  }
  const std::string leases = absl::StrCat(resources, "/", options.strategy);
  const char function = static_cast<char>(call.function);
  const std::string key = absl::StrCat(std::string(1, function), of_actor ? "A" : "T",
                                       options.max_retries, "/", leases);
  core::TemplatePtr& found = templates_[key];
  if (found != nullptr) return found;
  auto made = std::make_shared<core::TaskTemplate>();
  made->uid = templates_.size();
  made->name = std::string(1, function);
  made->function = made->name;
  made->max_retries = options.max_retries;
  made->strategy = options.strategy;
  made->group = options.group;
  made->scheduling_class = leases;
  if (!of_actor) made->resources = options.resources;
  found = std::move(made);
  return found;
}

core::CallArguments Caller::ArgumentsOf(const Call& call) const {
  core::CallArguments arguments;
  std::vector<core::ContainedObject> inside;
  for (const HandlePtr& ref : call.inside) inside.push_back(ref->Named());
  // Number, time and place of the result, before the references.
  std::string bytes = Encode(session_->self_address(), call.number, inside, 0);
  const auto micros = static_cast<uint32_t>(absl::ToInt64Microseconds(call.time));
  bytes.append(reinterpret_cast<const char*>(&micros), sizeof micros);
  bytes.push_back(call.stored ? 1 : 0);
  arguments.args = core::Serialize(AsValue(bytes));
  arguments.nested = std::move(inside);
  int32_t position = 0;
  for (const HandlePtr& ref : call.args) {
    core::Task::TopLevelRef argument;
    argument.id = ref->id();
    argument.owner = ref->Named().owner;
    argument.position = position++;
    arguments.refs.push_back(std::move(argument));
  }
  return arguments;
}

HandlePtr Caller::Submit(const Call& call, const CallOptions& options, const base::TaskId& parent) {
  const base::TaskId task =
      session_->SubmitTask(TemplateOf(call, options, false), ArgumentsOf(call), parent);
  return std::make_shared<Handle>(session_, base::ReturnObjectId(task, 1), nullptr);
}

HandlePtr Caller::SubmitTo(const base::ActorId& actor, const Call& call, int max_retries) {
  CallOptions options;
  options.max_retries = max_retries;
  auto task = session_->SubmitActorCall(actor, TemplateOf(call, options, true), ArgumentsOf(call),
                                        base::TaskId());
  MANTA_CHECK(task.has_value());
  return std::make_shared<Handle>(session_, base::ReturnObjectId(*task, 1), nullptr);
}

}  // namespace ray::sim
