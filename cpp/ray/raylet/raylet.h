// The node's daemon: one object store, one lease queue, one worker pool, one connection to the GCS,
// and the services that put them on the wire. This class only joins them: which event of one is
// whose business.
//
// Owner: raylet_main.cc, or a test.   Threads: loop-bound, construction and destruction too.
// Errors: Create says what keeps the node from starting (no memory, a socket that cannot be bound).
// Later, nothing but on_fatal ends it: the GCS refuses this node for good.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ray/accelerators/node_accelerators.h"
#include "ray/base/clock.h"
#include "ray/base/config.h"
#include "ray/gcs/gcs_client.h"
#include "ray/net/event_loop.h"
#include "ray/net/lasting_connections.h"
#include "ray/net/listener.h"
#include "ray/net/tls_file_watch.h"
#include "ray/raylet/actor_host.h"
#include "ray/raylet/actor_relay.h"
#include "ray/raylet/bundle_host.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/death_records.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/gcs_supervisor.h"
#include "ray/raylet/lease_service.h"
#include "ray/raylet/log_service.h"
#include "ray/raylet/memory_service.h"
#include "ray/raylet/node_identity.h"
#include "ray/raylet/node_peers.h"
#include "ray/raylet/node_service.h"
#include "ray/raylet/object_handover.h"
#include "ray/raylet/object_service.h"
#include "ray/raylet/owner_watch.h"
#include "ray/raylet/placement_group_relay.h"
#include "ray/raylet/push_ahead_service.h"
#include "ray/raylet/task_event_log.h"
#include "ray/raylet/transfer_service.h"
#include "ray/raylet/worker_service.h"
#include "ray/resources/resource_set.h"

namespace ray::raylet {

class Raylet {
 public:
  struct Options {
    NodeIdentity identity;  // endpoint and tcp_endpoint: where to listen
    base::Config config;
    resources::ResourceSet resources;
    accelerators::NodeAccelerators accelerators = {};
    uint64_t object_store_bytes = 0;
    SpillSetup spilling;  // without folders: <session_dir>/spill
    std::vector<std::string> zygote_command;
    std::string gcs_token;
    net::TlsCredentials tls = {};  // for the GCS and other nodes, over TCP
    // The gcs_server that this node keeps alive. Without a command: none.
    pid_t gcs_pid = 0;
    std::vector<std::string> gcs_command = {};
  };
  struct Events {
    std::function<void()> on_ready;  // once: registered with the GCS and listening
    std::function<void(const absl::Status& why)> on_fatal;
    std::function<void()> on_drained;  // nothing is left to do here: Stop() this node
  };

  // `loop` and `clock` outlive the raylet. <session_dir>/logs must exist.
  static absl::StatusOr<std::unique_ptr<Raylet>> Create(net::EventLoop* loop,
                                                        const base::Clock* clock, Options options,
                                                        Events events);
  ~Raylet();
  Raylet(const Raylet&) = delete;
  Raylet& operator=(const Raylet&) = delete;

  void Start();
  // Kills the zygote and all workers, removes the sockets and tells the GCS that this node leaves.
  // Takes milliseconds, and drives the loop until the GCS has heard, for 0.2 s at most.
  void Stop();

  const NodeIdentity& identity() const { return identity_; }
  // What is here now; for tests and simulation, as are the next two.
  wire::v1::NodeState State() const { return node_->State(); }
  // Whether it has heard from the GCS of another node that lives: before, it asks it for nothing.
  bool Knows(const base::NodeId& node) const { return peers_->Find(node) != nullptr; }
  // Those of its parts.
  void CheckInvariants();

 private:
  Raylet(net::EventLoop* loop, const base::Clock* clock, base::Config config, NodeIdentity identity,
         accelerators::NodeAccelerators accelerators, std::string token, net::TlsCredentials tls,
         Events events);

  // Parts.
  absl::Status OpenStore(uint64_t capacity_bytes, SpillSetup spilling);
  void MakeServices(Options options);
  absl::Status Listen();
  absl::Status ListenTcp();
  absl::Status UseTls(const net::TlsCredentials& tls);
  ClientRegistry::Options RegistryOptions() const;
  WorkerService::Options WorkerOptions(std::vector<std::string> zygote_command,
                                       size_t num_cpus) const;
  gcs::GcsClient::Options GcsOptions() const;
  net::Connection::Options ConnectionOptions() const;

  // Which event is whose business.
  ClientRegistry::Events RegistryEvents();
  ObjectService::Events ObjectEvents();
  NodePeers::Events PeerEvents();
  WorkerService::Events WorkerEvents();
  LeaseService::Events LeaseEvents();
  ActorHost::Events HostEvents();
  BundleHost::Events BundleEvents();
  gcs::GcsClient::Events GcsEvents();
  gcs::v1::RegisterNode Registration() const;
  void OnRegistered();
  void Ready();
  void OnDisconnected(const absl::Status& why);
  void OnNodeDead(const base::NodeId& node, const std::string& reason);
  void OnPeerLost(const base::NodeId& node, const absl::Status& why);
  void OnPeerFrame(const base::NodeId& node, const net::Frame& frame);
  void OnJoined(Client& client, const wire::v1::Hello& hello);
  void OnGone(const Client& client, const absl::Status& why);
  void UnlinkSocketOf(const Client& client) const;
  void OnWorkerDied(const WorkerDeath& death);
  NodeDrain::Environment DrainEnvironment();
  bool IsIdle() const;

  net::EventLoop* const loop_;
  const base::Clock* const clock_;
  const base::Config config_;
  NodeIdentity identity_;
  const accelerators::NodeAccelerators accelerators_;
  const std::string token_;
  const net::TlsCredentials tls_;                 // at the start
  std::shared_ptr<net::TlsContext> tls_context_;  // null: no TLS
  std::unique_ptr<net::TlsFileWatch> tls_files_;  // null: no TLS
  const Events events_;
  wire::v1::KvRequest spill_record_;  // of a head
  bool ready_ = false;
  bool stopped_ = false;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // timers see its end
  std::string leave_reason_ = "it was stopped";

  // Each uses what stands before it.
  FrameRouter router_;
  std::unique_ptr<ObjectService> objects_;
  std::unique_ptr<gcs::GcsClient> gcs_;
  net::LastingConnections lasting_;  // with the raylets of other nodes
  std::unique_ptr<ClientRegistry> clients_;
  std::unique_ptr<NodePeers> peers_;
  std::unique_ptr<OwnerWatch> owners_;
  std::unique_ptr<TransferService> transfer_;
  std::unique_ptr<PushAheadService> push_ahead_;
  std::unique_ptr<ObjectHandover> handover_;
  std::unique_ptr<WorkerService> workers_;
  std::unique_ptr<LeaseService> leases_;
  std::unique_ptr<ActorHost> actors_;
  std::unique_ptr<BundleHost> bundles_;
  std::unique_ptr<ActorRelay> actor_relay_;
  std::unique_ptr<PlacementGroupRelay> group_relay_;
  std::unique_ptr<DeathRecords> deaths_;
  std::unique_ptr<TaskEventLog> task_events_;
  std::unique_ptr<NodeService> node_;
  std::unique_ptr<LogService> logs_;
  std::unique_ptr<GcsSupervisor> supervisor_;  // null: somebody else's business
  std::unique_ptr<MemoryService> memory_;
  std::unique_ptr<net::Listener> listener_;
  std::unique_ptr<net::Listener> tcp_listener_;
};

}  // namespace ray::raylet
