#include "ray/raylet/stream_dialer.h"

#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"
#include "ray/store/shared_memory.h"
#include "ray/wire/v1/cluster.pb.h"
#include "ray/wire/v1/connection.pb.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::raylet {

using base::NodeId;
using net::Connection;
using transfer::StreamSocket;

namespace {

// The socket of a connection whose HELLO was answered by the right node.
absl::StatusOr<StreamSocket> SocketOf(Connection& connection, const NodeId& node,
                                      const absl::StatusOr<net::Frame>& answer) {
  MANTA_RETURN_IF_ERROR(answer.status());
  wire::v1::HelloReply reply;
  if (!net::ParseMetadata(*answer, &reply) || reply.node_id() != node.Binary()) {
    connection.Close(absl::UnavailableError("another node answered"));
    return absl::UnavailableError("another node answers at its address");
  }
  MANTA_ASSIGN_OR_RETURN(Connection::Detached detached, connection.Detach());
  return StreamSocket{.fd = std::move(detached.fd),
                      .tls = std::move(detached.tls),
                      .already_read = std::move(detached.already_read)};
}

wire::v1::Hello TransferHello(const NodeId& self) {
  wire::v1::Hello hello;
  hello.set_protocol_version(net::kProtocolVersion);
  hello.set_kind(wire::v1::TRANSFER);
  hello.set_node_id(self.BinaryString());
  hello.set_pid(getpid());
  return hello;
}

// A stream to a raylet of this machine, with its memory. Blocks; for the stream's thread.
absl::StatusOr<StreamSocket> OpenOnThisMachine(const std::string& endpoint, const NodeId& node,
                                               const NodeId& self) {
  constexpr absl::Duration kTimeout = absl::Seconds(1);
  MANTA_ASSIGN_OR_RETURN(net::UniqueFd fd, net::Connect(endpoint, kTimeout));
  MANTA_ASSIGN_OR_RETURN(net::HandshakeResult result,
                         net::BlockingHandshake(fd.get(), TransferHello(self), wire::v1::HELLO,
                                                wire::v1::ERROR, kTimeout));
  wire::v1::HelloReply reply;
  if (!reply.ParseFromString(result.reply_metadata) || reply.node_id() != node.Binary()) {
    return absl::UnavailableError("another raylet answers at its socket");
  }
  MANTA_ASSIGN_OR_RETURN(
      std::unique_ptr<store::SharedMemory> memory,
      store::SharedMemory::Map(std::move(result.received_fd), reply.store_capacity_bytes()));
  return StreamSocket{.fd = std::move(fd),
                      .already_read = std::move(result.already_read),
                      .source_memory = std::move(memory)};
}

}  // namespace

StreamDialer::StreamDialer(net::EventLoop* loop, const NodePeers* peers,
                           const NodeIdentity* identity, Connection::Options connection_options,
                           Post post)
    : loop_(loop),
      peers_(peers),
      identity_(identity),
      connection_options_(std::move(connection_options)),
      post_(std::move(post)) {}

void StreamDialer::Dial(const NodeId& node, transfer::DataFetcher::DialCallback done) {
  const wire::v1::NodeState* state = peers_->Find(node);
  absl::StatusOr<net::UniqueFd> fd = state == nullptr ? absl::UnavailableError("its node is gone")
                                                      : net::StartConnect(state->tcp_endpoint());
  if (!fd.ok()) {
    return post_([done = std::move(done), why = fd.status()]() mutable { done(why); });
  }
  auto connection =
      Connection::Create(loop_, *std::move(fd), connection_options_, Connection::Role::kConnector);
  connection->set_description(absl::StrCat("stream to node ", node.Hex().substr(0, 12)));
  connection->Start({.on_frame = [](const auto&, const net::Frame&) {},
                     .on_close = [](const auto&, const absl::Status&) {}});
  connection->Call(wire::v1::HELLO, TransferHello(identity_->id),
                   [weak = std::weak_ptr<Connection>(connection), node,
                    done = std::move(done)](absl::StatusOr<net::Frame> answer) mutable {
                     // Its watch in the loop, or its close, holds it until here.
                     done(SocketOf(*weak.lock(), node, answer));
                   });
}

transfer::DataFetcher::OpenHere StreamDialer::OpenHere(const NodeId& node) const {
  const wire::v1::NodeState* state = peers_->Find(node);
  if (state == nullptr) return nullptr;
  absl::string_view path = state->raylet_endpoint();
  if (!absl::ConsumePrefix(&path, "unix:") || access(std::string(path).c_str(), W_OK) != 0) {
    return nullptr;
  }
  return [endpoint = state->raylet_endpoint(), node, self = identity_->id] {
    return OpenOnThisMachine(endpoint, node, self);
  };
}

}  // namespace ray::raylet
