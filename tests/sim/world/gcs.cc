#include "tests/sim/world/gcs.h"

#include <algorithm>
#include <utility>

#include "ray/base/check.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/id_field.h"
#include "tests/sim/world/gcs_wire.h"

namespace ray::sim {

using base::NodeId;
using gcs::ControlPlane;
using gcs::v1::GcsMessage;
using gcs::v1::NodeMessage;

namespace {

using Answer = absl::StatusOr<std::string>;

template <typename Request, typename Reply>
Answer Run(ControlPlane* control, absl::StatusOr<Reply> (ControlPlane::*method)(const Request&),
           const Packet& call) {
  Request request;
  MANTA_CHECK(request.ParseFromString(call.metadata));
  MANTA_ASSIGN_OR_RETURN(Reply reply, (control->*method)(request));
  return reply.SerializeAsString();
}

template <typename Request, typename Reply>
Answer RunOnce(ControlPlane* control,
               absl::StatusOr<Reply> (ControlPlane::*method)(const Request&, const std::string&),
               const Packet& call) {
  Request request;
  MANTA_CHECK(request.ParseFromString(call.metadata));
  MANTA_ASSIGN_OR_RETURN(Reply reply, (control->*method)(request, call.payload));
  return reply.SerializeAsString();
}

Answer Dispatch(ControlPlane* control, const Packet& call) {
  switch (static_cast<GcsMethod>(call.flags)) {
    case GcsMethod::kRegisterActor:
      return Run(control, &ControlPlane::RegisterActor, call);
    case GcsMethod::kGetActor:
      return Run(control, &ControlPlane::GetActor, call);
    case GcsMethod::kGetNamedActor:
      return Run(control, &ControlPlane::GetNamedActor, call);
    case GcsMethod::kListNamedActors:
      return Run(control, &ControlPlane::ListNamedActors, call);
    case GcsMethod::kListActors:
      return Run(control, &ControlPlane::ListActors, call);
    case GcsMethod::kKillActor:
      return RunOnce(control, &ControlPlane::KillActor, call);
    case GcsMethod::kActorOutOfScope:
      return Run(control, &ControlPlane::ActorOutOfScope, call);
    case GcsMethod::kChangePlacementGroups:
      return Run(control, &ControlPlane::ChangePlacementGroups, call);
    case GcsMethod::kListPlacementGroups:
      return Run(control, &ControlPlane::ListPlacementGroups, call);
    case GcsMethod::kAddJob:
      return Run(control, &ControlPlane::AddJob, call);
    case GcsMethod::kFinishJob:
      return Run(control, &ControlPlane::FinishJob, call);
    case GcsMethod::kListJobs:
      return Run(control, &ControlPlane::ListJobs, call);
    case GcsMethod::kKv:
      return RunOnce(control, &ControlPlane::Kv, call);
    case GcsMethod::kClusterState:
      return Run(control, &ControlPlane::ClusterState, call);
    case GcsMethod::kDrainNode:
      return Run(control, &ControlPlane::DrainNode, call);
    case GcsMethod::kWaitPlacementGroup:
      break;
  }
  return absl::UnimplementedError("no such method");
}

Packet ReplyTo(const Packet& call, const Answer& answer) {
  Packet reply;
  reply.type = static_cast<uint16_t>(GcsPacket::kReply);
  reply.flags = static_cast<uint16_t>(answer.status().code());
  reply.number = call.number;
  if (answer.ok()) {
    reply.metadata = *answer;
  } else {
    reply.payload = std::string(answer.status().message());
  }
  return reply;
}

}  // namespace

absl::Status VirtualGcs::Storage::Write(const gcs::WriteBatch& batch) {
  MANTA_CHECK(memory_.Write(batch).ok());
  if (++writes >= last_write) {
    last_write = std::numeric_limits<uint64_t>::max();
    World::Current()->Exit(1);
  }
  return absl::OkStatus();
}

VirtualGcs::VirtualGcs(const base::Config& config, Storage* storage, double repeats)
    : repeats_(repeats) {
  control_ = std::make_unique<ControlPlane>(
      config, ControlPlane::Environment{.clock = clock_,
                                        .wall_clock = [clock = clock_] { return clock->Now(); },
                                        .storage = storage,
                                        .sender = this,
                                        .probe = this});
  MANTA_CHECK(control_->Load().ok());
  world_->Listen(kEndpoint);
  world_->Accept(kEndpoint, [this](int fd) { Accept(fd); });
  ArmDeadline();
}

void VirtualGcs::Send(const NodeId& node, const GcsMessage& message) {
  auto channel = channels_.find(node);
  if (channel == channels_.end()) return;
  Packet packet;
  packet.type = static_cast<uint16_t>(GcsPacket::kGcsMessage);
  packet.body = std::make_shared<const GcsMessage>(message);
  world_->Send(channel->second->socket, std::move(packet));
}

// A process that is gone leaves a machine that says so, unless that is gone as well.
void VirtualGcs::Ask(const std::string& tcp_endpoint, Callback callback) {
  world_->After(world_->Between(absl::Microseconds(100), absl::Milliseconds(3)), process_,
                [this, tcp_endpoint, callback = std::move(callback)]() mutable {
                  callback(world_->Refuses(tcp_endpoint, process_->machine));
                  ArmDeadline();
                });
}

void VirtualGcs::Accept(int fd) {
  auto channel = std::make_shared<Channel>();
  channel->socket = world_->FindSocket(fd);
  world_->Attach(
      channel->socket, [this, channel](const Packet& packet) { OnPacket(channel, packet); },
      [this, channel](const absl::Status&) { OnChannelEnd(channel); });
}

void VirtualGcs::OnPacket(const std::shared_ptr<Channel>& channel, const Packet& packet) {
  if (packet.type == static_cast<uint16_t>(GcsPacket::kCall)) {
    OnCall(channel->socket, packet);
    if (world_->Chance(repeats_)) {
      world_->After(world_->Between(absl::ZeroDuration(), absl::Milliseconds(300)), process_,
                    [this, packet] { OnCall(nullptr, packet); });
    }
    return;
  }
  const absl::Status status =
      OnNodeMessage(channel, *static_cast<const NodeMessage*>(packet.body.get()));
  ArmDeadline();
  if (status.ok()) return;
  Packet refusal;
  refusal.type = static_cast<uint16_t>(GcsPacket::kRefused);
  refusal.number = static_cast<uint64_t>(status.code());
  refusal.payload = std::string(status.message());
  world_->Send(channel->socket, std::move(refusal));
  OnChannelEnd(channel);
}

absl::Status VirtualGcs::OnNodeMessage(const std::shared_ptr<Channel>& channel,
                                       const NodeMessage& message) {
  if (channel->node.has_value()) return control_->HandleNodeMessage(*channel->node, message);
  if (!message.has_register_()) return absl::InvalidArgumentError("not registered");
  MANTA_ASSIGN_OR_RETURN(
      NodeId node, gcs::ParseId<NodeId>(message.register_().node().node_id(), "node.node_id"));
  std::shared_ptr<Channel> before = std::exchange(channels_[node], channel);
  if (before != nullptr) world_->Close(before->socket->fd);
  channel->node = node;
  return control_->RegisterNode(node, message.register_());
}

void VirtualGcs::OnChannelEnd(const std::shared_ptr<Channel>& channel) {
  world_->Close(channel->socket->fd);
  if (!channel->node.has_value()) return;
  auto current = channels_.find(*channel->node);
  if (current == channels_.end() || current->second != channel) return;
  channels_.erase(current);
  control_->NodeDisconnected(*channel->node);
  ArmDeadline();
}

// `socket` null: a repetition, whose answer nobody waits for.
void VirtualGcs::OnCall(Socket* socket, const Packet& call) {
  auto answer = [this, socket, call](const Answer& reply) {
    if (socket != nullptr) world_->Send(socket, ReplyTo(call, reply));
  };
  if (static_cast<GcsMethod>(call.flags) == GcsMethod::kWaitPlacementGroup) {
    wire::v1::WaitPlacementGroup request;
    MANTA_CHECK(request.ParseFromString(call.metadata));
    control_->WaitPlacementGroup(request, [answer](const wire::v1::PlacementGroupsReply& reply) {
      answer(reply.SerializeAsString());
    });
  } else {
    answer(Dispatch(control_.get(), call));
  }
  ArmDeadline();
}

void VirtualGcs::ArmDeadline() {
  const absl::Time next = control_->NextDeadline();
  if (next >= armed_for_ || next == absl::InfiniteFuture()) return;
  armed_for_ = next;
  world_->After(next - clock_->Now(), process_, [this, next] {
    if (armed_for_ != next) return;
    armed_for_ = absl::InfiniteFuture();
    control_->RunDeadlines();
    ArmDeadline();
  });
}

}  // namespace ray::sim
