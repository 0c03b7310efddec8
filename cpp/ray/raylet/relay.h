// Turns the answer of the GCS into the reply of a relayed request.
// Threads: free functions, loop-bound callbacks.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "ray/raylet/frame_router.h"
#include "ray/wire/v1/connection.pb.h"

namespace ray::raylet {

inline wire::v1::StatusReply ToStatusReply(const absl::Status& status) {
  wire::v1::StatusReply reply;
  reply.set_code(static_cast<int32_t>(status.code()));
  reply.set_message(std::string(status.message()));
  return reply;
}

inline void SetStatus(wire::v1::StatusReply* reply, const absl::Status& status) {
  *reply = ToStatusReply(status);
}

template <typename Reply>
void SetStatus(Reply* reply, const absl::Status& status) {
  *reply->mutable_status() = ToStatusReply(status);
}

// A callback for GcsClient that answers `responder`: with the reply, or with one that carries why
// there is none.
template <typename Reply>
auto RelayTo(const Responder& responder) {
  return [responder](absl::StatusOr<Reply> reply) {
    if (reply.ok()) return responder.Send(*reply);
    Reply failure;
    SetStatus(&failure, reply.status());
    responder.Send(failure);
  };
}

}  // namespace ray::raylet
