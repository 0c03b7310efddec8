// gcs/gcs_client.h in the virtual world.
#include "ray/gcs/gcs_client.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/ids.h"
#include "ray/gcs/gcs_client_events.h"
#include "ray/gcs/node_outbox.h"
#include "ray/net/endpoint.h"
#include "tests/sim/world/gcs_wire.h"
#include "tests/sim/world/loops.h"
#include "tests/sim/world/world.h"

namespace ray::gcs {

using sim::GcsMethod;
using sim::GcsPacket;
using sim::Packet;
using sim::Socket;
using sim::World;
using v1::GcsMessage;
using v1::NodeMessage;

class GcsClient::Impl {
 public:
  Impl(net::EventLoop* loop, Options options, Events events)
      : loop_(loop), options_(std::move(options)), events_(std::move(events)) {}

  void Start(Registration registration) {
    registration_ = std::move(registration);
    loop_->Post([this] { Connect(); });
  }
  bool registered() const { return registered_; }

  void Send(NodeMessage message) {
    if (channel_ != nullptr && !leaving_) Write(message);
  }
  void Deliver(NodeMessage message) {
    if (leaving_) return;
    const NodeMessage& kept = outbox_.Add(std::move(message));
    if (channel_ != nullptr) Write(kept);
  }
  void Leave(const std::string& reason) {
    NodeMessage message;
    message.mutable_leaving()->set_reason(reason);
    Deliver(std::move(message));
    leaving_ = true;
  }
  bool left() const { return leaving_ && (!registered_ || outbox_.kept().empty()); }

  template <typename Request, typename Reply>
  void Call(GcsMethod method, const Request& request, Callback<Reply> callback) {
    const uint64_t number = ++last_call_;
    Unary& call = calls_[number];
    call.packet.type = static_cast<uint16_t>(GcsPacket::kCall);
    call.packet.flags = static_cast<uint16_t>(method);
    call.packet.number = number;
    call.packet.metadata = request.SerializeAsString();
    uint8_t id[16];
    base::FillUniqueBytes(id, sizeof id);
    call.packet.payload = base::BytesToHex({reinterpret_cast<const char*>(id), sizeof id});
    call.finish = [callback = std::move(callback)](const absl::Status& status,
                                                   const std::string& bytes) mutable {
      if (!status.ok()) return callback(status);
      Reply reply;
      reply.ParseFromString(bytes);
      callback(std::move(reply));
    };
    loop_->RunAfter(options_.rpc_timeout, [this, number] {
      Finish(number, absl::DeadlineExceededError("the GCS did not answer in time"), "");
    });
    loop_->Post([this] { SendCalls(); });
  }

 private:
  struct Unary {
    Packet packet;
    bool sent = false;
    absl::AnyInvocable<void(const absl::Status&, const std::string&)> finish;
  };

  // --- The node's channel

  void Connect() {
    World* world = World::Current();
    channel_fd_.Reset(world->Connect(options_.address));
    channel_ = world->FindSocket(channel_fd_.get());
    auto state = sim::StateOf(loop_);
    world->Attach(
        channel_,
        [this, state, socket = channel_](Packet packet) {
          RunOn(state, [this, socket, packet = std::move(packet)] {
            if (socket == channel_) OnPacket(packet);
          });
        },
        [this, state, socket = channel_](const absl::Status& why) {
          RunOn(state, [this, socket, why] {
            if (socket == channel_) Disconnected(why);
          });
        });
    NodeMessage registration;
    *registration.mutable_register_() = registration_();
    Write(registration);
    for (const NodeMessage& message : outbox_.kept()) Write(message);
  }

  void Write(const NodeMessage& message) {
    Packet packet;
    packet.type = static_cast<uint16_t>(GcsPacket::kNodeMessage);
    packet.body = std::make_shared<const NodeMessage>(message);
    World::Current()->Send(channel_, std::move(packet));
  }

