#include "ray/gcs/gcs_client.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/base/logging.h"
#include "ray/gcs/gcs_client_events.h"
#include "ray/gcs/gcs_client_target.h"
#include "ray/gcs/message_batch.h"
#include "ray/gcs/node_outbox.h"
#include "ray/gcs/tls_files.h"
#include "ray/gcs/v1/gcs.grpc.pb.h"

namespace ray::gcs {
namespace {

using v1::GcsMessage;
using v1::GcsService;
using v1::NodeMessage;
using Async = GcsService::StubInterface::async_interface;

// A server that accepts but never speaks is given up on after this.
constexpr int kConnectTimeoutMillis = 2000;
// ReconnectNow: so often and so long.
constexpr absl::Duration kHurryInterval = absl::Milliseconds(20);
constexpr absl::Duration kHurry = absl::Seconds(2);

absl::Status ToAbsl(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

// Trying again would bring the same answer.
bool IsFinal(const absl::Status& status) {
  return absl::IsUnauthenticated(status) || absl::IsFailedPrecondition(status) ||
         absl::IsInvalidArgument(status);
}

std::string NewRequestId() {
  uint8_t bytes[16];
  base::FillUniqueBytes(bytes, sizeof bytes);
  return base::BytesToHex({reinterpret_cast<const char*>(bytes), sizeof bytes});
}

// Unix sockets need no TLS: only the session's user can reach them.
std::shared_ptr<grpc::ChannelCredentials> Credentials(const GcsClient::Options& options) {
  if (!options.tls.enabled() || !options.address.starts_with("tcp:")) {
    return grpc::InsecureChannelCredentials();
  }
  if (auto files = WatchTlsFiles(options.tls, options.tls_files_interval); files != nullptr) {
    grpc::experimental::TlsChannelCredentialsOptions tls;
    tls.set_certificate_provider(std::move(files));
    tls.watch_root_certs();
    tls.watch_identity_key_cert_pairs();
    return grpc::experimental::TlsCredentials(tls);
  }
  return grpc::SslCredentials({.pem_root_certs = options.tls.authority,
                               .pem_private_key = options.tls.key,
                               .pem_cert_chain = options.tls.certificate});
}

std::shared_ptr<grpc::Channel> OpenChannel(
    const std::string& target, absl::Duration reconnect_interval,
    const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  const int interval_ms = static_cast<int>(absl::ToInt64Milliseconds(reconnect_interval));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, interval_ms);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, interval_ms);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMillis);
  // The GCS is inside the cluster; a proxy of the user's environment is not on the way.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  return grpc::CreateCustomChannel(target, credentials, arguments);
}

// Counts what gRPC's threads still hold, so that the client can wait for them. Thread-safe.
class Operations {
 public:
  void Begin() {
    absl::MutexLock lock(&mutex_);
    ++running_;
  }
  void End() {
    absl::MutexLock lock(&mutex_);
    --running_;
  }
  void WaitUntilNone() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](int* running) { return *running == 0; }, &running_));
  }

 private:
  absl::Mutex mutex_;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Runs tasks on the loop for as long as its owner lives. Post is thread-safe, the rest loop-bound.
class LoopGuard {
 public:
  explicit LoopGuard(net::EventLoop* loop) : loop_(loop) {}

  void Post(net::EventLoop::Task task) { loop_->Post(Guarded(std::move(task))); }
  void RunAfter(absl::Duration delay, net::EventLoop::Task task) {
    loop_->RunAfter(delay, Guarded(std::move(task)));
  }

 private:
  net::EventLoop::Task Guarded(net::EventLoop::Task task) {
    return [alive = std::weak_ptr<int>(alive_), task = std::move(task)]() mutable {
      if (!alive.expired()) task();
    };
  }

