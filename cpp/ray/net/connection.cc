#include "ray/net/connection.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "google/protobuf/message_lite.h"
#include "ray/base/check.h"
#include "ray/base/clock.h"
#include "ray/base/logging.h"
#include "ray/net/authentication.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::net {
namespace {

constexpr size_t kReadChunkBytes = 64 << 10;
constexpr size_t kKeepBufferBytes = 1 << 20;
// One turn of the loop reads at most this much from one peer, so that no peer starves the others.
constexpr size_t kReadPerTurnBytes = 4 << 20;
// What a peer that has not proved itself may have buffered here.
constexpr size_t kHandshakeReadBytes = 256;
constexpr absl::Duration kPeerCheckPauseMin = absl::Milliseconds(100);

absl::Status PeerError(const std::string& description, std::string_view what,
                       absl::StatusCode code = absl::StatusCode::kUnavailable) {
  return absl::Status(
      code, absl::StrCat(absl::string_view(what.data(), what.size()), " (", description, ")"));
}

absl::Status PeerError(const std::string& description, const absl::Status& status) {
  const absl::string_view what = status.message();
  return PeerError(description, std::string_view(what.data(), what.size()), status.code());
}

// A record of TLS in which a handshake begins. No frame begins like that: it would be larger than
// what a stranger may send.
bool LooksLikeTls(std::string_view bytes) { return bytes.starts_with("\x16\x03"); }

void PutHeader(std::string* out, uint16_t type, uint16_t flags, uint64_t correlation_id,
               size_t metadata_size, size_t payload_size) {
  FrameHeader header;
  header.body_size = static_cast<uint32_t>(metadata_size + payload_size);
  header.metadata_size = static_cast<uint32_t>(metadata_size);
  header.type = type;
  header.flags = flags;
  header.correlation_id = correlation_id;
  out->append(reinterpret_cast<const char*>(&header), sizeof header);
}

}  // namespace

// The state of a connection whose peer has not proved itself yet.
struct Connection::Handshake {
  // Once TLS is agreed on, if it is asked for.
  std::optional<Authentication> authentication;
  ProofCallback on_proof;
  EventLoop::TimerId timer = 0;
  std::string out;  // not yet accepted by the kernel
};

std::shared_ptr<Connection> Connection::Create(EventLoop* loop, UniqueFd fd, const Options& options,
                                               Role role, ProofCallback on_proof) {
  return std::shared_ptr<Connection>(
      new Connection(loop, std::move(fd), options, role, std::move(on_proof)));
}

Connection::Connection(EventLoop* loop, UniqueFd fd, const Options& options, Role role,
                       ProofCallback on_proof)
    : loop_(loop), options_(options), role_(role), fd_(std::move(fd)) {
  if (role == Role::kTrusted) return;
  handshake_ = std::make_unique<Handshake>();
  handshake_->on_proof = std::move(on_proof);
  held_back_ = true;
  SetTcpOptions(fd_.get(), options.peer_timeout);
  if (options.tls == nullptr) return;
  using Side = TlsContext::Side;
  tls_ = options.tls->MakeChannel(fd_.get(),
                                  role == Role::kConnector ? Side::kConnector : Side::kAcceptor);
}

Connection::~Connection() {
  if (closed_) return;
  EndHandshake(absl::CancelledError("nobody wants the connection any more"));
  loop_->Cancel(peer_timer_);
  if (fd_.valid()) loop_->Unwatch(fd_.get());
}

void Connection::Start(Handlers handlers, std::string already_read) {
  handlers_ = std::move(handlers);
  if (handshake_ != nullptr) {
    MANTA_CHECK(already_read.empty());
    return StartHandshake();
  }
  in_ = std::move(already_read);
  in_filled_ = in_.size();
  WatchFrames();
  if (in_filled_ > 0) {
    loop_->Post([self = shared_from_this()] { self->ParseAvailable(); });
  }
}

void Connection::StartHandshake() {
  handshake_->timer = loop_->RunAfter(options_.handshake_timeout, [weak = weak_from_this()] {
    if (auto self = weak.lock()) {
      const char* what = self->handshake_->authentication.has_value() ? "prove the cluster's token"
                                                                      : "finish the TLS handshake";
      const std::string why = absl::StrCat("the peer did not ", what, " within ",
                                           absl::FormatDuration(self->options_.handshake_timeout));
      self->Break(absl::DeadlineExceededError(why));
    }
  });
  if (tls_ == nullptr) BeginProof();
  // A connector writes once it is connected.
  loop_->Watch(fd_.get(), EPOLLIN | (role_ == Role::kConnector ? EPOLLOUT : 0u),
               [self = shared_from_this()](uint32_t) { self->OnHandshakeEvents(); });
}

