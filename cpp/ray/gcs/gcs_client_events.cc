#include "ray/gcs/gcs_client_events.h"

namespace ray::gcs {
namespace {

template <typename Event, typename Message>
void Raise(const Event& event, const Message& message) {
  if (event) event(message);
}

}  // namespace

void RaiseEvent(const v1::GcsMessage& message, const GcsClient::Events& events) {
  switch (message.message_case()) {
    case v1::GcsMessage::kRegistered:
      return Raise(events.on_registered, message.registered());
    case v1::GcsMessage::kActorChanged:
      return Raise(events.on_actor_changed, message.actor_changed());
    case v1::GcsMessage::kCreateActor:
      return Raise(events.on_create_actor, message.create_actor());
    case v1::GcsMessage::kKillWorker:
      return Raise(events.on_kill_worker, message.kill_worker());
    case v1::GcsMessage::kNodesChanged:
      return Raise(events.on_nodes_changed, message.nodes_changed());
    case v1::GcsMessage::kPrepareBundles:
      return Raise(events.on_prepare_bundles, message.prepare_bundles());
    case v1::GcsMessage::kCommitBundles:
      return Raise(events.on_commit_bundles, message.commit_bundles());
    case v1::GcsMessage::kReturnBundles:
      return Raise(events.on_return_bundles, message.return_bundles());
    case v1::GcsMessage::kDrain:
      return Raise(events.on_drain, message.drain());
    case v1::GcsMessage::MESSAGE_NOT_SET:
      return;
  }
}

}  // namespace ray::gcs
