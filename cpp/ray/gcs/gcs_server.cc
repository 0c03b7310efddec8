#include "ray/gcs/gcs_server.h"

#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/clock.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/acceptor.h"
#include "ray/gcs/control_plane.h"
#include "ray/gcs/id_field.h"
#include "ray/gcs/node_stream.h"
#include "ray/gcs/tcp_node_probe.h"
#include "ray/gcs/tls_files.h"
#include "ray/gcs/v1/gcs.grpc.pb.h"
#include "ray/net/endpoint.h"

namespace ray::gcs {
namespace {

using base::NodeId;

// What a request may need beside the largest value.
constexpr int64_t kMessageSlackBytes = 1 << 20;

constexpr char kRequestIdKey[] = "request-id";
constexpr size_t kRequestIdMaxBytes = 64;

constexpr std::string_view kMetaTable = "meta";
constexpr absl::string_view kListenKey = "listen/";

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

// Takes the same time wherever the first difference is.
bool EqualInConstantTime(std::string_view given, std::string_view expected) {
  unsigned difference = given.size() == expected.size() ? 0 : 1;
  for (size_t i = 0; i < expected.size(); ++i) {
    const char c = i < given.size() ? given[i] : '\0';
    difference |= static_cast<unsigned char>(c ^ expected[i]);
  }
  return difference == 0;
}

bool IsTcp(const std::string& endpoint) { return endpoint.starts_with("tcp:"); }

// Answers a channel that is not let in.
class RefusedStream final : public grpc::ServerBidiReactor<v1::NodeMessage, v1::GcsMessage> {
 public:
  explicit RefusedStream(const grpc::Status& why) { Finish(why); }
  void OnDone() override { delete this; }
};

}  // namespace

class GcsServer::Impl final : public v1::GcsService::CallbackService,
                              public NodeSender,
                              public NodeProbe,
                              public StreamHost {
 public:
  Impl(net::EventLoop* loop, Options options, std::unique_ptr<Storage> storage)
      : loop_(loop),
        options_(std::move(options)),
        authorization_(options_.token.empty() ? "" : absl::StrCat("Bearer ", options_.token)),
        storage_(std::move(storage)),
        probe_(loop, absl::Milliseconds(options_.config.node_dead_timeout_ms)),
        control_(options_.config, {.clock = base::RealClock::Get(),
                                   .wall_clock = [] { return absl::Now(); },
                                   .storage = storage_.get(),
                                   .sender = this,
                                   .probe = this}) {}

  ~Impl() override {
    acceptors_.clear();
    if (server_ != nullptr) ShutDown();
    loop_->Cancel(deadline_timer_);
  }

  absl::Status Start() {
    for (const std::string& endpoint : options_.listen) {
      if (options_.token.empty() && net::IsReachableFromOutside(endpoint)) {
        return absl::InvalidArgumentError(
            absl::StrCat("listening on ", endpoint, " needs a token: other machines can reach it"));
      }
    }
    storage_->OnLost([this, alive = std::weak_ptr<bool>(alive_)](const absl::Status& why) {
      loop_->Post([this, alive, why] {
        if (!alive.expired() && options_.on_storage_lost) options_.on_storage_lost(why);
      });
    });
    MANTA_RETURN_IF_ERROR(control_.Load());
    StartGrpc();
    for (const std::string& endpoint : options_.listen) MANTA_RETURN_IF_ERROR(Listen(endpoint));
    ArmDeadline();
    return absl::OkStatus();
  }

  const std::vector<std::string>& endpoints() const { return endpoints_; }

  // -- NodeSender

  void Send(const NodeId& node, const v1::GcsMessage& message) override {
    auto stream = streams_.find(node);
    if (stream != streams_.end()) stream->second->Send(message);
  }

  // -- NodeProbe

  void Ask(const std::string& tcp_endpoint, Callback callback) override {
    probe_.Ask(tcp_endpoint, [this, callback = std::move(callback)](bool refused) mutable {
      callback(refused);
      ArmDeadline();
    });
  }

  // -- StreamHost

  void OnStreamMessage(NodeStream* stream, const v1::NodeMessage& message) override {
    absl::Status status = stream->node().has_value()
                              ? control_.HandleNodeMessage(*stream->node(), message)
                              : Register(stream, message);
    if (!status.ok()) {
      MANTA_LOG(kWarning, "a node's channel is closed: ", status.ToString());
      OnStreamEnd(stream);
      stream->End(status);
    }
    ArmDeadline();
  }

  void OnStreamEnd(NodeStream* stream) override {
    if (!stream->node().has_value()) return;
    // Another channel may have taken the node over.
    auto current = streams_.find(*stream->node());
    if (current == streams_.end() || current->second != stream) return;
    streams_.erase(current);
    control_.NodeDisconnected(*stream->node());
    ArmDeadline();
  }

  void OnStreamGone() override { --open_streams_; }

  // -- CallbackService, on gRPC's threads

  grpc::ServerBidiReactor<v1::NodeMessage, v1::GcsMessage>* NodeChannel(
      grpc::CallbackServerContext* context) override {
    if (!IsAuthorized(*context)) return new RefusedStream(Unauthenticated());
    ++open_streams_;
    return new NodeStream(loop_, this, context,
                          static_cast<size_t>(options_.config.gcs_node_queue_max));
  }

  grpc::ServerUnaryReactor* RegisterActor(grpc::CallbackServerContext* context,
                                          const wire::v1::RegisterActor* request,
                                          wire::v1::RegisterActorReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::RegisterActor);
  }
  grpc::ServerUnaryReactor* GetActor(grpc::CallbackServerContext* context,
                                     const wire::v1::SubscribeActor* request,
                                     wire::v1::ActorInfoReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::GetActor);
  }
  grpc::ServerUnaryReactor* GetNamedActor(grpc::CallbackServerContext* context,
                                          const wire::v1::GetNamedActor* request,
                                          wire::v1::ActorInfoReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::GetNamedActor);
  }
  grpc::ServerUnaryReactor* ListNamedActors(grpc::CallbackServerContext* context,
                                            const wire::v1::ListNamedActors* request,
                                            wire::v1::ListNamedActorsReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::ListNamedActors);
  }
  grpc::ServerUnaryReactor* ListActors(grpc::CallbackServerContext* context,
                                       const v1::ListActorsRequest* request,
                                       v1::ListActorsReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::ListActors);
  }
  grpc::ServerUnaryReactor* KillActor(grpc::CallbackServerContext* context,
                                      const wire::v1::KillActor* request,
                                      wire::v1::StatusReply* reply) override {
    return ServeOnce(context, request, reply, &ControlPlane::KillActor);
  }
  grpc::ServerUnaryReactor* ActorOutOfScope(grpc::CallbackServerContext* context,
                                            const wire::v1::ActorOutOfScope* request,
                                            wire::v1::StatusReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::ActorOutOfScope);
  }
  grpc::ServerUnaryReactor* ChangePlacementGroups(grpc::CallbackServerContext* context,
                                                  const v1::ChangePlacementGroupsRequest* request,
                                                  v1::ChangePlacementGroupsReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::ChangePlacementGroups);
  }
  grpc::ServerUnaryReactor* ListPlacementGroups(grpc::CallbackServerContext* context,
                                                const wire::v1::PlacementGroupRequest* request,
                                                wire::v1::PlacementGroupsReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::ListPlacementGroups);
  }
  grpc::ServerUnaryReactor* WaitPlacementGroup(grpc::CallbackServerContext* context,
                                               const wire::v1::WaitPlacementGroup* request,
                                               wire::v1::PlacementGroupsReply* reply) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (!IsAuthorized(*context)) {
      reactor->Finish(Unauthenticated());
      return reactor;
    }
    loop_->Post([=, this] {
      control_.WaitPlacementGroup(*request,
                                  [reactor, reply](wire::v1::PlacementGroupsReply answer) {
                                    *reply = std::move(answer);
                                    reactor->Finish(grpc::Status::OK);
                                  });
      if (stopping_) control_.EndWaits();
      ArmDeadline();
    });
    return reactor;
  }
  grpc::ServerUnaryReactor* AddJob(grpc::CallbackServerContext* context,
                                   const v1::AddJobRequest* request,
                                   v1::AddJobReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::AddJob);
  }
  grpc::ServerUnaryReactor* FinishJob(grpc::CallbackServerContext* context,
                                      const v1::FinishJobRequest* request,
                                      wire::v1::StatusReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::FinishJob);
  }
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::ListJobs);
  }
  grpc::ServerUnaryReactor* Kv(grpc::CallbackServerContext* context,
                               const wire::v1::KvRequest* request,
                               wire::v1::KvReply* reply) override {
    return ServeOnce(context, request, reply, &ControlPlane::Kv);
  }
  grpc::ServerUnaryReactor* ClusterState(grpc::CallbackServerContext* context,
                                         const wire::v1::ClusterStateRequest* request,
                                         wire::v1::ClusterStateReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::ClusterState);
  }
  grpc::ServerUnaryReactor* DrainNode(grpc::CallbackServerContext* context,
                                      const wire::v1::DrainNode* request,
                                      wire::v1::StatusReply* reply) override {
    return Serve(context, request, reply, &ControlPlane::DrainNode);
  }

 private:
  using TlsAcceptor = grpc::experimental::ExternalConnectionAcceptor;

  // Unix sockets need no TLS: only the session's user can reach them.
  Acceptor::OnAccept AcceptorFor(const std::string& endpoint) {
    if (tls_acceptor_ == nullptr || !IsTcp(endpoint)) {
      return
          [this](net::UniqueFd fd) { grpc::AddInsecureChannelFromFd(server_.get(), fd.Release()); };
    }
    return [this](net::UniqueFd fd) {
      TlsAcceptor::NewConnectionParameters connection;
      connection.fd = fd.Release();
      tls_acceptor_->HandleNewConnection(&connection);
    };
  }

  // Mutual: a caller without a certificate of the authority does not get as far as the token.
  std::shared_ptr<grpc::ServerCredentials> TlsServerCredentials() const {
    const auto interval = absl::Milliseconds(options_.config.tls_files_interval_ms);
    if (auto files = WatchTlsFiles(options_.tls, interval); files != nullptr) {
      grpc::experimental::TlsServerCredentialsOptions tls(std::move(files));
      tls.watch_root_certs();
      tls.watch_identity_key_cert_pairs();
      tls.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
      return grpc::experimental::TlsServerCredentials(tls);
    }
    grpc::SslServerCredentialsOptions options(
        GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    options.pem_root_certs = options_.tls.authority;
    options.pem_key_cert_pairs.push_back({options_.tls.key, options_.tls.certificate});
    return grpc::SslServerCredentials(options);
  }

  // A port that was chosen once stays: the cluster's nodes know it.
  absl::Status Listen(const std::string& endpoint) {
    const bool chosen = IsTcp(endpoint) && endpoint.ends_with(":0");
    const std::string key = absl::StrCat(kListenKey, endpoint);
    absl::StatusOr<std::string> before = absl::NotFoundError("");
    if (chosen) before = storage_->Get(kMetaTable, key);
    MANTA_ASSIGN_OR_RETURN(
        std::unique_ptr<Acceptor> acceptor,
        Acceptor::Create(loop_, before.ok() ? *before : endpoint, AcceptorFor(endpoint)));
    endpoints_.push_back(acceptor->endpoint());
    acceptors_.push_back(std::move(acceptor));
    if (!chosen || before.ok()) return absl::OkStatus();
    return storage_->Put(kMetaTable, key, endpoints_.back());
  }

  void StartGrpc() {
    grpc::EnableDefaultHealthCheckService(false);
    grpc::ServerBuilder builder;
    builder.RegisterService(this);
    builder.SetMaxReceiveMessageSize(static_cast<int>(std::min<int64_t>(
        options_.config.kv_value_max_bytes + kMessageSlackBytes, std::numeric_limits<int>::max())));
    builder.SetMaxSendMessageSize(-1);
    if (std::any_of(options_.listen.begin(), options_.listen.end(), IsTcp)) ProbePeers(&builder);
    if (options_.tls.enabled()) {
      using Type = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
      tls_acceptor_ = builder.experimental().AddExternalConnectionAcceptor(Type::FROM_FD,
                                                                           TlsServerCredentials());
    }
    server_ = builder.BuildAndStart();
  }

  // A machine that is cut off sends no end of stream; only probes find that. A Unix socket always
  // breaks by itself.
  void ProbePeers(grpc::ServerBuilder* builder) const {
    const int half = static_cast<int>(options_.config.node_dead_timeout_ms / 2);
    builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, half);
    builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, half);
    builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    // Strangers do not stay: neither those who say nothing nor those who ask for nothing. A node's
    // channel always has a stream open.
    constexpr int kIdleMillis = 60'000;
    builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMillis);
    builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                                static_cast<int>(options_.config.handshake_timeout_ms));
  }

  bool IsAuthorized(const grpc::CallbackServerContext& context) const {
    if (authorization_.empty()) return true;
    const auto& metadata = context.client_metadata();
    auto given = metadata.find("authorization");
    return given != metadata.end() &&
           EqualInConstantTime({given->second.data(), given->second.size()}, authorization_);
  }

  static grpc::Status Unauthenticated() {
    return grpc::Status(grpc::StatusCode::UNAUTHENTICATED,
                        "the cluster's token is missing or another one");
  }

  template <typename Request, typename Reply>
  grpc::ServerUnaryReactor* Serve(grpc::CallbackServerContext* context, const Request* request,
                                  Reply* reply,
                                  absl::StatusOr<Reply> (ControlPlane::*method)(const Request&)) {
    return Answer(context, reply, [=, this] { return (control_.*method)(*request); });
  }

  // For what must not be done twice.
  template <typename Request, typename Reply>
  grpc::ServerUnaryReactor* ServeOnce(
      grpc::CallbackServerContext* context, const Request* request, Reply* reply,
      absl::StatusOr<Reply> (ControlPlane::*method)(const Request&, const std::string&)) {
    std::string id;
    const auto& metadata = context->client_metadata();
    auto given = metadata.find(kRequestIdKey);
    if (given != metadata.end() && given->second.size() <= kRequestIdMaxBytes) {
      id.assign(given->second.data(), given->second.size());
    }
    return Answer(context, reply, [=, this] { return (control_.*method)(*request, id); });
  }

  template <typename Reply, typename Handler>
  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, Reply* reply,
                                   Handler handler) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (!IsAuthorized(*context)) {
      reactor->Finish(Unauthenticated());
      return reactor;
    }
    // gRPC keeps request and reply until Finish().
    loop_->Post([=, this] {
      absl::StatusOr<Reply> result = handler();
      if (result.ok()) *reply = *std::move(result);
      reactor->Finish(ToGrpc(result.status()));
      ArmDeadline();
    });
    return reactor;
  }

  // The first message of a channel.
  absl::Status Register(NodeStream* stream, const v1::NodeMessage& message) {
    if (!message.has_register_()) {
      return absl::InvalidArgumentError("a node's channel begins with its registration");
    }
    MANTA_ASSIGN_OR_RETURN(NodeId node,
                           ParseId<NodeId>(message.register_().node().node_id(), "node.node_id"));
    NodeStream* before = std::exchange(streams_[node], stream);
    if (before != nullptr) before->End(absl::AbortedError("the node has opened another channel"));
    stream->set_node(node);
    return control_.RegisterNode(node, message.register_());
  }

  // One timer of the loop, for the earliest deadline.
  void ArmDeadline() {
    const absl::Time next = control_.NextDeadline();
    if (next == armed_for_) return;
    loop_->Cancel(std::exchange(deadline_timer_, 0));
    armed_for_ = next;
    if (next == absl::InfiniteFuture()) return;
    const absl::Duration delay = next - base::RealClock::Get()->Now();
    deadline_timer_ = loop_->RunAfter(std::max(delay, absl::ZeroDuration()), [this] {
      armed_for_ = absl::InfiniteFuture();
      control_.RunDeadlines();
      ArmDeadline();
    });
  }

  // gRPC waits for its calls and those wait for the loop: it ends on a thread of its own while the
  // loop goes on here.
  void ShutDown() {
    for (const auto& [node, stream] : streams_) {
      stream->End(absl::UnavailableError("the GCS is shutting down"));
    }
    bool done = false;
    stopping_ = true;
    control_.EndWaits();
    std::thread stopper([this, &done] {
      server_->Shutdown(std::chrono::system_clock::now());
      loop_->Post([&done] { done = true; });
    });
    while (!done || open_streams_ > 0) loop_->Poll(absl::InfiniteDuration());
    stopper.join();
  }

  net::EventLoop* const loop_;
  const Options options_;
  const std::string authorization_;  // what a caller must send; "" = anything
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  const std::unique_ptr<Storage> storage_;
  TcpNodeProbe probe_;
  ControlPlane control_;
  std::map<NodeId, NodeStream*> streams_;  // registered ones
  std::atomic<int> open_streams_ = 0;
  bool stopping_ = false;

  absl::Time armed_for_ = absl::InfiniteFuture();
  net::EventLoop::TimerId deadline_timer_ = 0;
  std::vector<std::string> endpoints_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<TlsAcceptor> tls_acceptor_;  // null: no TLS
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
};

absl::StatusOr<std::unique_ptr<GcsServer>> GcsServer::Start(net::EventLoop* loop, Options options,
                                                            std::unique_ptr<Storage> storage) {
  auto impl = std::make_unique<Impl>(loop, std::move(options), std::move(storage));
  MANTA_RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<GcsServer>(new GcsServer(std::move(impl)));
}

GcsServer::GcsServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GcsServer::~GcsServer() = default;

const std::vector<std::string>& GcsServer::endpoints() const { return impl_->endpoints(); }

}  // namespace ray::gcs