void Connection::OnHandshakeEvents() {
  if (!handshake_->authentication.has_value()) AgreeOnTls();
  if (gone() || !handshake_->authentication.has_value()) return;
  // First what the peer says: why it left may be among it, and then nothing can be written.
  ReadHandshake();
  if (!gone()) WriteHandshake();
  if (gone() || !handshake_->authentication->proved() || !handshake_->out.empty()) return;
  FinishHandshake();
}

void Connection::AgreeOnTls() {
  const absl::StatusOr<bool> agreed = tls_->Handshake();
  if (!agreed.ok()) return Break(agreed.status());
  if (*agreed) return BeginProof();
  loop_->Modify(fd_.get(), EPOLLIN | (tls_->wants_write() ? EPOLLOUT : 0u));
}

void Connection::BeginProof() {
  using Side = Authentication::Side;
  handshake_->authentication.emplace(role_ == Role::kConnector ? Side::kConnector : Side::kAcceptor,
                                     options_.token, tls_ == nullptr ? "" : tls_->Binding());
  if (role_ == Role::kAcceptor) return;
  const std::string hello = handshake_->authentication->Hello();
  PutHeader(&handshake_->out, wire::v1::AUTHENTICATE, 0, 0, hello.size(), 0);
  handshake_->out += hello;
}

void Connection::WriteHandshake() {
  std::string& out = handshake_->out;
  while (!out.empty()) {
    const ssize_t n = WriteSome(out.data(), out.size());
    if (n >= 0) {
      out.erase(0, static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      return Break(SocketError());
    }
  }
  loop_->Modify(fd_.get(), EPOLLIN | (out.empty() ? 0u : EPOLLOUT));
}

void Connection::ReadHandshake() {
  while (!gone() && !handshake_->authentication->proved()) {
    in_.resize(in_filled_ + kHandshakeReadBytes);
    const ssize_t n = ReadSome(in_.data() + in_filled_, kHandshakeReadBytes);
    if (n > 0) {
      in_filled_ += static_cast<size_t>(n);
      ParseHandshake();
    } else if (n == 0) {
      const bool plain = role_ == Role::kConnector && tls_ == nullptr;
      return Close(
          PeerError(description_, absl::StrCat("the peer closed the connection before its proof",
                                               plain ? " (it may ask for TLS)" : "")));
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR) {
      return Break(SocketError());
    }
  }
}

void Connection::ParseHandshake() {
  while (!handshake_->authentication->proved()) {
    const std::string_view rest(in_.data() + in_begin_, in_filled_ - in_begin_);
    absl::StatusOr<FrameParse> parse = ParseFrame(rest, kAuthenticationMaxBytes);
    if (!parse.ok() && LooksLikeTls(rest)) {
      return Close(PeerError(description_,
                             "the peer speaks TLS and this node does not: start all nodes of the "
                             "cluster with TLS, or none",
                             absl::StatusCode::kInvalidArgument));
    }
    if (!parse.ok()) return Close(PeerError(description_, parse.status()));
    if (!parse->complete) return;
    in_begin_ += parse->total_size;
    const Frame& frame = parse->frame;
    if (frame.type != wire::v1::AUTHENTICATE || frame.is_reply || !frame.payload.empty()) {
      const std::string why =
          absl::StrCat("a frame of type ", frame.type, " before the proof of the cluster's token");
      return Close(PeerError(description_, why, absl::StatusCode::kInvalidArgument));
    }
    std::string answer;
    const absl::Status status = handshake_->authentication->Receive(frame.metadata, &answer);
    if (!answer.empty()) {
      PutHeader(&handshake_->out, wire::v1::AUTHENTICATE, 0, 0, answer.size(), 0);
      handshake_->out += answer;
      WriteHandshake();
      if (gone()) return;
    }
    if (!status.ok()) return Close(PeerError(description_, status));
  }
}

void Connection::FinishHandshake() {
  EndHandshake(absl::OkStatus());
  held_back_ = false;
  WatchFrames();
  CheckPeerLater();
  WriteBuffered();
  ParseAvailable();
  if (!gone() && has_more()) ReadAvailable();
}

void Connection::EndHandshake(const absl::Status& result) {
  const std::unique_ptr<Handshake> ended = std::move(handshake_);
  if (ended == nullptr) return;
  loop_->Cancel(ended->timer);
  if (ended->on_proof) ended->on_proof(result);
}

void Connection::CheckPeerLater() {
  const absl::Duration pause = std::max(options_.peer_timeout / 2, kPeerCheckPauseMin);
  peer_timer_ = loop_->RunAfter(pause, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self == nullptr || self->gone()) return;
    if (IsUnanswered(self->fd_.get(), self->options_.peer_timeout)) {
      return self->Break(absl::UnavailableError("the peer's machine does not answer"));
    }
    self->CheckPeerLater();
  });
}

