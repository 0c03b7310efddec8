// Help for tests of what talks over a Connection: a pair of connected sockets, and messages made of
// text.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>

#include <string>
#include <string_view>
#include <utility>

#include "ray/base/check.h"
#include "ray/net/endpoint.h"
#include "ray/wire/v1/connection.pb.h"

namespace ray::net {

inline std::pair<UniqueFd, UniqueFd> MakeSocketPair() {
  int fds[2];
  MANTA_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

inline wire::v1::ErrorFrame TextMessage(std::string_view text) {
  wire::v1::ErrorFrame message;
  message.set_reason(std::string(text));
  return message;
}

inline std::string TextOf(std::string_view metadata) {
  wire::v1::ErrorFrame message;
  MANTA_CHECK(message.ParseFromArray(metadata.data(), static_cast<int>(metadata.size())));
  return message.reason();
}

}  // namespace ray::net
