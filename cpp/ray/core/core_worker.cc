// Session: connecting, the loop, frames to where they belong, and the end.
#include "ray/core/core_worker.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/clock.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"
#include "ray/net/tls_wire.h"
#include "ray/wire/v1/workers.pb.h"

namespace ray::core {

using base::JobId;
using base::NodeId;
using base::WorkerId;

namespace {

constexpr absl::Duration kRayletTimeout = absl::Seconds(30);
constexpr absl::Duration kExitRetry = absl::Milliseconds(500);
// References dropped while nobody enters the core worker are noticed after at most this time.
constexpr absl::Duration kDrainDelay = absl::Milliseconds(2);

TaskSubmitter::Options SubmitterOptions(const base::Config& config) {
  TaskSubmitter::Options options;
  options.pipeline_target_nanos = config.task_pipeline_target_us * 1000;
  options.stall_nanos = config.task_stall_us * 1000;
  options.linger_nanos = config.lease_linger_ms * 1'000'000;
  options.slice_nanos = config.lease_slice_ms * 1'000'000;
  options.depth_max = static_cast<size_t>(config.task_pipeline_depth_max);
  options.lease_requests_max = static_cast<size_t>(config.lease_requests_max);
  return options;
}

net::Connection::Options ConnectionOptions(const base::Config& config) {
  net::Connection::Options options;
  options.frame_max_bytes = static_cast<uint64_t>(config.wire_frame_max_bytes);
  options.coalesce_max_bytes = static_cast<uint64_t>(config.wire_coalesce_max_bytes);
  options.coalesce_max_delay = absl::Microseconds(config.wire_coalesce_max_us);
  options.outbuffer_max_bytes = static_cast<uint64_t>(config.wire_outbuffer_max_bytes);
  options.handshake_timeout = absl::Milliseconds(config.handshake_timeout_ms);
  options.peer_timeout = absl::Milliseconds(config.node_dead_timeout_ms);
  options.unproven_connections_max = static_cast<size_t>(config.unproven_connections_max);
  return options;
}

}  // namespace

absl::StatusOr<std::shared_ptr<CoreWorker>> CoreWorker::Connect(const Options& options) {
  std::shared_ptr<CoreWorker> worker(new CoreWorker(options));
  MANTA_RETURN_IF_ERROR(worker->Start());
  return worker;
}

CoreWorker::CoreWorker(const Options& options) : options_(options) {}

CoreWorker::~CoreWorker() { Shutdown(); }

absl::Status CoreWorker::Start() {
  if (!options_.log_file.empty()) {
    base::InitLogging({options_.kind == wire::v1::DRIVER ? "driver" : "worker", options_.log_file});
  }
  MANTA_ASSIGN_OR_RETURN(net::UniqueFd fd,
                         net::Connect(options_.raylet_endpoint, absl::Seconds(5)));
  absl::MutexLock lock(&mutex_);
  auto worker_id = WorkerId::Random();
  identity_.worker_id = worker_id;
  peers_ =
      std::make_unique<Peers>(&loop_, ConnectionOptions(config_),
                              Peers::Events{[this](const PeerPtr& peer, const net::Frame& frame) {
                                              mutex_.AssertHeld();
                                              OnPeerFrame(peer, frame);
                                            },
                                            [this](const PeerPtr& peer, const absl::Status&) {
                                              mutex_.AssertHeld();
                                              OnPeerLost(peer);
                                            },
                                            [this](const PeerPtr& peer) {
                                              mutex_.AssertHeld();
                                              AskIfAlive(peer);
                                            }});
  // The sockets of a session lie beside the raylet's.
  std::string directory = options_.raylet_endpoint.substr(0, options_.raylet_endpoint.rfind('/'));
  MANTA_RETURN_IF_ERROR(
      peers_->Listen(absl::StrCat(directory, "/w", worker_id.Hex().substr(0, 16))));
  // A worker's address is given out by the raylet, which must know it whole from the start.
  if (!options_.listen_host.empty()) MANTA_RETURN_IF_ERROR(peers_->BindTcp(options_.listen_host));
  MANTA_ASSIGN_OR_RETURN(net::HandshakeResult result, Handshake(fd.get()));
  MANTA_RETURN_IF_ERROR(UseHelloReply(result));

  raylet_ = net::Connection::Create(&loop_, std::move(fd), ConnectionOptions(config_));
  raylet_->set_description("raylet");
  if (store_memory_ != nullptr) {
    // A view into the store may outlive the session; its pin ended with the connection.
    auto on_release = [weak = weak_from_this()](const base::ObjectId& id) {
      if (auto self = weak.lock()) self->ReleaseLater(ReleaseQueue::Kind::kStorePin, id);
    };
    store_ = std::make_unique<StoreClient>(raylet_, store_memory_, self_->node_id,
                                           base::RealClock::Get(), on_release);
  }
  lineage_ = Lineage(static_cast<size_t>(config_.lineage_max_bytes));
  objects_.set_kept_bytes_max(static_cast<uint64_t>(config_.lineage_max_bytes));
  copy_options_ = store::CopyOptions::FromConfig(config_);
  tasks_ = std::make_unique<TaskSubmitter>(SubmitterOptions(config_),
                                           static_cast<TaskSubmitter::Actions*>(this));
  net::LoopDriver::Options driving;
  driving.spin_max = absl::Microseconds(config_.loop_spin_max_us);
  driving.background_grace = absl::Microseconds(config_.loop_background_grace_us);
  driver_ = std::make_unique<net::LoopDriver>(&loop_, &mutex_, driving);
  raylet_->Start({[this](const auto&, const net::Frame& frame) {
                    mutex_.AssertHeld();
                    OnRayletFrame(frame);
                  },
                  [this](const auto&, const absl::Status& why) {
                    mutex_.AssertHeld();
                    OnRayletLost(why);
                  }},
                 std::move(result.already_read));
  driver_->StartBackground();
  return absl::OkStatus();
}

absl::StatusOr<net::HandshakeResult> CoreWorker::Handshake(int fd) {
  wire::v1::Hello hello;
  hello.set_protocol_version(net::kProtocolVersion);
  hello.set_kind(options_.kind);
  mutex_.AssertHeld();
  hello.set_worker_id(identity_.worker_id.BinaryString());
  hello.set_pid(getpid());
  hello.mutable_address()->set_worker_id(identity_.worker_id.BinaryString());
  hello.mutable_address()->set_endpoint(peers_->endpoint());
  hello.mutable_address()->set_tcp_endpoint(peers_->tcp_endpoint());
  hello.set_job_namespace(options_.job_namespace);
  hello.set_entrypoint(options_.entrypoint);
  hello.set_startup_token(options_.startup_token);
  hello.set_log_to_driver(options_.log_to_driver);
  MANTA_ASSIGN_OR_RETURN(
      net::HandshakeResult result,
      net::BlockingHandshake(fd, hello, wire::v1::HELLO, wire::v1::ERROR, kRayletTimeout));
  if (!result.refusal_metadata.empty()) {
    wire::v1::ErrorFrame error;
    error.ParseFromString(result.refusal_metadata);
    return absl::FailedPreconditionError(
        absl::StrCat("the raylet refused this process: ", error.reason()));
  }
  return result;
}

absl::Status CoreWorker::UseHelloReply(const net::HandshakeResult& result) {
  wire::v1::HelloReply reply;
  if (!reply.ParseFromString(result.reply_metadata)) {
    return absl::DataLossError("the raylet's HELLO reply is malformed");
  }
  mutex_.AssertHeld();
  for (const auto& [name, value] : reply.config()) {
    MANTA_RETURN_IF_ERROR(config_.Set(name, value));
    identity_.config[name] = value;
  }
  MANTA_ASSIGN_OR_RETURN(identity_.node_id, NodeId::FromBinary(reply.node_id()));
  if (!reply.job_id().empty()) {
    MANTA_ASSIGN_OR_RETURN(identity_.job_id, JobId::FromBinary(reply.job_id()));
  }
  identity_.node_ip = reply.node_ip();
  identity_.session_dir = reply.session_dir();
  identity_.gcs_address = reply.gcs_address();
  identity_.job_namespace = reply.job_namespace();
  worker_job_ = identity_.job_id;
  put_task_ = options_.kind == wire::v1::DRIVER
                  ? base::DriverTaskId(identity_.job_id)
                  : task_ids_.Next(base::NilActorOf(identity_.job_id));

  if (!reply.listen_host().empty()) {
    MANTA_RETURN_IF_ERROR(
        peers_->ListenTcp(reply.listen_host(), reply.cluster_token(), net::FromWire(reply.tls())));
  }
  wire::v1::Address address;
  address.set_node_id(identity_.node_id.BinaryString());
  address.set_worker_id(identity_.worker_id.BinaryString());
  address.set_endpoint(peers_->endpoint());
  address.set_tcp_endpoint(peers_->tcp_endpoint());
  MANTA_ASSIGN_OR_RETURN(self_, WorkerAddress::FromProto(address));
  peers_->SetSelf(self_);
  objects_.set_self(self_->worker_id);
  if (reply.store_capacity_bytes() == 0) return absl::OkStatus();
  net::UniqueFd memory(dup(result.received_fd.get()));
  MANTA_ASSIGN_OR_RETURN(store_memory_,
                         store::SharedMemory::Map(std::move(memory), reply.store_capacity_bytes()));
  return absl::OkStatus();
}

void CoreWorker::Shutdown() {
  if (shut_down_.exchange(true)) return;
  if (driver_ == nullptr) return;  // never started
  if (getpid() != pid_) {
    // A fork of the process: its copy has no background thread, and the sockets are the parent's to
    // speak on.
    static_cast<void>(driver_.release());
    return;
  }
  {
    absl::MutexLock lock(&mutex_);
    Drain();
    // A worker that only lingers may own what others borrow; the lease of who has left is its end.
    if (tasks_ != nullptr) tasks_->OnReclaim(base::MonotonicNanos());
    peers_->FlushAll();
    if (store_ != nullptr) store_->Flush();
    peers_->CloseAll();
    raylet_->Close(absl::CancelledError("this process ends its session"));
    objects_.EndWaits();
  }
  loop_.Wake();
  driver_->Stop();
  // Runs what the closes left: every pending reply is answered with "cancelled".
  while (loop_.Poll(absl::ZeroDuration()) > 0) {
  }
  WakeReaders();
}

// Whoever waits for messages looks again whether the session has ended once this lock is given
// back. What came before is still theirs.
void CoreWorker::WakeReaders() { absl::MutexLock wake(&message_mutex_); }

void CoreWorker::CheckInvariants() {
  absl::MutexLock lock(&mutex_);
  objects_.CheckInvariants();
  tasks_->CheckInvariants();
  actors_.CheckInvariants();
  receiver_.CheckInvariants();
}

CoreWorker::Identity CoreWorker::identity() const {
  auto* self = const_cast<CoreWorker*>(this);
  absl::MutexLock lock(&self->mutex_);
  return self->identity_;
}

JobId CoreWorker::CurrentJob() {
  absl::MutexLock lock(&mutex_);
  return worker_job_;
}

void CoreWorker::OnRayletFrame(const net::Frame& frame) {
  switch (frame.type) {
    case wire::v1::RECLAIM_LEASES:
      return tasks_->OnReclaim(base::MonotonicNanos());
    case wire::v1::ACTOR_CHANGED: {
      auto info = net::ParseMetadata<wire::v1::ActorInfo>(frame);
      if (!info.ok()) return;
      if (!info->pending_reason().empty()) PushWarning(info->class_name(), info->pending_reason());
      return HearOfActor(*info);
    }
    case wire::v1::TASK_PENDING_WARNING: {
      auto warning = net::ParseMetadata<wire::v1::PendingWarning>(frame);
      if (!warning.ok()) return;
      // A cluster that is merely busy is no news to its user; one that can never run the task is.
      if (warning->infeasible()) return PushWarning(warning->task_name(), warning->message());
      MANTA_LOG(kInfo, warning->message());
      return;
    }
    case wire::v1::LOG_LINES: {
      auto lines = net::ParseMetadata<wire::v1::LogLines>(frame);
      if (lines.ok()) PushMessage({false, *std::move(lines)});
      return;
    }
    case wire::v1::CREATE_ACTOR:
      return OnCreateActor(frame);
    case wire::v1::NODE_GONE:
      return OnNodeGone(frame);
    case wire::v1::OBJECT_COPIED:
      return OnPrimaryMoved(frame);
    case wire::v1::NEW_TLS_CREDENTIALS: {
      const auto tls = net::ParseMetadata<wire::v1::TlsCredentials>(frame);
      const absl::Status used = tls.ok() ? peers_->UseTls(net::FromWire(*tls)) : tls.status();
      if (!used.ok()) MANTA_LOG(kWarning, "the certificates stay as they were: ", used.message());
      return;
    }
    case wire::v1::EXIT_WORKER: {
      auto exit = net::ParseMetadata<wire::v1::ExitWorker>(frame);
      if (exit.ok() && exit->force()) _exit(1);
      return ExitWhenNotNeeded();
    }
    case wire::v1::ERROR: {
      auto error = net::ParseMetadata<wire::v1::ErrorFrame>(frame);
      MANTA_LOG(kError, "the raylet closes this connection: ", error.ok() ? error->reason() : "");
      return;
    }
    default:
      MANTA_LOG(kWarning, "unknown frame of type ", frame.type, " from the raylet ignored");
  }
}

// Asked to leave without haste. Objects that this process owns and others borrow would be lost with
// it, and so would references in its answers, which their receivers have yet to register: it stays,
// idle, for as long as there are any.
void CoreWorker::ExitWhenNotNeeded() {
  if (objects_.AnyBorrowedByOthers() || !handed_over_.empty() || !held_replies_.empty()) {
    loop_.RunAfter(kExitRetry, [this] {
      mutex_.AssertHeld();
      ExitWhenNotNeeded();
    });
    return;
  }
  exit_requested_.store(true);
}

void CoreWorker::PushWarning(std::string_view name, std::string_view text) {
  Message message;
  message.is_warning = true;
  message.lines.set_name(std::string(name));
  message.lines.add_lines(std::string(text));
  PushMessage(std::move(message));
}

void CoreWorker::OnRayletLost(const absl::Status& why) {
  raylet_lost_.store(true);
  WakeReaders();
  if (shut_down_.load()) return;
  MANTA_LOG(kWarning, "the connection to the raylet is lost: ", why.message());
  if (options_.on_raylet_lost) options_.on_raylet_lost();
}

void CoreWorker::OnPeerFrame(const PeerPtr& peer, const net::Frame& frame) {
  switch (frame.type) {
    case wire::v1::TASK_TEMPLATE:
      return OnTemplate(peer, frame);
    case wire::v1::PUSH_TASK:
      return OnPushTask(peer, frame);
    case wire::v1::RECALL_TASKS:
      return OnRecallTasks(peer, frame);
    case wire::v1::TASKS_RECALLED:
      return OnTasksRecalled(peer, frame);
    case wire::v1::CANCEL_TASK:
      return OnCancelTask(peer, frame);
    case wire::v1::GET_OBJECT:
      return OnObjectRequest(peer, frame);
    case wire::v1::ADD_BORROWER:
      return OnAddBorrower(peer, frame);
    case wire::v1::REMOVE_BORROWER:
      return OnRemoveBorrower(peer, frame);
    case wire::v1::REFS_TAKEN: {
      auto taken = net::ParseMetadata<wire::v1::TaskIds>(frame);
      if (!taken.ok() || taken->task_ids_size() != 1) return;
      auto task = base::TaskId::FromBinary(taken->task_ids(0));
      if (!task.ok()) return;
      auto it = handed_over_.find(*task);
      if (it == handed_over_.end() || it->second.caller != peer->worker_id) return;
      std::vector<base::ObjectId> references = std::move(it->second.batches.front());
      it->second.batches.pop_front();
      if (it->second.batches.empty()) handed_over_.erase(it);
      for (const base::ObjectId& id : references) objects_.Unpin(id);
      return;
    }
    case wire::v1::OBJECT_COPIED:
      return OnObjectCopied(peer, frame);
    case wire::v1::PROBE:
      return OnProbe(peer, frame);
    case wire::v1::STREAM_ITEM:
      return OnStreamItem(peer, frame);
    case wire::v1::STREAM_CONSUMED:
      return OnStreamConsumed(peer, frame);
    case wire::v1::USE_INSTANCES: {
      auto message = net::ParseMetadata<wire::v1::LeaseInstances>(frame);
      if (!message.ok()) return;
      new_instances_ = *std::move(message);
      return has_new_instances_.store(true);
    }
    default:
      peer->connection->Close(
          absl::InvalidArgumentError(absl::StrCat("unknown frame of type ", frame.type)));
  }
}

void CoreWorker::OnPeerLost(const PeerPtr& peer) {
  if (shut_down_.load()) return;
  objects_.BorrowerGone(peer->worker_id);
  TakeBackHandedOver(peer->worker_id);
  unread_items_.ReaderGone(peer->worker_id);
  stream_room_changed_ = other_loop_.fd >= 0;  // nobody will read what is still sent there
  LoseWorker(peer->address);
}

// Its node's raylet knows whether the process is there.
void CoreWorker::AskIfAlive(const PeerPtr& peer) {
  wire::v1::WorkerDeathRequest request;
  request.set_worker_id(peer->worker_id.BinaryString());
  request.set_node_id(peer->address->node_id.BinaryString());
  raylet_->Call(wire::v1::WORKER_DEATH, request,
                [this, peer](const absl::StatusOr<net::Frame>& frame) {
                  mutex_.AssertHeld();
                  if (!frame.ok() || shut_down_.load()) return;
                  const auto reply = net::ParseMetadata<wire::v1::WorkerDeathReply>(*frame);
                  if (!reply.ok() || reply->is_alive()) return;
                  // That the node is dead was said before this process was there.
                  if (reply->node_is_dead()) return peers_->NodeGone(peer->address->node_id);
                  if (!reply->node_died()) peers_->Forget(peer);
                });
}

void CoreWorker::LoseWorker(const AddressPtr& worker) {
  actors_.OnConnectionLost(worker->worker_id);
  OnTasksLost(worker, tasks_->OnWorkerLost(worker->worker_id, base::MonotonicNanos()));
}

// References inside replies that the caller did not live to register.
void CoreWorker::TakeBackHandedOver(const WorkerId& caller) {
  std::vector<base::ObjectId> references;
  for (auto it = handed_over_.begin(); it != handed_over_.end();) {
    auto current = it++;
    if (current->second.caller != caller) continue;
    for (const std::vector<base::ObjectId>& batch : current->second.batches) {
      references.insert(references.end(), batch.begin(), batch.end());
    }
    handed_over_.erase(current);
  }
  for (const base::ObjectId& id : references) objects_.Unpin(id);
}

void CoreWorker::ScheduleDrain() {
  if (shut_down_.load() || drain_scheduled_.exchange(true)) return;
  loop_.Post([this] {
    loop_.RunAfter(kDrainDelay, [this] {
      mutex_.AssertHeld();
      // Before the look into the queue: who pushes later and finds this false schedules anew.
      drain_scheduled_.exchange(false);
      Drain();
      if (store_ == nullptr) return;
      if (store_->EndRests()) ScheduleDrain();
      store_->Flush();
    });
  });
}

}  // namespace ray::core