void Connection::WatchFrames() {
  loop_->Watch(fd_.get(), EPOLLIN | (held_back_ ? EPOLLOUT : 0u),
               [self = shared_from_this()](uint32_t events) { self->OnEvents(events); });
}

void Connection::OnEvents(uint32_t events) {
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) ReadAvailable();
  if (gone()) return;
  if ((events & EPOLLOUT) != 0 || (got_reply_ && has_buffered())) WriteBuffered();
  got_reply_ = false;
}

void Connection::ReadAvailable() {
  size_t read_this_turn = 0;
  while (!gone() && read_this_turn < kReadPerTurnBytes) {
    if (in_.size() - in_filled_ < kReadChunkBytes) {
      in_.resize(std::max(in_filled_ + kReadChunkBytes, in_filled_ * 2));
    }
    size_t space = in_.size() - in_filled_;
    ssize_t n = ReadSome(in_.data() + in_filled_, space);
    if (n > 0) {
      in_filled_ += static_cast<size_t>(n);
      read_this_turn += static_cast<size_t>(n);
      ParseAvailable();
      if (static_cast<size_t>(n) < space && !has_more()) return;  // drained
    } else if (n == 0) {
      return Close(PeerError(description_, "the peer closed the connection"));
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR) {
      return Break(SocketError());
    }
  }
  // The loop only sees what is left in the socket.
  if (!gone() && has_more()) {
    loop_->Post([weak = weak_from_this()] {
      if (auto self = weak.lock(); self != nullptr && !self->gone()) self->ReadAvailable();
    });
  }
}

void Connection::ParseAvailable() {
  while (!gone()) {
    std::string_view rest(in_.data() + in_begin_, in_filled_ - in_begin_);
    absl::StatusOr<FrameParse> parse = ParseFrame(rest, options_.frame_max_bytes);
    if (!parse.ok()) return Close(parse.status());
    if (!parse->complete) break;
    in_begin_ += parse->total_size;
    received_ += parse->total_size;
    if (keeps()) Handled(parse->frame, parse->total_size);
    HandleFrame(parse->frame);
  }
  if (in_begin_ == in_filled_) {
    in_begin_ = in_filled_ = 0;
    if (in_.size() > kKeepBufferBytes) in_ = std::string();
  } else if (in_begin_ > in_filled_ / 2) {
    std::memmove(in_.data(), in_.data() + in_begin_, in_filled_ - in_begin_);
    in_filled_ -= in_begin_;
    in_begin_ = 0;
  }
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
  got_reply_ = true;
  callback(frame);
}

void Connection::Send(uint16_t type, const google::protobuf::MessageLite& metadata,
                      std::string_view payload, Flush flush) {
  if (closed_) return;
  AppendFrame(type, 0, 0, metadata, payload);
  AfterAppend(flush);
}

void Connection::Call(uint16_t type, const google::protobuf::MessageLite& metadata,
                      ReplyCallback callback, std::string_view payload, Flush flush) {
  uint64_t id = NextCorrelationId();
  ExpectReply(id, std::move(callback));
  if (closed_) return;
  AppendFrame(type, 0, id, metadata, payload);
  AfterAppend(pending_replies_.size() == 1 ? Flush::kNow : flush);
}

void Connection::Reply(uint16_t type, uint64_t correlation_id,
                       const google::protobuf::MessageLite& metadata, std::string_view payload,
                       Flush flush) {
  if (closed_) return;
  AppendFrame(type, kReplyFlag, correlation_id, metadata, payload);
  AfterAppend(flush);
}

