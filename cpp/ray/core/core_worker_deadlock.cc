// Calls that wait for each other for ever: found by probes that follow who waits for whom (the edge
// chasing of Chandy, Misra and Haas, "Distributed deadlock detection", 1983).
//
// A call that has been blocked in get for a while sends a probe towards what each missing object
// waits for: the object's owner passes it on to where its task is; there it goes on to what that
// task waits for, if it is blocked itself, or, if it is queued in an actor, to the calls that run
// before it. A probe that comes back to its initiator has gone round a cycle. Edges may have gone
// while it was under way, so only the second round in a row counts. Of the calls of a cycle the one
// with the least task id gives up: its get raises, and the others go on.
#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ray/base/logging.h"
#include "ray/core/core_worker.h"
#include "ray/net/parse_frame.h"

namespace ray::core {

using base::ObjectId;
using base::TaskId;
using wire::v1::Probe;

namespace {

// Longer chains are not followed.
constexpr int kPathMax = 100;

}  // namespace

void CoreWorker::ProbeLater(const GetStatePtr& get) {
  if (config_.deadlock_probe_ms <= 0) return;
  loop_.RunAfter(absl::Milliseconds(config_.deadlock_probe_ms),
                 [this, weak = std::weak_ptr<GetState>(get)] {
                   mutex_.AssertHeld();
                   GetStatePtr blocked = weak.lock();
                   if (blocked == nullptr || blocked->ids.empty() || shut_down_.load()) return;
                   IncomingCallPtr call = receiver_.FindRunning(blocked->waiter);
                   if (call == nullptr) return;
                   Probe probe;
                   probe.set_initiator(blocked->waiter.BinaryString());
                   probe.set_round(++blocked->probes);
                   ProbeCall(std::move(probe), *call);
                   ProbeLater(blocked);
                 });
}

void CoreWorker::OnProbe(const PeerPtr& peer, const net::Frame& frame) {
  auto probe = net::ParseMetadata<Probe>(frame);
  if (!probe.ok()) return peer->connection->Close(probe.status());
  if (!probe->task_id().empty()) {
    auto id = TaskId::FromBinary(probe->task_id());
    return id.ok() ? ProbeTask(*probe, *id) : peer->connection->Close(id.status());
  }
  auto id = ObjectId::FromBinary(probe->object_id());
  if (!id.ok()) return peer->connection->Close(id.status());
  ProbeObject(*std::move(probe), *id);
}

// Towards the task that makes the object: its owner knows where that is.
void CoreWorker::ProbeObject(Probe probe, const ObjectId& id) {
  ObjectTable::Entry* entry = objects_.Find(id);
  if (entry == nullptr || entry->state != ObjectState::kPending) return;
  probe.clear_task_id();
  if (!entry->owned) {
    PeerPtr owner = peers_->Get(entry->owner);
    if (owner == nullptr) return;
    probe.set_object_id(id.BinaryString());
    return owner->connection->Send(wire::v1::PROBE, probe);
  }
  auto it = pending_.find(base::TaskOf(id));
  if (it == pending_.end()) return;
  const TaskPtr& task = it->second;
  if (task->unresolved > 0) {
    if (probe.names_size() >= kPathMax) return;
    probe.add_names(task->task_template->name);
    for (const Task::TopLevelRef& ref : task->refs) ProbeObject(probe, ref.id);
    return;
  }
  auto worker =
      task->actor_id.IsNil() ? tasks_->WorkerRunning(task->id) : actors_.WorkerRunning(task);
  PeerPtr peer = worker.has_value() ? peers_->FindConnected((*worker)->worker_id) : nullptr;
  if (peer == nullptr) return;
  probe.clear_object_id();
  probe.set_task_id(task->id.BinaryString());
  peer->connection->Send(wire::v1::PROBE, probe);
}

void CoreWorker::ProbeTask(const Probe& probe, const TaskId& id) {
  if (IncomingCallPtr call = receiver_.FindRunning(id); call != nullptr) {
    return ProbeCall(probe, *call);
  }
  for (const IncomingCallPtr& call : receiver_.RunningAheadOf(id)) ProbeCall(probe, *call);
}

void CoreWorker::ProbeCall(Probe probe, const IncomingCall& call) {
  auto it = blocked_gets_.find(call.task_id);
  if (it == blocked_gets_.end()) return;  // it goes on
  const std::string id = call.task_id.BinaryString();
  if (id == probe.initiator() && probe.path_size() > 0) return OnCycle(probe, it->second.get());
  const auto& path = probe.path();
  if (std::find(path.begin(), path.end(), id) != path.end() || path.size() >= kPathMax) return;
  probe.add_path(id);
  probe.add_names(call.task_template != nullptr ? call.task_template->name : "__init__");
  GetStatePtr get = it->second;
  for (size_t i = get->next; i < get->ids.size(); ++i) ProbeObject(probe, get->ids[i]);
}

void CoreWorker::OnCycle(const Probe& probe, GetState* get) {
  if (probe.round() != get->probes) return;  // late
  const auto& path = probe.path();
  if (*std::min_element(path.begin(), path.end()) != probe.initiator()) return;
  const bool again = get->cycle + 1 == probe.round();
  get->cycle = probe.round();
  if (!again || get->deadlock != nullptr) return;
  SystemError error;
  error.code = "DEADLOCK";
  error.message = absl::StrCat(
      "this ray.get would never return. Each of these calls is blocked in ray.get and waits for "
      "the "
      "next, and the last for the first: ",
      absl::StrJoin(probe.names(), " -> "),
      ". Do not wait for a call of an actor inside a call of it that must end first: await it in "
      "an "
      "asyncio actor, give the actor more threads (max_concurrency, concurrency groups), or pass "
      "the reference on instead.");
  MANTA_LOG(kWarning, error.message);
  get->deadlock = SerializeSystemError(error);
}

}  // namespace ray::core
