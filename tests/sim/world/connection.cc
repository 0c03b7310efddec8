// net/connection.h, listener.h and endpoint.h in the virtual world: frames are packets, descriptors
// are sockets of the world. All peers have the token.
#include "ray/net/connection.h"

#include <google/protobuf/message_lite.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/net/listener.h"
#include "ray/wire/v1/frame_type.pb.h"
#include "tests/sim/world/loops.h"

namespace ray::net {

using sim::Packet;
using sim::Socket;
using sim::World;

namespace {

Packet MakePacket(uint16_t type, uint16_t flags, uint64_t number,
                  const google::protobuf::MessageLite& metadata, std::string_view payload) {
  Packet packet;
  packet.type = type;
  packet.flags = flags;
  packet.number = number;
  packet.metadata = metadata.SerializeAsString();
  packet.payload = std::string(payload);
  return packet;
}

Socket* SocketOf(int fd) { return World::Current()->FindSocket(fd); }

}  // namespace

// --- Endpoints

void UniqueFd::Reset(int fd) {
  const int before = std::exchange(fd_, fd);
  if (before < 0) return;
  if (before < sim::kFirstSocket) {
    close(before);
  } else if (World::Current() != nullptr) {
    World::Current()->Close(before);
  }
}

absl::StatusOr<UniqueFd> StartConnect(std::string_view endpoint) {
  const int fd = World::Current()->Connect(std::string(endpoint));
  if (fd < 0) return absl::NotFoundError(sim::kNobodyListens);
  return UniqueFd(fd);
}

absl::StatusOr<UniqueFd> Connect(std::string_view endpoint, absl::Duration) {
  return StartConnect(endpoint);
}

absl::StatusOr<Listening> Listen(std::string_view endpoint) {
  std::string name(endpoint);
  if (name.ends_with(":0")) {
    const size_t host = name.find(':') + 1;
    name = World::Current()->NewPort(name.substr(host, name.size() - host - 2));
  }
  UniqueFd fd(World::Current()->Listen(name));
  return Listening{std::move(fd), std::move(name)};
}

bool IsReachableFromOutside(std::string_view) { return false; }

// --- Listener

absl::StatusOr<std::unique_ptr<Listener>> Listener::Create(EventLoop* loop,
                                                           std::string_view endpoint,
                                                           const Connection::Options& options,
                                                           OnAccept on_accept) {
  return CreateOn(loop, *Listen(endpoint), options, std::move(on_accept));
}

std::unique_ptr<Listener> Listener::CreateOn(EventLoop* loop, Listening listening,
                                             const Connection::Options& options,
                                             OnAccept on_accept) {
  return std::unique_ptr<Listener>(
      new Listener(loop, std::move(listening), options, std::move(on_accept)));
}

Listener::Listener(EventLoop* loop, Listening listening, const Connection::Options& options,
                   OnAccept on_accept)
    : loop_(loop),
      endpoint_(std::move(listening.endpoint)),
      is_tcp_(endpoint_.starts_with("tcp:")),
      options_(options),
      on_accept_(std::move(on_accept)) {
  World::Current()->Accept(endpoint_, [this, state = sim::StateOf(loop)](int fd) {
    RunOn(state, [this, fd, alive = std::weak_ptr<bool>(alive_)] {
      UniqueFd accepted(fd);
      if (alive.expired()) return;
      on_accept_(
          Connection::Create(loop_, std::move(accepted), options_,
                             is_tcp_ ? Connection::Role::kAcceptor : Connection::Role::kTrusted));
    });
  });
}

Listener::~Listener() { World::Current()->StopListening(endpoint_); }

// --- Connection

// Across breaks packets are counted as bytes are in the real one: out_start_ have been confirmed,
// and these sent since.
struct Connection::Handshake {
  std::deque<Packet> kept;
};

std::shared_ptr<Connection> Connection::Create(EventLoop* loop, UniqueFd fd, const Options& options,
                                               Role role, ProofCallback on_proof) {
  return std::shared_ptr<Connection>(
      new Connection(loop, std::move(fd), options, role, std::move(on_proof)));
}

Connection::Connection(EventLoop* loop, UniqueFd fd, const Options& options, Role role,
                       ProofCallback on_proof)
    : loop_(loop), options_(options), role_(role), fd_(std::move(fd)) {
  MANTA_CHECK_MSG(on_proof == nullptr, "proofs are not simulated");
}

Connection::~Connection() = default;

void Connection::Start(Handlers handlers, std::string) {
  handlers_ = std::move(handlers);
  WatchFrames();
}

void Connection::WatchFrames() {
  const auto run = [self = shared_from_this(), state = sim::StateOf(loop_),
                    fd = fd_.get()](auto what) {
    RunOn(state, [self, fd, what = std::move(what)] {
      if (!self->gone() && self->fd_.get() == fd) what(self.get());
    });
  };
  World::Current()->Attach(
      SocketOf(fd_.get()),
      [run](Packet packet) {
        run([packet = std::move(packet)](Connection* self) {
          Frame frame;
          frame.type = packet.type;
          frame.is_reply = (packet.flags & kReplyFlag) != 0;
          frame.correlation_id = packet.number;
          frame.metadata = packet.metadata;
          frame.payload = packet.payload;
          ++self->received_;
          if (self->keeps()) self->Handled(frame, 1);
          self->HandleFrame(frame);
        });
      },
      [run](const absl::Status& why) { run([why](Connection* self) { self->Break(why); }); });
}

void Connection::HandleFrame(const Frame& frame) {
  if (frame.type == wire::v1::RECEIVED && keeps()) {
    // One that is sent again after a break says less than what was exchanged before Resume.
    if (frame.correlation_id > out_start_) Confirmed(frame.correlation_id);
    return;
  }
  if (!frame.is_reply) return handlers_.on_frame(shared_from_this(), frame);
  auto pending = pending_replies_.find(frame.correlation_id);
  if (pending == pending_replies_.end()) {
    return Close(
        absl::InvalidArgumentError(absl::StrCat("a reply to no request (", description_, ")")));
  }
  ReplyCallback callback = std::move(pending->second);
  pending_replies_.erase(pending);
  callback(frame);
}

void Connection::Send(uint16_t type, const google::protobuf::MessageLite& metadata,
                      std::string_view payload, Flush flush) {
  SendRaw(type, 0, 0, metadata.SerializeAsString(), {payload}, flush);
}

void Connection::Call(uint16_t type, const google::protobuf::MessageLite& metadata,
                      ReplyCallback callback, std::string_view payload, Flush flush) {
  const uint64_t id = NextCorrelationId();
  ExpectReply(id, std::move(callback));
  SendRaw(type, 0, id, metadata.SerializeAsString(), {payload}, flush);
}

void Connection::Reply(uint16_t type, uint64_t correlation_id,
                       const google::protobuf::MessageLite& metadata, std::string_view payload,
                       Flush flush) {
  SendRaw(type, kReplyFlag, correlation_id, metadata.SerializeAsString(), {payload}, flush);
}

void Connection::SendRaw(uint16_t type, uint16_t flags, uint64_t correlation_id,
                         std::string_view metadata, absl::Span<const std::string_view> payload,
                         Flush) {
  if (closed_) return;
  Packet packet;
  packet.type = type;
  packet.flags = flags;
  packet.number = correlation_id;
  packet.metadata = std::string(metadata);
  for (std::string_view segment : payload) packet.payload.append(segment);
  if (keeps()) handshake_->kept.push_back(packet);
  if (!interrupted_) World::Current()->Send(SocketOf(fd_.get()), std::move(packet));
}

void Connection::ExpectReply(uint64_t correlation_id, ReplyCallback callback) {
  MANTA_CHECK(pending_replies_.emplace(correlation_id, std::move(callback)).second);
  if (closed_) loop_->Post([self = shared_from_this()] { self->FinishClose(); });
}

void Connection::ReplyWithFd(uint16_t type, uint64_t correlation_id,
                             const google::protobuf::MessageLite& metadata, int fd) {
  if (closed_) return;
  Packet packet = MakePacket(type, kReplyFlag, correlation_id, metadata, {});
  packet.descriptor =
      static_cast<int>(syscall(SYS_dup, fd));  // of no process while it is under way
  MANTA_CHECK(packet.descriptor >= 0);
  World::Current()->Send(SocketOf(fd_.get()), std::move(packet));
}

void Connection::FlushNow() {}

void Connection::Close(absl::Status why) {
  if (closed_) return;
  closed_ = true;
  close_reason_ = std::move(why);
  DropSocket();
  loop_->Post([self = shared_from_this()] { self->FinishClose(); });
}

absl::StatusOr<Connection::Detached> Connection::Detach() {
  if (closed_ || !pending_replies_.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("closed or busy (", description_, ")"));
  }
  closed_ = true;
  close_reason_ = absl::CancelledError("the connection was handed over");
  World::Current()->Detach(SocketOf(fd_.get()));
  loop_->Post([self = shared_from_this()] { self->handlers_ = Handlers{}; });
  return Detached{std::move(fd_), nullptr, ""};
}

