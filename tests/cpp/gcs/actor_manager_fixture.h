// Actors on a virtual clock: what the manager stores, sends and publishes.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "ray/base/clock.h"
#include "ray/gcs/actor_manager.h"
#include "ray/gcs/deadlines.h"
#include "ray/gcs/gcs_testutil.h"
#include "ray/gcs/node_manager.h"
#include "ray/gcs/placement_group_manager.h"

namespace ray::gcs {

class ActorManagerTest : public testing::Test {
 protected:
  ActorManagerTest() {
    Restart();
    Join(node_, 4);
  }

  // As when gcs_server is killed and started again: only the storage is left.
  void Restart() {
    actors_.reset();
    nodes_.reset();
    deadlines_ = std::make_unique<Deadlines>(&clock_);
    nodes_ = std::make_unique<NodeManager>(
        NodeManager::Options{}, &storage_, deadlines_.get(), &sender_, nullptr,
        [this](const base::NodeId& node) { actors_->OnNodeDead(node); });
    groups_ = std::make_unique<PlacementGroupManager>(
        PlacementGroupManager::Options(),
        PlacementGroupManager::Environment{
            .clock = &clock_,
            .wall_clock = [] { return absl::UnixEpoch(); },
            .storage = &storage_,
            .deadlines = deadlines_.get(),
            .nodes = nodes_.get(),
            .sender = &sender_,
            .on_removed = [this](const auto& group) { actors_->OnGroupRemoved(group); }});
    actors_ = std::make_unique<ActorManager>(ActorManager::Options{.dead_actors_max = 3}, &storage_,
                                             deadlines_.get(), nodes_.get(), groups_.get(),
                                             &sender_, [](const base::ActorId&) {});
    ASSERT_TRUE(nodes_->Load().ok());
    ASSERT_TRUE(groups_->Load().ok());
    ASSERT_TRUE(actors_->Load().ok());
    sender_.Clear();
  }

  void Advance(absl::Duration by) {
    clock_.Advance(by);
    deadlines_->RunDue();
  }

  // -- nodes
  void Join(const base::NodeId& node, int64_t cpus,
            const std::vector<wire::v1::ActorInfo>& live = {},
            const std::vector<base::ActorId>& watched = {}) {
    v1::RegisterNode request;
    *request.mutable_node() = NodeWith(node, {{"CPU", cpus}});
    for (const wire::v1::ActorInfo& info : live) *request.add_live_actors() = info;
    for (const base::ActorId& id : watched) request.add_watched_actors(id.BinaryString());
    ASSERT_TRUE(nodes_->Register(node, request.node()).ok());
    actors_->OnNodeRegistered(node, *NodeActors::FromRegistration(request));
  }
  void Report(uint64_t sequence, int64_t available) {
    ASSERT_TRUE(nodes_->Report(node_, ReportOf(sequence, {{"CPU", 4}}, {{"CPU", available}})).ok());
    actors_->PlaceWaiting();
  }
  void KillNode(const base::NodeId& node) {
    nodes_->Disconnect(node);
    Advance(absl::Seconds(5));
  }

