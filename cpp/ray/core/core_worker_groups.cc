// Placement groups: made, waited for and removed through the raylet, which asks the GCS.
#include <utility>

#include "ray/base/clock.h"
#include "ray/base/logging.h"
#include "ray/core/core_worker.h"
#include "ray/core/raylet_call.h"
#include "ray/net/parse_frame.h"

namespace ray::core {

using base::ObjectId;
using base::PlacementGroupId;
using wire::v1::PlacementGroupsReply;

namespace {

absl::StatusOr<wire::v1::PlacementGroupInfo> OnlyGroup(const PlacementGroupsReply& reply) {
  MANTA_RETURN_IF_ERROR(ToStatus(reply.status()));
  if (reply.groups_size() == 1) return reply.groups(0);
  return absl::InternalError("the raylet answered with another number of groups than one");
}

SystemError RemovedError() {
  SystemError error;
  error.code = "TASK_GROUP_REMOVED";
  error.message = "the placement group was removed before it was created";
  return error;
}

}  // namespace

absl::StatusOr<PlacementGroupId> CoreWorker::CreatePlacementGroup(wire::v1::PlacementGroupSpec spec,
                                                                  Interrupted interrupted) {
  const PlacementGroupId id = base::NewPlacementGroupId(CurrentJob());
  spec.set_placement_group_id(id.BinaryString());
  // What a detached actor makes ends with that actor; everything else with its job.
  if (creation_request_ != nullptr && creation_request_->spec().detached()) {
    spec.set_creator_actor(creation_request_->spec().actor_id());
  }
  if (!spec.name().empty()) {
    MANTA_ASSIGN_OR_RETURN(auto reply,
                           CallRaylet<wire::v1::StatusReply>(wire::v1::CREATE_PLACEMENT_GROUP, spec,
                                                             kNoDeadline, interrupted));
    MANTA_RETURN_IF_ERROR(ToStatus(reply));
    return id;
  }
  // Nothing can go wrong that later questions would not tell of.
  ChangeGroup(wire::v1::CREATE_PLACEMENT_GROUP, spec, id);
  return id;
}

void CoreWorker::RemovePlacementGroup(const PlacementGroupId& id) {
  wire::v1::PlacementGroupRequest request;
  request.set_placement_group_id(id.BinaryString());
  {
    absl::MutexLock lock(&mutex_);
    // Leases that are idle go back first: only they that hold them know that nothing runs there.
    tasks_->OnGroupRemoved(id, base::MonotonicNanos());
    // By the time that this many have followed, all nodes know of the first.
    constexpr size_t kRemovedGroupsKept = 1000;
    if (removed_groups_.size() >= kRemovedGroupsKept) removed_groups_.clear();
    removed_groups_.insert(id);
  }
  ChangeGroup(wire::v1::REMOVE_PLACEMENT_GROUP, request, id);
}

// Nobody waits for the answer: the raylet keeps the order of changes and of questions.
void CoreWorker::ChangeGroup(wire::v1::FrameType type, const google::protobuf::MessageLite& request,
                             const PlacementGroupId& id) {
  auto log_failure = [id, type](absl::StatusOr<net::Frame> frame) {
    if (!frame.ok()) return;
    auto reply = net::ParseMetadata<wire::v1::StatusReply>(*frame);
    const absl::Status status = reply.ok() ? ToStatus(*reply) : reply.status();
    if (status.ok()) return;
    MANTA_LOG(kError, wire::v1::FrameType_Name(type), " of the placement group ", id.Hex(),
              " failed: ", status.message());
  };
  absl::MutexLock lock(&mutex_);
  Drain();
  raylet_->Call(type, request, log_failure, {}, net::Connection::Flush::kCoalesce);
}

absl::StatusOr<wire::v1::PlacementGroupInfo> CoreWorker::WaitPlacementGroup(
    const PlacementGroupId& id, int64_t deadline, Interrupted interrupted) {
  constexpr int64_t kNanosPerMilli = 1'000'000;
  wire::v1::WaitPlacementGroup request;
  request.set_placement_group_id(id.BinaryString());
  // The raylet stops a moment after this process has.
  const bool look_only = deadline <= base::MonotonicNanos();
  request.set_timeout_ms(look_only ? 0 : -1);
  if (look_only) deadline = kNoDeadline;
  if (deadline != kNoDeadline) {
    request.set_timeout_ms((deadline - base::MonotonicNanos()) / kNanosPerMilli + 1);
  }
  MANTA_ASSIGN_OR_RETURN(auto reply,
                         CallRaylet<PlacementGroupsReply>(wire::v1::WAIT_PLACEMENT_GROUP, request,
                                                          deadline, interrupted));
  return OnlyGroup(reply);
}

absl::StatusOr<PlacementGroupsReply> CoreWorker::ListPlacementGroups(
    const wire::v1::PlacementGroupRequest& request, Interrupted interrupted) {
  MANTA_ASSIGN_OR_RETURN(auto reply,
                         CallRaylet<PlacementGroupsReply>(wire::v1::LIST_PLACEMENT_GROUPS, request,
                                                          kNoDeadline, interrupted));
  MANTA_RETURN_IF_ERROR(ToStatus(reply.status()));
  return reply;
}

ObjectId CoreWorker::PlacementGroupReady(const PlacementGroupId& group, BufferPtr value) {
  wire::v1::WaitPlacementGroup request;
  request.set_placement_group_id(group.BinaryString());
  request.set_timeout_ms(-1);
  absl::MutexLock lock(&mutex_);
  Drain();
  const ObjectId id = base::PutObjectId(put_task_, ++put_index_);
  objects_.AddOwned(id).local = 1;
  awaited_groups_[id] = group;
  raylet_->Call(wire::v1::WAIT_PLACEMENT_GROUP, request,
                [this, id, value = std::move(value)](absl::StatusOr<net::Frame> frame) {
                  mutex_.AssertHeld();
                  awaited_groups_.erase(id);
                  if (!frame.ok()) return;  // the raylet is gone; every wait ends with that
                  auto reply = net::ParseMetadata<PlacementGroupsReply>(*frame);
                  auto info = reply.ok() ? OnlyGroup(*reply) : reply.status();
                  const bool created = info.ok() && info->state() == wire::v1::GROUP_CREATED;
                  objects_.SetInline(id, created ? value : SerializeSystemError(RemovedError()));
                });
  return id;
}

}  // namespace ray::core
