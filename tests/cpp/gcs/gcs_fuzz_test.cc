// Whatever peers send, the GCS goes on, and the next one can read what it has stored.
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/gcs/control_plane.h"
#include "ray/gcs/gcs_testutil.h"

namespace ray::gcs {
namespace {

// Messages of any type: fields with random numbers, whose contents are taken from a few values that
// may mean something. Strings are ASCII, so that they are accepted wherever a text is wanted.
class Randomness {
 public:
  explicit Randomness(uint32_t seed) : engine_(seed) {
    for (char c : {'a', 'b', 'c'}) {
      nodes_.push_back(std::string(base::NodeId::kSize, c));
      const std::string job = {c == 'a' ? '\1' : '\2', 0, 0, 0};
      words_.push_back(nodes_.back());
      words_.push_back(job);
      words_.push_back(std::string(base::ActorId::kSize - job.size(), c) + job);
      words_.push_back(std::string(base::PlacementGroupId::kSize - job.size(), c) + job);
    }
    for (const char* word : {"", "x", "CPU", "GPU", "name", "k"}) words_.emplace_back(word);
  }

  uint64_t Below(uint64_t limit) {
    return std::uniform_int_distribution<uint64_t>(0, limit - 1)(engine_);
  }
  base::NodeId Node() { return *base::NodeId::FromBinary(Pick(nodes_)); }

  template <typename Message>
  Message Make() {
    Message message;
    // Some have nesting where the type wants a number: such fields are ignored.
    while (!message.ParseFromString(Bytes(4))) {
    }
    return message;
  }

 private:
  const std::string& Pick(const std::vector<std::string>& from) { return from[Below(from.size())]; }
  std::string Bytes(int depth) {
    std::string bytes;
    for (uint64_t fields = Below(8); fields > 0; --fields) {
      // Low numbers are the ones that exist.
      const uint64_t number = 1 + Below(Below(3) == 0 ? 24 : 6);
      if (Below(3) == 0) {
        AddVarint(number << 3, &bytes);
        AddVarint(Number(), &bytes);
      } else {
        const std::string content = depth > 0 && Below(2) == 0 ? Bytes(depth - 1) : Pick(words_);
        AddVarint(number << 3 | 2, &bytes);
        AddVarint(content.size(), &bytes);
        bytes += content;
      }
    }
    return bytes;
  }
  uint64_t Number() {
    switch (Below(4)) {
      case 0:
        return static_cast<uint64_t>(-1);
      case 1:
        return uint64_t{1} << Below(64);
      default:
        return Below(4);
    }
  }
  static void AddVarint(uint64_t value, std::string* bytes) {
    for (; value >= 128; value >>= 7) bytes->push_back(static_cast<char>(value | 128));
    bytes->push_back(static_cast<char>(value));
  }

  std::mt19937 engine_;
  std::vector<std::string> nodes_;
  std::vector<std::string> words_;
};

class GcsFuzzTest : public testing::TestWithParam<uint32_t> {
 protected:
  std::unique_ptr<ControlPlane> Load() {
    auto control = std::make_unique<ControlPlane>(
        base::Config(), ControlPlane::Environment{.clock = &clock_,
                                                  .wall_clock = [] { return absl::UnixEpoch(); },
                                                  .storage = &storage_,
                                                  .sender = &sender_});
    const absl::Status status = control->Load();
    EXPECT_TRUE(status.ok()) << status;
    return control;
  }
  // Of messages that cannot be parsed there are many.
  void SetUp() override { google::protobuf::SetLogHandler(nullptr); }

  // So that not everything is about things that do not exist.
  void Populate(ControlPlane* control) {
    for (char c : {'a', 'b'}) {
      const auto node = *base::NodeId::FromBinary(std::string(base::NodeId::kSize, c));
      v1::RegisterNode request;
      *request.mutable_node() = NodeWith(node, {{"CPU", 4}});
      ASSERT_TRUE(control->RegisterNode(node, request).ok());
      v1::AddJobRequest job;
      job.set_driver_worker_id(node.BinaryString());
      job.set_node_id(node.BinaryString());
      ASSERT_TRUE(control->AddJob(job).ok());
    }
  }

