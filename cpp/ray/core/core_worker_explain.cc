// What an object waits for, in words.
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ray/base/status_macros.h"
#include "ray/core/core_worker.h"

namespace ray::core {

using base::ObjectId;

absl::StatusOr<std::string> CoreWorker::WhyPending(const ObjectId& id, Interrupted interrupted) {
  wire::v1::ExplainLease request;
  std::string name;
  std::optional<base::PlacementGroupId> awaited;
  {
    absl::MutexLock lock(&mutex_);
    Drain();
    ObjectTable::Entry* entry = objects_.Find(id);
    if (entry == nullptr) return absl::NotFoundError("this process holds no such reference");
    if (entry->state != ObjectState::kPending) return "";
    if (!entry->owned) {
      return absl::StrCat("It belongs to the process ", entry->owner->worker_id.Hex(),
                          ", which submitted its task and can tell what that waits for.");
    }
    if (deferred_.contains(id)) {
      return "This process makes its value, now that somebody has asked for it.";
    }
    if (!pending_.contains(base::TaskOf(id))) {
      auto group = awaited_groups_.find(id);
      if (group == awaited_groups_.end()) return "";
      awaited = group->second;
    }
  }
  if (awaited.has_value()) return ExplainGroup(*awaited, interrupted);
  {
    absl::MutexLock lock(&mutex_);
    auto it = pending_.find(base::TaskOf(id));
    if (it == pending_.end()) return "";  // it has ended meanwhile
    const Task& task = *it->second;
    name = task.task_template->name;
    if (task.unresolved > 0) return ExplainArguments(task);
    if (!task.actor_id.IsNil()) return actors_.Explain(task);
    if (auto worker = tasks_->WorkerRunning(task.id); worker.has_value()) {
      return absl::StrCat("The task ", name, " was sent to the worker ", (*worker)->worker_id.Hex(),
                          ", which runs it or will run it next.");
    }
    if (delayed_.contains(task.id)) {
      return absl::StrCat("The task ", name, " waits before it runs again: the worker that ran it ",
                          "was ended because its node was short of memory.");
    }
    auto open = tasks_->RequestFor(task);
    if (!open.has_value()) return absl::StrCat("The task ", name, " waits for its turn.");
    request.set_request_id(*open);
  }
  MANTA_ASSIGN_OR_RETURN(auto reply, ExplainLease(request, interrupted));
  if (!reply.message().empty()) return reply.message();
  return absl::StrCat("The task ", name, " is about to be sent to a worker.");
}

absl::StatusOr<std::string> CoreWorker::ExplainGroup(const base::PlacementGroupId& group,
                                                     Interrupted interrupted) {
  wire::v1::PlacementGroupRequest request;
  request.set_placement_group_id(group.BinaryString());
  MANTA_ASSIGN_OR_RETURN(auto reply, ListPlacementGroups(request, interrupted));
  const std::string& reason = reply.groups(0).pending_reason();
  if (!reason.empty()) return reason;
  return absl::StrCat("The placement group ", group.Hex(), " is being set aside.");
}

std::string CoreWorker::ExplainArguments(const Task& task) {
  std::vector<std::string> missing;
  for (const Task::TopLevelRef& ref : task.refs) {
    if (objects_.Find(ref.id)->state != ObjectState::kPending) continue;
    auto source = pending_.find(base::TaskOf(ref.id));
    std::string from = source == pending_.end() ? "" : source->second->task_template->name;
    missing.push_back(absl::StrCat("ObjectRef(", ref.id.Hex(), ")",
                                   from.empty() ? "" : absl::StrCat(" of the task ", from)));
  }
  if (missing.empty()) {
    return absl::StrCat("The task ", task.task_template->name, " is about to run again.");
  }
  return absl::StrCat("The task ", task.task_template->name,
                      " waits for its arguments: ", absl::StrJoin(missing, ", "), ".");
}

}  // namespace ray::core
