// The server and its client over real sockets, each on its own loop.
#include "ray/gcs/gcs_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <thread>

#include "ray/base/clock.h"
#include "ray/base/temp_folder_testutil.h"
#include "ray/gcs/gcs_client.h"
#include "ray/gcs/gcs_testutil.h"
#include "ray/gcs/memory_storage.h"
#include "ray/net/endpoint.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::JobId;
using base::NodeId;
using base::WorkerId;
using testing::HasSubstr;

// A gcs_server in this process: its loop has a thread of its own.
class RunningServer {
 public:
  RunningServer(GcsServer::Options options, const std::string& storage) {
    auto opened = OpenStorage(storage);
    EXPECT_TRUE(opened.ok()) << opened.status();
    auto server = GcsServer::Start(&loop_, std::move(options), *std::move(opened));
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    thread_ = std::thread([this] { loop_.Run(); });
  }
  ~RunningServer() {
    loop_.Stop();
    thread_.join();
    server_.reset();  // drives the loop from here
  }
  const std::string& endpoint() const { return server_->endpoints().front(); }

 private:
  net::EventLoop loop_;
  std::unique_ptr<GcsServer> server_;
  std::thread thread_;
};

// A raylet as far as the GCS can tell.
struct FakeNode {
  FakeNode(net::EventLoop* loop, const std::string& endpoint, const std::string& token = "")
      : FakeNode(loop, GcsClient::Options{.address = endpoint,
                                          .token = token,
                                          .rpc_timeout = absl::Seconds(20),
                                          .reconnect_interval = absl::Milliseconds(100)}) {}
  FakeNode(net::EventLoop* loop, GcsClient::Options options) {
    GcsClient::Events events;
    events.on_registered = [this](const v1::NodeRegistered& message) {
      registered.push_back(message);
    };
    events.on_actor_changed = [this](const wire::v1::ActorInfo& message) {
      changes.push_back(message);
    };
    events.on_create_actor = [this](const wire::v1::CreateActor& message) {
      creates.push_back(message);
    };
    events.on_kill_worker = [this](const v1::KillWorker& message) { kills.push_back(message); };
    events.on_nodes_changed = [this](const v1::NodesChanged& message) {
      for (const auto& node : message.nodes()) seen_nodes[node.node_id()] = node;
    };
    events.on_disconnected = [this](const absl::Status& why) { disconnects.push_back(why); };
    client = std::make_unique<GcsClient>(loop, std::move(options), std::move(events));
  }

  void Start() {
    client->Start([this] {
      ++registrations;
      v1::RegisterNode request;
      *request.mutable_node() = NodeWith(id, {{"CPU", 4}});
      for (const auto& info : live) *request.add_live_actors() = info;
      for (const auto& actor : watched) request.add_watched_actors(actor);
      return request;
    });
  }

  const NodeId id = NodeId::Random();
  std::vector<wire::v1::ActorInfo> live;
  std::vector<std::string> watched;

  int registrations = 0;
  std::vector<v1::NodeRegistered> registered;
  std::vector<wire::v1::ActorInfo> changes;
  std::vector<wire::v1::CreateActor> creates;
  std::vector<v1::KillWorker> kills;
  std::map<std::string, wire::v1::NodeState> seen_nodes;
  std::vector<absl::Status> disconnects;
  std::unique_ptr<GcsClient> client;
};

class GcsServerTest : public testing::Test {
 protected:
  GcsServerTest() {
    options_.listen = {"unix:" + folder_ / "gcs.sock"};
    options_.config.node_dead_timeout_ms = 1000;
  }
  ~GcsServerTest() override { server_.reset(); }

  void Serve(const std::string& storage = "memory") {
    server_.reset();
    server_ = std::make_unique<RunningServer>(options_, storage);
  }
  std::string Sqlite() const { return "sqlite:" + folder_ / "gcs.db"; }

  // Drives the clients' loop until the condition holds.
  bool Wait(const std::function<bool()>& condition, absl::Duration timeout = absl::Seconds(10)) {
    const absl::Time end = base::RealClock::Get()->Now() + timeout;
    while (!condition()) {
      if (base::RealClock::Get()->Now() >= end) return false;
      loop_.Poll(absl::Milliseconds(20));
    }
    return true;
  }

