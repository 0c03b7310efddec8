// A node in one process and one thread: GCS, raylet and the clients that the test plays, all on one
// loop. Workers are real processes that only sleep (fake_zygote.py); the test speaks for them.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/base/clock.h"
#include "ray/gcs/gcs_server.h"
#include "ray/net/connection.h"
#include "ray/net/event_loop.h"
#include "ray/net/parse_frame.h"
#include "ray/raylet/raylet.h"
#include "ray/wire/v1/cluster.pb.h"
#include "ray/wire/v1/connection.pb.h"
#include "ray/wire/v1/frame_type.pb.h"
#include "ray/wire/v1/leases.pb.h"

namespace ray::raylet {

struct ReceivedFrame {
  uint16_t type = 0;
  uint64_t correlation_id = 0;
  std::string metadata;

  template <typename Message>
  Message As() const {
    Message message;
    EXPECT_TRUE(message.ParseFromString(metadata)) << "a frame of type " << type;
    return message;
  }
};

// A connection to the raylet, as a driver, a worker or a stranger.
class TestClient {
 public:
  TestClient(net::EventLoop* loop, const std::string& endpoint)
      : TestClient(loop, *net::Connect(endpoint, absl::Seconds(5)), "") {}
  // On a connection whose HELLO is over.
  TestClient(net::EventLoop* loop, net::UniqueFd fd, std::string already_read) : loop_(loop) {
    connection_ = net::Connection::Create(loop, std::move(fd), {});
    connection_->Start(
        {.on_frame =
             [this](const auto&, const net::Frame& frame) {
               frames_.push_back({frame.type, frame.correlation_id, std::string(frame.metadata)});
             },
         .on_close = [this](const auto&, const absl::Status&) { closed_ = true; }},
        std::move(already_read));
  }
  ~TestClient() {
    Close();
    Poll([this] { return closed_; });
  }

  // Polls the loop until the condition holds; false after 20 s.
  bool Poll(const std::function<bool()>& condition) const {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (!condition() && absl::Now() < deadline) loop_->Poll(absl::Milliseconds(20));
    return condition();
  }

  template <typename Reply>
  Reply Call(wire::v1::FrameType type, const google::protobuf::MessageLite& request) {
    auto state = std::make_shared<std::pair<bool, Reply>>();
    connection_->Call(type, request, [state](absl::StatusOr<net::Frame> frame) {
      state->first = true;
      if (!frame.ok()) return;
      EXPECT_TRUE(state->second.ParseFromArray(frame->metadata.data(),
                                               static_cast<int>(frame->metadata.size())));
    });
    EXPECT_TRUE(Poll([&] { return state->first; })) << "no reply to type " << type;
    return state->second;
  }
  void Send(wire::v1::FrameType type, const google::protobuf::MessageLite& message) {
    connection_->Send(type, message);
  }
  // The next frame of this type that is no reply; those of other types that come before stay.
  ReceivedFrame Next(wire::v1::FrameType type) {
    size_t found = 0;
    const bool came = Poll([&] {
      for (found = 0; found < frames_.size(); ++found) {
        if (frames_[found].type == type) return true;
      }
      return false;
    });
    EXPECT_TRUE(came) << "no frame of type " << type;
    if (!came) return {};
    ReceivedFrame frame = frames_[found];
    frames_.erase(frames_.begin() + static_cast<ptrdiff_t>(found));
    return frame;
  }
  bool Has(wire::v1::FrameType type) const {
    return std::any_of(frames_.begin(), frames_.end(),
                       [&](const ReceivedFrame& frame) { return frame.type == type; });
  }

  void Close() { connection_->Close(absl::CancelledError("the test closes it")); }
  bool WaitClosed() const {
    return Poll([this] { return closed_; });
  }
  bool closed() const { return closed_; }
  net::Connection& connection() { return *connection_; }

  base::WorkerId id = base::WorkerId::Random();
  wire::v1::HelloReply welcome;  // after the handshake
  pid_t pid = 0;

