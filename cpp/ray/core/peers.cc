#include "ray/core/peers.h"

#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"
#include "ray/wire/v1/connection.pb.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::core {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(5);

void Refuse(const std::shared_ptr<net::Connection>& connection, const absl::Status& why) {
  wire::v1::ErrorFrame error;
  error.set_reason(std::string(why.message()));
  connection->Send(wire::v1::ERROR, error);
  connection->Close(why);
}

}  // namespace

Peers::Peers(net::EventLoop* loop, const net::Connection::Options& options, Events events)
    : loop_(loop), options_(options), events_(std::move(events)), lasting_(loop) {}

Peers::~Peers() { CloseAll(); }

void Peers::SetSelf(AddressPtr self) {
  self_ = std::move(self);
  lasting_.SetSelf(self_->worker_id.BinaryString());
}

absl::Status Peers::Listen(std::string_view endpoint) {
  MANTA_ASSIGN_OR_RETURN(listener_,
                         net::Listener::Create(loop_, endpoint, options_, [this](auto connection) {
                           OnAccept(std::move(connection));
                         }));
  endpoint_ = listener_->endpoint();
  return absl::OkStatus();
}

absl::Status Peers::BindTcp(std::string_view host) {
  MANTA_ASSIGN_OR_RETURN(
      bound_, net::Listen(absl::StrCat("tcp:", absl::string_view(host.data(), host.size()), ":0")));
  tcp_endpoint_ = bound_.endpoint;
  return absl::OkStatus();
}

absl::Status Peers::ListenTcp(std::string_view host, std::string_view token,
                              const net::TlsCredentials& tls) {
  if (!bound_.fd.valid()) MANTA_RETURN_IF_ERROR(BindTcp(host));
  options_.token = std::string(token);
  if (tls.enabled()) {
    MANTA_ASSIGN_OR_RETURN(tls_, net::TlsContext::Create(tls));
    options_.tls = tls_;
  }
  tcp_listener_ =
      net::Listener::CreateOn(loop_, std::move(bound_), options_,
                              [this](auto connection) { OnAccept(std::move(connection)); });
  return absl::OkStatus();
}

absl::Status Peers::UseTls(const net::TlsCredentials& tls) {
  return tls_ == nullptr ? absl::OkStatus() : tls_->Replace(tls);
}

PeerPtr Peers::FindConnected(const base::WorkerId& worker) const {
  auto it = by_worker_.find(worker);
  return it == by_worker_.end() ? nullptr : it->second;
}

absl::StatusOr<std::shared_ptr<net::Connection>> Peers::Connect(const WorkerAddress& address) {
  if (address.node_id == self_->node_id) {
    MANTA_ASSIGN_OR_RETURN(net::UniqueFd fd, net::Connect(address.endpoint, kConnectTimeout));
    return net::Connection::Create(loop_, std::move(fd), options_);
  }
  if (dead_nodes_.contains(address.node_id)) return absl::UnavailableError("its node is dead");
  MANTA_ASSIGN_OR_RETURN(net::UniqueFd fd, net::StartConnect(address.tcp_endpoint));
  return net::Connection::Create(loop_, std::move(fd), options_, net::Connection::Role::kConnector);
}

PeerPtr Peers::Get(const AddressPtr& address) {
  if (PeerPtr peer = FindConnected(address->worker_id); peer != nullptr) return peer;
  absl::StatusOr<std::shared_ptr<net::Connection>> connection = Connect(*address);
  if (!connection.ok()) {
    MANTA_LOG(kInfo, "worker ", address->worker_id.Hex(),
              " is gone: ", connection.status().message());
    return nullptr;
  }
  auto peer = std::make_shared<Peer>();
  peer->worker_id = address->worker_id;
  peer->address = address;
  Attach(peer, *connection);
  uint64_t session = 0;
  if (address->node_id != self_->node_id) {
    session = lasting_.Opened(
        *connection, [this, address] { return Connect(*address); }, InterruptedOf(peer));
  }
  peer->connection->Start(HandlersOf(peer));
  wire::v1::Hello hello;
  hello.set_session(session);
  hello.set_protocol_version(net::kProtocolVersion);
  hello.set_kind(wire::v1::WORKER);
  hello.set_worker_id(self_->worker_id.BinaryString());
  hello.set_node_id(self_->node_id.BinaryString());
  hello.set_pid(getpid());
  self_->ToProto(hello.mutable_address());
  // What follows may leave before the answer: the acceptor handles frames in order.
  peer->connection->Call(wire::v1::HELLO, hello, [](absl::StatusOr<net::Frame>) {});
  return peer;
}

