#include "ray/net/frame.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace ray::net {

absl::StatusOr<FrameParse> ParseFrame(std::string_view bytes, uint64_t body_max) {
  FrameParse parse;
  if (bytes.size() < sizeof(FrameHeader)) return parse;
  FrameHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != kFrameMagic) {
    return absl::InvalidArgumentError(
        "not a frame (wrong magic): the peer does not speak the wire");
  }
  if ((header.flags & ~kReplyFlag) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("frame with unknown flags ", header.flags));
  }
  if (header.body_size > body_max) {
    return absl::InvalidArgumentError(
        absl::StrCat("frame of ", header.body_size, " bytes, more than the allowed ", body_max));
  }
  if (header.metadata_size > header.body_size) {
    return absl::InvalidArgumentError("frame whose metadata is larger than its body");
  }
  parse.total_size = sizeof header + uint64_t{header.body_size};
  if (bytes.size() < parse.total_size) return parse;
  parse.complete = true;
  parse.frame.type = header.type;
  parse.frame.is_reply = (header.flags & kReplyFlag) != 0;
  parse.frame.correlation_id = header.correlation_id;
  parse.frame.metadata = bytes.substr(sizeof header, header.metadata_size);
  parse.frame.payload =
      bytes.substr(sizeof header + header.metadata_size, header.body_size - header.metadata_size);
  return parse;
}

}  // namespace ray::net