  template <typename Request, typename Reply>
  absl::StatusOr<Reply> Call(FakeNode& node,
                             void (GcsClient::*method)(const Request&, GcsClient::Callback<Reply>),
                             const Request& request) {
    std::optional<absl::StatusOr<Reply>> result;
    (node.client.get()->*method)(request, [&](absl::StatusOr<Reply> reply) { result = reply; });
    if (!Wait([&] { return result.has_value(); }, absl::Seconds(30))) {
      return absl::InternalError("the callback never ran");
    }
    return *std::move(result);
  }

  absl::StatusOr<v1::AddJobReply> AddJob(FakeNode& node, const WorkerId& driver) {
    v1::AddJobRequest request;
    request.set_driver_worker_id(driver.BinaryString());
    request.set_node_id(node.id.BinaryString());
    return Call(node, &GcsClient::AddJob, request);
  }
  absl::StatusOr<wire::v1::KvReply> Kv(FakeNode& node, wire::v1::KvRequest::Op op,
                                       const std::string& value = "") {
    wire::v1::KvRequest request;
    request.set_op(op);
    request.set_key("k");
    request.set_value(value);
    return Call(node, &GcsClient::Kv, request);
  }
  absl::StatusOr<wire::v1::ActorInfoReply> GetActor(FakeNode& node, const ActorId& actor) {
    wire::v1::SubscribeActor request;
    request.set_actor_id(actor.BinaryString());
    return Call(node, &GcsClient::GetActor, request);
  }
  // Adds a job and an actor of it, and brings the actor to life on the node.
  ActorId MakeActor(FakeNode& node, const WorkerId& driver) {
    const JobId job = *JobId::FromBinary(AddJob(node, driver)->job_id());
    const ActorId actor = base::NewActorId(job);
    wire::v1::RegisterActor request;
    *request.mutable_spec() = SpecOf(actor, driver, node.id);
    request.mutable_spec()->set_name("named");
    request.mutable_spec()->set_restarts_max(1);
    EXPECT_EQ(Call(node, &GcsClient::RegisterActor, request)->status().code(), 0);
    EXPECT_TRUE(Wait([&] { return !node.creates.empty(); }));
    v1::ActorCreated created;
    created.set_actor_id(actor.BinaryString());
    created.set_outcome(v1::ActorCreated::CREATED);
    created.mutable_address()->set_worker_id(WorkerId::Random().BinaryString());
    node.client->WatchActor(actor.BinaryString());
    node.client->ActorCreated(created);
    EXPECT_TRUE(Wait(
        [&] { return !node.changes.empty() && node.changes.back().state() == wire::v1::ALIVE; }));
    return actor;
  }

  const base::TempFolder folder_;
  GcsServer::Options options_;
  std::unique_ptr<RunningServer> server_;
  net::EventLoop loop_;  // of the clients
};

TEST_F(GcsServerTest, BringsAnActorToLifeAndEndsIt) {
  Serve();
  FakeNode node(&loop_, server_->endpoint());
  node.Start();
  ASSERT_TRUE(Wait([&] { return node.client->registered(); }));
  const ActorId actor = MakeActor(node, WorkerId::Random());
  EXPECT_EQ(node.creates[0].spec().class_name(), "Counter");

  wire::v1::KillActor kill;
  kill.set_actor_id(actor.BinaryString());
  kill.set_no_restart(true);
  EXPECT_EQ(Call(node, &GcsClient::KillActor, kill)->code(), 0);
  ASSERT_TRUE(Wait([&] { return !node.kills.empty() && node.changes.size() == 3; }));
  EXPECT_THAT(node.changes.back().death_message(), HasSubstr("ray.kill"));
}

