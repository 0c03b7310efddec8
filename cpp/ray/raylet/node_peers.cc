#include "ray/raylet/node_peers.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/logging.h"
#include "ray/net/frame.h"
#include "ray/wire/v1/connection.pb.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::raylet {

using base::NodeId;
using net::Connection;
using wire::v1::NodeState;

NodePeers::NodePeers(net::EventLoop* loop, const NodeIdentity* identity,
                     Connection::Options options, Events events)
    : loop_(loop), identity_(identity), options_(std::move(options)), events_(std::move(events)) {}

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

void NodePeers::Connect(const NodeId& node, Peer* peer) {
  peer->connection = nullptr;
  absl::StatusOr<net::UniqueFd> fd = net::StartConnect(peer->state.tcp_endpoint());
  if (!fd.ok()) {
    MANTA_LOG(kWarning, "node ", node.Hex(), " cannot be reached: ", fd.status().message());
    return;
  }
  auto connection =
      Connection::Create(loop_, *std::move(fd), options_, Connection::Role::kConnector);
  connection->set_description(absl::StrCat("raylet of node ", node.Hex().substr(0, 12)));
  std::weak_ptr<bool> alive = alive_;
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
  // What follows may leave before the answer: the acceptor handles frames in order.
  connection->Call(wire::v1::HELLO, hello, [](absl::StatusOr<net::Frame>) {});
  peer->connection = std::move(connection);
}

void NodePeers::OnClose(const NodeId& node, const std::shared_ptr<Connection>& connection,
                        const absl::Status& why) {
  auto it = peers_.find(node);
  if (it != peers_.end() && it->second.connection == connection) it->second.connection = nullptr;
  events_.on_lost(node, why);
}

}  // namespace ray::raylet