  void OnPacket(const Packet& packet) {
    if (packet.type == static_cast<uint16_t>(GcsPacket::kRefused)) {
      return Disconnected(
          absl::Status(static_cast<absl::StatusCode>(packet.number), packet.payload));
    }
    const auto& message = *static_cast<const GcsMessage*>(packet.body.get());
    outbox_.Acknowledge(message.acknowledged());
    if (message.has_registered()) {
      registered_ = true;
      failure_reported_ = false;
    }
    RaiseEvent(message, events_);
  }

  void Disconnected(const absl::Status& why) {
    channel_ = nullptr;
    channel_fd_.Reset(-1);
    registered_ = false;
    if (leaving_) return;
    const bool is_final = absl::IsFailedPrecondition(why) || absl::IsInvalidArgument(why);
    if (!is_final) {
      loop_->RunAfter(options_.reconnect_interval, [this] {
        if (channel_ == nullptr && !leaving_) Connect();
      });
      if (std::exchange(failure_reported_, true)) return;
    }
    if (events_.on_disconnected) events_.on_disconnected(why);
  }

  // --- Unary calls

  void SendCalls() {
    World* world = World::Current();
    if (unary_ == nullptr) {
      unary_fd_.Reset(world->Connect(options_.address));
      unary_ = world->FindSocket(unary_fd_.get());
      auto state = sim::StateOf(loop_);
      world->Attach(
          unary_,
          [this, state](Packet packet) {
            RunOn(state, [this, packet = std::move(packet)] {
              const auto code = static_cast<absl::StatusCode>(packet.flags);
              Finish(packet.number, absl::Status(code, packet.payload), packet.metadata);
            });
          },
          [this, state](const absl::Status&) {
            RunOn(state, [this] {
              unary_ = nullptr;
              unary_fd_.Reset(-1);
              for (auto& [number, call] : calls_) call.sent = false;
              if (calls_.empty()) return;
              loop_->RunAfter(options_.reconnect_interval, [this] { SendCalls(); });
            });
          });
    }
    for (auto& [number, call] : calls_) {
      if (!std::exchange(call.sent, true)) world->Send(unary_, call.packet);
    }
  }

  void Finish(uint64_t number, const absl::Status& status, const std::string& reply) {
    auto call = calls_.extract(number);
    if (!call.empty()) call.mapped().finish(status, reply);
  }

