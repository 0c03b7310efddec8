// Frame metadata to message, and lists of ids to ids. Threads: free functions.
// Errors: kInvalidArgument, on which the caller closes the connection that sent it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "google/protobuf/repeated_field.h"
#include "ray/base/status_macros.h"
#include "ray/net/frame.h"

namespace ray::core {

template <typename Message>
absl::StatusOr<Message> ParseMetadata(const net::Frame& frame) {
  Message message;
  if (!message.ParseFromArray(frame.metadata.data(), static_cast<int>(frame.metadata.size()))) {
    return absl::InvalidArgumentError(absl::StrCat("malformed frame of type ", frame.type));
  }
  return message;
}

template <typename Id>
absl::StatusOr<std::vector<Id>> ParseIds(
    const google::protobuf::RepeatedPtrField<std::string>& binaries) {
  std::vector<Id> ids;
  for (const std::string& binary : binaries) {
    MANTA_ASSIGN_OR_RETURN(Id id, Id::FromBinary(binary));
    ids.push_back(id);
  }
  return ids;
}

}  // namespace ray::core