// --- Breaks

void Connection::KeepAcrossBreaks(std::function<void(const absl::Status&)> on_interrupted) {
  handshake_ = std::make_unique<Handshake>();
  on_interrupted_ = std::move(on_interrupted);
}

void Connection::Break(const absl::Status& why) {
  // The other process has closed its end, or there is none.
  const bool left = why.message() == sim::kPeerLeft || why.message() == sim::kNobodyListens;
  if (!keeps() || left) {
    const auto code =
        why.message() == sim::kNobodyListens ? absl::StatusCode::kNotFound : why.code();
    return Close(absl::Status(code, why.message()));
  }
  Interrupt(why);
  loop_->Post([self = shared_from_this(), why] {
    if (self->interrupted_ && self->keeps()) self->on_interrupted_(why);
  });
}

void Connection::Interrupt(const absl::Status&) {
  if (gone()) return;
  interrupted_ = true;
  DropSocket();
}

void Connection::DropSocket() { fd_.Reset(-1); }

void Connection::Resume(Detached socket, uint64_t received_by_peer) {
  MANTA_CHECK(interrupted_ && keeps());
  if (closed_) return;
  Confirmed(received_by_peer);
  fd_ = std::move(socket.fd);
  interrupted_ = false;
  unconfirmed_ = 0;
  WatchFrames();
  for (const Packet& packet : handshake_->kept) {
    World::Current()->Send(SocketOf(fd_.get()), packet);
  }
}

