#include "ray/gcs/actor_death.h"

#include "absl/strings/str_cat.h"

namespace ray::gcs {
namespace {

// ": detail", or nothing.
std::string Detail(std::string_view text) {
  return text.empty() ? "" : absl::StrCat(": ", absl::string_view(text.data(), text.size()));
}

std::string OfLimit(int32_t restarts_max) {
  return restarts_max < 0 ? "without limit" : absl::StrCat("of at most ", restarts_max);
}

}  // namespace

ActorEnd KilledByUser() { return {wire::v1::KILLED, "it was killed by `ray.kill`"}; }

ActorEnd OutOfScope() {
  return {wire::v1::OUT_OF_SCOPE, "every handle to it has gone out of scope"};
}

ActorEnd IntendedExit(std::string_view reason) {
  return {wire::v1::INTENDED_EXIT, "its worker process exited as it was told to" + Detail(reason)};
}

ActorEnd WorkerLost(std::string_view detail) {
  return {wire::v1::WORKER_DIED, "its worker process died unexpectedly" + Detail(detail)};
}

ActorEnd WorkerLostInCreation(std::string_view detail) {
  return {wire::v1::WORKER_DIED,
          "its worker process died unexpectedly in the creation task" + Detail(detail)};
}

ActorEnd CreationFailed(std::string_view message, std::string creation_error) {
  return {wire::v1::CREATION_FAILED,
          "its creation task (__init__) raised an exception" + Detail(message),
          std::move(creation_error)};
}

ActorEnd EnvironmentFailed(std::string_view message) {
  return {wire::v1::ENVIRONMENT_FAILED,
          "its runtime environment could not be set up" + Detail(message)};
}

ActorEnd NodeLost(const base::NodeId& node) {
  return {wire::v1::NODE_DIED, absl::StrCat("its node ", node.Hex(), " died")};
}

ActorEnd OwnerLost(const base::WorkerId& owner) {
  return {wire::v1::OWNER_DIED, absl::StrCat("its owner, the process ", owner.Hex(),
                                             " that created it, died, and it is not detached")};
}

ActorEnd JobEnded(const base::JobId& job) {
  return {wire::v1::JOB_FINISHED,
          absl::StrCat("its job ", job.Hex(), " finished, and it is not detached")};
}

ActorEnd GroupRemoved(const base::PlacementGroupId& group) {
  return {wire::v1::GROUP_REMOVED,
          absl::StrCat("its placement group ", group.Hex(), " was removed")};
}

ActorEnd Unschedulable(std::string_view why) { return {wire::v1::UNSCHEDULABLE, std::string(why)}; }

std::string DeathMessage(const ActorEnd& end, const wire::v1::ActorInfo& info,
                         int32_t restarts_max) {
  std::string message = absl::StrCat("The actor died because ", end.reason, ".");
  if (info.num_restarts() > 0) {
    absl::StrAppend(&message, " It had been restarted ", info.num_restarts(), " times, ",
                    OfLimit(restarts_max), ".");
  }
  return message;
}

std::string RestartMessage(const ActorEnd& end, const wire::v1::ActorInfo& info,
                           int32_t restarts_max) {
  return absl::StrCat("The actor is restarting because ", end.reason, ". This is restart ",
                      info.num_restarts(), ", ", OfLimit(restarts_max), ".");
}

}  // namespace ray::gcs
