// Requests to the raylet that a caller waits for: private to the core worker's .cc files.
// Threads: as CoreWorker's.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"
#include "ray/core/core_worker.h"
#include "ray/net/parse_frame.h"

namespace ray::core {

inline absl::Status ToStatus(const wire::v1::StatusReply& reply) {
  if (reply.code() == 0) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(reply.code()), reply.message());
}

template <typename Reply>
absl::StatusOr<Reply> CoreWorker::CallRaylet(wire::v1::FrameType type,
                                             const google::protobuf::MessageLite& request,
                                             int64_t deadline, Interrupted interrupted) {
  // The answer may come after the caller gave up: it owns the state too.
  auto answer = std::make_shared<std::optional<absl::StatusOr<Reply>>>();
  {
    absl::MutexLock lock(&mutex_);
    Drain();
    raylet_->Call(type, request, [answer](absl::StatusOr<net::Frame> reply) {
      if (!reply.ok()) {
        answer->emplace(absl::UnavailableError(
            absl::StrCat("the raylet of this node is gone: ", reply.status().message())));
      } else {
        answer->emplace(net::ParseMetadata<Reply>(*reply));
      }
    });
  }
  switch (driver_->WaitUntil([&] { return answer->has_value(); }, deadline, interrupted)) {
    case net::LoopDriver::Outcome::kDone:
      break;
    case net::LoopDriver::Outcome::kTimeout:
      return absl::DeadlineExceededError("the raylet did not answer in time");
    case net::LoopDriver::Outcome::kInterrupted:
      return absl::CancelledError("interrupted");
  }
  absl::MutexLock lock(&mutex_);
  return **answer;
}

}  // namespace ray::core
