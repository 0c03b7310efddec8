// What the lease queue tells users of requests that wait.
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ray/scheduling/lease_queue.h"
#include "ray/scheduling/lease_queue_parts.h"

namespace ray::scheduling {

using resources::ResourceSet;

void LeaseQueue::WarnIfDue() {
  const absl::Time before = clock_->Now() - options_.warn_after;
  for (const auto& [key, in_class] : classes_) {
    if (!in_class->queue.empty() && in_class->queue.front().since <= before) {
      WarnHead(in_class.get());
    }
  }
  for (const auto& [key, lease] : awaiting_) {
    if (lease->warned || lease->since > before) continue;
    lease->warned = true;
    actions_->Warn({key.first, lease->request_id, lease->name, /*infeasible=*/false,
                    absl::StrCat("The task ", lease->name,
                                 " has its resources but still waits for a worker process to start "
                                 "on this node. See worker-*.err and zygote.err in the session's "
                                 "log folder if this goes on.")});
  }
}

// What has waited long enough for a node that does not exist.
void LeaseQueue::GiveUpIfDue() {
  if (options_.infeasible_timeout == absl::InfiniteDuration()) return;
  const absl::Time before = clock_->Now() - options_.infeasible_timeout;
  std::vector<Class*> hopeless;
  for (const auto& [key, in_class] : classes_) {
    const bool late = !in_class->queue.empty() && in_class->queue.front().since <= before;
    if (late && ProspectOf(*in_class->shape) == Prospect::kNever)
      hopeless.push_back(in_class.get());
  }
  for (Class* in_class : hopeless) {
    const ClientId client = in_class->key.client;
    while (!in_class->queue.empty() && in_class->queue.front().since <= before) {
      const uint64_t request_id = in_class->queue.front().request_id;
      const std::string why =
          ExplainInfeasible(in_class->queue.front().task_name, in_class->key.shape);
      Unqueue(in_class->queue.begin(), in_class);
      actions_->GiveUp(client, request_id, why);
    }
    RemoveIfUnused(in_class);
  }
}

// Only the head of a class is warned of: what waits behind it waits for the same.
void LeaseQueue::WarnHead(Class* in_class) {
  const Queued& head = in_class->queue.front();
  const ShapeKey& needs = in_class->key.shape;
  if (ProspectOf(*in_class->shape) == Prospect::kNever) {
    if (in_class->warned_infeasible == head.request_id) return;
    in_class->warned_infeasible = head.request_id;
    actions_->Warn({in_class->key.client, head.request_id, head.task_name, /*infeasible=*/true,
                    ExplainInfeasible(head.task_name, needs)});
  } else if (!in_class->warned_busy) {
    in_class->warned_busy = true;
    actions_->Warn({in_class->key.client, head.request_id, head.task_name, /*infeasible=*/false,
                    ExplainBusy(head.task_name, needs)});
  }
}

std::string LeaseQueue::ExplainInfeasible(const std::string& task, const ShapeKey& needs) const {
  if (!needs.bundle.IsNode()) {
    return absl::StrCat(
        "The task ", task, " can never run in its placement group ", needs.bundle.group.Hex(),
        ": it needs ", needs.resources.ToString(),
        ", and no bundle that it may use on this node has as much. Cancel it, or ask "
        "for less.");
  }
  const ResourceSet& total = resources().total();
  std::vector<std::string> missing;
  for (const auto& [name, quantity] : needs.resources) {
    if (quantity <= total.Get(name)) continue;
    missing.push_back(absl::StrCat(resources::FormatQuantity(quantity), " ", name,
                                   " (this node has ", resources::FormatQuantity(total.Get(name)),
                                   ")"));
  }
  return absl::StrCat("No node of the cluster can run the task ", task, ": it needs ",
                      absl::StrJoin(missing, " and "), ". This node has ", total.ToString(),
                      " in total. The task stays pending until a node with enough of it joins; "
                      "cancel it, or ask for less, if none will.");
}

std::string LeaseQueue::ExplainBusy(const std::string& task, const ShapeKey& needs) const {
  return absl::StrCat("The task ", task, " has waited for ", Describe(needs), " for ",
                      absl::FormatDuration(options_.warn_after), " or longer: ", StateOf(needs));
}

std::string LeaseQueue::Describe(const ShapeKey& needs) {
  if (needs.bundle.IsNode()) return needs.resources.ToString();
  return absl::StrCat(needs.resources.ToString(), " of its placement group ",
                      needs.bundle.group.Hex());
}

// What is to happen before it can be granted.
std::string LeaseQueue::StateOf(const ShapeKey& needs) const {
  constexpr char kUntilGivenBack[] = "It runs once other tasks and actors give enough back.";
  if (needs.bundle.IsNode()) {
    const ResourceSet total = resources().total().Restrict(needs.resources);
    const ResourceSet free = resources().available().Restrict(needs.resources);
    return absl::StrCat("of ", total.ToString(), " in total, ", free.ToString(), " is free. ",
                        kUntilGivenBack);
  }
  if (HasCommitted(needs.bundle.group)) {
    return absl::StrCat("its bundles are in use. ", kUntilGivenBack);
  }
  return "the group is not placed yet; ray.util.placement_group_table tells why.";
}

std::string LeaseQueue::Explain(ClientId client, uint64_t request_id) const {
  if (awaiting_.contains({client, request_id})) {
    return "It has its resources and waits for a worker process: one is being started, or its "
           "runtime environment is being set up.";
  }
  auto it = queued_.find({client, request_id});
  if (it == queued_.end()) return "";
  const Shape& shape = *it->second.second->shape;
  const std::string& task = it->second.first->task_name;
  if (ProspectOf(shape) == Prospect::kNever) return ExplainInfeasible(task, shape.key);
  return absl::StrCat("The task ", task, " waits for ", Describe(shape.key), ": ",
                      StateOf(shape.key));
}

}  // namespace ray::scheduling