 private:
  net::EventLoop* const loop_;
  std::shared_ptr<net::Connection> connection_;
  std::deque<ReceivedFrame> frames_;
  bool closed_ = false;
};

class RayletFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/raylet_testXXXXXX";
    session_ = mkdtemp(path);
    mkdir((session_ + "/logs").c_str(), 0700);
    config_.pending_warning_ms = 200;
    config_.worker_prestart_max = 0;
    StartGcs();
    StartRaylet({{"CPU", 2}, {"GPU", 2}, {"memory", 1000}});
  }
  void TearDown() override {
    raylet_.reset();
    gcs_.reset();
    std::filesystem::remove_all(session_);
  }

  void StartGcs() {
    auto storage = gcs::OpenStorage("memory");
    ASSERT_TRUE(storage.ok());
    auto server = gcs::GcsServer::Start(
        &loop_, {.listen = {"unix:" + session_ + "/gcs"}, .config = config_}, *std::move(storage));
    ASSERT_TRUE(server.ok()) << server.status();
    gcs_ = *std::move(server);
  }
  void StartRaylet(resources::ResourceSet resources) {
    raylet_ = MakeRaylet(session_, std::move(resources));
  }
  // Returns once it is registered. Its folder must have a folder `logs`.
  std::unique_ptr<Raylet> MakeRaylet(const std::string& session, resources::ResourceSet resources,
                                     std::map<std::string, std::string> labels = {},
                                     uint64_t store_bytes = 16 << 20) {
    resources.Set(resources::kObjectStoreMemory,
                  base::FixedPoint::FromInt(static_cast<int64_t>(store_bytes)));
    bool ready = false;
    const std::string source = getenv("MANTA_SOURCE_DIR");
    auto made = Raylet::Create(
        &loop_, base::RealClock::Get(),
        {.identity = {.id = base::NodeId::Random(),
                      .ip = "127.0.0.1",
                      .hostname = "test",
                      .endpoint = "unix:" + session + "/raylet",
                      .tcp_endpoint = "tcp:127.0.0.1:0",
                      .session_dir = session,
                      .gcs_address = gcs_->endpoints().front(),
                      .is_head = session == session_,
                      .labels = std::move(labels)},
         .config = config_,
         .resources = std::move(resources),
         .accelerators = accelerators::NodeAccelerators::Detect({.root = "/nonexistent"}),
         .object_store_bytes = store_bytes,
         .zygote_command = {"python3", source + "/tests/cpp/integration/fake_zygote.py"},
         .gcs_token = ""},
        {.on_ready = [&ready] { ready = true; },
         .on_fatal = [](const absl::Status& why) { FAIL() << why; }});
    if (!made.ok()) {
      ADD_FAILURE() << made.status();
      return nullptr;
    }
    (*made)->Start();
    EXPECT_TRUE(Poll([&] { return ready; }));
    return *std::move(made);
  }

  bool Poll(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (!condition() && absl::Now() < deadline) loop_.Poll(absl::Milliseconds(20));
    return condition();
  }
  // That both are registered is not enough for one to use the other: each hears of it later.
  bool WaitUntilTheyKnowEachOther(const Raylet& one, const Raylet& other) {
    return Poll([&] { return one.Knows(other.identity().id) && other.Knows(one.identity().id); });
  }

  std::unique_ptr<TestClient> Connect() { return ConnectTo(*raylet_); }
  std::unique_ptr<TestClient> ConnectTo(const Raylet& raylet) {
    return std::make_unique<TestClient>(&loop_, raylet.identity().endpoint);
  }
  wire::v1::Hello HelloOf(const TestClient& client, wire::v1::ProcessKind kind) {
    wire::v1::Hello hello;
    hello.set_protocol_version(net::kProtocolVersion);
    hello.set_kind(kind);
    hello.set_worker_id(client.id.BinaryString());
    hello.mutable_address()->set_endpoint("unix:/nowhere/" + client.id.Hex());
    return hello;
  }
  std::unique_ptr<TestClient> Driver() {
    auto driver = Connect();
    wire::v1::Hello hello = HelloOf(*driver, wire::v1::DRIVER);
    hello.set_log_to_driver(true);
    driver->welcome = driver->Call<wire::v1::HelloReply>(wire::v1::HELLO, hello);
    return driver;
  }
  // The worker of the next fork that the zygote has confirmed.
  std::unique_ptr<TestClient> Worker() { return WorkerOf(*raylet_, &workers_seen_); }
  std::unique_ptr<TestClient> WorkerOf(const Raylet& raylet, size_t* seen) {
    const std::string& session = raylet.identity().session_dir;
    const size_t index = (*seen)++;
    std::vector<std::pair<uint64_t, pid_t>> forks;
    EXPECT_TRUE(Poll([&] {
      forks = ForksIn(session);
      return forks.size() > index;
    }));
    auto worker = ConnectTo(raylet);
    wire::v1::Hello hello = HelloOf(*worker, wire::v1::WORKER);
    hello.set_startup_token(forks.at(index).first);
    hello.set_pid(forks.at(index).second);
    worker->pid = forks.at(index).second;
    worker->welcome = worker->Call<wire::v1::HelloReply>(wire::v1::HELLO, hello);
    return worker;
  }
  std::vector<std::pair<uint64_t, pid_t>> Forks() const { return ForksIn(session_); }
  static std::vector<std::pair<uint64_t, pid_t>> ForksIn(const std::string& session) {
    std::vector<std::pair<uint64_t, pid_t>> forks;
    std::ifstream file(session + "/forks");
    uint64_t token;
    pid_t pid;
    while (file >> token >> pid) forks.emplace_back(token, pid);
    return forks;
  }
  static bool IsAlive(pid_t pid) { return kill(pid, 0) == 0; }
  bool WaitDead(pid_t pid) {
    return Poll([&] { return !IsAlive(pid); });
  }

  wire::v1::RequestLease LeaseFor(const TestClient& driver, uint64_t request_id,
                                  const resources::ResourceSet& resources) {
    wire::v1::RequestLease request;
    request.set_request_id(request_id);
    *request.mutable_resources() = resources.ToWire();
    request.set_job_id(driver.welcome.job_id());
    request.set_task_name("f");
    return request;
  }
  // The reply, which is empty until it has come.
  std::shared_ptr<wire::v1::RequestLeaseReply> AskForLease(
      TestClient& driver, uint64_t request_id, const resources::ResourceSet& resources) {
    auto reply = std::make_shared<wire::v1::RequestLeaseReply>();
    driver.connection().Call(wire::v1::REQUEST_LEASE, LeaseFor(driver, request_id, resources),
                             [reply](absl::StatusOr<net::Frame> frame) {
                               if (frame.ok()) net::ParseMetadata(*frame, reply.get());
                             });
    return reply;
  }
  double Available(TestClient& client, const std::string& name) {
    const auto reply = client.Call<wire::v1::ClusterStateReply>(wire::v1::CLUSTER_STATE,
                                                                wire::v1::ClusterStateRequest());
    EXPECT_EQ(reply.nodes_size(), 1);
    auto set = resources::ResourceSet::FromWire(reply.nodes(0).available());
    return set.ok() ? set->Get(name).ToDouble() : -1;
  }

  net::EventLoop loop_;
  std::string session_;
  base::Config config_;
  std::unique_ptr<gcs::GcsServer> gcs_;
  std::unique_ptr<Raylet> raylet_;
  size_t workers_seen_ = 0;
};

}  // namespace ray::raylet
