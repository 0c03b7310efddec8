#include "ray/raylet/node_service.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/raylet/relay.h"

namespace ray::raylet {

using base::JobId;
using wire::v1::ClusterStateReply;
using wire::v1::NodeState;

NodeService::NodeService(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
                         gcs::GcsClient* gcs, Options options)
    : clock_(clock),
      gcs_(gcs),
      options_(options),
      timer_(loop, clock, [this] { ReportIfChanged(); }) {
  router->On<wire::v1::KvRequest>(wire::v1::KV,
                                  [this](Client&, const auto& message, const Responder& responder) {
                                    gcs_->Kv(message, RelayTo<wire::v1::KvReply>(responder));
                                    return absl::OkStatus();
                                  });
  router->On<wire::v1::ClusterStateRequest>(
      wire::v1::CLUSTER_STATE, [this](Client&, const auto&, const Responder& responder) {
        RelayClusterState(responder);
        return absl::OkStatus();
      });
}

// --- Jobs

void NodeService::AddJob(const wire::v1::Hello& hello, ClientRegistry::JobCallback callback) {
  gcs::v1::AddJobRequest request;
  request.set_driver_worker_id(hello.worker_id());
  request.set_entrypoint(hello.entrypoint());
  request.set_job_namespace(hello.job_namespace());
  request.set_node_id(options_.identity->id.BinaryString());
  request.set_driver_pid(hello.pid());
  gcs_->AddJob(request, [callback = std::move(callback)](
                            absl::StatusOr<gcs::v1::AddJobReply> reply) mutable {
    if (!reply.ok()) return callback(reply.status());
    absl::StatusOr<JobId> id = JobId::FromBinary(reply->job_id());
    if (!id.ok()) return callback(base::Annotate(id.status(), "the GCS sent a job with"));
    callback(ClientRegistry::Job{*id, reply->job_namespace()});
  });
}

void NodeService::FinishJob(const JobId& job) {
  gcs::v1::FinishJobRequest request;
  request.set_job_id(job.BinaryString());
  gcs_->FinishJob(request, [job](const absl::StatusOr<wire::v1::StatusReply>& reply) {
    if (reply.ok()) return;
    MANTA_LOG(kWarning, "the GCS was not told that job ", job.Hex(),
              " finished: ", reply.status().message());
  });
}

// --- State and reports

resources::ResourceSet NodeService::Available() const {
  const auto used = static_cast<int64_t>(options_.store->used_bytes());
  resources::ResourceSet available = options_.resources->available();
  available.Add(resources::kObjectStoreMemory,
                base::FixedPoint() - base::FixedPoint::FromInt(used));
  return available;
}

NodeState NodeService::State() const {
  const NodeIdentity& identity = *options_.identity;
  NodeState state;
  state.set_node_id(identity.id.BinaryString());
  state.set_alive(true);
  state.set_ip(identity.ip);
  state.set_hostname(identity.hostname);
  state.set_raylet_endpoint(identity.endpoint);
  state.set_tcp_endpoint(identity.tcp_endpoint);
  state.set_session_dir(identity.session_dir);
  *state.mutable_total() = options_.resources->total().ToWire();
  *state.mutable_available() = Available().ToWire();
  state.mutable_labels()->insert(identity.labels.begin(), identity.labels.end());
  state.set_is_head(identity.is_head);
  state.set_raylet_pid(getpid());
  state.set_store_used_bytes(options_.store->used_bytes());
  for (wire::v1::Demand& demand : options_.demands()) *state.add_demands() = std::move(demand);
  return state;
}

void NodeService::RelayClusterState(const Responder& responder) {
  gcs_->ClusterState({}, [this, responder](absl::StatusOr<ClusterStateReply> answer) {
    // Without the GCS, this node is what is known.
    ClusterStateReply reply = answer.ok() ? *std::move(answer) : ClusterStateReply();
    NodeState own = State();
    auto* nodes = reply.mutable_nodes();
    auto it = std::find_if(nodes->begin(), nodes->end(),
                           [&](const NodeState& node) { return node.node_id() == own.node_id(); });
    if (it == nodes->end()) {
      *reply.add_nodes() = std::move(own);
    } else {
      *it = std::move(own);
    }
    responder.Send(reply);
  });
}

void NodeService::MarkChanged() {
  if (report_due_) return;
  report_due_ = true;
  timer_.Set(std::max(clock_->Now(), last_time_ + options_.report_interval));
}

void NodeService::ReportIfChanged() {
  report_due_ = false;
  resources::ResourceSet available = Available();
  const uint64_t store_used = options_.store->used_bytes();
  gcs::v1::NodeReport report;
  for (wire::v1::Demand& demand : options_.demands()) *report.add_demands() = std::move(demand);
  // Without its other parts: what waits.
  std::string demands = report.SerializeAsString();
  const bool same =
      available == last_available_ && store_used == last_store_used_ && demands == last_demands_;
  if (same) return;
  *report.mutable_total() = options_.resources->total().ToWire();
  *report.mutable_available() = available.ToWire();
  report.set_store_used_bytes(store_used);
  report.set_sequence(++last_sequence_);
  gcs_->Report(report);
  last_available_ = std::move(available);
  last_store_used_ = store_used;
  last_demands_ = std::move(demands);
  last_time_ = clock_->Now();
}

}  // namespace ray::raylet
