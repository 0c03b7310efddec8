#include "ray/raylet/actor_relay.h"

#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/raylet/relay.h"

namespace ray::raylet {

using base::ActorId;
using wire::v1::ActorInfo;
using wire::v1::ActorInfoReply;

ActorRelay::ActorRelay(FrameRouter* router, const ClientRegistry* clients, gcs::GcsClient* gcs,
                       AfterGroups after_groups)
    : clients_(clients), gcs_(gcs), after_groups_(std::move(after_groups)) {
  router->On<wire::v1::RegisterActor>(
      wire::v1::REGISTER_ACTOR, [this](Client&, const auto& message, const Responder& responder) {
        return OnRegister(message, responder);
      });
  router->On<wire::v1::SubscribeActor>(
      wire::v1::SUBSCRIBE_ACTOR,
      [this](Client& client, const auto& message, const Responder& responder) {
        return OnSubscribe(client, message, responder);
      });
  router->On<wire::v1::KillActor>(wire::v1::KILL_ACTOR,
                                  [this](Client&, const auto& message, const Responder& responder) {
                                    return OnKill(message, responder);
                                  });
  router->On<wire::v1::ActorOutOfScope>(
      wire::v1::ACTOR_OUT_OF_SCOPE,
      [this](Client&, const auto& message, const Responder&) { return OnOutOfScope(message); });
  RelayNames(router);
}

void ActorRelay::RelayNames(FrameRouter* router) {
  router->On<wire::v1::GetNamedActor>(
      wire::v1::GET_NAMED_ACTOR, [this](Client&, const auto& message, const Responder& responder) {
        gcs_->GetNamedActor(message, RelayTo<ActorInfoReply>(responder));
        return absl::OkStatus();
      });
  router->On<wire::v1::ListNamedActors>(
      wire::v1::LIST_NAMED_ACTORS,
      [this](Client&, const auto& message, const Responder& responder) {
        gcs_->ListNamedActors(message, [responder](auto reply) {
          responder.Send(reply.ok() ? *reply : wire::v1::ListNamedActorsReply());
        });
        return absl::OkStatus();
      });
}

// --- Registration

absl::Status ActorRelay::OnRegister(const wire::v1::RegisterActor& message,
                                    const Responder& responder) {
  MANTA_ASSIGN_OR_RETURN(const ActorId actor, ActorId::FromBinary(message.spec().actor_id()));
  registering_.try_emplace(actor);
  auto answer = RelayTo<wire::v1::RegisterActorReply>(responder);
  // The GCS takes a group that it has not heard of for one that was removed.
  after_groups_([this, message, actor, answer] {
    gcs_->RegisterActor(message, [this, actor, answer](auto reply) {
      answer(std::move(reply));
      RegistrationDone(actor);
    });
  });
  return absl::OkStatus();
}

void ActorRelay::AfterRegistration(const ActorId& actor, Deferred run) {
  auto it = registering_.find(actor);
  if (it == registering_.end()) return run();
  it->second.push_back(std::move(run));
}

void ActorRelay::RegistrationDone(const ActorId& actor) {
  auto node = registering_.extract(actor);
  if (node.empty()) return;  // a repeated registration was answered before
  for (Deferred& run : node.mapped()) run();
}

absl::Status ActorRelay::OnKill(const wire::v1::KillActor& message, const Responder& responder) {
  MANTA_ASSIGN_OR_RETURN(const ActorId actor, ActorId::FromBinary(message.actor_id()));
  AfterRegistration(actor, [this, message, responder] {
    gcs_->KillActor(message, RelayTo<wire::v1::StatusReply>(responder));
  });
  return absl::OkStatus();
}

absl::Status ActorRelay::OnOutOfScope(const wire::v1::ActorOutOfScope& message) {
  MANTA_ASSIGN_OR_RETURN(const ActorId actor, ActorId::FromBinary(message.actor_id()));
  AfterRegistration(actor, [this, message, actor] {
    gcs_->ActorOutOfScope(message, [actor](const absl::StatusOr<wire::v1::StatusReply>& reply) {
      if (reply.ok()) return;
      MANTA_LOG(kWarning, "the GCS was not told that actor ", actor.Hex(),
                " is out of scope: ", reply.status().message());
    });
  });
  return absl::OkStatus();
}

// --- Subscriptions

absl::Status ActorRelay::OnSubscribe(const Client& client, const wire::v1::SubscribeActor& message,
                                     const Responder& responder) {
  MANTA_ASSIGN_OR_RETURN(const ActorId actor, ActorId::FromBinary(message.actor_id()));
  AfterRegistration(actor,
                    [this, id = client.id, actor, responder] { Subscribe(id, actor, responder); });
  return absl::OkStatus();
}

void ActorRelay::Subscribe(scheduling::ClientId client, const ActorId& actor,
                           const Responder& responder) {
  auto [it, is_new] = watched_.try_emplace(actor);
  Watched& watched = it->second;
  if (watched.info.revision() > 0) {
    watched.subscribers.insert(client);
    ActorInfoReply reply;
    *reply.mutable_info() = watched.info;
    responder.Send(reply);
    return;
  }
  watched.waiting.emplace_back(client, responder);
  if (!is_new) return;
  // The watch first, so that no change falls between the two. The question is for actors that do
  // not exist, of which the watch says nothing.
  gcs_->WatchActor(actor.BinaryString());
  wire::v1::SubscribeActor question;
  question.set_actor_id(actor.BinaryString());
  gcs_->GetActor(question, [this, actor](auto reply) { SubscriptionAnswered(actor, reply); });
}

void ActorRelay::SubscriptionAnswered(const ActorId& actor,
                                      const absl::StatusOr<ActorInfoReply>& reply) {
  if (reply.ok() && reply->status().code() == 0) return ActorChanged(reply->info());
  auto it = watched_.find(actor);
  if (it == watched_.end()) return;
  ActorInfoReply failure;
  if (reply.ok()) {
    failure = *reply;
  } else {
    SetStatus(&failure, reply.status());
  }
  for (const auto& [client, responder] : it->second.waiting) responder.Send(failure);
  it->second.waiting.clear();
  if (it->second.subscribers.empty()) watched_.erase(it);
}

void ActorRelay::ActorChanged(const ActorInfo& info) {
  const absl::StatusOr<ActorId> actor = ActorId::FromBinary(info.actor_id());
  auto it = actor.ok() ? watched_.find(*actor) : watched_.end();
  if (it == watched_.end() || info.revision() <= it->second.info.revision()) return;
  Watched& watched = it->second;
  watched.info = info;
  for (scheduling::ClientId id : watched.subscribers) {
    if (Client* client = clients_->Find(id); client != nullptr) {
      client->connection->Send(wire::v1::ACTOR_CHANGED, info);
    }
  }
  ActorInfoReply reply;
  *reply.mutable_info() = info;
  for (const auto& [id, responder] : watched.waiting) {
    responder.Send(reply);
    watched.subscribers.insert(id);
  }
  watched.waiting.clear();
  // Nothing more will come. Who asks for a dead actor later is answered by the GCS.
  if (info.state() == wire::v1::DEAD) watched_.erase(it);
}

// An actor without subscribers stays watched until it is dead: the GCS knows no unwatch, and others
// may ask soon.
void ActorRelay::ClientGone(const Client& client) {
  for (auto& [actor, watched] : watched_) {
    watched.subscribers.erase(client.id);
    std::erase_if(watched.waiting, [&](const auto& entry) { return entry.first == client.id; });
  }
}

std::vector<std::string> ActorRelay::WatchedActors() const {
  std::vector<std::string> ids;
  ids.reserve(watched_.size());
  for (const auto& [actor, watched] : watched_) ids.push_back(actor.BinaryString());
  return ids;
}

}  // namespace ray::raylet
