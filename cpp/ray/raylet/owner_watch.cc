#include "ray/raylet/owner_watch.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"

namespace ray::raylet {

using base::NodeId;
using base::WorkerId;
using wire::v1::WatchWorker;

namespace {

constexpr absl::Duration kAskAgainPause = absl::Milliseconds(500);
constexpr size_t kForgetAtLeast = 64;

WatchWorker MessageOf(const WorkerId& worker) {
  WatchWorker message;
  message.set_worker_id(worker.BinaryString());
  return message;
}

}  // namespace

OwnerWatch::OwnerWatch(net::EventLoop* loop, FrameRouter* router, const ClientRegistry* clients,
                       NodePeers* peers, store::ObjectStore* store)
    : loop_(loop), clients_(clients), peers_(peers), store_(store) {
  router->On<WatchWorker>(wire::v1::WATCH_WORKER,
                          [this](Client& client, const WatchWorker& message, const Responder&) {
                            return OnWatch(client, message);
                          });
}

// --- Owners elsewhere

void OwnerWatch::Watch(const WorkerId& owner, const NodeId& node) {
  if (peers_->IsDead(node)) return store_->OwnerGone(owner);
  if (node_of_.contains(owner)) return;
  if (node_of_.size() >= forget_at_) ForgetIdle();
  node_of_.emplace(owner, node);
  owners_[node].insert(owner);
  if (net::Connection* connection = peers_->Get(node); connection != nullptr) {
    AskAbout(connection, owner);
  }
}

NodeId OwnerWatch::NodeOf(const WorkerId& owner, const NodeId& self) const {
  auto it = node_of_.find(owner);
  return it == node_of_.end() ? self : it->second;
}

void OwnerWatch::AskAbout(net::Connection* connection, const WorkerId& owner) const {
  connection->Send(wire::v1::WATCH_WORKER, MessageOf(owner));
}

void OwnerWatch::Ask(const NodeId& node) {
  auto owners = owners_.find(node);
  if (owners == owners_.end()) return;
  net::Connection* connection = peers_->Get(node);
  if (connection == nullptr) return;
  for (const WorkerId& owner : owners->second) AskAbout(connection, owner);
}

void OwnerWatch::NodeLost(const NodeId& node) {
  if (!owners_.contains(node)) return;
  loop_->RunAfter(kAskAgainPause, [this, alive = std::weak_ptr<bool>(alive_), node] {
    if (!alive.expired()) Ask(node);
  });
}

void OwnerWatch::NodeDead(const NodeId& node) {
  auto owners = owners_.extract(node);
  if (owners.empty()) return;
  for (const WorkerId& owner : owners.mapped()) {
    node_of_.erase(owner);
    store_->OwnerGone(owner);
  }
}

void OwnerWatch::WorkerGone(const NodeId& node, const net::Frame& frame) {
  WatchWorker message;
  if (!net::ParseMetadata(frame, &message)) {
    return;
  }
  const auto owner = WorkerId::FromBinary(message.worker_id());
  if (!owner.ok() || NodeOf(*owner, NodeId()) != node) return;
  Gone(*owner);
}

void OwnerWatch::Gone(const WorkerId& owner) {
  const NodeId node = node_of_.extract(owner).mapped();
  auto owners = owners_.find(node);
  owners->second.erase(owner);
  if (owners->second.empty()) owners_.erase(owners);
  store_->OwnerGone(owner);
}

void OwnerWatch::ForgetIdle() {
  absl::erase_if(owners_, [this](auto& entry) {
    absl::erase_if(entry.second, [this](const WorkerId& owner) {
      return !store_->HasObjectsOf(owner) && node_of_.erase(owner) > 0;
    });
    return entry.second.empty();
  });
  forget_at_ = std::max(kForgetAtLeast, 2 * node_of_.size());
}

// --- Owners here

absl::Status OwnerWatch::OnWatch(Client& client, const WatchWorker& message) {
  if (!client.IsRaylet()) return absl::PermissionDeniedError("only raylets watch processes");
  MANTA_ASSIGN_OR_RETURN(const WorkerId worker, WorkerId::FromBinary(message.worker_id()));
  if (clients_->FindByWorker(worker) == nullptr) {
    client.connection->Send(wire::v1::WORKER_GONE, message);
  } else {
    watchers_[worker].insert(client.id);
  }
  return absl::OkStatus();
}

void OwnerWatch::ClientGone(const Client& client) {
  if (client.IsRaylet()) {
    absl::erase_if(watchers_, [&](auto& entry) {
      entry.second.erase(client.id);
      return entry.second.empty();
    });
    return;
  }
  auto watchers = watchers_.extract(client.worker_id);
  if (watchers.empty()) return;
  for (scheduling::ClientId id : watchers.mapped()) {
    Client* raylet = clients_->Find(id);
    if (raylet != nullptr) {
      raylet->connection->Send(wire::v1::WORKER_GONE, MessageOf(client.worker_id));
    }
  }
}

}  // namespace ray::raylet