  net::EventLoop* const loop_;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

// One attempt at the node's channel, from its opening to its end. gRPC's threads enter by the On...
// methods, which only post; everything else is loop-bound.
class NodeChannel final : public grpc::ClientBidiReactor<NodeMessage, GcsMessage> {
 public:
  struct Handlers {
    std::function<void(const GcsMessage&)> on_message;
    std::function<void(const absl::Status&)> on_done;  // destroys the channel
  };

  NodeChannel(LoopGuard* loop, Operations* operations, Handlers handlers)
      : loop_(loop), operations_(operations), handlers_(std::move(handlers)) {}

  void Open(GcsService::Stub* stub, std::unique_ptr<grpc::ClientContext> context) {
    context_ = std::move(context);
    operations_->Begin();
    stub->async()->NodeChannel(context_.get(), this);
    // Writes start outside of gRPC's callbacks: the hold keeps the call alive between them.
    AddHold();
    StartRead(&incoming_);
    StartCall();
  }

  // It leaves at the end of this turn of the loop, or once the write under way is done.
  void Write(NodeMessage message) {
    queue_.Add(std::move(message));
    WriteSoon();
  }

  // The newest report only: an older one that still waits says nothing any more.
  void WriteReport(const v1::NodeReport& report) {
    *report_.mutable_report() = report;
    has_report_ = true;
    WriteSoon();
  }

  void Cancel() {
    context_->TryCancel();
    LetGo();
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) {
      loop_->Post([this] { LetGo(); });
      return;
    }
    loop_->Post([this, message = std::move(incoming_)] {
      handlers_.on_message(message);
      for (const GcsMessage& next : message.more()) handlers_.on_message(next);
    });
    incoming_.Clear();
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    loop_->Post([this, ok] {
      writing_ = false;
      if (ok) WriteNext();
    });
  }

  void OnDone(const grpc::Status& status) override {
    // The posted task may destroy this object before End() runs.
    Operations* operations = operations_;
    loop_->Post([this, status = ToAbsl(status)] { handlers_.on_done(status); });
    operations->End();
  }

  void WriteSoon() {
    if (writing_ || std::exchange(write_due_, true)) return;
    loop_->Post([this, alive = std::weak_ptr<bool>(alive_)] {
      if (alive.expired()) return;
      write_due_ = false;
      WriteNext();
    });
  }

  void WriteNext() {
    if (writing_ || !holding_) return;
    if (std::exchange(has_report_, false)) queue_.Add(std::exchange(report_, {}));
    std::optional<NodeMessage> next = queue_.Take();
    if (!next.has_value()) return;
    writing_ = true;
    outgoing_ = *std::move(next);
    StartWrite(&outgoing_);
  }

  // Nothing more can be written; gRPC may end the call.
  void LetGo() {
    if (std::exchange(holding_, false)) RemoveHold();
  }

  LoopGuard* const loop_;
  Operations* const operations_;
  const Handlers handlers_;
  std::unique_ptr<grpc::ClientContext> context_;
  GcsMessage incoming_;   // of the read in progress
  NodeMessage outgoing_;  // of the write in progress
  MessageBatch<NodeMessage> queue_;
  NodeMessage report_;
  bool has_report_ = false;
  bool write_due_ = false;  // at the end of this turn
  bool writing_ = false;
  bool holding_ = true;
  // What was posted may run when the channel is gone.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// One unary call through all its attempts. Destroyed on the loop only: a context may hold the last
// reference to the channel, whose end waits for gRPC's threads.
struct AnyCall {
  virtual ~AnyCall() = default;
  std::unique_ptr<grpc::ClientContext> context;  // of the present attempt
  absl::Time deadline;
  std::string id;  // the same in all attempts
  int attempts = 0;
};

template <typename Request, typename Reply>
struct UnaryCall final : AnyCall {
  using Method = void (Async::*)(grpc::ClientContext*, const Request*, Reply*,
                                 std::function<void(grpc::Status)>);
  Method method = nullptr;
  Request request;
  Reply reply;
  GcsClient::Callback<Reply> callback;
};

}  // namespace

