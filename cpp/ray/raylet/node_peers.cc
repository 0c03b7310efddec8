#include "ray/raylet/node_peers.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/net/frame.h"
#include "ray/wire/v1/connection.pb.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::raylet {

using base::NodeId;
using net::Connection;
using wire::v1::NodeState;

namespace {

// Most breaks are mended at once.
constexpr absl::Duration kSilence = absl::Seconds(1);

}  // namespace

NodePeers::NodePeers(net::EventLoop* loop, const NodeIdentity* identity,
                     net::LastingConnections* lasting, Connection::Options options, Events events)
    : loop_(loop),
      identity_(identity),
      lasting_(lasting),
      options_(std::move(options)),
      events_(std::move(events)) {}

NodePeers::~NodePeers() {
  for (auto& [node, peer] : peers_) {
    if (peer.connection != nullptr) {
      peer.connection->Close(absl::CancelledError("the raylet ends"));
    }
  }
}

void NodePeers::Update(const NodeState& state) {
  absl::StatusOr<NodeId> node = NodeId::FromBinary(state.node_id());
  if (!node.ok() || *node == identity_->id || dead_.contains(*node)) return;
  if (state.alive()) {
    auto [peer, inserted] = peers_.try_emplace(*node);
    peer->second.state = state;
    if (inserted) events_.on_joined(*node);
    events_.on_changed(state);
    return;
  }
  dead_.insert(*node);
  const std::string reason = state.death_reason();
  MANTA_LOG(kInfo, "node ", node->Hex(), " is dead: ", reason);
  auto peer = peers_.extract(*node);
  if (!peer.empty() && peer.mapped().connection != nullptr) {
    peer.mapped().connection->Close(absl::UnavailableError(
        absl::StrCat("node ", node->Hex(), " (", state.ip(), ") is dead: ", reason)));
  }
  events_.on_dead(*node, reason);
}

Connection* NodePeers::Get(const NodeId& node) {
  auto it = peers_.find(node);
  if (it == peers_.end()) return nullptr;
  Peer& peer = it->second;
  if (peer.connection == nullptr || peer.connection->closed()) Connect(node, &peer);
  return peer.connection.get();
}

const NodeState* NodePeers::Find(const NodeId& node) const {
  auto it = peers_.find(node);
  return it == peers_.end() ? nullptr : &it->second.state;
}

void NodePeers::ForEach(absl::FunctionRef<void(const NodeId&, const NodeState&)> visit) const {
  for (const auto& [node, peer] : peers_) visit(node, peer.state);
}

absl::StatusOr<std::shared_ptr<Connection>> NodePeers::Open(const NodeId& node) const {
  const NodeState* state = Find(node);
  if (state == nullptr) return absl::NotFoundError("no such node is alive");
  MANTA_ASSIGN_OR_RETURN(net::UniqueFd fd, net::StartConnect(state->tcp_endpoint()));
  return Connection::Create(loop_, std::move(fd), options_, Connection::Role::kConnector);
}

void NodePeers::Connect(const NodeId& node, Peer* peer) {
  peer->connection = nullptr;
  absl::StatusOr<std::shared_ptr<Connection>> opened = Open(node);
  if (!opened.ok()) {
    MANTA_LOG(kWarning, "node ", node.Hex(), " cannot be reached: ", opened.status().message());
    return;
  }
  const std::shared_ptr<Connection> connection = *std::move(opened);
  connection->set_description(absl::StrCat("raylet of node ", node.Hex().substr(0, 12)));
  std::weak_ptr<bool> alive = alive_;
  const auto open_again = [this, alive, node]() -> absl::StatusOr<std::shared_ptr<Connection>> {
    if (alive.expired()) return absl::NotFoundError("the raylet ends");
    return Open(node);
  };
  const auto interrupted = [this, alive, node](absl::Duration lasted) {
    if (!alive.expired() && lasted >= kSilence) events_.on_silent(node);
  };
  const uint64_t session = lasting_->Opened(connection, open_again, interrupted);
  connection->Start({.on_frame =
                         [this, alive, node](const auto&, const net::Frame& frame) {
                           if (!alive.expired()) events_.on_frame(node, frame);
                         },
                     .on_close =
                         [this, alive, node](const auto& closed, const absl::Status& why) {
                           if (!alive.expired()) OnClose(node, closed, why);
                         }});
  wire::v1::Hello hello;
  hello.set_protocol_version(net::kProtocolVersion);
  hello.set_kind(wire::v1::RAYLET);
  hello.set_node_id(identity_->id.BinaryString());
  hello.set_pid(getpid());
  hello.set_session(session);
  // What follows may leave before the answer: the acceptor handles frames in order.
  connection->Call(wire::v1::HELLO, hello, [](absl::StatusOr<net::Frame>) {});
  peer->connection = connection;
}

void NodePeers::OnClose(const NodeId& node, const std::shared_ptr<Connection>& connection,
                        const absl::Status& why) {
  lasting_->Ended(*connection, why);
  auto it = peers_.find(node);
  if (it != peers_.end() && it->second.connection == connection) it->second.connection = nullptr;
  events_.on_lost(node, why);
}

}  // namespace ray::raylet
