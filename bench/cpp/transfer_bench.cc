// Objects between nodes: what a memcpy, a stream and whole raylets move, all on this machine. The
// raylets, their GCS and the programs share one process and one loop, as in tests/cpp/integration;
// streams have threads of their own as always. Pages are warm but in the first round of each, which
// is not measured.
#include <benchmark/benchmark.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/clock.h"
#include "ray/gcs/gcs_server.h"
#include "ray/net/connection.h"
#include "ray/net/event_loop.h"
#include "ray/net/tls_testutil.h"
#include "ray/raylet/raylet.h"
#include "ray/store/shared_memory.h"
#include "ray/transfer/data_stream.h"

namespace ray {
namespace {

using base::ObjectId;

void BM_WarmMemcpy(benchmark::State& state) {
  const auto size = static_cast<size_t>(state.range(0)) << 20;
  auto from = store::SharedMemory::Create(size);
  auto to = store::SharedMemory::Create(size);
  std::memset((*from)->At(0), 1, size);
  std::memset((*to)->At(0), 2, size);
  for (auto _ : state) std::memcpy((*to)->At(0), (*from)->At(0), size);
  state.SetBytesProcessed(state.iterations() * state.range(0) << 20);
}
BENCHMARK(BM_WarmMemcpy)
    ->ArgName("MiB")
    ->Arg(256)
    ->Arg(1024)
    ->UseRealTime()
    ->MeasureProcessCPUTime();

// What streams over TCP move, without raylets.
class Streams {
 public:
  Streams(uint64_t size, size_t streams, bool tls)
      : size_(size),
        from_(*store::SharedMemory::Create(size)),
        into_(*store::SharedMemory::Create(size)) {
    if (tls) tls_ = net::TestAuthority().Context();
    std::memset(from_->At(0), 1, size);
    std::memset(into_->At(0), 2, size);
    grants_.Add(puller_, id_,
                std::shared_ptr<const transfer::GrantTable::Grant>(
                    new transfer::GrantTable::Grant{.extent = {0, size}, .unused = [] {}}));
    server_ = std::make_unique<transfer::DataServer>(from_.get(), &grants_);
    fetcher_ = std::make_unique<transfer::DataFetcher>(
        into_.get(),
        transfer::DataFetcher::Options{
            .streams = streams,
            .dial = [this](const base::NodeId&, auto done) { Dial(std::move(done)); },
            .post = [this](absl::AnyInvocable<void()> task) { loop_.Post(std::move(task)); }});
  }

  void Fetch() {
    constexpr uint64_t kChunkBytes = 4 << 20;
    size_t missing = 0;
    for (uint64_t at = 0; at < size_; at += kChunkBytes) {
      ++missing;
      fetcher_->Fetch(source_, id_, {at, std::min(kChunkBytes, size_ - at)}, {.offset = at},
                      [&missing](const absl::Status& status) {
                        MANTA_CHECK(status.ok());
                        --missing;
                      });
    }
    while (missing > 0) loop_.Poll(absl::Milliseconds(10));
  }