class GcsClient::Impl {
 public:
  Impl(net::EventLoop* loop, Options options, Events events)
      : options_(std::move(options)), events_(std::move(events)), loop_(loop) {
    absl::StatusOr<GrpcTarget> target = ToGrpcTarget(options_.address);
    address_status_ = target.status();
    if (!target.ok()) return;
    target_ = *std::move(target);
    transport_ = OpenChannel(target_.name, options_.reconnect_interval, Credentials(options_));
    stub_ = GcsService::NewStub(transport_);
  }

  ~Impl() {
    if (channel_ != nullptr) channel_->Cancel();
    for (const auto& [call, owned] : calls_) {
      if (call->context != nullptr) call->context->TryCancel();
    }
    operations_.WaitUntilNone();
  }

  void Start(Registration registration) {
    registration_ = std::move(registration);
    loop_.Post([this] { Connect(); });
  }

  bool registered() const { return registered_; }

  void ReconnectNow() {
    if (stub_ == nullptr) return;
    hurry_until_ = Now() + kHurry;
    HurryIfDue();
  }

  void Report(const v1::NodeReport& report) {
    if (channel_ != nullptr && !leaving_) channel_->WriteReport(report);
  }

  void Leave(const std::string& reason) {
    NodeMessage message;
    message.mutable_leaving()->set_reason(reason);
    Deliver(std::move(message));
    leaving_ = true;
  }

  bool left() const { return leaving_ && (!registered_ || outbox_.kept().empty()); }

  // Dropped while there is no connection: the next registration makes up for it.
  void Send(NodeMessage message) {
    if (channel_ != nullptr && !leaving_) channel_->Write(std::move(message));
  }

  // Kept until it is acknowledged.
  void Deliver(NodeMessage message) {
    if (leaving_) return;
    const NodeMessage& kept = outbox_.Add(std::move(message));
    if (channel_ != nullptr) channel_->Write(kept);
  }

  template <typename Request, typename Reply>
  void Call(typename UnaryCall<Request, Reply>::Method method, const Request& request,
            Callback<Reply> callback) {
    auto owned = std::make_unique<UnaryCall<Request, Reply>>();
    auto* call = owned.get();
    calls_[call] = std::move(owned);
    call->method = method;
    call->request = request;
    call->id = NewRequestId();
    call->callback = std::move(callback);
    call->deadline = Now() + options_.rpc_timeout;
    if (stub_ == nullptr) {
      loop_.Post([this, call] { Finish(call, address_status_); });
      return;
    }
    Attempt(call);
  }

 private:
  static absl::Time Now() { return base::RealClock::Get()->Now(); }

  std::unique_ptr<grpc::ClientContext> NewContext() const {
    auto context = std::make_unique<grpc::ClientContext>();
    if (!options_.token.empty()) {
      context->AddMetadata("authorization", absl::StrCat("Bearer ", options_.token));
    }
    return context;
  }

  // -- the node's channel

  // `wait`: until there is a connection, rather than fail while there is none.
  void Connect(bool wait = false) {
    if (stub_ == nullptr) {
      Disconnected(address_status_);
      return;
    }
    channel_ = std::make_unique<NodeChannel>(
        &loop_, &operations_,
        NodeChannel::Handlers{[this](const GcsMessage& message) { OnMessage(message); },
                              [this](const absl::Status& status) { OnChannelDone(status); }});
    std::unique_ptr<grpc::ClientContext> context = NewContext();
    context->set_wait_for_ready(wait);
    channel_->Open(stub_.get(), std::move(context));
    NodeMessage registration;
    *registration.mutable_register_() = registration_();
    channel_->Write(std::move(registration));
    for (const NodeMessage& message : outbox_.kept()) channel_->Write(message);
  }

  void OnMessage(const GcsMessage& message) {
    outbox_.Acknowledge(message.acknowledged());
    if (message.has_registered()) {
      registered_ = true;
      failure_reported_ = false;
    }
    RaiseEvent(message, events_);
  }

