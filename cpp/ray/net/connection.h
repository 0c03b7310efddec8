// One peer: frames in, frames out, and replies matched to requests.
//
// Output is coalesced: the first frame on a quiet connection leaves at once; while replies to our
// requests are outstanding, frames gather until a size is reached, a reply comes in, the flush
// timer fires, or Flush() is called.
//
// Over TCP both sides first agree on TLS, where the cluster has it (tls_channel.h), and then prove
// the cluster's token to each other (authentication.h). What is sent meanwhile is held back, and
// nothing but that exchange is parsed.
//
// Owner: shared_ptr; the loop's watch holds one while the connection is open.
// Threads: loop-bound in the sense of event_loop.h: every method runs in a handler or under the
// dispatch mutex. User threads of the core worker therefore may Send() under the mutex while
// another thread sits in epoll_wait. Errors: a broken or misbehaving peer ends in one on_close call
// with the reason; later sends are dropped silently (the close already told everybody). Never
// throws, never blocks.
//   CONN-1  on_close runs exactly once, after which no other callback runs. It never runs inside
//   Send(). CONN-2  every reply callback runs exactly once: with the reply, or with the reason of
//   the close. CONN-3  frames are delivered in the order they were sent.
//   CONN-4  between kConnector and kAcceptor no frame of the owner leaves, and none is delivered,
//   before the peer has proved the token; a close before that drops what was held back.
//
// A socket may break although both processes live (a network that is cut for a while, something
// between the two that forgets connections). Between those that KeepAcrossBreaks() that is no
// close: both ends keep what the other may not have got, and Resume() goes on over another socket.
//   CONN-5  across breaks, each frame is delivered exactly once, and in order.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ray/net/endpoint.h"
#include "ray/net/event_loop.h"
#include "ray/net/frame.h"
#include "ray/net/tls_channel.h"

namespace google::protobuf {
class MessageLite;
}

namespace ray::net {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Options {
    uint64_t frame_max_bytes = 256 << 20;
    uint64_t coalesce_max_bytes = 32 << 10;
    absl::Duration coalesce_max_delay = absl::Microseconds(500);
    uint64_t outbuffer_max_bytes = 1 << 30;
    std::string token;  // what TCP peers prove to each other
    // Null: TCP peers speak plain text. A peer that does it otherwise is closed.
    std::shared_ptr<const TlsContext> tls = nullptr;
    // From Start() to the end of that, the time to connect included.
    absl::Duration handshake_timeout = absl::Seconds(5);
    // A TCP peer whose machine does not answer for this long is gone. A process that does not read,
    // on a machine that does answer, is not.
    absl::Duration peer_timeout = absl::Seconds(5);
    // Of one Listener: connections accepted over TCP that have not proved the token yet.
    size_t unproven_connections_max = 256;
  };
  // kTrusted: a Unix socket, which only the session's user can reach. The other two prove the token
  // to each other first.
  enum class Role { kTrusted, kConnector, kAcceptor };
  struct Handlers {
    // A request or one-way frame.
    std::function<void(const std::shared_ptr<Connection>&, const Frame&)> on_frame;
    std::function<void(const std::shared_ptr<Connection>&, const absl::Status& why)> on_close;
  };
  // `reply` is not-ok when the connection closed first. The frame's views die with the call.
  using ReplyCallback = absl::AnyInvocable<void(absl::StatusOr<Frame> reply)>;
  // Runs once for a connection that has a proof to wait for: ok when the peer has given it, else
  // with the reason why the connection ended before. Must not call the connection.
  using ProofCallback = absl::AnyInvocable<void(const absl::Status&)>;

  // When a frame leaves: kNow sends at once (and all that waits before it), kCoalesce by the rule
  // above, kDefer only by size, timer or FlushNow(): for a server that knows it will soon have more
  // to say.
  enum class Flush { kNow, kCoalesce, kDefer };

  static std::shared_ptr<Connection> Create(EventLoop* loop, UniqueFd fd, const Options& options,
                                            Role role = Role::kTrusted,
                                            ProofCallback on_proof = nullptr);
  ~Connection();

  // Begins reading. Bytes that a handshake already read may be handed over in `already_read`
  // (kTrusted only).
  void Start(Handlers handlers, std::string already_read = {});

  void Send(uint16_t type, const google::protobuf::MessageLite& metadata,
            std::string_view payload = {}, Flush flush = Flush::kNow);
  void Call(uint16_t type, const google::protobuf::MessageLite& metadata, ReplyCallback callback,
            std::string_view payload = {}, Flush flush = Flush::kNow);
  void Reply(uint16_t type, uint64_t correlation_id, const google::protobuf::MessageLite& metadata,
             std::string_view payload = {}, Flush flush = Flush::kNow);

  // Hand-packed metadata (PUSH_TASK and its reply). `segments` are copied before the call returns.
  // Requests register `callback` if given and return their correlation id.
  void SendRaw(uint16_t type, uint16_t flags, uint64_t correlation_id, std::string_view metadata,
               absl::Span<const std::string_view> payload, Flush flush);
  uint64_t NextCorrelationId() { return next_correlation_id_++; }
  void ExpectReply(uint64_t correlation_id, ReplyCallback callback);

  // Sends a reply with one descriptor attached (Unix sockets only; must be the first bytes sent).
  void ReplyWithFd(uint16_t type, uint64_t correlation_id,
                   const google::protobuf::MessageLite& metadata, int fd);

  void FlushNow();
  bool has_buffered() const { return out_begin_ < out_.size(); }

  // Closes after what is buffered was offered to the kernel once. on_close runs from the loop,
  // later.
  void Close(absl::Status why);
  bool closed() const { return closed_; }