void Connection::SendRaw(uint16_t type, uint16_t flags, uint64_t correlation_id,
                         std::string_view metadata, absl::Span<const std::string_view> payload,
                         Flush flush) {
  if (closed_) return;
  size_t payload_size = 0;
  for (std::string_view segment : payload) payload_size += segment.size();
  PutHeader(&out_, type, flags, correlation_id, metadata.size(), payload_size);
  out_.append(metadata);
  for (std::string_view segment : payload) out_.append(segment);
  AfterAppend(flush);
}

void Connection::ExpectReply(uint64_t correlation_id, ReplyCallback callback) {
  bool inserted = pending_replies_.emplace(correlation_id, std::move(callback)).second;
  MANTA_CHECK(inserted);
  if (!closed_) return;
  // The close has been reported or is about to be; FinishClose may already have run.
  loop_->Post([self = shared_from_this()] { self->FinishClose(); });
}

void Connection::ReplyWithFd(uint16_t type, uint64_t correlation_id,
                             const google::protobuf::MessageLite& metadata, int fd) {
  if (closed_) return;
  MANTA_CHECK(!has_buffered());
  AppendFrame(type, kReplyFlag, correlation_id, metadata, {});
  iovec data{out_.data(), out_.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  ssize_t n = sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0) return Close(PeerError(description_, std::strerror(errno)));
  out_begin_ += static_cast<size_t>(n);
  WriteBuffered();
}

void Connection::AppendFrame(uint16_t type, uint16_t flags, uint64_t correlation_id,
                             const google::protobuf::MessageLite& metadata,
                             std::string_view payload) {
  size_t metadata_size = metadata.ByteSizeLong();
  PutHeader(&out_, type, flags, correlation_id, metadata_size, payload.size());
  size_t at = out_.size();
  out_.resize(at + metadata_size);
  metadata.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(out_.data() + at));
  out_.append(payload);
}

void Connection::AfterAppend(Flush flush) {
  size_t buffered = out_.size() - out_begin_;
  if (buffered > options_.outbuffer_max_bytes) {
    return Close(absl::ResourceExhaustedError(
        absl::StrCat("the peer does not read: ", buffered, " bytes wait (", description_, ")")));
  }
  if (held_back_) return;  // the kernel is full; EPOLLOUT continues
  bool quiet = pending_replies_.size() <= 1;
  if (flush == Flush::kNow || (flush == Flush::kCoalesce && quiet) ||
      buffered >= options_.coalesce_max_bytes) {
    return WriteBuffered();
  }
  if (flush_timer_set_) return;
  flush_timer_set_ = true;
  loop_->RunAfter(options_.coalesce_max_delay, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->flush_timer_set_ = false;
    self->FlushNow();
  });
}

void Connection::FlushNow() {
  if (!gone() && !held_back_ && has_buffered()) WriteBuffered();
}

void Connection::WriteBuffered() {
  while (has_buffered()) {
    ssize_t n = WriteSome(out_.data() + out_begin_, out_.size() - out_begin_);
    if (n >= 0) {
      out_begin_ += static_cast<size_t>(n);
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      return Break(SocketError());
    }
  }
  if (!has_buffered() && !keeps()) {
    out_begin_ = 0;
    out_.clear();
    if (out_.capacity() > kKeepBufferBytes) out_.shrink_to_fit();
  }
  if (has_buffered() == held_back_) return;
  held_back_ = has_buffered();
  if (handlers_.on_frame) loop_->Modify(fd_.get(), EPOLLIN | (held_back_ ? EPOLLOUT : 0u));
}

inline ssize_t Connection::ReadSome(char* into, size_t size) {
  if (tls_ == nullptr) return recv(fd_.get(), into, size, MSG_DONTWAIT);
  return tls_->Read(into, size);
}