void Peers::Attach(const PeerPtr& peer, const std::shared_ptr<net::Connection>& connection) {
  peer->connection = connection;
  connection->set_description(absl::StrCat("worker ", peer->worker_id.Hex().substr(0, 12)));
  connected_.insert(peer);
  by_worker_.try_emplace(peer->worker_id, peer);
}

net::LastingConnections::OnInterrupted Peers::InterruptedOf(const PeerPtr& peer) {
  return [this, weak = std::weak_ptr<Peer>(peer)](absl::Duration) {
    if (const PeerPtr interrupted = weak.lock(); interrupted != nullptr) {
      events_.on_interrupted(interrupted);
    }
  };
}

net::Connection::Handlers Peers::HandlersOf(const PeerPtr& peer) {
  return {[this, peer](const auto&, const net::Frame& frame) { events_.on_frame(peer, frame); },
          [this, peer](const auto&, const absl::Status& why) { OnClose(peer, why); }};
}

void Peers::OnAccept(std::shared_ptr<net::Connection> connection) {
  // Until it has said HELLO a connection has no peer; then `greeted` takes its frames.
  auto greeted = std::make_shared<PeerPtr>();
  connection->Start({[this, greeted](const auto& from, const net::Frame& frame) {
                       if (*greeted != nullptr) return events_.on_frame(*greeted, frame);
                       const bool is_resume = frame.type == wire::v1::RESUME;
                       const absl::Status status =
                           is_resume ? lasting_.OnResume(from, frame) : OnHello(from, frame);
                       if (!status.ok()) return Refuse(from, status);
                       if (!is_resume) *greeted = *from->template peer<PeerPtr>();
                     },
                     [this, greeted](const auto&, const absl::Status& why) {
                       if (*greeted != nullptr) OnClose(*greeted, why);
                     }});
}

absl::Status Peers::OnHello(const std::shared_ptr<net::Connection>& connection,
                            const net::Frame& frame) {
  wire::v1::Hello hello;
  if (frame.type != wire::v1::HELLO || !net::ParseMetadata(frame, &hello)) {
    return absl::InvalidArgumentError("the first frame is no HELLO");
  }
  if (hello.protocol_version() != net::kProtocolVersion) {
    return absl::FailedPreconditionError(absl::StrCat("protocol version ", hello.protocol_version(),
                                                      " where ", net::kProtocolVersion,
                                                      " is spoken"));
  }
  MANTA_ASSIGN_OR_RETURN(AddressPtr address, WorkerAddress::FromProto(hello.address()));
  auto peer = std::make_shared<Peer>();
  peer->worker_id = address->worker_id;
  peer->address = address;
  Attach(peer, connection);
  connection->set_peer(std::make_shared<PeerPtr>(peer));
  if (hello.session() != 0) {
    lasting_.Accepted(connection, peer->worker_id.BinaryString(), hello.session(),
                      InterruptedOf(peer));
  }
  wire::v1::HelloReply reply;
  reply.set_protocol_version(net::kProtocolVersion);
  reply.set_worker_id(self_->worker_id.BinaryString());
  reply.set_node_id(self_->node_id.BinaryString());
  connection->Reply(wire::v1::HELLO, frame.correlation_id, reply);
  return absl::OkStatus();
}

void Peers::OnClose(const PeerPtr& peer, const absl::Status& why) {
  connected_.erase(peer);
  dirty_.erase(peer);
  lasting_.Ended(*peer->connection, why);
  auto it = by_worker_.find(peer->worker_id);
  if (it != by_worker_.end() && it->second == peer) by_worker_.erase(it);
  peer->connection->set_peer(nullptr);
  events_.on_lost(peer, why);
}

void Peers::Forget(const PeerPtr& peer) {
  if (!peer->connection->interrupted()) return;
  peer->connection->Close(absl::UnavailableError("the process has ended"));
}

void Peers::MarkDirty(const PeerPtr& peer) {
  if (peer->connection->has_buffered()) dirty_.insert(peer);
}

void Peers::FlushAll() {
  if (dirty_.empty()) return;
  for (const PeerPtr& peer : std::exchange(dirty_, {})) peer->connection->FlushNow();
}

void Peers::NodeGone(const base::NodeId& node) {
  dead_nodes_.insert(node);
  std::vector<PeerPtr> there;
  for (const PeerPtr& peer : connected_) {
    if (peer->address->node_id == node) there.push_back(peer);
  }
  for (const PeerPtr& peer : there) {
    peer->connection->Close(absl::UnavailableError("its node is dead"));
  }
}

void Peers::CloseAll() {
  listener_.reset();
  tcp_listener_.reset();
  for (const PeerPtr& peer : std::exchange(connected_, {})) {
    peer->connection->FlushNow();
    peer->connection->Close(absl::CancelledError("this process ends its session"));
  }
  by_worker_.clear();
  dirty_.clear();
}

}  // namespace ray::core