  // Takes the socket (non-blocking) out of the connection, which then is as closed, but runs no
  // callback any more. May be called in on_frame; `already_read` is what came after that frame, and
  // the rest goes through `tls`, if that is not null.
  // kFailedPrecondition, and nothing has changed, while output or replies are outstanding.
  struct Detached {
    UniqueFd fd;
    std::unique_ptr<TlsChannel> tls;
    std::string already_read;
  };
  absl::StatusOr<Detached> Detach();

  // -- Across breaks of the socket. For both ends, and before either has sent anything.
  // `on_interrupted` runs from the loop when the socket broke and the connection waits for Resume
  // or Close. A peer that closes its end, and one where nobody listens, have left: that is a close.
  void KeepAcrossBreaks(std::function<void(const absl::Status& why)> on_interrupted);
  bool interrupted() const { return interrupted_; }
  // Drops the socket, if there is one: the peer will use another. Runs no callback.
  void Interrupt(const absl::Status& why);
  // Bytes of frames that were handled here, and that the peer is known to have handled.
  uint64_t received_bytes() const { return received_; }
  uint64_t confirmed_bytes() const { return out_start_; }
  // So far nothing was received that counts.
  void RestartReceived() { received_ = 0; }
  // Requires interrupted(). `received_by_peer`: what it says of itself. Closes if that cannot be.
  void Resume(Detached socket, uint64_t received_by_peer);

  // Free for the owner of the connection: the peer's role and id once it said HELLO.
  void set_peer(std::shared_ptr<void> peer) { peer_ = std::move(peer); }
  template <typename T>
  T* peer() const {
    return static_cast<T*>(peer_.get());
  }
  void set_description(std::string text) { description_ = std::move(text); }
  const std::string& description() const { return description_; }

 private:
  struct Handshake;

  Connection(EventLoop* loop, UniqueFd fd, const Options& options, Role role,
             ProofCallback on_proof);
  void StartHandshake();
  void OnHandshakeEvents();
  void AgreeOnTls();
  void BeginProof();
  void WriteHandshake();
  void ReadHandshake();
  void ParseHandshake();
  void FinishHandshake();
  void EndHandshake(const absl::Status& result);
  void CheckPeerLater();
  void WatchFrames();
  void OnEvents(uint32_t events);
  void ReadAvailable();
  void ParseAvailable();
  void HandleFrame(const Frame& frame);
  void AppendFrame(uint16_t type, uint16_t flags, uint64_t correlation_id,
                   const google::protobuf::MessageLite& metadata, std::string_view payload);
  void AfterAppend(Flush flush);
  void WriteBuffered();
  void FinishClose();
  // The socket broke.
  void Break(const absl::Status& why);
  void DropSocket();
  bool keeps() const { return on_interrupted_ != nullptr; }
  bool gone() const { return closed_ || interrupted_; }
  void Handled(const Frame& frame, size_t bytes);
  void ConfirmReceived();
  void Confirmed(uint64_t received_by_peer);

  // recv and send, through TLS if there is any.
  ssize_t ReadSome(char* into, size_t size);
  ssize_t WriteSome(const char* bytes, size_t size);
  // There may be more than the socket knows of.
  bool has_more() const { return tls_ != nullptr && tls_->has_more(); }
  // After one of them has failed.
  absl::Status SocketError() const;

  EventLoop* const loop_;
  const Options options_;
  const Role role_;
  UniqueFd fd_;
  std::unique_ptr<TlsChannel> tls_;  // null: plain text
  Handlers handlers_;
  std::string description_ = "peer";
  std::shared_ptr<void> peer_;

  std::string in_;  // received and not yet parsed: [in_begin_, in_filled_); sized ahead of what was
                    // received
  size_t in_begin_ = 0;
  size_t in_filled_ = 0;
  std::string out_;  // not yet accepted by the kernel: [out_begin_, out_.size())
  size_t out_begin_ = 0;
  // Of one that is kept across breaks: out_[0, out_begin_) is what the peer has not confirmed, and
  // begins at this byte of all that was ever sent.
  uint64_t out_start_ = 0;
  uint64_t received_ = 0;     // bytes of frames
  size_t unconfirmed_ = 0;    // of them, not counting RECEIVED frames, since the last of those left
  bool confirm_due_ = false;  // a timer is set for it
  bool interrupted_ = false;
  std::function<void(const absl::Status&)> on_interrupted_;
  bool held_back_ = false;  // output waits for EPOLLOUT, or for the end of the handshake
  bool flush_timer_set_ = false;
  bool got_reply_ = false;  // since the last flush: the peer is ready for more

  std::unique_ptr<Handshake> handshake_;  // null: there is none, or it is over
  EventLoop::TimerId peer_timer_ = 0;     // 0: nobody looks whether the peer's machine answers

  uint64_t next_correlation_id_ = 1;
  absl::flat_hash_map<uint64_t, ReplyCallback>
      pending_replies_;  // bounded by what the owner keeps in flight

  bool closed_ = false;
  absl::Status close_reason_;
};

// The opening exchange of a client that has no loop yet: sends HELLO and waits for the answer and
// the descriptor that may come with it. Blocks at most `timeout`. kUnavailable when the peer
// closes, kDeadlineExceeded.
struct HandshakeResult {
  std::string reply_metadata;    // a serialized HelloReply
  std::string refusal_metadata;  // instead of it: a serialized ErrorFrame
  UniqueFd received_fd;          // invalid if none came
  std::string already_read;      // bytes after the reply, for Connection::Start
};
absl::StatusOr<HandshakeResult> BlockingHandshake(int fd,
                                                  const google::protobuf::MessageLite& hello,
                                                  uint16_t hello_type, uint16_t error_type,
                                                  absl::Duration timeout);

}  // namespace ray::net
