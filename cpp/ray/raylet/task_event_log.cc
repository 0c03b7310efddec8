#include "ray/raylet/task_event_log.h"

namespace ray::raylet {

TaskEventLog::TaskEventLog(FrameRouter* router, size_t limit) : limit_(limit) {
  router->On<wire::v1::TaskEvents>(wire::v1::TASK_EVENTS,
                                   [this](Client&, const auto& message, const Responder&) {
                                     Add(message);
                                     return absl::OkStatus();
                                   });
  router->On<wire::v1::ListTaskEvents>(wire::v1::LIST_TASK_EVENTS,
                                       [this](Client&, const auto&, const Responder& responder) {
                                         responder.Send(List());
                                         return absl::OkStatus();
                                       });
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