 private:
  void Dial(transfer::DataFetcher::DialCallback done) {
    auto listening = net::Listen("tcp:127.0.0.1:0");
    auto fd = net::Connect(listening->endpoint, absl::Seconds(5));
    transfer::StreamSocket pullers{.fd = *std::move(fd)}, sources;
    sources.fd.Reset(accept4(listening->fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (tls_ != nullptr) {
      pullers.tls = tls_->MakeChannel(pullers.fd.get(), net::TlsContext::Side::kConnector);
      sources.tls = tls_->MakeChannel(sources.fd.get(), net::TlsContext::Side::kAcceptor);
      for (bool first = false, second = false; !first || !second;) {
        first = *pullers.tls->Handshake();
        second = *sources.tls->Handshake();
      }
    }
    server_->Serve(std::move(sources), puller_, /*shared=*/false);
    loop_.Post([done = std::move(done), socket = std::move(pullers)]() mutable {
      done(std::move(socket));
    });
  }

  const uint64_t size_;
  const base::NodeId source_ = base::NodeId::Random(), puller_ = base::NodeId::Random();
  const ObjectId id_ = ObjectId::Random();
  net::EventLoop loop_;
  std::unique_ptr<store::SharedMemory> from_, into_;
  std::shared_ptr<const net::TlsContext> tls_;
  transfer::GrantTable grants_;
  std::unique_ptr<transfer::DataServer> server_;
  std::unique_ptr<transfer::DataFetcher> fetcher_;
};

void BM_TcpStreams(benchmark::State& state) {
  constexpr uint64_t kSize = 256 << 20;
  Streams streams(kSize, static_cast<size_t>(state.range(0)), state.range(1) != 0);
  streams.Fetch();
  for (auto _ : state) streams.Fetch();
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kSize));
}
BENCHMARK(BM_TcpStreams)
    ->ArgNames({"streams", "tls"})
    ->ArgsProduct({{1, 2}, {0, 1}})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);

class Cluster {
 public:
  Cluster(int nodes, uint64_t store_bytes) {
    char path[] = "/tmp/transfer_benchXXXXXX";
    folder_ = mkdtemp(path);
    config_.worker_prestart_max = 0;
    config_.log_level = "error";
    auto server =
        gcs::GcsServer::Start(&loop_, {.listen = {"unix:" + folder_ + "/gcs"}, .config = config_},
                              *gcs::OpenStorage("memory"));
    MANTA_CHECK(server.ok());
    gcs_ = *std::move(server);
    for (int i = 0; i < nodes; ++i) AddNode(absl::StrCat(folder_, "/", i), store_bytes);
    const absl::Time known = absl::Now() + absl::Milliseconds(300);  // all to all
    while (absl::Now() < known) loop_.Poll(absl::Milliseconds(10));
  }
  ~Cluster() {
    nodes_.clear();
    gcs_.reset();
    std::filesystem::remove_all(folder_);
  }

  // An object on the first node.
  ObjectId Put(uint64_t size) {
    const Node& node = nodes_.front();
    wire::v1::StoreCreate create;
    const ObjectId id = ObjectId::Random();
    create.set_object_id(id.BinaryString());
    create.set_size_bytes(size);
    create.mutable_owner()->set_worker_id(node.worker.BinaryString());
    const auto created = Call<wire::v1::StoreCreateReply>(node, wire::v1::STORE_CREATE, create);
    MANTA_CHECK(created.outcome() == wire::v1::StoreCreateReply::CREATED);
    std::memset(node.memory->At(created.offset()), 7, size);
    wire::v1::StoreSeal seal;
    seal.set_object_id(id.BinaryString());
    node.program->Send(wire::v1::STORE_SEAL, seal);
    return id;
  }

  // To all other nodes at the same time; returns once all have it.
  void Broadcast(const ObjectId& id) {
    wire::v1::StoreGet get;
    get.set_timeout_ms(-1);
    get.add_object_ids(id.BinaryString());
    get.add_sources()->add_node_ids(nodes_.front().raylet->identity().id.BinaryString());
    size_t missing = nodes_.size() - 1;
    for (size_t i = 1; i < nodes_.size(); ++i) {
      nodes_[i].program->Call(
          wire::v1::STORE_GET, get, [&missing](absl::StatusOr<net::Frame> frame) {
            wire::v1::StoreGetReply reply;
            MANTA_CHECK(frame.ok());
            reply.ParseFromArray(frame->metadata.data(), static_cast<int>(frame->metadata.size()));
            MANTA_CHECK_MSG(reply.entries(0).present(), reply.entries(0).reason());
            --missing;
          });
    }
    while (missing > 0) loop_.Poll(absl::Milliseconds(10));
  }

  // Everywhere.
  void Free(const ObjectId& id) {
    wire::v1::StoreIds ids;
    ids.add_object_ids(id.BinaryString());
    for (const Node& node : nodes_) {
      node.program->Send(wire::v1::STORE_RELEASE, ids);
      node.program->Send(wire::v1::STORE_FREE, ids);
      Call<wire::v1::StoreStatsReply>(node, wire::v1::STORE_STATS, wire::v1::StoreStats());
    }
  }

 private:
  struct Node {
    std::unique_ptr<raylet::Raylet> raylet;
    base::WorkerId worker = base::WorkerId::Random();
    std::shared_ptr<net::Connection> program;
    std::unique_ptr<store::SharedMemory> memory;
  };

