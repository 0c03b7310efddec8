#include "ray/raylet/node_service.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
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

namespace {

// Equal messages give equal bytes.
std::string Serialize(const gcs::v1::NodeReport& report) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    report.SerializeToCodedStream(&coded);
  }
  return bytes;
}

}  // namespace

NodeService::NodeService(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
                         gcs::GcsClient* gcs, Options options)
    : clock_(clock),
      gcs_(gcs),
      options_(options),
      timer_(loop, clock, [this] { ReportIfChanged(); }),
      drain_(options_.drain),
      drain_timer_(loop, clock, [this] { LookAtDrain(); }) {
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
  router->On<wire::v1::DrainNode>(
      wire::v1::DRAIN_NODE, [this](Client&, const auto& message, const Responder& responder) {
        gcs_->DrainNode(message, RelayTo<wire::v1::StatusReply>(responder));
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
  gcs_->FinishJob(request, [this, job](const absl::StatusOr<wire::v1::StatusReply>& reply) {
    if (reply.ok()) return;
    MANTA_LOG(kWarning, "the GCS was not told that job ", job.Hex(),
              " finished: ", reply.status().message());
    const bool is_away =
        absl::IsUnavailable(reply.status()) || absl::IsDeadlineExceeded(reply.status());
    if (is_away) FinishJob(job);
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
  state.set_store_capacity_bytes(options_.store->capacity_bytes());
  state.set_spilled_bytes(options_.store->disk_bytes());
  state.set_draining(draining());
  *state.mutable_demands() = MakeReport().demands();
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

void NodeService::MarkPlaced() {
  last_report_.clear();
  MarkChanged();
}

void NodeService::MarkChanged() {
  if (report_due_) return;
  report_due_ = true;
  timer_.Set(std::max(clock_->Now(), last_time_ + options_.report_interval));
}

void NodeService::ReportIfChanged() {
  report_due_ = false;
  gcs::v1::NodeReport report = MakeReport();
  std::string serialized = Serialize(report);
  if (serialized == last_report_) return;
  last_report_ = std::move(serialized);
  last_time_ = clock_->Now();
  report.set_sequence(++last_sequence_);
  gcs_->Report(report);
}

gcs::v1::NodeReport NodeService::MakeReport() const {
  gcs::v1::NodeReport report;
  *report.mutable_total() = options_.resources->total().ToWire();
  *report.mutable_available() = Available().ToWire();
  report.set_store_used_bytes(options_.store->used_bytes());
  report.set_spilled_bytes(options_.store->disk_bytes());
  if (options_.demands) {
    for (wire::v1::Demand& demand : options_.demands()) *report.add_demands() = std::move(demand);
  }
  return report;
}

// --- Draining

void NodeService::Drain(const wire::v1::DrainNode& order) {
  MANTA_LOG(kInfo, "this node is drained: ", order.reason());
  absl::Time deadline = absl::InfiniteFuture();
  if (order.deadline_ms() != 0) {
    deadline = clock_->Now() + (absl::FromUnixMillis(order.deadline_ms()) - absl::Now());
  }
  drain_.Begin(order.reason(), deadline, clock_->Now());
  LookAtDrain();
}

void NodeService::LookAtDrain() {
  const absl::Time now = clock_->Now();
  drain_timer_.Set(now + options_.report_interval);
  drain_.Look(now);
}

}  // namespace ray::raylet
