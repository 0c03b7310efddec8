// Objects that were lost with their node: another copy, or their task again; and dead nodes.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/clock.h"
#include "ray/base/logging.h"
#include "ray/core/core_worker.h"
#include "ray/net/parse_frame.h"

namespace ray::core {

using base::ActorId;
using base::NodeId;
using base::ObjectId;
using base::TaskId;

namespace {

bool IsPut(const ObjectId& id) {
  return base::IndexOf(id) > base::IndexOf(base::PutObjectId(base::TaskOf(id), 0));
}

std::string WhyNotAgain(const ObjectId& id, const Task* task) {
  if (IsPut(id)) return ". What ray.put made cannot be computed again";
  if (task != nullptr) {
    return absl::StrCat(", and its task ", task->task_template->name,
                        " has used all its retries: raise max_retries");
  }
  return ", and its task may not run again: it was made with max_retries=0 (a method with "
         "max_task_retries=0), or its arguments were dropped because of lineage_max_bytes";
}

}  // namespace

void CoreWorker::OnNodeGone(const net::Frame& frame) {
  auto message = net::ParseMetadata<wire::v1::NodeGone>(frame);
  auto node = message.ok() ? NodeId::FromBinary(message->node_id()) : message.status();
  if (!node.ok()) return;
  MANTA_LOG(kInfo, "node ", node->Hex(), " is dead: ", message->reason());
  peers_->NodeGone(*node);
  for (const AddressPtr& worker : tasks_->WorkersOn(*node)) LoseWorker(worker);
  for (const ObjectId& id : objects_.NodeGone(*node)) {
    ComputeAgain(id, "all copies of it were lost with their nodes");
  }
}

// No copy of the object is at `nodes`, as this process or a borrower found out.
void CoreWorker::CopiesLost(const ObjectId& id, const std::vector<NodeId>& nodes,
                            const std::string& reason) {
  ObjectTable::Entry* entry = objects_.Find(id);
  if (entry == nullptr || entry->state == ObjectState::kInline) return;
  if (entry->owned) {
    if (!objects_.DropCopies(id, nodes)) ComputeAgain(id, reason);
    return;
  }
  // Whatever its owner said of it before is out of date.
  objects_.DropCopies(id, entry->Locations());
  lost_at_[id] = nodes;
}

void CoreWorker::Recover(const ObjectId& id) {
  mutex_.AssertHeld();
  ComputeAgain(id, "its value was let go when only tasks that may run again needed it");
}

bool CoreWorker::CanRecover(const ObjectId& id) {
  mutex_.AssertHeld();
  const TaskId task = base::TaskOf(id);
  return deferred_.contains(id) || lineage_.Has(task) || pending_.contains(task);
}

// Of a value that is pending and that nobody computes.
void CoreWorker::ComputeAgain(const ObjectId& id, const std::string& reason) {
  if (AskForDeferred(id)) return;
  TaskId task_id = base::TaskOf(id);
  if (pending_.contains(task_id)) return;  // it runs again for another of its objects
  TaskPtr task = lineage_.Take(task_id);
  if (task != nullptr && task->TakeRetry()) {
    MANTA_LOG(kInfo, "object ", id.Hex(), " of ", task->task_template->name,
              " is computed again, attempt ", task->attempt, ": ", reason);
    return Resubmit(task);
  }
  if (task != nullptr) LetGo(task);
  SystemError error;
  error.code = IsPut(id) ? "OBJECT_LOST" : "RECONSTRUCTION_FAILED";
  error.message = absl::StrCat(reason, WhyNotAgain(id, task.get()));
  error.details = {{"object_id", id.Hex()}};
  // Not from inside the table, which may have asked for it.
  loop_.Post([this, id, value = SerializeSystemError(error)] {
    mutex_.AssertHeld();
    objects_.SetInline(id, value);
  });
}

// As if it were submitted now; its return objects are there already. A call of an actor does not
// queue behind others: they may wait for what it computes.
void CoreWorker::Resubmit(const TaskPtr& task) {
  pending_.emplace(task->id, task);
  task->out_of_turn = !task->actor_id.IsNil();
  const ActorId gone = CanBeMadeAnew(task->actor_id) ? task->actor_id : ActorId();
  if (!gone.IsNil()) {
    auto& mentions = task->mentions;
    const auto is_its_handle = [id = HandleReferenceOf(gone)](const ContainedObject& mentioned) {
      return mentioned.id == id;
    };
    mentions.erase(std::remove_if(mentions.begin(), mentions.end(), is_its_handle), mentions.end());
  }
  PinAll(task.get());    // at once: whatever ends the task unpins them
  task->unresolved = 1;  // it is not sent yet: a cancel ends it here
  loop_.Post([this, task, gone] {
    mutex_.AssertHeld();
    if (!pending_.contains(task->id)) return;
    if (!gone.IsNil() && CanBeMadeAnew(gone)) {
      const ActorHandle anew = MakeAnew(gone);
      task->actor_id = anew.id;
      objects_.Pin(anew.handle_ref, nullptr);
      task->mentions.push_back({anew.handle_ref, nullptr});
      objects_.RemoveLocal(anew.handle_ref);
    }
    task->unresolved = 0;
    Resolve(task);
  });
  LetGo(task);  // behind that: it may be the last to keep what the actor is made of
}

void CoreWorker::PinAll(Task* task) {
  for (const ContainedObject& mentioned : task->mentions)
    objects_.Pin(mentioned.id, mentioned.owner);
}

// The task has ended. If it could be run again and something of it lies in a store, it is kept.
void CoreWorker::KeepLineage(const TaskPtr& task) {
  if (task->retries_left == 0 || task->cancelled) return;
  const uint64_t last = task->task_template->is_stream()
                            ? 1 + task->items
                            : static_cast<uint64_t>(task->task_template->return_objects());
  uint32_t live = 0;
  bool stored = false;
  for (uint64_t i = 1; i <= last; ++i) {
    ObjectTable::Entry* entry =
        objects_.Find(base::ReturnObjectId(task->id, static_cast<uint32_t>(i)));
    if (entry == nullptr) continue;
    ++live;
    stored = stored || entry->state == ObjectState::kInStore;
  }
  if (!stored) return;
  for (const ContainedObject& mentioned : task->mentions) {
    if (HoldsForLineage(mentioned)) objects_.PinLineage(mentioned.id);
  }
  if (auto of = makings_.find(task->actor_id); of != makings_.end()) ++of->second.kept_calls;
  for (const TaskPtr& evicted : lineage_.Keep(task, live)) LetGo(evicted);
}

// The task is not in the lineage any more, and needs none of its arguments for that.
void CoreWorker::LetGo(const TaskPtr& task) {
  // Later: the table may be at work.
  loop_.Post([this, task, actor = task->actor_id] {
    mutex_.AssertHeld();
    if (auto of = makings_.find(actor); of != makings_.end()) {
      --of->second.kept_calls;
      ForgetMakingIfUnused(actor);
    }
    for (const ContainedObject& mentioned : task->mentions) {
      if (HoldsForLineage(mentioned)) objects_.UnpinLineage(mentioned.id);
    }
  });
}

// What an actor's method has made does not keep the actor: it may hold that very object itself, and
// neither would ever go.
bool CoreWorker::HoldsForLineage(const ContainedObject& mentioned) const {
  const bool is_handle =
      mentioned.id == HandleReferenceOf(base::ActorOf(base::TaskOf(mentioned.id)));
  return IsOwned(mentioned) && !is_handle;
}

bool CoreWorker::IsOwned(const ContainedObject& mentioned) const {
  return mentioned.owner == nullptr || mentioned.owner->worker_id == self_->worker_id;
}

}  // namespace ray::core
