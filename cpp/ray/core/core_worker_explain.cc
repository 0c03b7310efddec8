// What an object waits for, in words.
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
    auto it = pending_.find(base::TaskOf(id));
    if (it == pending_.end()) return "";
    const Task& task = *it->second;
    name = task.task_template->name;
    if (task.unresolved > 0) return ExplainArguments(task);
    if (!task.actor_id.IsNil()) return actors_.Explain(task);
    if (auto worker = tasks_->WorkerRunning(task.id); worker.has_value()) {
      return absl::StrCat("The task ", name, " was sent to the worker ", (*worker)->worker_id.Hex(),
                          ", which runs it or will run it next.");
    }
    auto open = tasks_->RequestFor(task);
    if (!open.has_value()) return absl::StrCat("The task ", name, " waits for its turn.");
    request.set_request_id(*open);
  }
  MANTA_ASSIGN_OR_RETURN(auto reply, ExplainLease(request, interrupted));
  if (!reply.message().empty()) return reply.message();
  return absl::StrCat("The task ", name, " is about to be sent to a worker.");
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
  return absl::StrCat("The task ", task.task_template->name,
                      " waits for its arguments: ", absl::StrJoin(missing, ", "), ".");
}

}  // namespace ray::core
