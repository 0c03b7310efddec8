// Our endpoint syntax as gRPC's.
// Threads: thread-compatible.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "ray/net/endpoint.h"

namespace ray::gcs {

// `name` is good as long as this lives.
struct GrpcTarget {
  std::string name;
  net::UniqueFd directory;  // of a socket whose path is too long for the kernel
};

// kInvalidArgument for what is neither "unix:PATH" nor "tcp:HOST:PORT", kUnavailable if the
// socket's folder is not there.
absl::StatusOr<GrpcTarget> ToGrpcTarget(std::string_view endpoint);

}  // namespace ray::gcs
