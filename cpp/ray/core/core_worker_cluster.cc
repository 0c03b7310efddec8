// Requests to the raylet that a caller waits for, and messages for the driver's user.
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/core/core_worker.h"
#include "ray/core/raylet_call.h"

namespace ray::core {

namespace {

constexpr size_t kMessagesMax = 10'000;

}  // namespace

absl::StatusOr<wire::v1::KvReply> CoreWorker::Kv(const wire::v1::KvRequest& request,
                                                 Interrupted interrupted) {
  MANTA_ASSIGN_OR_RETURN(
      auto reply, CallRaylet<wire::v1::KvReply>(wire::v1::KV, request, kNoDeadline, interrupted));
  MANTA_RETURN_IF_ERROR(ToStatus(reply.status()));
  return reply;
}

absl::StatusOr<wire::v1::LeaseExplanation> CoreWorker::ExplainLease(
    const wire::v1::ExplainLease& request, Interrupted interrupted) {
  return CallRaylet<wire::v1::LeaseExplanation>(wire::v1::EXPLAIN_LEASE, request, kNoDeadline,
                                                interrupted);
}

absl::StatusOr<wire::v1::ClusterStateReply> CoreWorker::ClusterState(Interrupted interrupted) {
  return CallRaylet<wire::v1::ClusterStateReply>(
      wire::v1::CLUSTER_STATE, wire::v1::ClusterStateRequest(), kNoDeadline, interrupted);
}

absl::Status CoreWorker::DrainNode(const wire::v1::DrainNode& request, Interrupted interrupted) {
  MANTA_ASSIGN_OR_RETURN(auto reply, CallRaylet<wire::v1::StatusReply>(
                                         wire::v1::DRAIN_NODE, request, kNoDeadline, interrupted));
  return ToStatus(reply);
}

absl::StatusOr<wire::v1::StoreStatsReply> CoreWorker::StoreStats(Interrupted interrupted) {
  return CallRaylet<wire::v1::StoreStatsReply>(wire::v1::STORE_STATS, wire::v1::StoreStats(),
                                               kNoDeadline, interrupted);
}

absl::StatusOr<wire::v1::ActorInfo> CoreWorker::GetNamedActor(std::string_view name,
                                                              std::string_view job_namespace,
                                                              Interrupted interrupted) {
  wire::v1::GetNamedActor request;
  request.set_name(std::string(name));
  request.set_actor_namespace(std::string(job_namespace));
  MANTA_ASSIGN_OR_RETURN(auto reply,
                         CallRaylet<wire::v1::ActorInfoReply>(wire::v1::GET_NAMED_ACTOR, request,
                                                              kNoDeadline, interrupted));
  MANTA_RETURN_IF_ERROR(ToStatus(reply.status()));
  return reply.info();
}

absl::StatusOr<wire::v1::ListNamedActorsReply> CoreWorker::ListNamedActors(
    bool all_namespaces, Interrupted interrupted) {
  wire::v1::ListNamedActors request;
  request.set_all_namespaces(all_namespaces);
  request.set_actor_namespace(identity().job_namespace);
  return CallRaylet<wire::v1::ListNamedActorsReply>(wire::v1::LIST_NAMED_ACTORS, request,
                                                    kNoDeadline, interrupted);
}

absl::StatusOr<wire::v1::TaskEventsReply> CoreWorker::ListTaskEvents(Interrupted interrupted) {
  return CallRaylet<wire::v1::TaskEventsReply>(
      wire::v1::LIST_TASK_EVENTS, wire::v1::ListTaskEvents(), kNoDeadline, interrupted);
}

absl::Status CoreWorker::FlushLogs(int64_t deadline, Interrupted interrupted) {
  return CallRaylet<wire::v1::StatusReply>(wire::v1::FLUSH_LOGS, wire::v1::FlushLogs(), deadline,
                                           interrupted)
      .status();
}

absl::Status CoreWorker::KillActor(const base::ActorId& id, bool no_restart,
                                   Interrupted interrupted) {
  wire::v1::KillActor request;
  request.set_actor_id(id.BinaryString());
  request.set_no_restart(no_restart);
  base::WorkerId worker;
  {
    absl::MutexLock lock(&mutex_);
    worker = actors_.WorkerOf(id);
  }
  MANTA_ASSIGN_OR_RETURN(auto reply, CallRaylet<wire::v1::StatusReply>(
                                         wire::v1::KILL_ACTOR, request, kNoDeadline, interrupted));
  MANTA_RETURN_IF_ERROR(ToStatus(reply));
  // What this process submits from here on must not reach the dying process.
  absl::MutexLock lock(&mutex_);
  if (no_restart) {
    MarkActorDead(id, wire::v1::KILLED, "The actor died because it was killed by `ray.kill`.");
  } else {
    actors_.IncarnationEnds(id, worker);
  }
  return absl::OkStatus();
}

void CoreWorker::PushMessage(Message message) {
  absl::MutexLock lock(&message_mutex_);
  if (messages_.size() >= kMessagesMax) {
    messages_.pop_front();
    ++messages_dropped_;
  }
  messages_.push_back(std::move(message));
}

std::vector<CoreWorker::Message> CoreWorker::NextMessages(absl::Duration timeout) {
  absl::MutexLock lock(&message_mutex_);
  auto ready = [this] {
    message_mutex_.AssertHeld();
    return !messages_.empty() || has_ended();
  };
  message_mutex_.AwaitWithTimeout(absl::Condition(&ready), timeout);
  std::vector<Message> taken;
  if (messages_dropped_ > 0) {
    Message note;
    note.is_warning = true;
    note.lines.add_lines(absl::StrCat(std::exchange(messages_dropped_, 0),
                                      " lines of workers' output were dropped: the driver does not "
                                      "print as fast as they come."));
    taken.push_back(std::move(note));
  }
  for (Message& message : messages_) taken.push_back(std::move(message));
  messages_.clear();
  return taken;
}

}  // namespace ray::core
