// The raylet as its clients see it.
#include "ray/raylet/raylet.h"

#include <gmock/gmock.h>

#include <random>

#include "tests/cpp/integration/raylet_fixture.h"

namespace ray::raylet {
namespace {

using base::ActorId;
using base::JobId;
using base::LeaseId;
using base::ObjectId;
using ::testing::HasSubstr;
using namespace wire::v1;  // NOLINT: the messages of this test

using RayletHandshakeTest = RayletFixture;
using RayletLeaseTest = RayletFixture;
using RayletStoreTest = RayletFixture;
using RayletClusterTest = RayletFixture;
using RayletLogTest = RayletFixture;
using RayletBadInputTest = RayletFixture;

// --- Handshake

TEST_F(RayletHandshakeTest, DriverGetsAJobAndTheNodesParticulars) {
  auto driver = Driver();
  EXPECT_EQ(driver->welcome.protocol_version(), net::kProtocolVersion);
  EXPECT_EQ(driver->welcome.node_id(), raylet_->identity().id.BinaryString());
  EXPECT_EQ(JobId::FromBinary(driver->welcome.job_id())->Hex(), "01000000");
  EXPECT_EQ(driver->welcome.session_dir(), session_);
  EXPECT_EQ(driver->welcome.store_capacity_bytes(), 16u << 20);
  EXPECT_EQ(driver->welcome.config().at("pending_warning_ms"), "200");
  EXPECT_FALSE(driver->welcome.job_namespace().empty());
  EXPECT_EQ(JobId::FromBinary(Driver()->welcome.job_id())->Hex(), "02000000");
}

TEST_F(RayletHandshakeTest, OtherVersionIsRefusedWithBothVersions) {
  auto client = Connect();
  Hello hello = HelloOf(*client, DRIVER);
  hello.set_protocol_version(99);
  client->Send(HELLO, hello);
  const auto reason = client->Next(ERROR).As<ErrorFrame>().reason();
  EXPECT_THAT(reason, HasSubstr("99"));
  EXPECT_THAT(reason, HasSubstr(absl::StrCat("version ", net::kProtocolVersion)));
  EXPECT_TRUE(client->WaitClosed());
}

TEST_F(RayletHandshakeTest, WorkerThatNobodyForkedIsRefused) {
  auto client = Connect();
  Hello hello = HelloOf(*client, WORKER);
  hello.set_startup_token(77);
  client->Send(HELLO, hello);
  EXPECT_THAT(client->Next(ERROR).As<ErrorFrame>().reason(), HasSubstr("startup token 77"));
  EXPECT_TRUE(client->WaitClosed());
}

TEST_F(RayletHandshakeTest, WorkerThatNamesNoProcessIsRefused) {
  auto driver = Driver();
  const auto reply = AskForLease(*driver, 1, {{"CPU", 1}});
  ASSERT_TRUE(Poll([&] { return !Forks().empty(); }));
  for (const int64_t pid : {int64_t{-1}, int64_t{0}, int64_t{1} << 32}) {
    auto client = Connect();
    Hello hello = HelloOf(*client, WORKER);
    hello.set_startup_token(Forks().front().first);
    hello.set_pid(pid);
    client->Send(HELLO, hello);
    EXPECT_THAT(client->Next(ERROR).As<ErrorFrame>().reason(), HasSubstr("no process"));
    EXPECT_TRUE(client->WaitClosed());
  }
}

TEST_F(RayletHandshakeTest, WorkerIdThatIsInUseIsRefused) {
  auto first = Driver();
  auto second = Connect();
  second->id = first->id;
  second->Send(HELLO, HelloOf(*second, DRIVER));
  EXPECT_TRUE(second->WaitClosed());
  EXPECT_FALSE(first->closed());
}

// --- Leases

TEST_F(RayletLeaseTest, ForksAWorkerGrantsItAndUsesItAgain) {
  auto driver = Driver();
  const auto first = AskForLease(*driver, 1, {{"CPU", 1}});
  auto worker = Worker();
  ASSERT_TRUE(Poll([&] { return first->outcome() == RequestLeaseReply::GRANTED; }));
  EXPECT_EQ(first->worker().worker_id(), worker->id.BinaryString());
  EXPECT_EQ(first->worker().node_id(), raylet_->identity().id.BinaryString());
  EXPECT_THAT(first->worker().endpoint(), HasSubstr(worker->id.Hex()));
  EXPECT_EQ(Available(*driver, "CPU"), 1);

  ReturnLease done;
  done.set_lease_id(first->lease_id());
  driver->Send(RETURN_LEASE, done);
  driver->Send(RETURN_LEASE, done);  // twice: harmless
  const auto second =
      driver->Call<RequestLeaseReply>(REQUEST_LEASE, LeaseFor(*driver, 2, {{"CPU", 1}}));
  EXPECT_EQ(second.worker().worker_id(), worker->id.BinaryString());
  EXPECT_EQ(Forks().size(), 1u);
  EXPECT_FALSE(driver->closed());
}

TEST_F(RayletLeaseTest, WorkerThatUsedAGpuIsAskedToExit) {
  auto driver = Driver();
  const auto reply = AskForLease(*driver, 1, {{"GPU", 1}});
  auto worker = Worker();
  ASSERT_TRUE(Poll([&] { return reply->outcome() == RequestLeaseReply::GRANTED; }));
  EXPECT_EQ(reply->instances().at("GPU").indices_size(), 1);
  ReturnLease done;
  done.set_lease_id(reply->lease_id());
  driver->Send(RETURN_LEASE, done);
  EXPECT_FALSE(worker->Next(EXIT_WORKER).As<ExitWorker>().force());
}

TEST_F(RayletLeaseTest, CancelAnswersTheRequest) {
  auto driver = Driver();
  const auto reply = AskForLease(*driver, 5, {{"CPU", 99}});
  CancelLease cancel;
  cancel.set_request_id(5);
  driver->Send(CANCEL_LEASE, cancel);
  driver->Send(CANCEL_LEASE, cancel);
  EXPECT_TRUE(Poll([&] { return reply->outcome() == RequestLeaseReply::CANCELLED; }));
}

TEST_F(RayletLeaseTest, InfeasibleRequestIsExplained) {
  auto driver = Driver();
  AskForLease(*driver, 5, {{"TPU", 4}});
  const auto warning = driver->Next(TASK_PENDING_WARNING).As<PendingWarning>();
  EXPECT_EQ(warning.request_id(), 5u);
  EXPECT_TRUE(warning.infeasible());
  EXPECT_THAT(warning.message(), HasSubstr("4 TPU"));
}

TEST_F(RayletLeaseTest, HolderOfIdleLeasesIsAskedForThemWhenAnotherWaits) {
  auto first = Driver();
  AskForLease(*first, 1, {{"CPU", 2}});
  auto worker = Worker();
  auto second = Driver();
  AskForLease(*second, 1, {{"CPU", 1}});
  first->Next(RECLAIM_LEASES);
}

TEST_F(RayletLeaseTest, BlockedWorkerLendsItsCpus) {
  auto driver = Driver();
  AskForLease(*driver, 1, {{"CPU", 2}});
  auto worker = Worker();
  EXPECT_TRUE(Poll([&] { return Available(*driver, "CPU") == 0; }));
  WorkerBlocked blocked;
  blocked.set_blocked(true);
  worker->Send(WORKER_BLOCKED, blocked);
  EXPECT_TRUE(Poll([&] { return Available(*driver, "CPU") == 2; }));
  blocked.set_blocked(false);
  worker->Send(WORKER_BLOCKED, blocked);
  EXPECT_TRUE(Poll([&] { return Available(*driver, "CPU") == 0; }));
}

TEST_F(RayletLeaseTest, WorkersDeathGivesItsResourcesBack) {
  auto driver = Driver();
  AskForLease(*driver, 1, {{"CPU", 2}});
  auto worker = Worker();
  EXPECT_TRUE(Poll([&] { return Available(*driver, "CPU") == 0; }));
  kill(worker->pid, SIGKILL);
  worker->Close();
  EXPECT_TRUE(Poll([&] { return Available(*driver, "CPU") == 2; }));
}

TEST_F(RayletLeaseTest, DriversEndTakesItsWorkersAlong) {
  auto driver = Driver();
  AskForLease(*driver, 1, {{"CPU", 1}});
  auto leased = Worker();
  const auto idle_reply = [&] {
    const auto reply = AskForLease(*driver, 2, {{"CPU", 1}});
    auto worker = Worker();
    EXPECT_TRUE(Poll([&] { return reply->outcome() == RequestLeaseReply::GRANTED; }));
    ReturnLease done;
    done.set_lease_id(reply->lease_id());
    driver->Send(RETURN_LEASE, done);
    return worker;
  };
  auto idle = idle_reply();
  ASSERT_TRUE(Poll([&] { return Available(*driver, "CPU") == 1; }));
  driver->Close();
  EXPECT_TRUE(WaitDead(leased->pid));
  EXPECT_TRUE(WaitDead(idle->pid));
  EXPECT_EQ(Available(*Driver(), "CPU"), 2);
}

TEST_F(RayletLeaseTest, StopLeavesNoProcessAndNoSocket) {
  auto driver = Driver();
  AskForLease(*driver, 1, {{"CPU", 1}});
  auto worker = Worker();
  const absl::Time start = absl::Now();
  raylet_->Stop();
  EXPECT_LT(absl::Now() - start, absl::Seconds(1));
  EXPECT_FALSE(std::filesystem::exists(session_ + "/raylet"));
  // A child of the dead zygote is reaped by whoever it falls to; dead or a zombie will do.
  EXPECT_TRUE(Poll([&] {
    std::ifstream status(absl::StrCat("/proc/", worker->pid, "/stat"));
    std::string pid, name, state;
    return !(status >> pid >> name >> state) || state == "Z";
  }));
}

// --- Actors

class RayletActorTest : public RayletFixture {
 protected:
  ActorId Register(TestClient& driver, const resources::ResourceSet& creation,
                   const resources::ResourceSet& lifetime, const std::string& name = "") {
    const ActorId actor = base::NewActorId(*JobId::FromBinary(driver.welcome.job_id()));
    RegisterActor message;
    message.mutable_spec()->set_actor_id(actor.BinaryString());
    message.mutable_spec()->mutable_owner()->set_worker_id(driver.id.BinaryString());
    message.mutable_spec()->mutable_owner()->set_node_id(raylet_->identity().id.BinaryString());
    message.mutable_spec()->set_class_name("Counter");
    message.mutable_spec()->set_name(name);
    message.mutable_spec()->set_args_payload("arguments");
    *message.mutable_spec()->mutable_creation_resources() = creation.ToWire();
    *message.mutable_spec()->mutable_lifetime_resources() = lifetime.ToWire();
    driver.connection().Call(REGISTER_ACTOR, message, [](absl::StatusOr<net::Frame> frame) {
      ASSERT_TRUE(frame.ok());
      RegisterActorReply reply;
      reply.ParseFromString(std::string(frame->metadata));
      EXPECT_EQ(reply.status().code(), 0) << reply.status().message();
    });
    return actor;
  }
  ActorInfoReply Subscribe(TestClient& client, const ActorId& actor) {
    SubscribeActor message;
    message.set_actor_id(actor.BinaryString());
    return client.Call<ActorInfoReply>(SUBSCRIBE_ACTOR, message);
  }
  ActorInfo NextState(TestClient& client) { return client.Next(ACTOR_CHANGED).As<ActorInfo>(); }
  // The state, which may come as the answer or as a later change.
  ActorInfo WaitState(TestClient& client, ActorInfo info, ActorState state) {
    while (info.state() != state && !client.closed()) {
      info = NextState(client);
      if (info.actor_id().empty()) break;
    }
    EXPECT_EQ(info.state(), state);
    return info;
  }
  void AnswerCreation(TestClient& worker, const ReceivedFrame& request, bool ok) {
    CreateActorReply reply;
    reply.set_ok(ok);
    if (!ok) reply.set_creation_error("pickled");
    worker.connection().Reply(CREATE_ACTOR, request.correlation_id, reply);
  }
};

TEST_F(RayletActorTest, IsCreatedInAWorkerAndHoldsItsLifetimeResources) {
  auto driver = Driver();
  const ActorId actor = Register(*driver, {{"CPU", 1}}, {{"GPU", 0.5}});
  const ActorInfoReply answer =
      Subscribe(*driver, actor);  // right behind: the relay keeps the order
  ASSERT_EQ(answer.status().code(), 0) << answer.status().message();
  auto worker = Worker();
  const ReceivedFrame request = worker->Next(CREATE_ACTOR);
  const auto create = request.As<CreateActor>();
  EXPECT_EQ(create.spec().args_payload(), "arguments");
  EXPECT_EQ(create.job_id(), driver->welcome.job_id());
  EXPECT_EQ(create.instances().at("GPU").quantities(0), 5000);
  EXPECT_EQ(Available(*driver, "CPU"), 1);
  EXPECT_EQ(Available(*driver, "GPU"), 1.5);

  AnswerCreation(*worker, request, true);
  const ActorInfo alive = WaitState(*driver, answer.info(), ALIVE);
  EXPECT_EQ(alive.address().worker_id(), worker->id.BinaryString());
  EXPECT_EQ(alive.pid(), worker->pid);
  EXPECT_EQ(Available(*driver, "CPU"), 2);
  EXPECT_EQ(Available(*driver, "GPU"), 1.5);
}

TEST_F(RayletActorTest, DeathNamesTheSignalAndQuotesStderr) {
  auto driver = Driver();
  const ActorId actor = Register(*driver, {{"CPU", 1}}, {});
  const ActorInfoReply answer = Subscribe(*driver, actor);
  auto worker = Worker();
  AnswerCreation(*worker, worker->Next(CREATE_ACTOR), true);
  const ActorInfo alive = WaitState(*driver, answer.info(), ALIVE);
  const uint64_t token = Forks().back().first;
  std::ofstream(absl::StrCat(session_, "/logs/worker-", token, "-", worker->pid, ".err"))
      << "Fatal Python error: \xff\n";
  kill(worker->pid, SIGSEGV);
  worker->Close();
  const ActorInfo dead = WaitState(*driver, alive, DEAD);
  EXPECT_EQ(dead.death_cause(), WORKER_DIED);
  EXPECT_THAT(dead.death_message(), HasSubstr("died unexpectedly"));
  EXPECT_THAT(dead.death_message(), HasSubstr("signal 11 (SIGSEGV)"));
  EXPECT_THAT(dead.death_message(), HasSubstr("Fatal Python error"));
  EXPECT_EQ(Available(*driver, "CPU"), 2);
}

TEST_F(RayletActorTest, IntendedExitIsTold) {
  auto driver = Driver();
  const ActorId actor = Register(*driver, {}, {});
  const ActorInfoReply answer = Subscribe(*driver, actor);
  auto worker = Worker();
  AnswerCreation(*worker, worker->Next(CREATE_ACTOR), true);
  const ActorInfo alive = WaitState(*driver, answer.info(), ALIVE);
  WorkerExiting exiting;
  exiting.set_intended(true);
  exiting.set_reason("exit_actor() was called");
  worker->Send(WORKER_EXITING, exiting);
  worker->Close();
  const ActorInfo dead = WaitState(*driver, alive, DEAD);
  EXPECT_EQ(dead.death_cause(), INTENDED_EXIT);
  EXPECT_THAT(dead.death_message(), HasSubstr("exit_actor"));
}

TEST_F(RayletActorTest, KillEndsTheProcess) {
  auto driver = Driver();
  const ActorId actor = Register(*driver, {}, {});
  const ActorInfoReply answer = Subscribe(*driver, actor);
  auto worker = Worker();
  AnswerCreation(*worker, worker->Next(CREATE_ACTOR), true);
  const ActorInfo alive = WaitState(*driver, answer.info(), ALIVE);
  KillActor message;
  message.set_actor_id(actor.BinaryString());
  message.set_no_restart(true);
  EXPECT_EQ(driver->Call<StatusReply>(KILL_ACTOR, message).code(), 0);
  EXPECT_TRUE(WaitDead(worker->pid));
  EXPECT_EQ(WaitState(*driver, alive, DEAD).death_cause(), KILLED);
}

TEST_F(RayletActorTest, FailedInitEndsTheWorker) {
  auto driver = Driver();
  const ActorId actor = Register(*driver, {{"CPU", 2}}, {{"CPU", 2}});
  const ActorInfoReply answer = Subscribe(*driver, actor);
  auto worker = Worker();
  AnswerCreation(*worker, worker->Next(CREATE_ACTOR), false);
  const ActorInfo dead = WaitState(*driver, answer.info(), DEAD);
  EXPECT_EQ(dead.death_cause(), CREATION_FAILED);
  EXPECT_EQ(dead.creation_error(), "pickled");
  EXPECT_FALSE(worker->Next(EXIT_WORKER).As<ExitWorker>().force());
  EXPECT_EQ(Available(*driver, "CPU"), 2);
}

TEST_F(RayletActorTest, WorkerLostInInitIsAnswered) {
  auto driver = Driver();
  const ActorId actor = Register(*driver, {{"CPU", 1}}, {});
  const ActorInfoReply answer = Subscribe(*driver, actor);
  auto worker = Worker();
  worker->Next(CREATE_ACTOR);
  kill(worker->pid, SIGKILL);
  worker->Close();
  EXPECT_EQ(WaitState(*driver, answer.info(), DEAD).death_cause(), WORKER_DIED);
  EXPECT_EQ(Available(*driver, "CPU"), 2);
}

TEST_F(RayletActorTest, LateSubscriberHearsOfTheDead) {
  auto driver = Driver();
  const ActorId actor = Register(*driver, {}, {});
  const ActorInfoReply answer = Subscribe(*driver, actor);
  auto worker = Worker();
  AnswerCreation(*worker, worker->Next(CREATE_ACTOR), false);
  WaitState(*driver, answer.info(), DEAD);
  EXPECT_EQ(Subscribe(*driver, actor).info().state(), DEAD);
}

TEST_F(RayletActorTest, UnknownActorIsNotFound) {
  auto driver = Driver();
  const ActorInfoReply answer =
      Subscribe(*driver, base::NewActorId(*JobId::FromBinary(driver->welcome.job_id())));
  EXPECT_EQ(answer.status().code(), static_cast<int>(absl::StatusCode::kNotFound));
}

TEST_F(RayletActorTest, WaitsUntilItsResourcesAreFree) {
  auto driver = Driver();
  const auto lease = AskForLease(*driver, 1, {{"CPU", 2}});
  auto task_worker = Worker();
  ASSERT_TRUE(Poll([&] { return lease->outcome() == RequestLeaseReply::GRANTED; }));
  const ActorId actor = Register(*driver, {{"CPU", 1}}, {});
  const ActorInfoReply answer = Subscribe(*driver, actor);
  EXPECT_EQ(answer.info().state(), PENDING_CREATION);
  ReturnLease done;
  done.set_lease_id(lease->lease_id());
  driver->Send(RETURN_LEASE, done);
  // No fresh worker is idle, but the task's worker is, and belongs to the same job.
  AnswerCreation(*task_worker, task_worker->Next(CREATE_ACTOR), true);
  WaitState(*driver, answer.info(), ALIVE);
}

TEST_F(RayletActorTest, NamesAreRelayed) {
  auto driver = Driver();
  const ActorId actor = Register(*driver, {}, {}, "counter");
  ASSERT_EQ(Subscribe(*driver, actor).status().code(), 0);
  GetNamedActor get;
  get.set_name("counter");
  get.set_actor_namespace(driver->welcome.job_namespace());
  EXPECT_EQ(driver->Call<ActorInfoReply>(GET_NAMED_ACTOR, get).info().actor_id(),
            actor.BinaryString());
  ListNamedActors list;
  list.set_all_namespaces(true);
  EXPECT_EQ(driver->Call<ListNamedActorsReply>(LIST_NAMED_ACTORS, list).actors_size(), 1);
}

// --- Objects

class Objects {
 public:
  explicit Objects(TestClient* client) : client_(client) {}