void Connection::Handled(const Frame& frame, size_t packets) {
  constexpr size_t kConfirmPackets = 16;
  if (frame.type == wire::v1::RECEIVED) return;
  unconfirmed_ += packets;
  if (unconfirmed_ >= kConfirmPackets) ConfirmReceived();
}

void Connection::ConfirmReceived() {
  unconfirmed_ = 0;
  SendRaw(wire::v1::RECEIVED, 0, received_, {}, {}, Flush::kDefer);
}

void Connection::Confirmed(uint64_t received_by_peer) {
  std::deque<Packet>& kept = handshake_->kept;
  MANTA_CHECK(received_by_peer >= out_start_ && received_by_peer <= out_start_ + kept.size());
  kept.erase(kept.begin(), kept.begin() + static_cast<ptrdiff_t>(received_by_peer - out_start_));
  out_start_ = received_by_peer;
}

void Connection::FinishClose() {
  on_interrupted_ = nullptr;
  auto pending = std::move(pending_replies_);
  pending_replies_.clear();
  for (auto& [id, callback] : pending) callback(close_reason_);
  Handlers handlers = std::move(handlers_);
  handlers_ = Handlers{};
  if (handlers.on_close) handlers.on_close(shared_from_this(), close_reason_);
}

absl::StatusOr<HandshakeResult> BlockingHandshake(int fd,
                                                  const google::protobuf::MessageLite& hello,
                                                  uint16_t hello_type, uint16_t error_type,
                                                  absl::Duration timeout) {
  World* world = World::Current();
  Socket* socket = SocketOf(fd);
  world->Send(socket, MakePacket(hello_type, 0, 1, hello, {}));
  const absl::Time deadline = world->now() + timeout;
  while (socket->inbox.empty() && !socket->broken) {
    if (world->now() > deadline) return absl::DeadlineExceededError("no answer to the HELLO");
    world->Sleep(absl::Microseconds(100));
  }
  if (socket->inbox.empty()) return absl::UnavailableError("the connection was closed");
  Packet packet = std::move(socket->inbox.front());
  socket->inbox.pop_front();
  HandshakeResult result;
  if (packet.type == error_type) {
    result.refusal_metadata = std::move(packet.metadata);
    return result;
  }
  result.reply_metadata = std::move(packet.metadata);
  result.received_fd.Reset(packet.descriptor);
  world->current()->descriptors.insert(packet.descriptor);
  return result;
}

}  // namespace ray::net
