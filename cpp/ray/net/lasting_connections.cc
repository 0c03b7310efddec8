#include "ray/net/lasting_connections.h"

#include "ray/base/check.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"
#include "ray/wire/v1/connection.pb.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::net {
namespace {

// With a peer out of reach whose node is not dead: longer than the GCS takes to see that it is.
constexpr absl::Duration kPatience = absl::Seconds(30);
constexpr absl::Duration kOpenPause = absl::Milliseconds(200);
constexpr absl::Duration kSayAgainPause = absl::Seconds(1);

}  // namespace

uint64_t LastingConnections::Opened(const std::shared_ptr<Connection>& connection, Open open,
                                    OnInterrupted on_interrupted) {
  auto link = std::make_shared<Link>();
  link->connection = connection;
  link->opener = self_;
  link->session = ++last_session_;
  link->open = std::move(open);
  link->on_interrupted = std::move(on_interrupted);
  Keep(link);
  return link->session;
}

void LastingConnections::Accepted(const std::shared_ptr<Connection>& connection, std::string peer,
                                  uint64_t session, OnInterrupted on_interrupted) {
  auto link = std::make_shared<Link>();
  link->connection = connection;
  link->opener = std::move(peer);
  link->session = session;
  link->on_interrupted = std::move(on_interrupted);
  accepted_[{link->opener, session}] = link;
  Keep(link);
}

void LastingConnections::Keep(const LinkPtr& link) {
  links_[link->connection.get()] = link;
  link->connection->KeepAcrossBreaks(
      [this, alive = std::weak_ptr<bool>(alive_), weak = std::weak_ptr<Link>(link)](const auto&) {
        const LinkPtr interrupted = weak.lock();
        if (!alive.expired() && interrupted != nullptr) Interrupted(interrupted);
      });
}

void LastingConnections::Ended(const Connection& connection, const absl::Status& why) {
  auto found = links_.extract(&connection);
  if (found.empty()) return;
  const LinkPtr link = std::move(found.mapped());
  if (link->next_socket != nullptr) link->next_socket->Close(why);
  const auto accepted = accepted_.find({link->opener, link->session});
  if (accepted != accepted_.end() && accepted->second == link) accepted_.erase(accepted);
}

void LastingConnections::Interrupted(const LinkPtr& link) {
  const uint64_t breaks = ++link->breaks;
  // Who opens the next socket gives up first: what it has given up is not taken up any more.
  const absl::Duration patience = link->open != nullptr ? kPatience : 2 * kPatience;
  loop_->RunAfter(patience, [alive = std::weak_ptr<bool>(alive_), link, breaks] {
    if (alive.expired() || link->breaks != breaks || !link->connection->interrupted()) return;
    link->connection->Close(absl::UnavailableError("the peer is out of reach"));
  });
  if (link->open != nullptr) OpenNextSocket(link);
  Say(link, breaks, absl::ZeroDuration());
}

void LastingConnections::Say(const LinkPtr& link, uint64_t breaks, absl::Duration lasted) {
  const Connection& connection = *link->connection;
  if (link->breaks != breaks || !connection.interrupted() || connection.closed()) return;
  link->on_interrupted(lasted);
  lasted += kSayAgainPause;
  loop_->RunAfter(kSayAgainPause,
                  [this, alive = std::weak_ptr<bool>(alive_), link, breaks, lasted] {
                    if (!alive.expired()) Say(link, breaks, lasted);
                  });
}

// --- Of the process that opened the connection

void LastingConnections::OpenNextSocket(const LinkPtr& link) {
  Connection& connection = *link->connection;
  if (connection.closed() || !connection.interrupted()) return;
  absl::StatusOr<std::shared_ptr<Connection>> next = link->open();
  if (!next.ok()) {
    if (absl::IsNotFound(next.status())) return connection.Close(next.status());
    return OpenNextSocketLater(link);
  }
  link->next_socket = *next;
  (*next)->set_description(connection.description());
  const auto on_close = [this, alive = std::weak_ptr<bool>(alive_), link](const auto& ended,
                                                                          const absl::Status& why) {
    if (link->next_socket != ended) return;  // it is the connection's by now
    link->next_socket = nullptr;
    if (alive.expired()) return;
    if (absl::IsUnavailable(why) || absl::IsDeadlineExceeded(why)) return OpenNextSocketLater(link);
    link->connection->Close(why);
  };
  (*next)->Start({[](const auto& from, const Frame&) {
                    from->Close(absl::InvalidArgumentError("a frame before the answer to RESUME"));
                  },
                  on_close});
  wire::v1::Resume resume;
  resume.set_process_id(self_);
  resume.set_session(link->session);
  resume.set_received(connection.received_bytes());
  resume.set_is_new(connection.confirmed_bytes() == 0 && connection.received_bytes() == 0);
  (*next)->Call(wire::v1::RESUME, resume,
                [this, alive = std::weak_ptr<bool>(alive_), link](const auto& reply) {
                  if (!alive.expired() && reply.ok()) OnResumeReply(link, *reply);
                });
}

void LastingConnections::OpenNextSocketLater(const LinkPtr& link) {
  loop_->RunAfter(kOpenPause, [this, alive = std::weak_ptr<bool>(alive_), link] {
    if (!alive.expired()) OpenNextSocket(link);
  });
}

void LastingConnections::OnResumeReply(const LinkPtr& link, const Frame& frame) {
  const std::shared_ptr<Connection> socket = std::exchange(link->next_socket, nullptr);
  Connection& connection = *link->connection;
  auto reply = ParseMetadata<wire::v1::ResumeReply>(frame);
  if (!reply.ok() || !reply->known()) {
    socket->Close(absl::CancelledError("it is not needed"));
    return connection.Close(absl::UnavailableError("the peer has given up this connection"));
  }
  if (connection.closed()) return socket->Close(absl::CancelledError("it is not needed"));
  auto detached = socket->Detach();
  MANTA_CHECK(detached.ok());
  connection.Resume(*std::move(detached), reply->received());
}

// --- Of the process that accepted it

absl::Status LastingConnections::OnResume(const std::shared_ptr<Connection>& connection,
                                          const Frame& frame) {
  MANTA_ASSIGN_OR_RETURN(auto message, ParseMetadata<wire::v1::Resume>(frame));
  const auto found = accepted_.find({message.process_id(), message.session()});
  const LinkPtr link = found == accepted_.end() ? nullptr : found->second;
  const bool is_open = link != nullptr && !link->connection->closed();
  wire::v1::ResumeReply reply;
  reply.set_known(is_open || message.is_new());
  if (is_open) {
    // This side may not know yet that the last socket broke.
    link->connection->Interrupt(absl::UnavailableError("the peer opened another socket"));
    reply.set_received(link->connection->received_bytes());
  }
  connection->Reply(wire::v1::RESUME, frame.correlation_id, reply);
  if (!is_open) {
    connection->RestartReceived();  // HELLO comes next, if anything does
    return absl::OkStatus();
  }
  MANTA_ASSIGN_OR_RETURN(Connection::Detached socket, connection->Detach());
  link->connection->Resume(std::move(socket), message.received());
  return absl::OkStatus();
}

}  // namespace ray::net
