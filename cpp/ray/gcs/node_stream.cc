#include "ray/gcs/node_stream.h"

#include <string>
#include <utility>

#include "ray/base/logging.h"

namespace ray::gcs {

NodeStream::NodeStream(net::EventLoop* loop, StreamHost* host, grpc::CallbackServerContext* context,
                       size_t queue_max)
    : loop_(loop), host_(host), context_(context), queue_max_(queue_max) {
  StartRead(&incoming_);
}

void NodeStream::OnReadDone(bool ok) {
  loop_->Post([this, ok] { HandleRead(ok); });
}

void NodeStream::HandleRead(bool ok) {
  if (ended_) return;
  if (!ok) {
    host_->OnStreamEnd(this);
    End(absl::OkStatus());
    return;
  }
  host_->OnStreamMessage(this, incoming_);
  for (const v1::NodeMessage& next : incoming_.more()) {
    if (!ended_) host_->OnStreamMessage(this, next);
  }
  if (!ended_) StartRead(&incoming_);
}

void NodeStream::OnWriteDone(bool ok) {
  loop_->Post([this, ok] {
    writing_ = false;
    if (ok) WriteNext();
  });
}

void NodeStream::OnCancel() {
  loop_->Post([this] {
    host_->OnStreamEnd(this);
    End(absl::CancelledError("the channel broke"));
  });
}

void NodeStream::OnDone() {
  loop_->Post([this] {
    StreamHost* host = host_;
    host->OnStreamEnd(this);
    delete this;
    host->OnStreamGone();
  });
}

void NodeStream::Send(const v1::GcsMessage& message) {
  if (ended_) return;
  if (queue_.size() >= queue_max_) {
    MANTA_LOG(kError, "node ", node_.has_value() ? node_->Hex() : "",
              " does not read: ", queue_.size(),
              " messages wait (gcs_node_queue_max); its channel is cut");
    context_->TryCancel();
    return;
  }
  queue_.Add(message);
  if (writing_ || std::exchange(write_due_, true)) return;
  loop_->Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    write_due_ = false;
    WriteNext();
  });
}

void NodeStream::WriteNext() {
  if (writing_ || ended_) return;
  std::optional<v1::GcsMessage> next = queue_.Take();
  if (!next.has_value()) return;
  writing_ = true;
  outgoing_ = *std::move(next);
  StartWrite(&outgoing_);
}

void NodeStream::End(const absl::Status& why) {
  if (std::exchange(ended_, true)) return;
  Finish(grpc::Status(static_cast<grpc::StatusCode>(why.code()), std::string(why.message())));
}

}  // namespace ray::gcs