  StoreCreateReply Create(const ObjectId& id, uint64_t size_bytes) {
    StoreCreate message;
    message.set_object_id(id.BinaryString());
    message.set_size_bytes(size_bytes);
    message.mutable_owner()->set_worker_id(client_->id.BinaryString());
    return client_->Call<StoreCreateReply>(STORE_CREATE, message);
  }
  void Seal(const ObjectId& id) {
    StoreSeal message;
    message.set_object_id(id.BinaryString());
    client_->Send(STORE_SEAL, message);
  }
  StoreGetReply Get(const ObjectId& id, int64_t timeout_ms) {
    StoreGet message;
    message.add_object_ids(id.BinaryString());
    message.set_timeout_ms(timeout_ms);
    return client_->Call<StoreGetReply>(STORE_GET, message);
  }
  StoreStatsReply Stats() { return client_->Call<StoreStatsReply>(STORE_STATS, StoreStats()); }

 private:
  TestClient* const client_;
};

TEST_F(RayletStoreTest, ObjectIsSharedAndDiesWithItsOwner) {
  auto owner = Driver();
  auto reader = Driver();
  Objects owned(owner.get());
  Objects read(reader.get());
  const ObjectId id = ObjectId::Random();
  const StoreCreateReply created = owned.Create(id, 1000);
  EXPECT_EQ(created.outcome(), StoreCreateReply::CREATED);
  EXPECT_FALSE(read.Get(id, 0).entries(0).present());
  owned.Seal(id);
  const StoreGetReply got = read.Get(id, -1);
  EXPECT_TRUE(got.entries(0).present());
  EXPECT_EQ(got.entries(0).offset(), created.offset());
  EXPECT_EQ(got.entries(0).size_bytes(), 1000u);
  EXPECT_LT(Available(*reader, "object_store_memory"), 16 << 20);

  StoreIds ids;
  ids.add_object_ids(id.BinaryString());
  reader->Send(STORE_RELEASE, ids);
  owner->Close();
  EXPECT_TRUE(Poll([&] { return read.Stats().objects() == 0; }));
  EXPECT_EQ(Available(*reader, "object_store_memory"), 16 << 20);
}

TEST_F(RayletStoreTest, TooLargeObjectGetsAFileOfItsOwn) {
  auto driver = Driver();
  const StoreCreateReply created = Objects(driver.get()).Create(ObjectId::Random(), 64 << 20);
  EXPECT_EQ(created.outcome(), StoreCreateReply::CREATED);
  EXPECT_EQ(created.path().rfind("/proc/", 0), 0u) << created.path();  // it has no name
}

// --- Cluster

TEST_F(RayletClusterTest, KeyValueRequestsAreRelayed) {
  auto driver = Driver();
  KvRequest put;
  put.set_op(KvRequest::PUT);
  put.set_key("k");
  put.set_value("v");
  EXPECT_EQ(driver->Call<KvReply>(KV, put).status().code(), 0);
  KvRequest get;
  get.set_op(KvRequest::GET);
  get.set_key("k");
  EXPECT_EQ(Driver()->Call<KvReply>(KV, get).value(), "v");
}

TEST_F(RayletClusterTest, StateHasTheNodesParticulars) {
  auto driver = Driver();
  const auto reply = driver->Call<ClusterStateReply>(CLUSTER_STATE, ClusterStateRequest());
  ASSERT_EQ(reply.nodes_size(), 1);
  EXPECT_TRUE(reply.nodes(0).alive());
  EXPECT_TRUE(reply.nodes(0).is_head());
  EXPECT_EQ(reply.nodes(0).raylet_pid(), getpid());
  EXPECT_EQ(reply.nodes(0).total().quantities().at("CPU"), 20000);
}

TEST_F(RayletClusterTest, StateOfThisNodeIsKnownWithoutTheGcs) {
  config_.gcs_rpc_timeout_ms = 300;
  raylet_.reset();
  StartRaylet({{"CPU", 2}});
  auto driver = Driver();
  gcs_.reset();
  EXPECT_EQ(Available(*driver, "CPU"), 2);
}

// --- Logs

TEST_F(RayletLogTest, LinesOfAJobsWorkersReachItsDriverOnly) {
  auto driver = Driver();
  auto other = Driver();
  AskForLease(*driver, 1, {{"CPU", 1}});
  auto worker = Worker();
  EXPECT_TRUE(Poll([&] { return Available(*driver, "CPU") == 1; }));
  std::ofstream(absl::StrCat(session_, "/logs/worker-1-", worker->pid, ".out"))
      << "\x1etask:f\x1e\nhello\nbad \xff byte\n";
  EXPECT_EQ(driver->Call<StatusReply>(FLUSH_LOGS, FlushLogs()).code(), 0);
  ASSERT_TRUE(driver->Has(LOG_LINES)) << "before the answer";
  const auto lines = driver->Next(LOG_LINES).As<LogLines>();
  EXPECT_EQ(lines.pid(), worker->pid);
  EXPECT_EQ(lines.name(), "f");
  EXPECT_EQ(lines.job_id(), driver->welcome.job_id());
  ASSERT_EQ(lines.lines_size(), 2);
  EXPECT_EQ(lines.lines(0), "hello");
  other->Call<StatusReply>(FLUSH_LOGS, FlushLogs());
  EXPECT_FALSE(other->Has(LOG_LINES));
}

// --- Bad input

TEST_F(RayletBadInputTest, ClosesOnlyTheConnectionThatBreaksTheProtocol) {
  auto good = Driver();
  const auto expect_closed = [&](const std::function<void(TestClient&)>& offend) {
    auto bad = Driver();
    offend(*bad);
    EXPECT_FALSE(bad->Next(ERROR).As<ErrorFrame>().reason().empty());
    EXPECT_TRUE(bad->WaitClosed());
  };
  const auto ignore = [](const absl::StatusOr<net::Frame>&) {};
  expect_closed([](TestClient& bad) { bad.Send(FRAME_UNSPECIFIED, Hello()); });
  expect_closed([](TestClient& bad) { bad.Send(PUSH_TASK, Hello()); });
  expect_closed([](TestClient& bad) { bad.Send(HELLO, Hello()); });
  expect_closed([](TestClient& bad) {
    bad.connection().SendRaw(REQUEST_LEASE, 0, 1, "\xff\xff\xff", {}, net::Connection::Flush::kNow);
  });
  expect_closed([&](TestClient& bad) {
    RequestLease request = LeaseFor(bad, 1, {});
    request.set_job_id("short");
    bad.connection().Call(REQUEST_LEASE, request, ignore);
  });
  expect_closed([&](TestClient& bad) {
    bad.connection().Call(REQUEST_LEASE, LeaseFor(bad, 1, {{"CPU", 99}}), ignore);
    bad.connection().Call(REQUEST_LEASE, LeaseFor(bad, 1, {{"CPU", 99}}), ignore);
  });
  expect_closed([&](TestClient& bad) {
    RequestLease request = LeaseFor(bad, 1, {});
    (*request.mutable_resources()->mutable_quantities())["CPU"] = -5;
    bad.connection().Call(REQUEST_LEASE, request, ignore);
  });
  expect_closed([](TestClient& bad) {
    ReturnLease message;
    message.set_lease_id("x");
    bad.Send(RETURN_LEASE, message);
  });
  expect_closed([](TestClient& bad) {
    StoreSeal message;
    message.set_object_id(ObjectId::Random().BinaryString());
    bad.Send(STORE_SEAL, message);
  });
  EXPECT_EQ(Available(*good, "CPU"), 2);
}

TEST_F(RayletBadInputTest, FrameBeforeHelloClosesTheConnection) {
  auto stranger = Connect();
  stranger->Send(CLUSTER_STATE, ClusterStateRequest());
  EXPECT_THAT(stranger->Next(ERROR).As<ErrorFrame>().reason(), HasSubstr("before the handshake"));
  EXPECT_TRUE(stranger->WaitClosed());
}

TEST_F(RayletBadInputTest, SilentConnectionIsClosedAfterTheHandshakeTimeout) {
  config_.handshake_timeout_ms = 100;
  raylet_.reset();
  StartRaylet({{"CPU", 2}});
  auto silent = Connect();
  EXPECT_TRUE(silent->WaitClosed());
}

// Metadata that is meaningful for many types of frames: an id, a number, texts, some bytes of it
// changed.
std::string RandomMetadata(std::mt19937& random) {
  std::string bytes;
  for (uint32_t field = 1; field < 6; ++field) {
    if (random() % 2 == 0) {
      const size_t sizes[] = {0, 3, 4, 16, 28, 28};
      const size_t size = sizes[random() % 6];
      bytes += static_cast<char>(field << 3 | 2);
      bytes += static_cast<char>(size);
      bytes.append(size, static_cast<char>('a' + random() % 3));
    } else {
      bytes += static_cast<char>(field << 3);
      bytes += static_cast<char>(random() % 128);
    }
  }
  if (random() % 3 == 0) bytes[random() % bytes.size()] = static_cast<char>(random());
  return bytes;
}

TEST_F(RayletBadInputTest, SurvivesRandomFrames) {
  std::mt19937 random(11);
  auto good = Driver();
  for (int round = 0; round < 1000; ++round) {
    auto bad = round % 8 == 0 ? Connect() : Driver();
    for (int i = 0; i < 5; ++i) {
      bad->connection().SendRaw(static_cast<uint16_t>(random() % 72), 0, random() % 3,
                                RandomMetadata(random), {}, net::Connection::Flush::kNow);
    }
    loop_.Poll(absl::ZeroDuration());
  }
  EXPECT_EQ(Available(*good, "CPU"), 2);
}

}  // namespace
}  // namespace ray::raylet
