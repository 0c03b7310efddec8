// Nodes that come and go: stopped, drained, killed.
#include <optional>

#include "tests/cpp/integration/raylet_fixture.h"

namespace ray::raylet {
namespace {

class RayletNodesTest : public RayletFixture {
 protected:
  void SetUp() override {
    RayletFixture::SetUp();
    tool_ = std::make_unique<gcs::GcsClient>(
        &loop_, gcs::GcsClient::Options{.address = gcs_->endpoints().front()},
        gcs::GcsClient::Events());
    StartSecond();
  }
  void TearDown() override {
    second_.reset();
    tool_.reset();
    RayletFixture::TearDown();
  }

  void StartSecond() {
    const std::string folder = session_ + "/second";
    mkdir(folder.c_str(), 0700);
    mkdir((folder + "/logs").c_str(), 0700);
    constexpr uint64_t kStoreBytes = 16 << 20;
    bool ready = false;
    const std::string source = getenv("MANTA_SOURCE_DIR");
    auto raylet = Raylet::Create(
        &loop_, base::RealClock::Get(),
        {.identity = {.id = base::NodeId::Random(),
                      .ip = "127.0.0.1",
                      .hostname = "test",
                      .endpoint = "unix:" + folder + "/raylet",
                      .tcp_endpoint = "tcp:127.0.0.1:0",
                      .session_dir = folder,
                      .gcs_address = gcs_->endpoints().front()},
         .config = config_,
         .resources = {{"CPU", 2}},
         .accelerators = accelerators::NodeAccelerators::Detect({.root = "/nonexistent"}),
         .object_store_bytes = kStoreBytes,
         .zygote_command = {"python3", source + "/tests/cpp/integration/fake_zygote.py"},
         .gcs_token = ""},
        {.on_ready = [&ready] { ready = true; },
         .on_fatal = [](const absl::Status& why) { FAIL() << why; },
         .on_drained = [this] { drained_ = true; }});
    ASSERT_TRUE(raylet.ok()) << raylet.status();
    second_ = *std::move(raylet);
    second_->Start();
    ASSERT_TRUE(Poll([&] { return ready; }));
    second_id_ = second_->identity().id;
  }

  wire::v1::NodeState StateOfSecond() {
    std::optional<wire::v1::ClusterStateReply> reply;
    tool_->ClusterState({}, [&](absl::StatusOr<wire::v1::ClusterStateReply> answer) {
      ASSERT_TRUE(answer.ok());
      reply = *answer;
    });
    EXPECT_TRUE(Poll([&] { return reply.has_value(); }));
    for (const wire::v1::NodeState& node : reply->nodes()) {
      if (node.node_id() == second_id_.Binary()) return node;
    }
    return {};
  }
  wire::v1::StatusReply Drain(TestClient* client, const base::NodeId& node,
                              int64_t deadline_ms = 0) {
    wire::v1::DrainNode request;
    request.set_node_id(node.BinaryString());
    request.set_reason("spot");
    request.set_deadline_ms(deadline_ms);
    return client->Call<wire::v1::StatusReply>(wire::v1::DRAIN_NODE, request);
  }

  std::unique_ptr<gcs::GcsClient> tool_;
  std::unique_ptr<Raylet> second_;
  base::NodeId second_id_;
  bool drained_ = false;
};

TEST_F(RayletNodesTest, AStoppedNodeIsDeadAtOnceForItsReason) {
  EXPECT_TRUE(StateOfSecond().alive());
  const absl::Time begin = absl::Now();
  second_->Stop();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  EXPECT_FALSE(StateOfSecond().alive());
  EXPECT_EQ(StateOfSecond().death_reason(), "it was stopped");
}

TEST_F(RayletNodesTest, StopDoesNotWaitForAGcsThatIsAway) {
  gcs_.reset();
  const absl::Time begin = absl::Now();
  second_->Stop();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  StartGcs();
}

TEST_F(RayletNodesTest, AnIdleDrainedNodeLeaves) {
  auto driver = Driver();
  EXPECT_EQ(Drain(driver.get(), second_id_).code(), 0);
  EXPECT_TRUE(StateOfSecond().draining());
  ASSERT_TRUE(Poll([this] { return drained_; }));
  second_->Stop();
  EXPECT_FALSE(StateOfSecond().alive());
  EXPECT_EQ(StateOfSecond().death_reason(), "it was drained: spot");
}

TEST_F(RayletNodesTest, ADrainedNodeStaysUntilItsDeadlineWhileADriverIsThere) {
  auto driver = Driver();
  auto busy = std::make_unique<TestClient>(&loop_, second_->identity().endpoint);
  busy->Call<wire::v1::HelloReply>(wire::v1::HELLO, HelloOf(*busy, wire::v1::DRIVER));
  EXPECT_EQ(Drain(driver.get(), second_id_).code(), 0);
  const absl::Time soon = absl::Now() + absl::Milliseconds(300);
  Poll([&] { return absl::Now() > soon; });
  EXPECT_FALSE(drained_);
  EXPECT_EQ(Drain(driver.get(), second_id_, absl::ToUnixMillis(absl::Now())).code(), 0);
  EXPECT_TRUE(Poll([this] { return drained_; }));
}

TEST_F(RayletNodesTest, TheHeadAndUnknownNodesAreNotDrained) {
  auto driver = Driver();
  EXPECT_EQ(Drain(driver.get(), raylet_->identity().id).code(),
            static_cast<int>(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(Drain(driver.get(), base::NodeId::Random()).code(),
            static_cast<int>(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace ray::raylet