  void AddNode(const std::string& session, uint64_t store_bytes) {
    std::filesystem::create_directories(session + "/logs");
    bool ready = false;
    auto raylet = raylet::Raylet::Create(
        &loop_, base::RealClock::Get(),
        {.identity = {.id = base::NodeId::Random(),
                      .ip = "127.0.0.1",
                      .hostname = "bench",
                      .endpoint = "unix:" + session + "/raylet",
                      .tcp_endpoint = "tcp:127.0.0.1:0",
                      .session_dir = session,
                      .gcs_address = gcs_->endpoints().front()},
         .config = config_,
         .resources = {{"CPU", 1}},
         .accelerators = accelerators::NodeAccelerators::Detect({.root = "/nonexistent"}),
         .object_store_bytes = store_bytes,
         .zygote_command = {"sleep", "3600"}},
        {.on_ready = [&ready] { ready = true; }});
    MANTA_CHECK(raylet.ok());
    (*raylet)->Start();
    while (!ready) loop_.Poll(absl::Milliseconds(10));
    Node& node = nodes_.emplace_back();
    node.raylet = *std::move(raylet);
    Join(&node);
  }

  // A driver; its store's descriptor comes with the handshake, which blocks.
  void Join(Node* node) {
    auto fd = net::Connect(node->raylet->identity().endpoint, absl::Seconds(5));
    wire::v1::Hello hello;
    hello.set_protocol_version(net::kProtocolVersion);
    hello.set_kind(wire::v1::DRIVER);
    hello.set_worker_id(node->worker.BinaryString());
    absl::StatusOr<net::HandshakeResult> result;
    std::atomic<bool> done = false;
    std::thread thread([&] {
      result = net::BlockingHandshake(fd->get(), hello, wire::v1::HELLO, wire::v1::ERROR,
                                      absl::Seconds(10));
      done = true;
    });
    while (!done) loop_.Poll(absl::Milliseconds(10));
    thread.join();
    wire::v1::HelloReply welcome;
    MANTA_CHECK(result.ok() && welcome.ParseFromString(result->reply_metadata));
    node->memory =
        *store::SharedMemory::Map(std::move(result->received_fd), welcome.store_capacity_bytes());
    node->program = net::Connection::Create(&loop_, *std::move(fd), {});
    node->program->Start({.on_frame = [](const auto&, const net::Frame&) {},
                          .on_close = [](const auto&, const absl::Status&) {}},
                         result->already_read);
  }

  template <typename Reply>
  Reply Call(const Node& node, wire::v1::FrameType type,
             const google::protobuf::MessageLite& request) {
    Reply reply;
    bool came = false;
    node.program->Call(type, request, [&](absl::StatusOr<net::Frame> frame) {
      MANTA_CHECK(frame.ok());
      reply.ParseFromArray(frame->metadata.data(), static_cast<int>(frame->metadata.size()));
      came = true;
    });
    while (!came) loop_.Poll(absl::Milliseconds(10));
    return reply;
  }

  net::EventLoop loop_;
  std::string folder_;
  base::Config config_;
  std::unique_ptr<gcs::GcsServer> gcs_;
  std::vector<Node> nodes_;
};

// From one raylet to the others; with one, a plain transfer.
void BM_Broadcast(benchmark::State& state) {
  const auto size = static_cast<uint64_t>(state.range(1)) << 20;
  Cluster cluster(1 + static_cast<int>(state.range(0)), size + size / 2);
  ObjectId id = cluster.Put(size);
  cluster.Broadcast(id);
  for (auto _ : state) {
    state.PauseTiming();
    cluster.Free(id);
    id = cluster.Put(size);
    state.ResumeTiming();
    cluster.Broadcast(id);
  }
  state.SetBytesProcessed(state.iterations() * state.range(0) * static_cast<int64_t>(size));
}
BENCHMARK(BM_Broadcast)
    ->ArgNames({"nodes", "MiB"})
    ->Args({1, 1})
    ->Args({1, 256})
    ->Args({1, 1024})
    ->Args({8, 256})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ray
