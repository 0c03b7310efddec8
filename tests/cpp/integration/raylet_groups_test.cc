// Placement groups and strategies through a real raylet and GCS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cpp/integration/raylet_fixture.h"

namespace ray::raylet {
namespace {

using base::PlacementGroupId;
using resources::ResourceSet;
using ::testing::HasSubstr;
using wire::v1::PlacementGroupsReply;
using wire::v1::RequestLeaseReply;
using wire::v1::StatusReply;

class RayletGroupsTest : public RayletFixture {
 protected:
  void SetUp() override {
    RayletFixture::SetUp();
    driver_ = Driver();
  }
  void TearDown() override {
    driver_.reset();
    RayletFixture::TearDown();
  }

  // Does not wait for the answer, like a core worker.
  PlacementGroupId Create(const std::vector<ResourceSet>& bundles) {
    const auto id = base::NewPlacementGroupId(*base::JobId::FromBinary(driver_->welcome.job_id()));
    wire::v1::PlacementGroupSpec spec;
    spec.set_placement_group_id(id.BinaryString());
    spec.set_strategy(wire::v1::PACK);
    for (const ResourceSet& bundle : bundles) {
      *spec.add_bundles()->mutable_resources() = bundle.ToWire();
    }
    driver_->connection().Call(wire::v1::CREATE_PLACEMENT_GROUP, spec,
                               [](const absl::StatusOr<net::Frame>&) {});
    return id;
  }
  wire::v1::PlacementGroupState Wait(const PlacementGroupId& id, int64_t timeout_ms = -1) {
    wire::v1::WaitPlacementGroup request;
    request.set_placement_group_id(id.BinaryString());
    request.set_timeout_ms(timeout_ms);
    const auto reply = driver_->Call<PlacementGroupsReply>(wire::v1::WAIT_PLACEMENT_GROUP, request);
    EXPECT_EQ(reply.status().code(), 0) << reply.status().message();
    return reply.groups_size() == 1 ? reply.groups(0).state()
                                    : wire::v1::PLACEMENT_GROUP_STATE_UNSPECIFIED;
  }
  void Remove(const PlacementGroupId& id) {
    EXPECT_EQ(driver_->Call<StatusReply>(wire::v1::REMOVE_PLACEMENT_GROUP, RequestOf(id)).code(),
              0);
  }
  static wire::v1::PlacementGroupRequest RequestOf(const PlacementGroupId& id) {
    wire::v1::PlacementGroupRequest request;
    request.set_placement_group_id(id.BinaryString());
    return request;
  }
  wire::v1::RequestLease LeaseIn(const PlacementGroupId& id, const ResourceSet& resources) {
    wire::v1::RequestLease request = LeaseFor(*driver_, ++last_request_, resources);
    auto* bundle = request.mutable_strategy()->mutable_bundle();
    bundle->set_placement_group_id(id.BinaryString());
    bundle->set_bundle_index(-1);
    return request;
  }
  // The answer to a request, once there is one.
  std::shared_ptr<std::optional<RequestLeaseReply>> Ask(const wire::v1::RequestLease& request) {
    auto answer = std::make_shared<std::optional<RequestLeaseReply>>();
    driver_->connection().Call(
        wire::v1::REQUEST_LEASE, request, [answer](const absl::StatusOr<net::Frame>& frame) {
          if (!frame.ok()) return;
          answer->emplace();
          (*answer)->ParseFromArray(frame->metadata.data(),
                                    static_cast<int>(frame->metadata.size()));
        });
    return answer;
  }

