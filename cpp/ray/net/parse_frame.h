// Frame metadata to message, and lists of ids to ids. Threads: free functions.
// Errors: kInvalidArgument, on which the caller closes the connection that sent it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/message_lite.h"
#include "google/protobuf/repeated_field.h"
#include "ray/base/status_macros.h"
#include "ray/net/frame.h"

namespace ray::net {

// False: malformed; the message is then in an unknown state.
inline bool ParseMetadata(const Frame& frame, google::protobuf::MessageLite* message) {
  return message->ParseFromArray(frame.metadata.data(), static_cast<int>(frame.metadata.size()));
}

template <typename Message>
absl::StatusOr<Message> ParseMetadata(const Frame& frame) {
  Message message;
  if (ParseMetadata(frame, &message)) return message;
  return absl::InvalidArgumentError(absl::StrCat("malformed frame of type ", frame.type));
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

}  // namespace ray::net
