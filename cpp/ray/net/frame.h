// The frame: what every byte on the wire belongs to. Little endian; docs/wire.md has the golden
// bytes.
//
//   offset  size  field
//        0     4  body_size       bytes after the header: metadata, then payload
//        4     4  metadata_size   <= body_size
//        8     2  type            wire::v1::FrameType
//       10     2  flags           kReply; other bits must be zero
//       12     4  magic           "MNT1": a peer that speaks something else is found at once
//       16     8  correlation_id  0 for one-way frames
//
// The payload never goes through protobuf.
// Threads: immutable values; FrameParser is thread-compatible.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace ray::net {

inline constexpr uint32_t kProtocolVersion = 1;
inline constexpr uint32_t kFrameMagic = 0x31544e4d;  // "MNT1"
inline constexpr uint16_t kReplyFlag = 1;

struct FrameHeader {
  uint32_t body_size = 0;
  uint32_t metadata_size = 0;
  uint16_t type = 0;
  uint16_t flags = 0;
  uint32_t magic = kFrameMagic;
  uint64_t correlation_id = 0;
};
static_assert(sizeof(FrameHeader) == 24);

// A received frame. The views are valid until the handler returns.
struct Frame {
  uint16_t type = 0;
  bool is_reply = false;
  uint64_t correlation_id = 0;
  std::string_view metadata;
  std::string_view payload;
};

// Reads the header at the start of `bytes`. nullopt-like results are spelled out:
//   ok + complete = false   more bytes are needed (total_size says how many once the header is
//   there) kInvalidArgument        wrong magic, unknown flags, metadata larger than body, or body >
//   body_max
struct FrameParse {
  bool complete = false;
  uint64_t total_size = 0;
  Frame frame;
};
absl::StatusOr<FrameParse> ParseFrame(std::string_view bytes, uint64_t body_max);

}  // namespace ray::net