  std::unique_ptr<TestClient> driver_;
  uint64_t last_request_ = 0;
};

TEST_F(RayletGroupsTest, LeasesComeFromBundlesAndEndWithThem) {
  const PlacementGroupId group = Create({{{"CPU", 1}}});
  EXPECT_EQ(Wait(group), wire::v1::GROUP_CREATED);
  EXPECT_EQ(Available(*driver_, "CPU"), 1);
  auto runs = Ask(LeaseIn(group, {{"CPU", 1}}));
  auto waits = Ask(LeaseIn(group, {{"CPU", 1}}));
  auto worker = Worker();
  ASSERT_TRUE(Poll([&] { return runs->has_value(); }));
  EXPECT_EQ((*runs)->outcome(), RequestLeaseReply::GRANTED);
  EXPECT_EQ(Available(*driver_, "CPU"), 1);
  EXPECT_FALSE(waits->has_value());
  Remove(group);
  ASSERT_TRUE(Poll([&] { return waits->has_value(); }));
  EXPECT_EQ((*waits)->outcome(), RequestLeaseReply::GROUP_REMOVED);
  EXPECT_TRUE(WaitDead(worker->pid));
  EXPECT_EQ(Available(*driver_, "CPU"), 2);
}

TEST_F(RayletGroupsTest, RequestsWaitForTheirGroup) {
  const PlacementGroupId first = Create({{{"CPU", 2}}});
  EXPECT_EQ(Wait(first), wire::v1::GROUP_CREATED);
  const PlacementGroupId second = Create({{{"CPU", 2}}});
  auto waits = Ask(LeaseIn(second, {{"CPU", 1}}));
  EXPECT_EQ(Wait(second, 50), wire::v1::GROUP_PENDING);
  EXPECT_FALSE(waits->has_value());
  Remove(first);
  auto worker = Worker();
  ASSERT_TRUE(Poll([&] { return waits->has_value(); }));
  EXPECT_EQ((*waits)->outcome(), RequestLeaseReply::GRANTED);
}

TEST_F(RayletGroupsTest, RequestsForAGroupThatIsGoneAreRefused) {
  const PlacementGroupId removed = Create({{{"CPU", 100}}});
  auto waited = Ask(LeaseIn(removed, {{"CPU", 1}}));
  Remove(removed);
  auto unknown = Ask(LeaseIn(PlacementGroupId::Random(), {{"CPU", 1}}));
  auto late = Ask(LeaseIn(removed, {{"CPU", 1}}));
  for (const auto& answer : {waited, unknown, late}) {
    ASSERT_TRUE(Poll([&] { return answer->has_value(); }));
    EXPECT_EQ((*answer)->outcome(), RequestLeaseReply::GROUP_REMOVED);
  }
}

TEST_F(RayletGroupsTest, QuestionsSeeWhatWasAskedBefore) {
  std::vector<PlacementGroupId> groups;
  for (int i = 0; i < 50; ++i) groups.push_back(Create({{{"CPU", 0.01}}}));
  auto listed = driver_->Call<PlacementGroupsReply>(wire::v1::LIST_PLACEMENT_GROUPS,
                                                    wire::v1::PlacementGroupRequest());
  EXPECT_EQ(listed.groups_size(), 50);
  for (const PlacementGroupId& group : groups) EXPECT_EQ(Wait(group), wire::v1::GROUP_CREATED);
  for (const PlacementGroupId& group : groups) Remove(group);
  listed = driver_->Call<PlacementGroupsReply>(wire::v1::LIST_PLACEMENT_GROUPS,
                                               RequestOf(groups.back()));
  ASSERT_EQ(listed.groups_size(), 1);
  EXPECT_EQ(listed.groups(0).state(), wire::v1::GROUP_STATE_REMOVED);
  EXPECT_EQ(Wait(groups.front()), wire::v1::GROUP_STATE_REMOVED);
}

TEST_F(RayletGroupsTest, LongWaitIsExplained) {
  const PlacementGroupId group = Create({{{"CPU", 100}}});
  wire::v1::WaitPlacementGroup request;
  request.set_placement_group_id(group.BinaryString());
  request.set_timeout_ms(-1);
  driver_->connection().Call(wire::v1::WAIT_PLACEMENT_GROUP, request,
                             [](const absl::StatusOr<net::Frame>&) {});
  const auto warning = driver_->Next(wire::v1::TASK_PENDING_WARNING).As<wire::v1::PendingWarning>();
  EXPECT_THAT(warning.message(), HasSubstr("cannot be created"));
}

TEST_F(RayletGroupsTest, HardAffinityToAnotherNodeIsRefused) {
  wire::v1::RequestLease request = LeaseFor(*driver_, 1, {{"CPU", 1}});
  auto* affinity = request.mutable_strategy()->mutable_node_affinity();
  affinity->set_node_id(base::NodeId::Random().BinaryString());
  auto reply = driver_->Call<RequestLeaseReply>(wire::v1::REQUEST_LEASE, request);
  EXPECT_EQ(reply.outcome(), RequestLeaseReply::REFUSED);
  EXPECT_THAT(reply.message(), HasSubstr("not in the cluster"));
  request.set_request_id(2);
  affinity->set_node_id(raylet_->identity().id.BinaryString());
  *request.mutable_resources() = ResourceSet{{"CPU", 100}}.ToWire();
  reply = driver_->Call<RequestLeaseReply>(wire::v1::REQUEST_LEASE, request);
  EXPECT_THAT(reply.message(), HasSubstr("can never hold"));
}

TEST_F(RayletGroupsTest, LabelsThatDoNotSuitAreExplained) {
  wire::v1::RequestLease request = LeaseFor(*driver_, 1, {{"CPU", 1}});
  auto* condition = request.mutable_strategy()->add_required_labels();
  condition->set_key("zone");
  condition->set_kind(wire::v1::SchedulingStrategy::LabelCondition::EXISTS);
  driver_->connection().Call(wire::v1::REQUEST_LEASE, request,
                             [](const absl::StatusOr<net::Frame>&) {});
  const auto warning = driver_->Next(wire::v1::TASK_PENDING_WARNING).As<wire::v1::PendingWarning>();
  EXPECT_TRUE(warning.infeasible());
  EXPECT_THAT(warning.message(), HasSubstr("zone exists"));
}

}  // namespace
}  // namespace ray::raylet