  void OnChannelDone(const absl::Status& status) {
    channel_.reset();
    // A GCS that ends in good order closes the channel without an error.
    Disconnected(status.ok() ? absl::UnavailableError("the GCS has closed the channel") : status);
  }

  void Disconnected(const absl::Status& why) {
    registered_ = false;
    if (leaving_) return;
    if (!IsFinal(why)) {
      loop_.RunAfter(options_.reconnect_interval, [this] {
        if (channel_ == nullptr && !leaving_) Connect();
      });
      HurryIfDue();
      if (std::exchange(failure_reported_, true)) return;
    }
    MANTA_LOG(kWarning, "no channel to the GCS at ", options_.address, ": ", why.ToString());
    if (events_.on_disconnected) events_.on_disconnected(why);
  }

  // Again and again: an attempt that began a moment too early may still fail, and the end of the
  // old connection may come late; after either, gRPC and this class would wait for an interval.
  void HurryIfDue() {
    if (hurrying_ || registered_ || leaving_ || Now() >= hurry_until_) return;
    hurrying_ = true;
    grpc::experimental::ChannelResetConnectionBackoff(transport_.get());
    if (registration_ && channel_ == nullptr) Connect(/*wait=*/true);
    loop_.RunAfter(kHurryInterval, [this] {
      hurrying_ = false;
      HurryIfDue();
    });
  }

  // -- unary calls

  template <typename Request, typename Reply>
  void Attempt(UnaryCall<Request, Reply>* call) {
    call->context = NewContext();
    call->context->AddMetadata("request-id", call->id);
    // Waits for a connection rather than fail: the GCS may be on its way back.
    call->context->set_wait_for_ready(true);
    call->context->set_deadline(std::chrono::system_clock::now() +
                                absl::ToChronoNanoseconds(call->deadline - Now()));
    operations_.Begin();
    Async* async = stub_->async();
    (async->*call->method)(
        call->context.get(), &call->request, &call->reply,
        [this, call](const grpc::Status& status) {
          loop_.Post([this, call, status = ToAbsl(status)] { OnAttemptDone(call, status); });
          operations_.End();
        });
  }

  template <typename Request, typename Reply>
  void OnAttemptDone(UnaryCall<Request, Reply>* call, const absl::Status& status) {
    // The next attempt waits for a connection anyway; only one that fails again needs a pause.
    const absl::Duration pause =
        call->attempts++ == 0 ? absl::ZeroDuration() : options_.reconnect_interval;
    if (absl::IsUnavailable(status) && Now() + pause < call->deadline) {
      loop_.RunAfter(pause, [this, call] { Attempt(call); });
      return;
    }
    if (absl::IsDeadlineExceeded(status)) {
      Finish(call, absl::DeadlineExceededError(
                       absl::StrCat("the GCS at ", options_.address, " did not answer within ",
                                    absl::FormatDuration(options_.rpc_timeout))));
      return;
    }
    Finish(call, status);
  }

  template <typename Request, typename Reply>
  void Finish(UnaryCall<Request, Reply>* call, const absl::Status& status) {
    const std::unique_ptr<AnyCall> ended = std::move(calls_.extract(call).mapped());
    if (status.ok()) {
      call->callback(std::move(call->reply));
    } else {
      call->callback(status);
    }
  }

  const Options options_;
  const Events events_;
  LoopGuard loop_;
  Operations operations_;
  absl::Status address_status_;
  GrpcTarget target_;
  std::shared_ptr<grpc::Channel> transport_;
  std::unique_ptr<GcsService::Stub> stub_;  // null if the address is malformed

  Registration registration_;
  std::unique_ptr<NodeChannel> channel_;
  bool registered_ = false;
  bool failure_reported_ = false;
  absl::Time hurry_until_ = absl::InfinitePast();
  bool hurrying_ = false;
  bool leaving_ = false;
  NodeOutbox outbox_;

  absl::flat_hash_map<AnyCall*, std::unique_ptr<AnyCall>> calls_;
};