TEST_F(GcsServerTest, AnswersEveryUnaryCall) {
  Serve();
  FakeNode node(&loop_, server_->endpoint());
  node.Start();
  ASSERT_TRUE(Wait([&] { return node.client->registered(); }));
  const WorkerId driver = WorkerId::Random();
  const ActorId actor = MakeActor(node, driver);

  wire::v1::GetNamedActor by_name;
  by_name.set_name("named");
  by_name.set_actor_namespace(node.creates[0].job_namespace());
  EXPECT_EQ(Call(node, &GcsClient::GetNamedActor, by_name)->info().actor_id(), actor.Binary());
  wire::v1::ListNamedActors names;
  names.set_all_namespaces(true);
  EXPECT_EQ(Call(node, &GcsClient::ListNamedActors, names)->actors_size(), 1);
  EXPECT_EQ(Call(node, &GcsClient::ListActors, v1::ListActorsRequest())->actors_size(), 1);
  EXPECT_EQ(Call(node, &GcsClient::ListJobs, v1::ListJobsRequest())->jobs_size(), 1);
  EXPECT_EQ(Call(node, &GcsClient::ClusterState, wire::v1::ClusterStateRequest())->nodes_size(), 1);

  v1::FinishJobRequest finish;
  finish.set_job_id(base::JobOf(actor).BinaryString());
  EXPECT_EQ(Call(node, &GcsClient::FinishJob, finish)->code(), 0);
  EXPECT_EQ(GetActor(node, actor)->info().death_cause(), wire::v1::JOB_FINISHED);
  wire::v1::ActorOutOfScope out_of_scope;
  out_of_scope.set_actor_id(actor.BinaryString());
  EXPECT_EQ(Call(node, &GcsClient::ActorOutOfScope, out_of_scope)->code(), 0);
}

TEST_F(GcsServerTest, SeveralMessagesInFlightKeepTheirOrder) {
  Serve();
  FakeNode node(&loop_, server_->endpoint());
  constexpr int kCalls = 500;
  std::vector<int> answered;
  for (int i = 0; i < kCalls; ++i) {
    wire::v1::KvRequest request;
    request.set_op(wire::v1::KvRequest::PUT);
    request.set_key(std::to_string(i));
    node.client->Kv(request, [&, i](absl::StatusOr<wire::v1::KvReply> reply) {
      ASSERT_TRUE(reply.ok()) << reply.status();
      answered.push_back(i);
    });
  }
  ASSERT_TRUE(Wait([&] { return answered.size() == kCalls; }));
  wire::v1::KvRequest keys;
  keys.set_op(wire::v1::KvRequest::KEYS);
  EXPECT_EQ(Call(node, &GcsClient::Kv, keys)->keys_size(), kCalls);
}

TEST_F(GcsServerTest, RefusesAWrongTokenForGood) {
  options_.token = "secret";
  Serve();
  for (const char* token : {"", "wrong!", "secret2", "secre"}) {
    FakeNode intruder(&loop_, server_->endpoint(), token);
    intruder.Start();
    EXPECT_TRUE(absl::IsUnauthenticated(Kv(intruder, wire::v1::KvRequest::PUT, "v").status()));
    ASSERT_TRUE(Wait([&] { return !intruder.disconnects.empty(); }));
    EXPECT_TRUE(absl::IsUnauthenticated(intruder.disconnects[0])) << intruder.disconnects[0];
    EXPECT_FALSE(Wait([&] { return intruder.registrations > 1; }, absl::Milliseconds(300)));
  }
  FakeNode node(&loop_, server_->endpoint(), "secret");
  EXPECT_FALSE(Kv(node, wire::v1::KvRequest::GET)->found());
}

TEST_F(GcsServerTest, ARestartOnTheSameFileLosesNothing) {
  Serve(Sqlite());
  FakeNode node(&loop_, server_->endpoint());
  node.Start();
  ASSERT_TRUE(Wait([&] { return node.client->registered(); }));
  const WorkerId driver = WorkerId::Random();
  const ActorId actor = MakeActor(node, driver);
  ASSERT_TRUE(Kv(node, wire::v1::KvRequest::PUT, "value").ok());
  const std::string job_namespace = AddJob(node, driver)->job_namespace();
  node.live = {node.changes.back()};
  node.watched = {actor.BinaryString()};

  server_.reset();
  ASSERT_TRUE(Wait([&] { return !node.client->registered(); }));
  Serve(Sqlite());
  ASSERT_TRUE(Wait([&] { return node.registered.size() == 2; }));
  EXPECT_GT(node.registered[1].gcs_incarnation(), node.registered[0].gcs_incarnation());
  EXPECT_EQ(node.disconnects.size(), 1);
  EXPECT_EQ(Kv(node, wire::v1::KvRequest::GET)->value(), "value");
  EXPECT_EQ(AddJob(node, driver)->job_namespace(), job_namespace);
  EXPECT_EQ(GetActor(node, actor)->info().state(), wire::v1::ALIVE);
  EXPECT_TRUE(node.kills.empty());
}