  // -- actors
  size_t CreationsAsked() { return sender_.Take(node_, v1::GcsMessage::kCreateActor).size(); }
  wire::v1::ActorSpec Spec(int32_t restarts_max = 0) {
    wire::v1::ActorSpec spec = SpecOf(base::NewActorId(job_), owner_, node_);
    spec.set_restarts_max(restarts_max);
    return spec;
  }
  wire::v1::ActorSpec Named(const std::string& name, const std::string& actor_namespace = "") {
    wire::v1::ActorSpec spec = Spec();
    spec.set_name(name);
    spec.set_actor_namespace(actor_namespace);
    return spec;
  }
  wire::v1::RegisterActorReply TryRegister(const wire::v1::ActorSpec& spec) {
    wire::v1::RegisterActor request;
    *request.mutable_spec() = spec;
    return actors_->Register(request, "job_namespace");
  }
  base::ActorId Register(const wire::v1::ActorSpec& spec) {
    const auto reply = TryRegister(spec);
    EXPECT_EQ(reply.status().code(), 0) << reply.status().message();
    return *base::ActorId::FromBinary(spec.actor_id());
  }
  void Created(const base::ActorId& id, const base::NodeId& node,
               const base::WorkerId& worker = base::WorkerId::Random()) {
    v1::ActorCreated message = Outcome(id, v1::ActorCreated::CREATED);
    message.mutable_address()->set_worker_id(worker.BinaryString());
    message.set_pid(42);
    ASSERT_TRUE(actors_->OnActorCreated(node, message).ok());
  }
  v1::ActorCreated Outcome(const base::ActorId& id, v1::ActorCreated::Outcome outcome) {
    v1::ActorCreated message;
    message.set_actor_id(id.BinaryString());
    message.set_num_restarts(Info(id).num_restarts());
    message.set_outcome(outcome);
    return message;
  }
  void Fail(const base::ActorId& id, v1::ActorCreated::Outcome outcome,
            const std::string& text = "") {
    v1::ActorCreated message = Outcome(id, outcome);
    message.set_message(text);
    message.set_creation_error("pickled " + text);
    ASSERT_TRUE(actors_->OnActorCreated(node_, message).ok());
  }
  base::ActorId MakeAlive(const wire::v1::ActorSpec& spec,
                          const base::WorkerId& worker = base::WorkerId::Random()) {
    const base::ActorId id = Register(spec);
    Created(id, node_, worker);
    EXPECT_EQ(Info(id).state(), wire::v1::ALIVE);
    sender_.Clear();
    return id;
  }
  void WorkerDied(const base::WorkerId& worker, const base::ActorId* actor = nullptr,
                  bool intended = false, const std::string& text = "") {
    v1::WorkerDied message;
    message.set_worker_id(worker.BinaryString());
    if (actor != nullptr) {
      message.set_actor_id(actor->BinaryString());
      message.set_num_restarts(Info(*actor).num_restarts());
    }
    message.set_intended(intended);
    message.set_message(text);
    ASSERT_TRUE(actors_->OnWorkerDied(node_, message).ok());
  }
  void ActorDied(const base::ActorId& id, const std::string& text = "", bool intended = false) {
    WorkerDied(*base::WorkerId::FromBinary(Info(id).address().worker_id()), &id, intended, text);
  }
  absl::Status Kill(const base::ActorId& id, bool no_restart) {
    wire::v1::KillActor request;
    request.set_actor_id(id.BinaryString());
    request.set_no_restart(no_restart);
    return actors_->Kill(request);
  }
  absl::Status OutOfScope(const base::ActorId& id) {
    wire::v1::ActorOutOfScope request;
    request.set_actor_id(id.BinaryString());
    return actors_->OutOfScope(request);
  }
  void Watch(const base::NodeId& node, const base::ActorId& id) {
    v1::WatchActor message;
    message.set_actor_id(id.BinaryString());
    ASSERT_TRUE(actors_->OnWatchActor(node, message).ok());
  }

  // -- what is seen
  wire::v1::ActorInfoReply Get(const base::ActorId& id) {
    wire::v1::SubscribeActor request;
    request.set_actor_id(id.BinaryString());
    return actors_->Get(request);
  }
  wire::v1::ActorInfo Info(const base::ActorId& id) { return Get(id).info(); }
  std::vector<base::ActorId> CreatesOn(const base::NodeId& node) {
    std::vector<base::ActorId> ids;
    for (const v1::GcsMessage& message : sender_.Take(node, v1::GcsMessage::kCreateActor)) {
      ids.push_back(*base::ActorId::FromBinary(message.create_actor().spec().actor_id()));
    }
    return ids;
  }
  std::vector<v1::KillWorker> KillsOn(const base::NodeId& node) {
    std::vector<v1::KillWorker> kills;
    for (const v1::GcsMessage& message : sender_.Take(node, v1::GcsMessage::kKillWorker)) {
      kills.push_back(message.kill_worker());
    }
    return kills;
  }
  std::vector<wire::v1::ActorInfo> ChangesSeenBy(const base::NodeId& node) {
    std::vector<wire::v1::ActorInfo> changes;
    for (const v1::GcsMessage& message : sender_.Take(node, v1::GcsMessage::kActorChanged)) {
      changes.push_back(message.actor_changed());
    }
    return changes;
  }
  wire::v1::ActorInfoReply GetNamed(const std::string& name, const std::string& actor_namespace) {
    wire::v1::GetNamedActor request;
    request.set_name(name);
    request.set_actor_namespace(actor_namespace);
    return actors_->GetNamed(request);
  }

  base::VirtualClock clock_;
  FailingStorage storage_;
  RecordingSender sender_;
  const base::NodeId node_ = base::NodeId::Random();
  const base::WorkerId owner_ = base::WorkerId::Random();
  const base::JobId job_ = base::JobIdFromInt(1);
  std::unique_ptr<Deadlines> deadlines_;
  std::unique_ptr<NodeManager> nodes_;
  std::unique_ptr<PlacementGroupManager> groups_;
  std::unique_ptr<ActorManager> actors_;
};

}  // namespace ray::gcs
