// absl::Status as the StatusReply of the wire (protos/ray/wire/v1/connection.proto).
// Threads: free functions, thread-safe.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "ray/wire/v1/connection.pb.h"

namespace ray::gcs {

inline wire::v1::StatusReply ToReply(const absl::Status& status) {
  wire::v1::StatusReply reply;
  reply.set_code(static_cast<int32_t>(status.code()));
  reply.set_message(std::string(status.message()));
  return reply;
}

}  // namespace ray::gcs
