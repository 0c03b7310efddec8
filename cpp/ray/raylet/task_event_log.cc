#include "ray/raylet/task_event_log.h"

#include <utility>
#include <vector>

#include "ray/net/parse_frame.h"

namespace ray::raylet {

using wire::v1::ListTaskEvents;
using wire::v1::TaskEventsReply;

namespace {

// For the other nodes' answers.
constexpr absl::Duration kPatience = absl::Seconds(2);

// Collects what several nodes say, and answers once: when all have, or when it is told to.
class Gathering {
 public:
  Gathering(Responder responder, TaskEventsReply own, size_t asked)
      : responder_(std::move(responder)), reply_(std::move(own)), missing_(asked) {}

  // What does not parse, or never came, adds nothing.
  void Add(const absl::StatusOr<net::Frame>& answer) {
    TaskEventsReply theirs;
    if (answer.ok() && net::ParseMetadata(*answer, &theirs)) {
      const uint64_t dropped = reply_.dropped() + theirs.dropped();
      reply_.MergeFrom(theirs);
      reply_.set_dropped(dropped);
    }
    if (--missing_ == 0) Answer();
  }
  void Answer() {
    if (std::exchange(answered_, true)) return;
    responder_.Send(reply_);
  }

 private:
  const Responder responder_;
  TaskEventsReply reply_;
  size_t missing_;
  bool answered_ = false;
};

}  // namespace

TaskEventLog::TaskEventLog(net::EventLoop* loop, FrameRouter* router, NodePeers* peers,
                           size_t limit)
    : loop_(loop), peers_(peers), limit_(limit) {
  router->On<wire::v1::TaskEvents>(wire::v1::TASK_EVENTS,
                                   [this](Client&, const auto& message, const Responder&) {
                                     Add(message);
                                     return absl::OkStatus();
                                   });
  router->On<ListTaskEvents>(
      wire::v1::LIST_TASK_EVENTS,
      [this](Client& client, const ListTaskEvents&, const Responder& responder) {
        client.IsRaylet() ? responder.Send(List()) : ListAll(responder);
        return absl::OkStatus();
      });
}

void TaskEventLog::ListAll(const Responder& responder) const {
  std::vector<net::Connection*> others;
  std::vector<base::NodeId> nodes;
  peers_->ForEach([&](const base::NodeId& node, const auto&) { nodes.push_back(node); });
  for (const base::NodeId& node : nodes) {
    if (net::Connection* raylet = peers_->Get(node); raylet != nullptr) others.push_back(raylet);
  }
  if (others.empty()) return responder.Send(List());
  const auto gathering = std::make_shared<Gathering>(responder, List(), others.size());
  for (net::Connection* raylet : others) {
    raylet->Call(wire::v1::LIST_TASK_EVENTS, ListTaskEvents(),
                 [gathering](const absl::StatusOr<net::Frame>& answer) { gathering->Add(answer); });
  }
  loop_->RunAfter(kPatience, [gathering] { gathering->Answer(); });
}

void TaskEventLog::Add(const wire::v1::TaskEvents& batch) {
  if (batch.events_size() == 0) return;
  batches_.push_back(batch);
  kept_ += static_cast<size_t>(batch.events_size());
  while (kept_ > limit_) {
    const auto oldest = static_cast<size_t>(batches_.front().events_size());
    batches_.pop_front();
    kept_ -= oldest;
    dropped_ += oldest;
  }
}

wire::v1::TaskEventsReply TaskEventLog::List() const {
  wire::v1::TaskEventsReply reply;
  for (const wire::v1::TaskEvents& batch : batches_) *reply.add_workers() = batch;
  reply.set_dropped(dropped_);
  return reply;
}

}  // namespace ray::raylet
