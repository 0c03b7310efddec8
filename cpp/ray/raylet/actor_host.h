// The actors that run on this node: takes their resources, gives each a worker of its own, has it
// created there, ends it when the GCS says so, and tells the GCS what became of it. The GCS decides
// all else.
//
// Owner: Raylet.   Threads: loop-bound.
//   HOST-1  each CreateActor is answered by one ActorCreated, and if that says CREATED, one
//           WorkerDied follows at the end.
//   HOST-2  while its __init__ runs an actor holds the larger of its creation and lifetime
//           resources, name by name; then its lifetime resources.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "ray/accelerators/node_accelerators.h"
#include "ray/base/ids.h"
#include "ray/gcs/v1/gcs.pb.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/worker_pool.h"
#include "ray/scheduling/lease_queue.h"
#include "ray/wire/v1/actors.pb.h"

namespace ray::raylet {

// An actor that has a worker.
struct HostedActor {
  std::string class_name;
  base::WorkerId owner;
  bool restartable = false;  // if its worker is lost
};

class ActorHost {
 public:
  struct Events {
    std::function<void(const gcs::v1::ActorCreated&)> on_created;
    std::function<void(const gcs::v1::WorkerDied&)> on_died;
    std::function<void()> on_resources_changed;
  };

  // All pointers outlive the host.
  ActorHost(const ClientRegistry* clients, WorkerPool* pool, scheduling::LeaseQueue* leases,
            const accelerators::NodeAccelerators* accelerators, Events events);
  ~ActorHost();

  // -- From the GCS. A malformed message is logged and dropped; so is a repetition, and an
  // incarnation that is gone.
  void Create(const wire::v1::CreateActor& message);
  void Kill(const gcs::v1::KillWorker& message);

  // -- From the pool.
  void WorkerReady(const base::LeaseId& lease, const base::WorkerId& worker);
  void EnvironmentFailed(const base::LeaseId& lease, const std::string& why);
  // Every worker's death: it may have been an actor or owned some.
  void WorkerDied(const WorkerDeath& death, const std::string& explanation);

  // Those that run, for the registration after a reconnect.
  std::vector<wire::v1::ActorInfo> LiveActors() const;
  // nullopt: the worker is none's.
  std::optional<HostedActor> ActorOf(const base::WorkerId& worker) const;

 private:
  struct Hosted;
  using Incarnation = std::pair<base::ActorId, uint64_t>;  // num_restarts

  void StartCreation(Hosted* actor, const base::WorkerId& worker);
  void OnCreateReply(const Incarnation& incarnation, absl::StatusOr<net::Frame> frame);
  void Created(Hosted* actor);
  void CreationFailed(Hosted* actor, const wire::v1::CreateActorReply& reply);
  void Answer(const Incarnation& incarnation, gcs::v1::ActorCreated::Outcome outcome,
              const std::string& message);
  Hosted* Find(const Incarnation& incarnation) const;
  void Forget(Hosted* actor);

  const ClientRegistry* const clients_;
  WorkerPool* const pool_;
  scheduling::LeaseQueue* const leases_;
  const accelerators::NodeAccelerators* const accelerators_;
  const Events events_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  absl::flat_hash_map<Incarnation, std::unique_ptr<Hosted>> actors_;
  absl::flat_hash_map<base::LeaseId, Hosted*> by_lease_;    // those that wait for a worker
  absl::flat_hash_map<base::WorkerId, Hosted*> by_worker_;  // those that have one
};

}  // namespace ray::raylet
