// Hands each frame of a client to the service that registered for its type.
//
// Owner: Raylet.   Threads: loop-bound; handlers are registered before the first frame.
// Errors: Route and handlers return a status that is not ok for what no well-behaved peer sends (an
// unknown type, bytes that do not parse, an id of a wrong length): the caller closes that
// connection. Failures of an operation are told in its reply.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ray/net/connection.h"
#include "ray/net/parse_frame.h"
#include "ray/raylet/client.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::raylet {

// The way back to whoever sent a request; outlives the frame. Harmless once the connection is
// closed.
class Responder {
 public:
  Responder(std::shared_ptr<net::Connection> connection, const net::Frame& request)
      : connection_(std::move(connection)),
        type_(request.type),
        correlation_id_(request.correlation_id) {}

  void Send(const google::protobuf::MessageLite& reply) const {
    connection_->Reply(type_, correlation_id_, reply);
  }

 private:
  std::shared_ptr<net::Connection> connection_;
  uint16_t type_;
  uint64_t correlation_id_;
};

class FrameRouter {
 public:
  template <typename Message>
  using Handler = std::function<absl::Status(Client&, const Message&, const Responder&)>;

  // Requires that nobody has registered for `type`.
  template <typename Message>
  void On(wire::v1::FrameType type, Handler<Message> handler) {
    Register(type, [type, handler = std::move(handler)](Client& client, const net::Frame& frame) {
      Message message;
      if (!net::ParseMetadata(frame, &message)) {
        return absl::InvalidArgumentError(
            absl::StrCat("a frame of type ", static_cast<int>(type), " that does not parse"));
      }
      return handler(client, message, Responder(client.connection, frame));
    });
  }

  // For frames with a payload. Requires the same.
  using RawHandler = std::function<absl::Status(Client&, const net::Frame&)>;
  void Register(wire::v1::FrameType type, RawHandler handler);

  absl::Status Route(Client& client, const net::Frame& frame) const;

 private:
  absl::flat_hash_map<uint16_t, RawHandler> handlers_;
};

}  // namespace ray::raylet