TEST_F(GcsServerTest, WhatHappenedWhileTheGcsWasAwayIsSaidWhenItIsBack) {
  Serve(Sqlite());
  FakeNode node(&loop_, server_->endpoint());
  node.Start();
  ASSERT_TRUE(Wait([&] { return node.client->registered(); }));
  const ActorId actor = MakeActor(node, WorkerId::Random());
  const std::string worker = node.changes.back().address().worker_id();
  node.watched = {actor.BinaryString()};

  server_.reset();
  ASSERT_TRUE(Wait([&] { return !node.client->registered(); }));
  v1::WorkerDied died;
  died.set_worker_id(worker);
  died.set_actor_id(actor.BinaryString());
  died.set_intended(true);
  died.set_message("exit_actor");
  node.client->WorkerDied(died);
  // A request too: it waits for the GCS.
  std::optional<absl::StatusOr<wire::v1::KvReply>> waited;
  wire::v1::KvRequest get;
  get.set_op(wire::v1::KvRequest::GET);
  node.client->Kv(get, [&](absl::StatusOr<wire::v1::KvReply> reply) { waited = reply; });

  Serve(Sqlite());
  ASSERT_TRUE(Wait([&] { return node.changes.back().state() == wire::v1::DEAD; }));
  EXPECT_THAT(node.changes.back().death_message(), HasSubstr("exit_actor"));
  ASSERT_TRUE(Wait([&] { return waited.has_value(); }));
  EXPECT_TRUE(waited->ok()) << waited->status();
}

TEST_F(GcsServerTest, WhoKnowsThatTheGcsServesAgainNeedNotWaitForAnInterval) {
  Serve();
  FakeNode node(&loop_, GcsClient::Options{.address = server_->endpoint(),
                                           .rpc_timeout = absl::Seconds(60),
                                           .reconnect_interval = absl::Seconds(60)});
  node.Start();
  ASSERT_TRUE(Wait([&] { return node.client->registered(); }));
  // It hears so a moment too early: an attempt fails.
  server_.reset();
  ASSERT_TRUE(Wait([&] { return !node.client->registered(); }));
  node.client->ReconnectNow();
  EXPECT_FALSE(Wait([&] { return node.client->registered(); }, absl::Milliseconds(100)));
  Serve();
  ASSERT_TRUE(Wait([&] { return node.registered.size() == 2; }));
  // Or before it has noticed that the old connection broke.
  Serve();
  node.client->ReconnectNow();
  ASSERT_TRUE(Wait([&] { return node.registered.size() == 3; }));
}

TEST_F(GcsServerTest, AnUnaryCallToNobodyEndsWithTheTimeout) {
  FakeNode node(&loop_, GcsClient::Options{.address = options_.listen[0],
                                           .rpc_timeout = absl::Milliseconds(300)});
  const absl::Status status = Kv(node, wire::v1::KvRequest::GET).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status)) << status;
  FakeNode nowhere(&loop_, "carrier-pigeon:coop");
  EXPECT_TRUE(absl::IsInvalidArgument(Kv(nowhere, wire::v1::KvRequest::GET).status()));
  nowhere.Start();
  ASSERT_TRUE(Wait([&] { return !nowhere.disconnects.empty(); }));
  EXPECT_TRUE(absl::IsInvalidArgument(nowhere.disconnects[0]));
}

TEST_F(GcsServerTest, ANodeThatGoesAwayIsDeadToTheOthersAfterTheTimeout) {
  Serve();
  FakeNode stays(&loop_, server_->endpoint());
  stays.Start();
  auto leaves = std::make_unique<FakeNode>(&loop_, server_->endpoint());
  const NodeId gone = leaves->id;
  leaves->Start();
  ASSERT_TRUE(Wait([&] { return stays.seen_nodes.contains(gone.BinaryString()); }));
  ASSERT_TRUE(Wait([&] { return leaves->seen_nodes.contains(stays.id.BinaryString()); }));
  EXPECT_TRUE(stays.seen_nodes[gone.BinaryString()].alive());
  leaves.reset();
  ASSERT_TRUE(Wait([&] { return !stays.seen_nodes[gone.BinaryString()].alive(); }));
}

