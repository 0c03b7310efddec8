#include "ray/raylet/frame_router.h"

#include "ray/base/check.h"

namespace ray::raylet {

void FrameRouter::Register(wire::v1::FrameType type, RawHandler handler) {
  const bool is_new = handlers_.emplace(type, std::move(handler)).second;
  MANTA_CHECK(is_new);
}

absl::Status FrameRouter::Route(Client& client, const net::Frame& frame) const {
  auto it = handlers_.find(frame.type);
  if (it == handlers_.end()) {
    return absl::InvalidArgumentError(absl::StrCat("a frame of unexpected type ", frame.type));
  }
  return it->second(client, frame);
}

}  // namespace ray::raylet