  net::EventLoop* const loop_;
  const Options options_;
  const Events events_;
  Registration registration_;
  net::UniqueFd channel_fd_;
  Socket* channel_ = nullptr;
  bool registered_ = false;
  bool failure_reported_ = false;
  bool leaving_ = false;
  NodeOutbox outbox_;
  net::UniqueFd unary_fd_;
  Socket* unary_ = nullptr;
  uint64_t last_call_ = 0;
  std::map<uint64_t, Unary> calls_;
};

GcsClient::GcsClient(net::EventLoop* loop, Options options, Events events)
    : impl_(std::make_unique<Impl>(loop, std::move(options), std::move(events))) {}

GcsClient::~GcsClient() = default;

void GcsClient::Start(Registration registration) { impl_->Start(std::move(registration)); }

bool GcsClient::registered() const { return impl_->registered(); }

void GcsClient::ReconnectNow() {}

void GcsClient::Report(const v1::NodeReport& report) {
  NodeMessage message;
  *message.mutable_report() = report;
  impl_->Send(std::move(message));
}

void GcsClient::ActorCreated(const v1::ActorCreated& created) {
  NodeMessage message;
  *message.mutable_actor_created() = created;
  impl_->Deliver(std::move(message));
}

void GcsClient::WorkerDied(const v1::WorkerDied& died) {
  NodeMessage message;
  *message.mutable_worker_died() = died;
  impl_->Deliver(std::move(message));
}

void GcsClient::BundlesPrepared(const v1::BundlesPrepared& prepared) {
  NodeMessage message;
  *message.mutable_bundles_prepared() = prepared;
  impl_->Send(std::move(message));
}

void GcsClient::Leave(const std::string& reason) { impl_->Leave(reason); }

bool GcsClient::left() const { return impl_->left(); }

void GcsClient::WatchActor(const std::string& actor_id) {
  NodeMessage message;
  message.mutable_watch_actor()->set_actor_id(actor_id);
  impl_->Send(std::move(message));
}

void GcsClient::RegisterActor(const wire::v1::RegisterActor& request,
                              Callback<wire::v1::RegisterActorReply> callback) {
  impl_->Call(GcsMethod::kRegisterActor, request, std::move(callback));
}

void GcsClient::GetActor(const wire::v1::SubscribeActor& request,
                         Callback<wire::v1::ActorInfoReply> callback) {
  impl_->Call(GcsMethod::kGetActor, request, std::move(callback));
}

void GcsClient::GetNamedActor(const wire::v1::GetNamedActor& request,
                              Callback<wire::v1::ActorInfoReply> callback) {
  impl_->Call(GcsMethod::kGetNamedActor, request, std::move(callback));
}

void GcsClient::ListNamedActors(const wire::v1::ListNamedActors& request,
                                Callback<wire::v1::ListNamedActorsReply> callback) {
  impl_->Call(GcsMethod::kListNamedActors, request, std::move(callback));
}

void GcsClient::ListActors(const v1::ListActorsRequest& request,
                           Callback<v1::ListActorsReply> callback) {
  impl_->Call(GcsMethod::kListActors, request, std::move(callback));
}

void GcsClient::KillActor(const wire::v1::KillActor& request,
                          Callback<wire::v1::StatusReply> callback) {
  impl_->Call(GcsMethod::kKillActor, request, std::move(callback));
}

void GcsClient::ActorOutOfScope(const wire::v1::ActorOutOfScope& request,
                                Callback<wire::v1::StatusReply> callback) {
  impl_->Call(GcsMethod::kActorOutOfScope, request, std::move(callback));
}

void GcsClient::ChangePlacementGroups(const v1::ChangePlacementGroupsRequest& request,
                                      Callback<v1::ChangePlacementGroupsReply> callback) {
  impl_->Call(GcsMethod::kChangePlacementGroups, request, std::move(callback));
}

void GcsClient::WaitPlacementGroup(const wire::v1::WaitPlacementGroup& request,
                                   Callback<wire::v1::PlacementGroupsReply> callback) {
  impl_->Call(GcsMethod::kWaitPlacementGroup, request, std::move(callback));
}

void GcsClient::ListPlacementGroups(const wire::v1::PlacementGroupRequest& request,
                                    Callback<wire::v1::PlacementGroupsReply> callback) {
  impl_->Call(GcsMethod::kListPlacementGroups, request, std::move(callback));
}

void GcsClient::AddJob(const v1::AddJobRequest& request, Callback<v1::AddJobReply> callback) {
  impl_->Call(GcsMethod::kAddJob, request, std::move(callback));
}

void GcsClient::FinishJob(const v1::FinishJobRequest& request,
                          Callback<wire::v1::StatusReply> callback) {
  impl_->Call(GcsMethod::kFinishJob, request, std::move(callback));
}

void GcsClient::ListJobs(const v1::ListJobsRequest& request, Callback<v1::ListJobsReply> callback) {
  impl_->Call(GcsMethod::kListJobs, request, std::move(callback));
}

void GcsClient::Kv(const wire::v1::KvRequest& request, Callback<wire::v1::KvReply> callback) {
  impl_->Call(GcsMethod::kKv, request, std::move(callback));
}

void GcsClient::ClusterState(const wire::v1::ClusterStateRequest& request,
                             Callback<wire::v1::ClusterStateReply> callback) {
  impl_->Call(GcsMethod::kClusterState, request, std::move(callback));
}

void GcsClient::DrainNode(const wire::v1::DrainNode& request,
                          Callback<wire::v1::StatusReply> callback) {
  impl_->Call(GcsMethod::kDrainNode, request, std::move(callback));
}

}  // namespace ray::gcs
