// Of Connection: what keeps it across the breaks of its sockets.
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/net/connection.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::net {
namespace {

// What the peer keeps for us is not more than this and what is under way.
constexpr size_t kConfirmBytes = 128 << 10;
constexpr absl::Duration kConfirmDelay = absl::Seconds(1);
constexpr size_t kKeptSlackBytes = 64 << 10;

}  // namespace

void Connection::KeepAcrossBreaks(std::function<void(const absl::Status&)> on_interrupted) {
  MANTA_CHECK(out_.empty() && !closed_);
  on_interrupted_ = std::move(on_interrupted);
}

void Connection::Break(const absl::Status& why) {
  if (gone()) return;
  const absl::Status reason(why.code(), absl::StrCat(why.message(), " (", description_, ")"));
  // What does not go away by trying again: nobody listens, or it is none of ours.
  const bool is_break = absl::IsUnavailable(why) || absl::IsDeadlineExceeded(why);
  if (!keeps() || !is_break) return Close(reason);
  MANTA_LOG(kInfo, "the connection of ", description_, " is interrupted: ", why.message());
  Interrupt(reason);
  loop_->Post([self = shared_from_this(), reason] {
    if (self->interrupted_ && self->keeps()) self->on_interrupted_(reason);
  });
}

void Connection::Interrupt(const absl::Status& why) {
  if (gone()) return;
  interrupted_ = true;
  held_back_ = true;
  EndHandshake(why);
  DropSocket();
  tls_ = nullptr;
  // The rest of a frame will come with its beginning.
  in_begin_ = in_filled_ = 0;
}

void Connection::DropSocket() {
  loop_->Cancel(std::exchange(peer_timer_, 0));
  loop_->Unwatch(fd_.get());
  fd_.Reset(-1);
}

void Connection::Resume(Detached socket, uint64_t received_by_peer) {
  MANTA_CHECK(interrupted_ && keeps());
  if (closed_) return;
  Confirmed(received_by_peer);
  if (closed_) return;
  out_begin_ = 0;
  fd_ = std::move(socket.fd);
  tls_ = std::move(socket.tls);
  in_ = std::move(socket.already_read);
  in_filled_ = in_.size();
  in_begin_ = 0;
  interrupted_ = false;
  unconfirmed_ = 0;
  held_back_ = false;
  MANTA_LOG(kInfo, "the connection of ", description_, " goes on over another socket");
  WatchFrames();
  if (role_ != Role::kTrusted) CheckPeerLater();
  loop_->Post([self = shared_from_this()] {
    if (self->gone()) return;
    self->WriteBuffered();
    if (!self->gone()) self->ParseAvailable();
    if (!self->gone() && self->has_more()) self->ReadAvailable();
  });
}

void Connection::Handled(const Frame& frame, size_t bytes) {
  if (frame.type == wire::v1::RECEIVED) return;
  unconfirmed_ += bytes;
  if (unconfirmed_ >= kConfirmBytes) return ConfirmReceived();
  if (std::exchange(confirm_due_, true)) return;
  loop_->RunAfter(kConfirmDelay, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self == nullptr || self->closed_) return;
    self->confirm_due_ = false;
    if (self->unconfirmed_ > 0) self->ConfirmReceived();
  });
}

void Connection::ConfirmReceived() {
  if (gone()) return;  // the exchange before Resume says it
  unconfirmed_ = 0;
  SendRaw(wire::v1::RECEIVED, 0, received_, {}, {}, Flush::kDefer);
}

// What the peer has handled need not be sent again.
void Connection::Confirmed(uint64_t received_by_peer) {
  const bool possible =
      received_by_peer >= out_start_ && received_by_peer <= out_start_ + out_begin_;
  if (!possible) {
    return Close(absl::InvalidArgumentError(
        absl::StrCat("the peer says that it has received ", received_by_peer, " bytes of ",
                     out_start_ + out_begin_, ", and had ", out_start_, " (", description_, ")")));
  }
  const size_t confirmed = received_by_peer - out_start_;
  out_.erase(0, confirmed);
  out_begin_ -= confirmed;
  out_start_ = received_by_peer;
  if (out_.empty() && out_.capacity() > kKeptSlackBytes * 16) out_.shrink_to_fit();
}

}  // namespace ray::net