TEST_F(GcsServerTest, ASecondChannelOfANodeReplacesTheFirst) {
  Serve();
  FakeNode first(&loop_, server_->endpoint());
  first.Start();
  ASSERT_TRUE(Wait([&] { return first.client->registered(); }));
  FakeNode second(&loop_, server_->endpoint());
  second.client->Start([&] {
    v1::RegisterNode request;
    *request.mutable_node() = NodeWith(first.id, {{"CPU", 1}});
    return request;
  });
  ASSERT_TRUE(Wait([&] { return !first.disconnects.empty(); }));
  first.client.reset();
  ASSERT_TRUE(Wait([&] { return second.client->registered(); }));
  // The end of the first is not taken for the end of the node.
  EXPECT_FALSE(Wait([&] { return !second.client->registered(); }, absl::Milliseconds(1500)));
  EXPECT_TRUE(
      Call(second, &GcsClient::ClusterState, wire::v1::ClusterStateRequest())->nodes(0).alive());
}

TEST_F(GcsServerTest, BadInputIsRefusedAndHurtsNobody) {
  options_.config.kv_value_max_bytes = 1000;
  Serve();
  FakeNode node(&loop_, server_->endpoint());
  node.Start();

  FakeNode malformed(&loop_, server_->endpoint());
  malformed.client->Start([] {
    v1::RegisterNode request;
    request.mutable_node()->set_node_id("short");
    return request;
  });
  ASSERT_TRUE(Wait([&] { return !malformed.disconnects.empty(); }));
  EXPECT_TRUE(absl::IsInvalidArgument(malformed.disconnects[0])) << malformed.disconnects[0];

  FakeNode nonsense(&loop_, server_->endpoint());
  nonsense.Start();
  ASSERT_TRUE(Wait([&] { return nonsense.client->registered(); }));
  nonsense.client->WatchActor("short");
  ASSERT_TRUE(Wait([&] { return !nonsense.disconnects.empty(); }));

  EXPECT_TRUE(
      absl::IsInvalidArgument(Call(node, &GcsClient::AddJob, v1::AddJobRequest()).status()));
  EXPECT_EQ(Call(node, &GcsClient::FinishJob, v1::FinishJobRequest())->code(),
            Code(absl::StatusCode::kInvalidArgument));
  wire::v1::RegisterActor unknown_job;
  *unknown_job.mutable_spec() =
      SpecOf(base::NewActorId(base::JobIdFromInt(77)), WorkerId::Random(), node.id);
  EXPECT_EQ(Call(node, &GcsClient::RegisterActor, unknown_job)->status().code(),
            Code(absl::StatusCode::kNotFound));
  EXPECT_EQ(Kv(node, wire::v1::KvRequest::PUT, std::string(1001, 'x'))->status().code(),
            Code(absl::StatusCode::kInvalidArgument));
  EXPECT_TRUE(absl::IsResourceExhausted(
      Kv(node, wire::v1::KvRequest::PUT, std::string(2 << 20, 'x')).status()));

  auto garbage = net::Connect(server_->endpoint(), absl::Seconds(1));
  ASSERT_TRUE(garbage.ok());
  const std::string bytes(1000, '\xee');
  EXPECT_GT(write(garbage->get(), bytes.data(), bytes.size()), 0);
  EXPECT_EQ(Kv(node, wire::v1::KvRequest::PUT, "fine")->status().code(), 0);
  EXPECT_TRUE(node.client->registered());
}

