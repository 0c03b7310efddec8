#include "ray/core/actor_submitter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"

namespace ray::core {

using base::ActorId;
using base::WorkerId;
using wire::v1::ActorInfo;

namespace {

// Why a call that was under way has no result.
constexpr char kRestarting[] =
    "the process of the actor ended while this call was under way, and the actor is being "
    "restarted.";
constexpr char kDisconnected[] =
    "the connection to the actor's process broke while this call was under way; the actor lives.";

}  // namespace

void ActorSubmitter::AddActor(const ActorId& id, int32_t pending_calls_max) {
  auto& slot = actors_[id];
  if (slot != nullptr) return;
  slot = std::make_unique<Actor>();
  slot->id = id;
  slot->pending_calls_max = pending_calls_max;
  actions_->Subscribe(id);
}

ActorSubmitter::Actor* ActorSubmitter::Find(const ActorId& id) {
  auto it = actors_.find(id);
  return it == actors_.end() ? nullptr : it->second.get();
}

const ActorSubmitter::Actor* ActorSubmitter::Find(const ActorId& id) const {
  auto it = actors_.find(id);
  return it == actors_.end() ? nullptr : it->second.get();
}

bool ActorSubmitter::HasRoom(const ActorId& id) const {
  const Actor* actor = Find(id);
  MANTA_CHECK(actor != nullptr);
  if (actor->pending_calls_max < 0) return true;
  size_t pending = actor->queue.size() + actor->in_flight.size() + actor->no_verdict.size();
  return pending < static_cast<size_t>(actor->pending_calls_max);
}

void ActorSubmitter::Submit(const TaskPtr& task) {
  Actor* actor = Find(task->actor_id);
  MANTA_CHECK(actor != nullptr);
  if (actor->death.has_value()) return actions_->Fail(task, *actor->death);
  if (task->out_of_turn) {
    actor->queue.push_front(task);
  } else {
    actor->queue.push_back(task);
  }
  Flush(*actor);
}

void ActorSubmitter::OnResolved(const TaskPtr& task) {
  if (Actor* actor = Find(task->actor_id); actor != nullptr) Flush(*actor);
}

bool ActorSubmitter::RemoveQueued(const TaskPtr& task) {
  Actor* actor = Find(task->actor_id);
  if (actor == nullptr || std::erase(actor->queue, task) == 0) return false;
  Flush(*actor);
  return true;
}

std::optional<AddressPtr> ActorSubmitter::WorkerRunning(const TaskPtr& task) const {
  const Actor* actor = Find(task->actor_id);
  if (actor == nullptr || actor->address == nullptr) return std::nullopt;
  bool found =
      std::find(actor->in_flight.begin(), actor->in_flight.end(), task) != actor->in_flight.end();
  return found ? std::make_optional(actor->address) : std::nullopt;
}

void ActorSubmitter::Flush(Actor& actor) {
  // An incarnation that is known to end keeps its address while its replies are read, but gets no
  // more calls.
  if (actor.state != wire::v1::ALIVE) return;
  while (actor.address != nullptr && !actor.queue.empty() && actor.queue.front()->unresolved == 0) {
    TaskPtr task = std::move(actor.queue.front());
    actor.queue.pop_front();
    actor.in_flight.push_back(task);
    actions_->PushCall(actor.address, task);
  }
}

void ActorSubmitter::OnTaskDone(const TaskPtr& task) {
  Actor* actor = Find(task->actor_id);
  if (actor == nullptr) return;
  auto& in_flight = actor->in_flight;
  auto it = std::find(in_flight.begin(), in_flight.end(), task);
  if (it != in_flight.end()) in_flight.erase(it);
}

void ActorSubmitter::Retry(const TaskPtr& task) {
  OnTaskDone(task);
  Submit(task);
}

void ActorSubmitter::OnActorInfo(const ActorInfo& info) {
  absl::StatusOr<ActorId> id = ActorId::FromBinary(info.actor_id());
  Actor* actor = id.ok() ? Find(*id) : nullptr;
  if (actor == nullptr || actor->death.has_value()) return;
  // The incarnation that this process has lost the connection to lives: calls go on over another.
  const bool is_back =
      info.revision() == actor->revision && std::exchange(actor->asked, false) && IsCutOff(*actor);
  if (info.revision() <= actor->revision && !is_back) return;
  actor->revision = info.revision();
  actor->state = info.state();
  actor->description = info.class_name();
  actor->pending_reason = info.pending_reason();
  if (info.state() == wire::v1::ALIVE) {
    actor->was_alive = true;
    absl::StatusOr<AddressPtr> address = WorkerAddress::FromProto(info.address());
    if (!address.ok()) return;
    if (actor->address != nullptr && actor->address->worker_id != (*address)->worker_id) {
      LoseInFlight(*actor);
    }
    actor->address = *std::move(address);
    by_worker_[actor->address->worker_id] = actor;
    // A verdict that was awaited: the incarnation that lost these calls is gone, and the actor is
    // back; or only the connection was.
    FailAll(std::exchange(actor->no_verdict, {}),
            UnavailableError(*actor, is_back ? kDisconnected : kRestarting));
    return Flush(*actor);
  }
  if (info.state() == wire::v1::DEAD) actor->death = DeathError(*actor, info);
  // Replies that the incarnation still sent may lie unread in its connection: they are read before
  // its end is seen.
  bool replies_may_come = actor->address != nullptr && !actor->in_flight.empty() &&
                          actions_->IsConnected(actor->address->worker_id);
  if (!replies_may_come && actor->address != nullptr) LoseInFlight(*actor);
  if (info.state() == wire::v1::RESTARTING) {
    FailAll(std::exchange(actor->no_verdict, {}), UnavailableError(*actor, kRestarting));
  } else if (info.state() == wire::v1::DEAD) {
    Die(*actor);
  }
}

WorkerId ActorSubmitter::WorkerOf(const ActorId& id) const {
  const Actor* actor = Find(id);
  return actor == nullptr || actor->address == nullptr ? WorkerId() : actor->address->worker_id;
}

void ActorSubmitter::IncarnationEnds(const ActorId& id, const WorkerId& worker) {
  Actor* actor = Find(id);
  if (actor == nullptr || actor->state != wire::v1::ALIVE) return;
  if (actor->address != nullptr && actor->address->worker_id == worker) {
    actor->state = wire::v1::RESTARTING;
  }
}

void ActorSubmitter::OnConnectionLost(const WorkerId& worker) {
  auto it = by_worker_.find(worker);
  if (it == by_worker_.end()) return;
  Actor* actor = it->second;
  if (actor->address == nullptr || actor->address->worker_id != worker) return;
  LoseInFlight(*actor);
  if (actor->death.has_value()) return Die(*actor);
  if (actor->state == wire::v1::RESTARTING) {
    FailAll(std::exchange(actor->no_verdict, {}), UnavailableError(*actor, kRestarting));
  } else if (IsCutOff(*actor)) {
    actions_->AskLater(actor->id);
  }
}

bool ActorSubmitter::IsCutOff(const Actor& actor) {
  return actor.state == wire::v1::ALIVE && actor.address == nullptr;
}

void ActorSubmitter::AskIfCutOff(const ActorId& id) {
  Actor* actor = Find(id);
  if (actor == nullptr || !IsCutOff(*actor)) return;
  actor->asked = true;
  actions_->Subscribe(id);
}

// The incarnation is gone: calls with retries go back to the front of the queue, the others await
// the verdict.
void ActorSubmitter::LoseInFlight(Actor& actor) {
  by_worker_.erase(actor.address->worker_id);
  actor.address = nullptr;
  std::vector<TaskPtr> again;
  for (TaskPtr& task : actor.in_flight) {
    (task->TakeRetry() ? again : actor.no_verdict).push_back(std::move(task));
  }
  actor.in_flight.clear();
  actor.queue.insert(actor.queue.begin(), again.begin(), again.end());
}

void ActorSubmitter::Die(Actor& actor) {
  std::vector<TaskPtr> tasks = std::exchange(actor.no_verdict, {});
  tasks.insert(tasks.end(), actor.queue.begin(), actor.queue.end());
  actor.queue.clear();
  FailAll(std::move(tasks), *actor.death);
  if (!actor.in_flight.empty()) return;  // it dies once more when its connection breaks
  actions_->ActorDead(actor.id);
  dead_.push_back(actor.id);
  if (dead_.size() > kDeadActorsKept) ForgetOldest();
}

void ActorSubmitter::ForgetOldest() {
  actors_.erase(dead_.front());
  dead_.pop_front();
}

void ActorSubmitter::FailAll(std::vector<TaskPtr> tasks, const SystemError& error) {
  for (const TaskPtr& task : tasks) actions_->Fail(task, error);
}

SystemError ActorSubmitter::DeathError(const Actor& actor, const ActorInfo& info) const {
  SystemError error;
  error.code = "ACTOR_DIED";
  if (info.death_cause() == wire::v1::ENVIRONMENT_FAILED) error.code = "RUNTIME_ENV_SETUP";
  if (info.death_cause() == wire::v1::UNSCHEDULABLE) error.code = "ACTOR_UNSCHEDULABLE";
  // One that lived was killed with its group; one that never did could not be scheduled.
  if (info.death_cause() == wire::v1::GROUP_REMOVED && !actor.was_alive) {
    error.code = "ACTOR_GROUP_REMOVED";
  }
  error.message = info.death_message();
  error.creation_error = info.creation_error();
  error.details = {{"actor_id", base::BytesToHex(info.actor_id())},
                   {"class_name", info.class_name()},
                   {"name", info.name()},
                   {"namespace", info.actor_namespace()},
                   {"pid", absl::StrCat(info.pid())}};
  return error;
}

SystemError ActorSubmitter::UnavailableError(const Actor& actor, const char* why) const {
  SystemError error;
  error.code = "ACTOR_UNAVAILABLE";
  error.message = absl::StrCat(why,
                               " Whether the call ran is not known. Set max_task_retries to have "
                               "such calls run again.");
  error.details = {{"actor_id", actor.id.Hex()}, {"class_name", actor.description}};
  return error;
}

std::string ActorSubmitter::Explain(const Task& task) const {
  const Actor* actor = Find(task.actor_id);
  if (actor == nullptr) return "";
  std::string name = absl::StrCat("The actor ", actor->id.Hex());
  if (!actor->description.empty()) absl::StrAppend(&name, " (", actor->description, ")");
  auto ahead = [&](const std::deque<TaskPtr>& calls) {
    auto it = std::find_if(calls.begin(), calls.end(),
                           [&](const TaskPtr& call) { return call->id == task.id; });
    return it - calls.begin();
  };
  const bool is_sent = std::count_if(actor->in_flight.begin(), actor->in_flight.end(),
                                     [&](const TaskPtr& call) { return call->id == task.id; }) > 0;
  if (is_sent) {
    return absl::StrCat(name, " is alive. The call was sent to its process; calls of this process ",
                        "that were sent before and have not ended: ", ahead(actor->in_flight), ".");
  }
  return absl::StrCat(
      name, " is ", wire::v1::ActorState_Name(actor->state), ". ",
      actor->pending_reason.empty() ? "" : actor->pending_reason + " ",
      "Calls of this process that wait for it before this one: ", ahead(actor->queue), ".");
}

std::string ActorSubmitter::ClassNameOf(const ActorId& id) const {
  const Actor* actor = Find(id);
  return actor == nullptr ? "" : actor->description;
}

wire::v1::ActorState ActorSubmitter::StateOf(const ActorId& id) const {
  const Actor* actor = Find(id);
  return actor == nullptr ? wire::v1::ACTOR_STATE_UNSPECIFIED : actor->state;
}

void ActorSubmitter::CheckInvariants() const {
  MANTA_CHECK_MSG(dead_.size() <= kDeadActorsKept, "CALL-4");
  for (const ActorId& id : dead_) MANTA_CHECK(Find(id)->death.has_value());
  for (const auto& [id, actor] : actors_) {
    MANTA_CHECK(actor->address != nullptr || actor->in_flight.empty());
    MANTA_CHECK(!actor->death.has_value() || actor->queue.empty());
    if (actor->address == nullptr) continue;
    auto it = by_worker_.find(actor->address->worker_id);
    MANTA_CHECK(it != by_worker_.end() && it->second == actor.get());
  }
}

}  // namespace ray::core
