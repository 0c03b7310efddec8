// The server's end of one node's channel. gRPC's threads enter by the On... methods, which only
// post to the loop.
//
// Owner: itself; it ends its life on the loop once gRPC is done with it (StreamHost::OnStreamGone
// is the last call).
// Threads: loop-bound, save the On... methods.   Errors: a broken channel ends in
// OnStreamEnd.   Never blocks.
//   STREAM-1  messages are handed over one at a time: the next is read when the last was dealt
//             with, so that a node that talks too fast is slowed down by its own socket.
//   STREAM-2  a node that does not read lets at most queue_max messages pile up, then its channel
//             is cut.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "ray/base/ids.h"
#include "ray/gcs/message_batch.h"
#include "ray/gcs/v1/gcs.pb.h"
#include "ray/net/event_loop.h"

namespace ray::gcs {

class NodeStream;

class StreamHost {
 public:
  virtual ~StreamHost() = default;
  virtual void OnStreamMessage(NodeStream* stream, const v1::NodeMessage& message) = 0;
  // The peer has ended or broken the channel. May come more than once.
  virtual void OnStreamEnd(NodeStream* stream) = 0;
  // A stream does not exist any more.
  virtual void OnStreamGone() = 0;
};

class NodeStream final : public grpc::ServerBidiReactor<v1::NodeMessage, v1::GcsMessage> {
 public:
  NodeStream(net::EventLoop* loop, StreamHost* host, grpc::CallbackServerContext* context,
             size_t queue_max);

  // It leaves at the end of this turn of the loop, or once the write under way is done.
  void Send(const v1::GcsMessage& message);
  // Says why and closes. Nothing is sent or handed over afterwards.
  void End(const absl::Status& why);

  // The node that registered on this channel.
  const std::optional<base::NodeId>& node() const { return node_; }
  void set_node(const base::NodeId& node) { node_ = node; }

 private:
  ~NodeStream() override = default;
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void HandleRead(bool ok);
  void WriteNext();

  net::EventLoop* const loop_;
  StreamHost* const host_;
  grpc::CallbackServerContext* const context_;
  const size_t queue_max_;
  std::optional<base::NodeId> node_;
  v1::NodeMessage incoming_;  // of the read in progress
  v1::GcsMessage outgoing_;   // of the write in progress
  MessageBatch<v1::GcsMessage> queue_;
  bool write_due_ = false;  // at the end of this turn
  bool writing_ = false;
  bool ended_ = false;
  // What was posted may run when the stream is gone.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace ray::gcs
