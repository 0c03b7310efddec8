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
// With a peer out of reach whose node is not dead: longer than the GCS takes to see that it is.
constexpr absl::Duration kPatience = absl::Seconds(30);
constexpr absl::Duration kOpenPause = absl::Milliseconds(200);
constexpr absl::Duration kAskPause = absl::Seconds(1);

void Refuse(const std::shared_ptr<net::Connection>& connection, const absl::Status& why) {
  wire::v1::ErrorFrame error;
  error.set_reason(std::string(why.message()));
  connection->Send(wire::v1::ERROR, error);
  connection->Close(why);
}

}  // namespace

Peers::Peers(net::EventLoop* loop, const net::Connection::Options& options, Events events)
    : loop_(loop), options_(options), events_(std::move(events)) {}

Peers::~Peers() { CloseAll(); }

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
  peer->opened_here = true;
  Attach(peer, *connection);
  if (address->node_id != self_->node_id) {
    peer->session = ++last_session_;
    KeepAcrossBreaks(peer);
  }
  peer->connection->Start(HandlersOf(peer));
  wire::v1::Hello hello;
  hello.set_session(peer->session);
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
                           is_resume ? OnResume(from, frame) : OnHello(from, frame);
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
    peer->session = hello.session();
    accepted_[{peer->worker_id, peer->session}] = peer;
    KeepAcrossBreaks(peer);
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
  if (peer->session != 0 && !peer->opened_here) {
    accepted_.erase({peer->worker_id, peer->session});
  }
  if (peer->next_socket != nullptr) peer->next_socket->Close(why);
  auto it = by_worker_.find(peer->worker_id);
  if (it != by_worker_.end() && it->second == peer) by_worker_.erase(it);
  peer->connection->set_peer(nullptr);
  events_.on_lost(peer, why);
}

// --- Breaks

void Peers::KeepAcrossBreaks(const PeerPtr& peer) {
  peer->connection->KeepAcrossBreaks([this, weak = std::weak_ptr<Peer>(peer)](const auto&) {
    if (PeerPtr interrupted = weak.lock(); interrupted != nullptr) OnInterrupted(interrupted);
  });
}

void Peers::OnInterrupted(const PeerPtr& peer) {
  const uint64_t breaks = ++peer->breaks;
  // Who opens the next socket gives up first: what it has given up is not taken up any more.
  const absl::Duration patience = peer->opened_here ? kPatience : 2 * kPatience;
  loop_->RunAfter(patience, [this, alive = std::weak_ptr<bool>(alive_), peer, breaks] {
    if (alive.expired() || peer->breaks != breaks || !peer->connection->interrupted()) return;
    peer->connection->Close(absl::UnavailableError("the peer is out of reach"));
  });
  if (peer->opened_here) return OpenNextSocket(peer);
  AskAgain(peer, breaks);
}

void Peers::AskAgain(const PeerPtr& peer, uint64_t breaks) {
  const bool waits = peer->breaks == breaks && peer->connection->interrupted();
  if (!waits || peer->connection->closed()) return;
  events_.on_interrupted(peer);
  loop_->RunAfter(kAskPause, [this, alive = std::weak_ptr<bool>(alive_), peer, breaks] {
    if (!alive.expired()) AskAgain(peer, breaks);
  });
}

void Peers::Forget(const PeerPtr& peer) {
  if (!peer->connection->interrupted()) return;
  peer->connection->Close(absl::UnavailableError("the process has ended"));
}

void Peers::OpenNextSocket(const PeerPtr& peer) {
  if (peer->connection->closed() || !peer->connection->interrupted()) return;
  absl::StatusOr<std::shared_ptr<net::Connection>> next = Connect(*peer->address);
  if (!next.ok()) {
    if (absl::IsNotFound(next.status())) return peer->connection->Close(next.status());
    return OpenNextSocketLater(peer);
  }
  peer->next_socket = *next;
  (*next)->set_description(absl::StrCat("worker ", peer->worker_id.Hex().substr(0, 12)));
  const auto on_close = [this, peer](const auto& ended, const absl::Status& why) {
    if (peer->next_socket != ended) return;  // it is the connection's by now
    peer->next_socket = nullptr;
    if (absl::IsUnavailable(why) || absl::IsDeadlineExceeded(why)) return OpenNextSocketLater(peer);
    peer->connection->Close(why);
  };
  (*next)->Start({[](const auto& from, const net::Frame&) {
                    from->Close(absl::InvalidArgumentError("a frame before the answer to RESUME"));
                  },
                  on_close});
  wire::v1::Resume resume;
  resume.set_worker_id(self_->worker_id.BinaryString());
  resume.set_session(peer->session);
  resume.set_received(peer->connection->received_bytes());
  resume.set_is_new(peer->connection->confirmed_bytes() == 0 &&
                    peer->connection->received_bytes() == 0);
  (*next)->Call(wire::v1::RESUME, resume, [this, peer](const absl::StatusOr<net::Frame>& reply) {
    if (reply.ok()) OnResumeReply(peer, *reply);
  });
}

void Peers::OpenNextSocketLater(const PeerPtr& peer) {
  loop_->RunAfter(kOpenPause, [this, alive = std::weak_ptr<bool>(alive_), peer] {
    if (!alive.expired()) OpenNextSocket(peer);
  });
}

void Peers::OnResumeReply(const PeerPtr& peer, const net::Frame& frame) {
  const std::shared_ptr<net::Connection> socket = std::exchange(peer->next_socket, nullptr);
  auto reply = net::ParseMetadata<wire::v1::ResumeReply>(frame);
  if (!reply.ok() || !reply->known()) {
    socket->Close(absl::CancelledError("it is not needed"));
    return peer->connection->Close(absl::UnavailableError("the peer has given up this connection"));
  }
  if (peer->connection->closed()) return socket->Close(absl::CancelledError("it is not needed"));
  auto detached = socket->Detach();
  MANTA_CHECK(detached.ok());
  peer->connection->Resume(*std::move(detached), reply->received());
}

absl::Status Peers::OnResume(const std::shared_ptr<net::Connection>& connection,
                             const net::Frame& frame) {
  MANTA_ASSIGN_OR_RETURN(auto message, net::ParseMetadata<wire::v1::Resume>(frame));
  MANTA_ASSIGN_OR_RETURN(auto worker, base::WorkerId::FromBinary(message.worker_id()));
  const auto found = accepted_.find({worker, message.session()});
  const PeerPtr peer = found == accepted_.end() ? nullptr : found->second;
  const bool is_open = peer != nullptr && !peer->connection->closed();
  wire::v1::ResumeReply reply;
  reply.set_known(is_open || message.is_new());
  if (is_open) {
    // This side may not know yet that the last socket broke.
    peer->connection->Interrupt(absl::UnavailableError("the peer opened another socket"));
    reply.set_received(peer->connection->received_bytes());
  }
  connection->Reply(wire::v1::RESUME, frame.correlation_id, reply);
  if (!is_open) {
    connection->RestartReceived();  // HELLO comes next, if anything does
    return absl::OkStatus();
  }
  MANTA_ASSIGN_OR_RETURN(net::Connection::Detached socket, connection->Detach());
  peer->connection->Resume(std::move(socket), message.received());
  return absl::OkStatus();
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