TEST_F(GcsServerTest, ANodeThatWasDeclaredDeadIsToldForGood) {
  Serve();
  FakeNode node(&loop_, server_->endpoint());
  node.Start();
  ASSERT_TRUE(Wait([&] { return node.client->registered(); }));
  FakeNode observer(&loop_, server_->endpoint());
  node.client.reset();
  ASSERT_TRUE(Wait([&] {
    return !Call(observer, &GcsClient::ClusterState, wire::v1::ClusterStateRequest())
                ->nodes(0)
                .alive();
  }));
  FakeNode again(&loop_, server_->endpoint());
  again.client->Start([&] {
    v1::RegisterNode request;
    *request.mutable_node() = NodeWith(node.id, {{"CPU", 1}});
    return request;
  });
  ASSERT_TRUE(Wait([&] { return !again.disconnects.empty(); }));
  EXPECT_TRUE(absl::IsFailedPrecondition(again.disconnects[0])) << again.disconnects[0];
}

TEST_F(GcsServerTest, ListensOnTcpAndOnPathsOfAnyLength) {
  std::string deep = folder_.path();
  for (int i = 0; i < 3; ++i) deep += "/" + std::string(60, 'd');
  std::filesystem::create_directories(deep);
  options_.token = "secret";
  for (const std::string& endpoint : {std::string("tcp:127.0.0.1:0"), "unix:" + deep + "/s"}) {
    options_.listen = {endpoint};
    Serve();
    FakeNode node(&loop_, server_->endpoint(), "secret");
    node.Start();
    EXPECT_TRUE(Wait([&] { return node.client->registered(); })) << server_->endpoint();
  }
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(deep + "/s"));
}

TEST_F(GcsServerTest, RefusesToListenWhereItMustNotOrCannot) {
  auto start = [&](const std::string& endpoint) {
    GcsServer::Options options;
    options.listen = {endpoint};
    return GcsServer::Start(&loop_, options, *OpenStorage("memory")).status();
  };
  EXPECT_THAT(start("tcp:0.0.0.0:0").message(), HasSubstr("token"));
  EXPECT_TRUE(absl::IsInvalidArgument(start("nonsense")));
  options_.listen = {"tcp:127.0.0.1:0"};
  Serve();
  EXPECT_TRUE(absl::IsUnavailable(start(server_->endpoint())));
}

// A storage that the test takes away.
class LosableStorage final : public Storage {
 public:
  explicit LosableStorage(LostCallback* callback) : callback_(callback) {}
  absl::StatusOr<std::string> Get(std::string_view table, std::string_view key) override {
    return memory_.Get(table, key);
  }
  absl::Status Scan(std::string_view table, std::string_view prefix, Visitor visit) override {
    return memory_.Scan(table, prefix, visit);
  }
  absl::Status Write(const WriteBatch& batch) override { return memory_.Write(batch); }
  void OnLost(LostCallback callback) override { *callback_ = std::move(callback); }

 private:
  MemoryStorage memory_;
  LostCallback* const callback_;
};

TEST_F(GcsServerTest, WhoHasLostTheStorageIsToldOnTheLoop) {
  std::vector<std::string> told;
  options_.listen = {"tcp:127.0.0.1:0"};
  options_.on_storage_lost = [&](const absl::Status& why) { told.emplace_back(why.message()); };
  Storage::LostCallback lose;
  auto server = GcsServer::Start(&loop_, options_, std::make_unique<LosableStorage>(&lose));
  ASSERT_TRUE(server.ok()) << server.status();
  std::thread([&] { lose(absl::UnavailableError("taken")); }).join();
  EXPECT_TRUE(told.empty());
  loop_.Poll(absl::Seconds(10));
  EXPECT_THAT(told, testing::ElementsAre("taken"));
}

TEST_F(GcsServerTest, AClientMayGoWithCallsInFlight) {
  Serve();
  int late = 0;
  for (int round = 0; round < 20; ++round) {
    auto node = std::make_unique<FakeNode>(&loop_, server_->endpoint());
    node->Start();
    for (int i = 0; i < 10; ++i) {
      wire::v1::KvRequest request;
      request.set_op(wire::v1::KvRequest::GET);
      node->client->Kv(request, [&](const absl::StatusOr<wire::v1::KvReply>&) { ++late; });
    }
    loop_.Poll(absl::ZeroDuration());
    late = 0;
    node.reset();
    loop_.Poll(absl::ZeroDuration());
    EXPECT_EQ(late, 0);
  }
}

}  // namespace
}  // namespace ray::gcs
