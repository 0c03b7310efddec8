#include "ray/core/task_receiver.h"

#include <algorithm>
#include <utility>

#include "ray/base/check.h"

namespace ray::core {
namespace {

bool HasItsArguments(const IncomingCallPtr& call) { return call->fetching == 0; }

}  // namespace

TaskReceiver::TaskReceiver() { SetGroups(1, {}); }

void TaskReceiver::SetGroups(int default_limit,
                             const std::vector<std::pair<std::string, int>>& groups) {
  std::vector<IncomingCallPtr> waiting = Recall([](const IncomingCall&) { return true; });
  groups_.clear();
  groups_[""].limit = default_limit;
  for (const auto& [name, limit] : groups) groups_[name].limit = limit;
  default_group_ = &groups_[""];
  for (IncomingCallPtr& call : waiting) Enqueue(std::move(call));
}

bool TaskReceiver::Group::CanStartOutOfTurn() const {
  return std::any_of(out_of_turn.begin(), out_of_turn.end(), HasItsArguments);
}

IncomingCallPtr TaskReceiver::Group::TakeFirst() {
  const auto first = std::find_if(out_of_turn.begin(), out_of_turn.end(), HasItsArguments);
  if (first != out_of_turn.end()) {
    IncomingCallPtr call = std::move(*first);
    out_of_turn.erase(first);
    return call;
  }
  IncomingCallPtr call = std::move(queue.front());
  queue.pop_front();
  return call;
}

TaskReceiver::Group& TaskReceiver::GroupOf(const IncomingCall& call) {
  if (call.task_template == nullptr || call.task_template->concurrency_group.empty()) {
    return *default_group_;
  }
  auto it = groups_.find(call.task_template->concurrency_group);
  return it == groups_.end() ? *default_group_ : it->second;
}

bool TaskReceiver::Enqueue(IncomingCallPtr call) {
  if (!known_.insert(call->task_id).second) return false;
  Group& group = GroupOf(*call);
  if (call->out_of_turn) {
    group.out_of_turn.push_back(std::move(call));
  } else {
    group.queue.push_back(std::move(call));
  }
  ++queued_;
  return true;
}

bool TaskReceiver::HasRunnable() const {
  if (queued_ == 0) return false;
  if (default_group_->CanStart()) return true;
  if (groups_.size() == 1) return false;
  return std::any_of(groups_.begin(), groups_.end(),
                     [](const auto& entry) { return entry.second.CanStart(); });
}

IncomingCallPtr TaskReceiver::PopRunnable() {
  Group* group = default_group_;
  if (!group->CanStart()) {
    auto it = std::find_if(groups_.begin(), groups_.end(),
                           [](const auto& entry) { return entry.second.CanStart(); });
    if (it == groups_.end()) return nullptr;
    group = &it->second;
  }
  IncomingCallPtr call = group->TakeFirst();
  ++group->running;
  --queued_;
  running_[call->task_id] = call;
  return call;
}

void TaskReceiver::Finish(const IncomingCall& call) {
  bool known = running_.erase(call.task_id) > 0;
  MANTA_CHECK(known);
  known_.erase(call.task_id);
  --GroupOf(call).running;
}

std::vector<IncomingCallPtr> TaskReceiver::RunningAheadOf(const base::TaskId& queued) {
  for (auto& [name, group] : groups_) {
    const auto is_it = [&](const auto& call) { return call->task_id == queued; };
    const bool waits = std::any_of(group.queue.begin(), group.queue.end(), is_it) ||
                       std::any_of(group.out_of_turn.begin(), group.out_of_turn.end(), is_it);
    if (!waits || group.running < group.limit) continue;
    std::vector<IncomingCallPtr> ahead;
    for (const auto& [id, call] : running_) {
      if (&GroupOf(*call) == &group) ahead.push_back(call);
    }
    return ahead;
  }
  return {};
}

std::vector<IncomingCallPtr> TaskReceiver::Recall(
    absl::FunctionRef<bool(const IncomingCall&)> matches) {
  std::vector<IncomingCallPtr> recalled;
  for (auto& [name, group] : groups_) {
    const auto take_back = [&](auto* queue) {
      std::remove_reference_t<decltype(*queue)> kept;
      for (IncomingCallPtr& call : *queue) {
        (matches(*call) ? recalled.emplace_back() : kept.emplace_back()) = std::move(call);
      }
      *queue = std::move(kept);
    };
    take_back(&group.out_of_turn);
    take_back(&group.queue);
  }
  queued_ -= recalled.size();
  for (const IncomingCallPtr& call : recalled) known_.erase(call->task_id);
  return recalled;
}

IncomingCallPtr TaskReceiver::FindRunning(const base::TaskId& task) const {
  auto it = running_.find(task);
  return it == running_.end() ? nullptr : it->second;
}

std::vector<IncomingCallPtr> TaskReceiver::Running() const {
  std::vector<IncomingCallPtr> calls;
  for (const auto& [id, call] : running_) calls.push_back(call);
  return calls;
}

void TaskReceiver::CheckInvariants() const {
  size_t queued = 0;
  size_t running = 0;
  for (const auto& [name, group] : groups_) {
    MANTA_CHECK(group.running >= 0 && group.running <= group.limit);
    queued += group.queue.size() + group.out_of_turn.size();
    running += static_cast<size_t>(group.running);
  }
  MANTA_CHECK(queued == queued_ && running == running_.size());
  MANTA_CHECK(known_.size() == queued + running);
}

}  // namespace ray::core