  base::VirtualClock clock_;
  MemoryStorage storage_;
  RecordingSender sender_;
};

TEST_P(GcsFuzzTest, NothingThatPeersSendEndsIt) {
  Randomness random(GetParam());
  std::unique_ptr<ControlPlane> control = Load();
  Populate(control.get());
  const std::vector<std::function<void()>> actions = {
      [&] {
        const base::NodeId node = random.Node();
        (void)control->RegisterNode(node, random.Make<v1::RegisterNode>());
      },
      [&] { (void)control->HandleNodeMessage(random.Node(), random.Make<v1::NodeMessage>()); },
      [&] {
        v1::NodeMessage message;
        *message.mutable_actor_created() = random.Make<v1::ActorCreated>();
        (void)control->HandleNodeMessage(random.Node(), message);
      },
      [&] {
        v1::NodeMessage message;
        *message.mutable_worker_died() = random.Make<v1::WorkerDied>();
        (void)control->HandleNodeMessage(random.Node(), message);
      },
      [&] {
        v1::NodeMessage message;
        *message.mutable_bundles_prepared() = random.Make<v1::BundlesPrepared>();
        (void)control->HandleNodeMessage(random.Node(), message);
      },
      [&] {
        v1::NodeMessage message;
        *message.mutable_report() = random.Make<v1::NodeReport>();
        (void)control->HandleNodeMessage(random.Node(), message);
      },
      [&] { control->NodeDisconnected(random.Node()); },
      [&] { (void)control->RegisterActor(random.Make<wire::v1::RegisterActor>()); },
      [&] {
        // One that is likely to be accepted.
        auto request = random.Make<wire::v1::RegisterActor>();
        const auto node = random.Node();
        const auto number = static_cast<uint32_t>(1 + random.Below(2));
        const auto id = base::NewActorId(base::JobIdFromInt(number));
        *request.mutable_spec() = SpecOf(id, base::WorkerId::Random(), node);
        request.mutable_spec()->set_restarts_max(static_cast<int32_t>(random.Below(3)) - 1);
        (void)control->RegisterActor(request);
      },
      [&] { (void)control->GetActor(random.Make<wire::v1::SubscribeActor>()); },
      [&] { (void)control->GetNamedActor(random.Make<wire::v1::GetNamedActor>()); },
      [&] { (void)control->ListNamedActors(random.Make<wire::v1::ListNamedActors>()); },
      [&] { (void)control->ListActors({}); },
      [&] {
        const std::string id(random.Below(2), 'x');
        (void)control->KillActor(random.Make<wire::v1::KillActor>(), id);
      },
      [&] { (void)control->ActorOutOfScope(random.Make<wire::v1::ActorOutOfScope>()); },
      [&] {
        (void)control->ChangePlacementGroups(random.Make<v1::ChangePlacementGroupsRequest>());
      },
      [&] { (void)control->ListPlacementGroups(random.Make<wire::v1::PlacementGroupRequest>()); },
      [&] {
        control->WaitPlacementGroup(random.Make<wire::v1::WaitPlacementGroup>(), [](auto) {});
      },
      [&] { (void)control->AddJob(random.Make<v1::AddJobRequest>()); },
      [&] { (void)control->FinishJob(random.Make<v1::FinishJobRequest>()); },
      [&] { (void)control->ListJobs({}); },
      [&] {
        const std::string id(random.Below(2), 'y');
        (void)control->Kv(random.Make<wire::v1::KvRequest>(), id);
      },
      [&] { (void)control->ClusterState({}); },
      [&] { (void)control->DrainNode(random.Make<wire::v1::DrainNode>()); },
      [&] {
        clock_.Advance(absl::Milliseconds(static_cast<int64_t>(random.Below(500))));
        control->RunDeadlines();
        sender_.Clear();
      },
  };
  for (int step = 0; step < 2000; ++step) actions[random.Below(actions.size())]();
  control->EndWaits();
  control = Load();
  control->EndWaits();
}

INSTANTIATE_TEST_SUITE_P(Seeds, GcsFuzzTest, testing::Range(1u, 21u));

}  // namespace
}  // namespace ray::gcs