GcsClient::GcsClient(net::EventLoop* loop, Options options, Events events)
    : impl_(std::make_unique<Impl>(loop, std::move(options), std::move(events))) {}

GcsClient::~GcsClient() = default;

void GcsClient::Start(Registration registration) { impl_->Start(std::move(registration)); }

bool GcsClient::registered() const { return impl_->registered(); }

void GcsClient::ReconnectNow() { impl_->ReconnectNow(); }

void GcsClient::Report(const v1::NodeReport& report) { impl_->Report(report); }

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
  impl_->Call(&Async::RegisterActor, request, std::move(callback));
}

void GcsClient::GetActor(const wire::v1::SubscribeActor& request,
                         Callback<wire::v1::ActorInfoReply> callback) {
  impl_->Call(&Async::GetActor, request, std::move(callback));
}

void GcsClient::GetNamedActor(const wire::v1::GetNamedActor& request,
                              Callback<wire::v1::ActorInfoReply> callback) {
  impl_->Call(&Async::GetNamedActor, request, std::move(callback));
}

void GcsClient::ListNamedActors(const wire::v1::ListNamedActors& request,
                                Callback<wire::v1::ListNamedActorsReply> callback) {
  impl_->Call(&Async::ListNamedActors, request, std::move(callback));
}

void GcsClient::ListActors(const v1::ListActorsRequest& request,
                           Callback<v1::ListActorsReply> callback) {
  impl_->Call(&Async::ListActors, request, std::move(callback));
}

void GcsClient::KillActor(const wire::v1::KillActor& request,
                          Callback<wire::v1::StatusReply> callback) {
  impl_->Call(&Async::KillActor, request, std::move(callback));
}

void GcsClient::ActorOutOfScope(const wire::v1::ActorOutOfScope& request,
                                Callback<wire::v1::StatusReply> callback) {
  impl_->Call(&Async::ActorOutOfScope, request, std::move(callback));
}

void GcsClient::ChangePlacementGroups(const v1::ChangePlacementGroupsRequest& request,
                                      Callback<v1::ChangePlacementGroupsReply> callback) {
  impl_->Call(&Async::ChangePlacementGroups, request, std::move(callback));
}

void GcsClient::WaitPlacementGroup(const wire::v1::WaitPlacementGroup& request,
                                   Callback<wire::v1::PlacementGroupsReply> callback) {
  impl_->Call(&Async::WaitPlacementGroup, request, std::move(callback));
}

void GcsClient::ListPlacementGroups(const wire::v1::PlacementGroupRequest& request,
                                    Callback<wire::v1::PlacementGroupsReply> callback) {
  impl_->Call(&Async::ListPlacementGroups, request, std::move(callback));
}

void GcsClient::AddJob(const v1::AddJobRequest& request, Callback<v1::AddJobReply> callback) {
  impl_->Call(&Async::AddJob, request, std::move(callback));
}

void GcsClient::FinishJob(const v1::FinishJobRequest& request,
                          Callback<wire::v1::StatusReply> callback) {
  impl_->Call(&Async::FinishJob, request, std::move(callback));
}

void GcsClient::ListJobs(const v1::ListJobsRequest& request, Callback<v1::ListJobsReply> callback) {
  impl_->Call(&Async::ListJobs, request, std::move(callback));
}

void GcsClient::Kv(const wire::v1::KvRequest& request, Callback<wire::v1::KvReply> callback) {
  impl_->Call(&Async::Kv, request, std::move(callback));
}

void GcsClient::ClusterState(const wire::v1::ClusterStateRequest& request,
                             Callback<wire::v1::ClusterStateReply> callback) {
  impl_->Call(&Async::ClusterState, request, std::move(callback));
}

void GcsClient::DrainNode(const wire::v1::DrainNode& request,
                          Callback<wire::v1::StatusReply> callback) {
  impl_->Call(&Async::DrainNode, request, std::move(callback));
}

}  // namespace ray::gcs
