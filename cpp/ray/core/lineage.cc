#include "ray/core/lineage.h"

#include <utility>

#include "ray/base/check.h"

namespace ray::core {

using base::ObjectId;
using base::TaskId;

std::vector<TaskPtr> Lineage::Keep(const TaskPtr& task, uint32_t objects) {
  MANTA_CHECK(objects > 0);
  auto [it, inserted] = kept_.try_emplace(task->id);
  MANTA_CHECK(inserted);
  Kept& kept = it->second;
  kept.task = task;
  kept.objects = objects;
  kept.bytes = sizeof(Task) + (task->args == nullptr ? 0 : task->args->view().size());
  kept.age = by_age_.insert(by_age_.end(), task->id);
  bytes_ += kept.bytes;
  std::vector<TaskPtr> evicted;
  while (bytes_ > bytes_max_) evicted.push_back(Remove(kept_.find(by_age_.front())));
  return evicted;
}

TaskPtr Lineage::Take(const TaskId& task) {
  auto it = kept_.find(task);
  return it == kept_.end() ? nullptr : Remove(it);
}

TaskPtr Lineage::ObjectGone(const ObjectId& object) {
  auto it = kept_.find(base::TaskOf(object));
  if (it == kept_.end() || --it->second.objects > 0) return nullptr;
  return Remove(it);
}

TaskPtr Lineage::Remove(Map::iterator kept) {
  bytes_ -= kept->second.bytes;
  by_age_.erase(kept->second.age);
  TaskPtr task = std::move(kept->second.task);
  kept_.erase(kept);
  return task;
}

}  // namespace ray::core