inline ssize_t Connection::WriteSome(const char* bytes, size_t size) {
  if (tls_ == nullptr) return send(fd_.get(), bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  return tls_->Write(bytes, size);
}

absl::Status Connection::SocketError() const {
  return tls_ == nullptr ? SocketStatus(errno) : tls_->error();
}

void Connection::Close(absl::Status why) {
  if (closed_) return;
  // A peer that leaves is no news; one that is cut off for what it did is. What strangers do is for
  // the one who let them in to tell.
  const bool left = absl::IsUnavailable(why) || absl::IsCancelled(why) || absl::IsNotFound(why);
  const bool stranger = handshake_ != nullptr && handshake_->on_proof;
  if (!left && !stranger)
    MANTA_LOG(kWarning, "closing the connection of ", description_, ": ", why.message());
  if (has_buffered() && !held_back_ && !interrupted_) {
    ssize_t n = WriteSome(out_.data() + out_begin_, out_.size() - out_begin_);
    static_cast<void>(n);  // a last word, best effort: the connection ends either way
  }
  closed_ = true;
  EndHandshake(why);
  close_reason_ = std::move(why);
  if (!interrupted_) DropSocket();
  loop_->Post([self = shared_from_this()] { self->FinishClose(); });
}

absl::StatusOr<Connection::Detached> Connection::Detach() {
  if (closed_ || handshake_ != nullptr || has_buffered() || !pending_replies_.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the connection is closed, or has something under way (", description_, ")"));
  }
  closed_ = true;
  close_reason_ = absl::CancelledError("the connection was handed over");
  loop_->Cancel(peer_timer_);
  loop_->Unwatch(fd_.get());
  // Perhaps one of them is running.
  loop_->Post([self = shared_from_this()] { self->handlers_ = Handlers{}; });
  return Detached{std::move(fd_), std::move(tls_), in_.substr(in_begin_, in_filled_ - in_begin_)};
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

namespace {

absl::Status SendAll(int fd, std::string_view bytes, int64_t deadline_nanos) {
  while (!bytes.empty()) {
    ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n > 0) {
      bytes.remove_prefix(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      if (base::MonotonicNanos() > deadline_nanos) {
        return absl::DeadlineExceededError("the raylet does not read");
      }
      pollfd waiting{fd, POLLOUT, 0};
      poll(&waiting, 1, 10);
    } else if (errno != EINTR) {
      return absl::UnavailableError(std::strerror(errno));
    }
  }
  return absl::OkStatus();
}

// Receives bytes and, if one comes with them, a descriptor.
absl::Status ReceiveSome(int fd, std::string* into, UniqueFd* received) {
  char bytes[16 << 10];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec data{bytes, sizeof bytes};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n == 0) return absl::UnavailableError("the connection was closed");
  if (n < 0) {
    return errno == EAGAIN || errno == EINTR ? absl::OkStatus()
                                             : absl::UnavailableError(std::strerror(errno));
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int passed = -1;
    std::memcpy(&passed, CMSG_DATA(header), sizeof passed);
    received->Reset(passed);
  }
  into->append(bytes, static_cast<size_t>(n));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HandshakeResult> BlockingHandshake(int fd,
                                                  const google::protobuf::MessageLite& hello,
                                                  uint16_t hello_type, uint16_t error_type,
                                                  absl::Duration timeout) {
  constexpr uint64_t kHandshakeMaxBytes = 16 << 20;
  constexpr uint64_t kCorrelationId = 1;
  int64_t deadline = base::MonotonicNanos() + absl::ToInt64Nanoseconds(timeout);
  std::string metadata = hello.SerializeAsString();
  std::string request;
  PutHeader(&request, hello_type, 0, kCorrelationId, metadata.size(), 0);
  request += metadata;
  if (absl::Status sent = SendAll(fd, request, deadline); !sent.ok()) return sent;

  HandshakeResult result;
  std::string received;
  while (true) {
    absl::StatusOr<FrameParse> parse = ParseFrame(received, kHandshakeMaxBytes);
    if (!parse.ok()) return parse.status();
    if (parse->complete) {
      if (parse->frame.type == error_type) {
        result.refusal_metadata = std::string(parse->frame.metadata);
        return result;
      }
      if (parse->frame.type != hello_type || !parse->frame.is_reply) {
        return absl::InvalidArgumentError("the peer did not answer the HELLO");
      }
      result.reply_metadata = std::string(parse->frame.metadata);
      result.already_read = received.substr(parse->total_size);
      return result;
    }
    if (base::MonotonicNanos() > deadline) {
      return absl::DeadlineExceededError("the peer did not answer the HELLO in time");
    }
    pollfd waiting{fd, POLLIN, 0};
    poll(&waiting, 1, 100);
    absl::Status status = ReceiveSome(fd, &received, &result.received_fd);
    if (!status.ok()) return status;
  }
}

}  // namespace ray::net
