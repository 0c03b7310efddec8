#include "ray/raylet/raylet.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"
#include "ray/raylet/spill_record.h"
#include "ray/raylet/worker_death.h"
#include "ray/scheduling/node_labels.h"

namespace ray::raylet {

using base::JobId;
using base::LeaseId;
using base::WorkerId;

namespace {

scheduling::LeaseQueue::Options LeaseOptions(const base::Config& config) {
  return {.warn_after = absl::Milliseconds(config.pending_warning_ms),
          .patience = absl::Milliseconds(config.lease_patience_ms),
          .reclaim_interval = absl::Milliseconds(config.lease_reclaim_interval_ms),
          .infeasible_timeout = config.infeasible_task_timeout_ms > 0
                                    ? absl::Milliseconds(config.infeasible_task_timeout_ms)
                                    : absl::InfiniteDuration()};
}

constexpr absl::Duration kLeaveTimeout = absl::Milliseconds(200);
// Before a raylet whose connection broke is asked again.
constexpr absl::Duration kPeerRetry = absl::Milliseconds(500);

// Of "tcp:HOST:PORT"; "" of "".
std::string HostOf(const std::string& tcp_endpoint) {
  if (tcp_endpoint.empty()) return "";
  const size_t host = tcp_endpoint.find(':') + 1;
  return tcp_endpoint.substr(host, tcp_endpoint.rfind(':') - host);
}

scheduling::LeaseRouter::Options RouterOptions(const base::Config& config,
                                               const NodeIdentity& identity) {
  return {.self = identity.id,
          .labels = identity.labels,
          .spread_threshold = config.scheduler_spread_threshold,
          .top_k_fraction = config.scheduler_top_k_fraction,
          .warn_after = absl::Milliseconds(config.pending_warning_ms),
          .infeasible_timeout = config.infeasible_task_timeout_ms > 0
                                    ? absl::Milliseconds(config.infeasible_task_timeout_ms)
                                    : absl::InfiniteDuration(),
          .seed = std::hash<std::string>()(identity.id.BinaryString())};
}

// The GCS will not have this node, however often it asks.
bool IsFinal(const absl::Status& why) {
  return absl::IsUnauthenticated(why) || absl::IsFailedPrecondition(why) ||
         absl::IsInvalidArgument(why);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Raylet>> Raylet::Create(net::EventLoop* loop,
                                                       const base::Clock* clock, Options options,
                                                       Events events) {
  std::unique_ptr<Raylet> raylet(
      new Raylet(loop, clock, std::move(options.config), std::move(options.identity),
                 std::move(options.accelerators), std::move(options.gcs_token),
                 std::move(options.tls), std::move(events)));
  if (raylet->tls_.enabled()) {
    MANTA_ASSIGN_OR_RETURN(raylet->tls_context_, net::TlsContext::Create(raylet->tls_));
    raylet->tls_files_ = std::make_unique<net::TlsFileWatch>(
        loop, raylet->tls_, absl::Milliseconds(raylet->config_.tls_files_interval_ms),
        [raylet = raylet.get()](const net::TlsCredentials& tls) { return raylet->UseTls(tls); });
  }
  raylet->spill_record_ = WriteSpillRecord(options.spilling, raylet->config_);
  MANTA_RETURN_IF_ERROR(raylet->OpenStore(options.object_store_bytes, options.spilling));
  raylet->MakeServices(std::move(options));
  MANTA_RETURN_IF_ERROR(raylet->Listen());
  return raylet;
}

Raylet::Raylet(net::EventLoop* loop, const base::Clock* clock, base::Config config,
               NodeIdentity identity, accelerators::NodeAccelerators accelerators,
               std::string token, net::TlsCredentials tls, Events events)
    : loop_(loop),
      clock_(clock),
      config_(std::move(config)),
      identity_(std::move(identity)),
      accelerators_(std::move(accelerators)),
      token_(std::move(token)),
      tls_(std::move(tls)),
      events_(std::move(events)),
      lasting_(loop) {
  identity_.config = config_.NonDefault();
  identity_.listen_host = HostOf(identity_.tcp_endpoint);
  identity_.labels.emplace(scheduling::kNodeIdLabel, identity_.id.Hex());
}

Raylet::~Raylet() { Stop(); }

// --- Parts

absl::Status Raylet::OpenStore(uint64_t capacity_bytes, SpillSetup spilling) {
  spilling.default_directory = absl::StrCat(identity_.session_dir, "/spill");
  spilling.log_file = absl::StrCat(identity_.session_dir, "/logs/spill_worker.log");
  MANTA_ASSIGN_OR_RETURN(
      objects_,
      ObjectService::Create(loop_, clock_, &router_,
                            {.capacity_bytes = capacity_bytes,
                             .spilling = std::move(spilling),
                             .name = absl::StrCat("ray_spilled_objects_", identity_.id.Hex()),
                             .config = &config_,
                             .node = identity_.id},
                            ObjectEvents()));
  return absl::OkStatus();
}

void Raylet::MakeServices(Options options) {
  gcs_ = std::make_unique<gcs::GcsClient>(loop_, GcsOptions(), GcsEvents());
  lasting_.SetSelf(identity_.id.BinaryString());
  clients_ = std::make_unique<ClientRegistry>(loop_, &router_, &lasting_, RegistryOptions(),
                                              RegistryEvents());
  peers_ =
      std::make_unique<NodePeers>(loop_, &identity_, &lasting_, ConnectionOptions(), PeerEvents());
  owners_ = std::make_unique<OwnerWatch>(loop_, &router_, clients_.get(), peers_.get(),
                                         &objects_->store());
  transfer_ =
      std::make_unique<TransferService>(loop_, clock_, &router_, peers_.get(), objects_.get(),
                                        owners_.get(), &identity_, config_, ConnectionOptions());
  push_ahead_ = std::make_unique<PushAheadService>(&router_, peers_.get(), objects_.get(),
                                                   owners_.get(), &identity_, config_);
  handover_ = std::make_unique<ObjectHandover>(&router_, clients_.get(), peers_.get(),
                                               objects_.get(), owners_.get(), &identity_);
  const auto num_cpus = static_cast<size_t>(options.resources.Get(resources::kCpu).ToDouble());
  workers_ = std::make_unique<WorkerService>(
      loop_, clock_, &router_, clients_.get(),
      WorkerOptions(std::move(options.zygote_command), num_cpus), WorkerEvents());
  const std::vector<std::string> device_names = accelerators_.resources();
  const std::vector<std::string_view> devices(device_names.begin(), device_names.end());
  leases_ = std::make_unique<LeaseService>(
      loop_, clock_, &router_, clients_.get(), peers_.get(), &workers_->pool(), &accelerators_,
      LeaseService::Options{
          .queue = LeaseOptions(config_),
          .router = RouterOptions(config_, identity_),
          .resources = resources::NodeResources(std::move(options.resources), devices)},
      LeaseEvents());
  actors_ = std::make_unique<ActorHost>(clients_.get(), &workers_->pool(), &leases_->queue(),
                                        &accelerators_, HostEvents());
  bundles_ = std::make_unique<BundleHost>(&leases_->queue(), BundleEvents());
  actor_relay_ = std::make_unique<ActorRelay>(
      &router_, clients_.get(), gcs_.get(),
      [this](ActorRelay::Deferred run) { group_relay_->AfterChanges(std::move(run)); });
  group_relay_ = std::make_unique<PlacementGroupRelay>(
      loop_, clock_, &router_, clients_.get(), gcs_.get(), bundles_.get(),
      PlacementGroupRelay::Events{
          .on_placed = [this](const auto& info) { leases_->GroupPlaced(info); },
          .on_removed = [this](const auto& group) { leases_->GroupRemoved(group); }});
  deaths_ =
      std::make_unique<DeathRecords>(loop_, &router_, &workers_->pool(), clients_.get(),
                                     peers_.get(), static_cast<size_t>(config_.worker_deaths_max));
  task_events_ = std::make_unique<TaskEventLog>(loop_, &router_, peers_.get(),
                                                static_cast<size_t>(config_.task_events_kept_max));
  node_ = std::make_unique<NodeService>(
      loop_, clock_, &router_, gcs_.get(),
      NodeService::Options{.identity = &identity_,
                           .resources = &leases_->queue().resources(),
                           .store = &objects_->store(),
                           .report_interval = absl::Milliseconds(config_.node_report_interval_ms),
                           .demands = [this] { return leases_->Demands(); },
                           .drain = DrainEnvironment()});
  if (!options.gcs_command.empty()) {
    supervisor_ = std::make_unique<GcsSupervisor>(
        loop_, clock_,
        GcsSupervisor::Options{
            .pid = options.gcs_pid,
            .command = std::move(options.gcs_command),
            .output_file = absl::StrCat(identity_.session_dir, "/logs/gcs_server.out"),
            .on_ready = [this] { gcs_->ReconnectNow(); }});
  }
  logs_ = std::make_unique<LogService>(loop_, &router_, clients_.get(), &workers_->pool(),
                                       peers_.get(), &identity_);
  memory_ = std::make_unique<MemoryService>(loop_, clock_, config_, clients_.get(),
                                            &leases_->queue(), actors_.get(), &workers_->pool());
}

absl::Status Raylet::Listen() {
  MANTA_ASSIGN_OR_RETURN(listener_,
                         net::Listener::Create(loop_, identity_.endpoint, ConnectionOptions(),
                                               [this](std::shared_ptr<net::Connection> connection) {
                                                 clients_->Accept(std::move(connection));
                                               }));
  identity_.endpoint = listener_->endpoint();
  return identity_.tcp_endpoint.empty() ? absl::OkStatus() : ListenTcp();
}

absl::Status Raylet::ListenTcp() {
  MANTA_ASSIGN_OR_RETURN(tcp_listener_,
                         net::Listener::Create(loop_, identity_.tcp_endpoint, ConnectionOptions(),
                                               [this](std::shared_ptr<net::Connection> connection) {
                                                 clients_->Accept(std::move(connection),
                                                                  ClientRegistry::From::kOtherNode);
                                               }));
  identity_.tcp_endpoint = tcp_listener_->endpoint();
  return absl::OkStatus();
}

net::Connection::Options Raylet::ConnectionOptions() const {
  return {.frame_max_bytes = static_cast<uint64_t>(config_.wire_frame_max_bytes),
          .coalesce_max_bytes = static_cast<uint64_t>(config_.wire_coalesce_max_bytes),
          .coalesce_max_delay = absl::Microseconds(config_.wire_coalesce_max_us),
          .outbuffer_max_bytes = static_cast<uint64_t>(config_.wire_outbuffer_max_bytes),
          .token = token_,
          .tls = tls_context_,
          .handshake_timeout = absl::Milliseconds(config_.handshake_timeout_ms),
          .peer_timeout = absl::Milliseconds(config_.node_dead_timeout_ms),
          .unproven_connections_max = static_cast<size_t>(config_.unproven_connections_max)};
}

ClientRegistry::Options Raylet::RegistryOptions() const {
  return {.identity = &identity_,
          .cluster_token = token_,
          .tls = tls_,
          .store_fd = objects_->memory().fd(),
          .store_capacity_bytes = objects_->store().capacity_bytes(),
          .handshake_timeout = absl::Milliseconds(config_.handshake_timeout_ms)};
}

WorkerService::Options Raylet::WorkerOptions(std::vector<std::string> zygote_command,
                                             size_t num_cpus) const {
  const std::map<std::string, std::string> env = {{"RAY_RAYLET_ENDPOINT", identity_.endpoint},
                                                  {"RAY_SESSION_DIR", identity_.session_dir},
                                                  {"RAY_LISTEN_HOST", identity_.listen_host}};
  return {.pool = WorkerPool::Options::FromConfig(config_, num_cpus),
          .zygote = {.command = std::move(zygote_command),
                     .env = env,
                     .log_dir = absl::StrCat(identity_.session_dir, "/logs")},
          .worker_env = env};
}

gcs::GcsClient::Options Raylet::GcsOptions() const {
  return {.address = identity_.gcs_address,
          .token = token_,
          .tls = tls_,
          .tls_files_interval = absl::Milliseconds(config_.tls_files_interval_ms),
          .rpc_timeout = absl::Milliseconds(config_.gcs_rpc_timeout_ms),
          .reconnect_interval = absl::Milliseconds(config_.gcs_reconnect_interval_ms)};
}

// For connections from now on; those to the GCS look after themselves.
absl::Status Raylet::UseTls(const net::TlsCredentials& tls) {
  MANTA_RETURN_IF_ERROR(tls_context_->Replace(tls));
  clients_->UseTls(tls);
  return absl::OkStatus();
}

// --- Which event is whose business

ClientRegistry::Events Raylet::RegistryEvents() {
  return {
      .add_job = [this](
                     const wire::v1::Hello& hello,
                     ClientRegistry::JobCallback done) { node_->AddJob(hello, std::move(done)); },
      .drop_job = [this](const JobId& job) { node_->FinishJob(job); },
      .expects_worker = [this](StartupToken token) { return workers_->pool().Expects(token); },
      .on_joined = [this](Client& client,
                          const wire::v1::Hello& hello) { OnJoined(client, hello); },
      .on_gone = [this](const Client& client, const absl::Status& why) { OnGone(client, why); },
      .on_stream =
          [this](const base::NodeId& node, ClientRegistry::From from, net::Connection& connection) {
            transfer_->StreamOpened(node, from, connection);
          },
  };
}

ObjectService::Events Raylet::ObjectEvents() {
  return {
      .on_change =
          [this] {
            node_->MarkChanged();
            transfer_->StoreChanged();
          },
      .pull =
          [this](std::vector<transfer::PullManager::Wanted> wanted,
                 transfer::PullPriority priority) {
            return transfer_->Pull(std::move(wanted), priority);
          },
      .free_elsewhere =
          [this](const base::NodeId& node, const wire::v1::StoreIds& message) {
            transfer_->FreeElsewhere(node, message);
          },
      .on_remote_owner = [this](const WorkerId& owner,
                                const base::NodeId& node) { owners_->Watch(owner, node); },
  };
}

NodePeers::Events Raylet::PeerEvents() {
  return {
      .on_joined =
          [this](const base::NodeId& node) {
            owners_->NodeJoined(node);
            logs_->PeerThere(node);
          },
      .on_changed = [this](const wire::v1::NodeState& node) { leases_->NodeChanged(node); },
      .on_dead = [this](const base::NodeId& node,
                        const std::string& reason) { OnNodeDead(node, reason); },
      .on_frame = [this](const base::NodeId& node,
                         const net::Frame& frame) { OnPeerFrame(node, frame); },
      .on_silent = [this](const base::NodeId& node) { leases_->NodeSilent(node); },
      .on_lost = [this](const base::NodeId& node,
                        const absl::Status& why) { OnPeerLost(node, why); },
  };
}

WorkerService::Events Raylet::WorkerEvents() {
  return {
      .on_ready =
          [this](WorkerPool::Use use, const LeaseId& lease, const WorkerId& worker) {
            if (use == WorkerPool::Use::kTask) {
              leases_->WorkerReady(lease, worker);
            } else {
              actors_->WorkerReady(lease, worker);
            }
          },
      .on_died = [this](const WorkerDeath& death) { OnWorkerDied(death); },
      .on_environment_failed =
          [this](WorkerPool::Use use, const LeaseId& lease, const std::string& why) {
            if (use == WorkerPool::Use::kTask) {
              leases_->EnvironmentFailed(lease, why);
            } else {
              actors_->EnvironmentFailed(lease, why);
            }
          },
  };
}

LeaseService::Events Raylet::LeaseEvents() {
  return {
      .on_change = [this] { node_->MarkChanged(); },
      .on_group_unknown = [this](const auto& group) { group_relay_->Watch(group); },
  };
}

BundleHost::Events Raylet::BundleEvents() {
  return {
      .on_prepared =
          [this](const gcs::v1::BundlesPrepared& message) { gcs_->BundlesPrepared(message); },
      .on_resources_changed = [this] { node_->MarkPlaced(); },
      .on_bundles_changed = [this](const auto& group) { leases_->BundlesChanged(group); },
  };
}

ActorHost::Events Raylet::HostEvents() {
  return {
      .on_created = [this](const gcs::v1::ActorCreated& message) { gcs_->ActorCreated(message); },
      .on_died = [this](const gcs::v1::WorkerDied& message) { gcs_->WorkerDied(message); },
      .on_resources_changed = [this] { node_->MarkPlaced(); },
  };
}

gcs::GcsClient::Events Raylet::GcsEvents() {
  return {
      .on_registered = [this](const gcs::v1::NodeRegistered&) { OnRegistered(); },
      .on_actor_changed =
          [this](const wire::v1::ActorInfo& info) { actor_relay_->ActorChanged(info); },
      .on_create_actor = [this](const wire::v1::CreateActor& message) { actors_->Create(message); },
      .on_kill_worker = [this](const gcs::v1::KillWorker& message) { actors_->Kill(message); },
      .on_nodes_changed =
          [this](const gcs::v1::NodesChanged& message) {
            for (const wire::v1::NodeState& node : message.nodes()) peers_->Update(node);
            leases_->NodesSettled();
          },
      .on_prepare_bundles =
          [this](const gcs::v1::PrepareBundles& message) { bundles_->Prepare(message); },
      .on_commit_bundles =
          [this](const gcs::v1::CommitBundles& message) { bundles_->Commit(message); },
      .on_return_bundles =
          [this](const gcs::v1::ReturnBundles& message) { bundles_->Return(message); },
      .on_drain =
          [this](const wire::v1::DrainNode& order) {
            leases_->Drain();
            node_->Drain(order);
          },
      .on_disconnected = [this](const absl::Status& why) { OnDisconnected(why); },
  };
}

gcs::v1::RegisterNode Raylet::Registration() const {
  gcs::v1::RegisterNode message;
  *message.mutable_node() = node_->State();
  for (wire::v1::ActorInfo& actor : actors_->LiveActors()) {
    *message.add_live_actors() = std::move(actor);
  }
  for (std::string& id : actor_relay_->WatchedActors()) {
    message.add_watched_actors(std::move(id));
  }
  for (gcs::v1::HeldBundles& held : bundles_->Held()) *message.add_bundles() = std::move(held);
  return message;
}

void Raylet::OnRegistered() {
  MANTA_LOG(kInfo, "registered with the GCS at ", identity_.gcs_address);
  if (!identity_.is_head) return Ready();
  // Nodes that join once this one is ready find it, if it says anything. They can do without.
  gcs_->Kv(spill_record_, [this](const absl::StatusOr<wire::v1::KvReply>&) { Ready(); });
  if (SaysNothing(spill_record_)) Ready();
}

void Raylet::Ready() {
  if (ready_) return;
  ready_ = true;
  if (supervisor_ != nullptr) supervisor_->Start();
  if (events_.on_ready) events_.on_ready();
}

void Raylet::OnDisconnected(const absl::Status& why) {
  if (IsFinal(why)) {
    MANTA_LOG(kError, "the GCS refuses this node: ", why.message());
    if (events_.on_fatal) events_.on_fatal(why);
    return;
  }
  // Before it is ready the GCS may still be starting, too.
  if (ready_) MANTA_LOG(kWarning, "the connection to the GCS broke: ", why.message());
}

void Raylet::OnNodeDead(const base::NodeId& node, const std::string& reason) {
  leases_->NodeDead(node);
  owners_->NodeDead(node);
  transfer_->NodeDead(node);
  wire::v1::NodeGone message;
  message.set_node_id(node.BinaryString());
  message.set_reason(reason);
  clients_->ForEach([&](Client& client) {
    if (client.IsRaylet() && client.address.node_id() == message.node_id()) {
      return client.connection->Close(absl::UnavailableError("its node is dead"));
    }
    if (client.worker_id.IsNil()) return;
    client.connection->Send(wire::v1::NODE_GONE, message);
  });
}

// What the other raylet had been asked to send is forgotten there.
void Raylet::OnPeerLost(const base::NodeId& node, const absl::Status& why) {
  MANTA_LOG(kInfo, "the connection to node ", node.Hex(), " is lost: ", why.message());
  leases_->NodeLost(node);
  owners_->NodeLost(node);
  if (peers_->Find(node) == nullptr) return;
  loop_->RunAfter(kPeerRetry, [this, alive = std::weak_ptr<bool>(alive_), node] {
    if (!alive.expired()) logs_->PeerThere(node);
  });
}

void Raylet::OnPeerFrame(const base::NodeId& node, const net::Frame& frame) {
  switch (frame.type) {
    case wire::v1::LOG_LINES: {
      wire::v1::LogLines message;
      if (net::ParseMetadata(frame, &message)) logs_->PeerLines(message);
      return;
    }
    case wire::v1::RECLAIM_LEASES:
    case wire::v1::TASK_PENDING_WARNING:
      return leases_->OnPeerFrame(node, frame);
    case wire::v1::WORKER_GONE:
      return owners_->WorkerGone(node, frame);
    default:
      MANTA_LOG(kWarning, "unknown frame of type ", frame.type, " from node ", node.Hex(),
                " ignored");
  }
}

void Raylet::OnJoined(Client& client, const wire::v1::Hello& hello) {
  MANTA_LOG(kDebug, client.connection->description(), " joined");
  objects_->ClientJoined(client);
  logs_->ClientJoined(client);
  if (client.kind == wire::v1::WORKER) {
    workers_->pool().Register(hello.startup_token(), client.worker_id, client.pid);
  }
}

void Raylet::OnGone(const Client& client, const absl::Status& why) {
  MANTA_LOG(kDebug, client.connection->description(), " left: ", why.message());
  // The pool first: this worker must not be given out any more.
  if (!client.worker_id.IsNil()) workers_->pool().Disconnected(client.worker_id);
  leases_->ClientGone(client);
  transfer_->ClientGone(client);
  owners_->ClientGone(client);
  objects_->ClientGone(client);
  logs_->ClientGone(client);
  if (client.worker_id.IsNil()) return;
  actor_relay_->ClientGone(client);
  UnlinkSocketOf(client);
  if (!client.IsDriver()) return;
  workers_->pool().JobFinished(client.job);
  node_->FinishJob(client.job);
}

// A process that was killed leaves the file of its socket behind. Only files beside the raylet's
// own are removed: the path comes from a peer.
void Raylet::UnlinkSocketOf(const Client& client) const {
  const std::string folder = identity_.endpoint.substr(0, identity_.endpoint.rfind('/') + 1);
  absl::string_view name = client.address.endpoint();
  if (!absl::ConsumePrefix(&name, folder) || absl::StrContains(name, '/')) return;
  absl::string_view path = client.address.endpoint();
  if (absl::ConsumePrefix(&path, "unix:")) unlink(std::string(path).c_str());
}

void Raylet::OnWorkerDied(const WorkerDeath& death) {
  const std::string explanation = ExplainDeath(death, logs_->StderrTail(death));
  MANTA_LOG(kInfo, "worker ", death.token, " is gone: ", explanation);
  logs_->WorkerDied(death);
  memory_->WorkerDied(death);
  deaths_->WorkerDied(death, explanation);
  actors_->WorkerDied(death, explanation);
}

NodeDrain::Environment Raylet::DrainEnvironment() {
  return {
      .is_idle = [this] { return IsIdle(); },
      .move_objects = [this](NodeDrain::Done done) { handover_->MoveAll(std::move(done)); },
      .leave =
          [this](const std::string& reason) {
            leave_reason_ = reason;
            MANTA_LOG(kInfo, "this node leaves: ", reason);
            if (events_.on_drained) events_.on_drained();
          },
      .handover_time = absl::Milliseconds(config_.drain_handover_ms),
  };
}

bool Raylet::IsIdle() const {
  bool has_driver = false;
  clients_->ForEach([&](const Client& client) { has_driver |= client.IsDriver(); });
  return !has_driver && leases_->queue().leases() == 0 && actors_->LiveActors().empty() &&
         bundles_->Held().empty();
}

// --- Life

void Raylet::Start() {
  // The zygote needs longest, so it starts first.
  workers_->Start();
  gcs_->Start([this] { return Registration(); });
}

void Raylet::Stop() {
  if (std::exchange(stopped_, true)) return;
  tls_files_.reset();
  if (supervisor_ != nullptr) supervisor_->Stop();
  // First, so that nothing is restarted because its worker died here.
  if (gcs_ != nullptr) gcs_->Leave(leave_reason_);
  listener_.reset();
  tcp_listener_.reset();
  if (clients_ != nullptr) clients_->ForEach([this](Client& client) { UnlinkSocketOf(client); });
  if (workers_ != nullptr) workers_->Stop();
  const absl::Time deadline = clock_->Now() + kLeaveTimeout;
  while (gcs_ != nullptr && !gcs_->left() && clock_->Now() < deadline) {
    loop_->Poll(deadline - clock_->Now());
  }
  supervisor_.reset();
}

void Raylet::CheckInvariants() {
  leases_->CheckInvariants();
  workers_->pool().CheckInvariants();
  objects_->store().CheckInvariants();
  transfer_->CheckInvariants();
}

}  // namespace ray::raylet
