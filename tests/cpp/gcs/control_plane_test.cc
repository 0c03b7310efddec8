// What only the managers together can decide.
#include "ray/gcs/control_plane.h"

#include <gtest/gtest.h>

#include "ray/base/clock.h"
#include "ray/gcs/gcs_testutil.h"

namespace ray::gcs {
namespace {

using base::ActorId;
using base::JobId;
using base::NodeId;
using base::PlacementGroupId;

class ControlPlaneTest : public testing::Test {
 protected:
  ControlPlaneTest() {
    EXPECT_TRUE(control_.Load().ok());
    wire::v1::ResourceSet room;
    (*room.mutable_quantities())["CPU"] = 40'000;
    v1::RegisterNode join;
    join.mutable_node()->set_node_id(node_.BinaryString());
    *join.mutable_node()->mutable_total() = room;
    *join.mutable_node()->mutable_available() = room;
    EXPECT_TRUE(control_.RegisterNode(node_, join).ok());
  }

  v1::AddJobRequest Driver(const NodeId& node) const {
    v1::AddJobRequest request;
    request.set_driver_worker_id(base::WorkerId::Random().BinaryString());
    request.set_node_id(node.BinaryString());
    return request;
  }

  JobId StartJob() {
    auto reply = control_.AddJob(Driver(node_));
    EXPECT_TRUE(reply.ok());
    return *JobId::FromBinary(reply->job_id());
  }

  void Finish(const JobId& job) {
    v1::FinishJobRequest request;
    request.set_job_id(job.BinaryString());
    EXPECT_TRUE(control_.FinishJob(request).ok());
  }

  static wire::v1::PlacementGroupSpec Group(const JobId& job) {
    wire::v1::PlacementGroupSpec spec;
    spec.set_placement_group_id(base::NewPlacementGroupId(job).BinaryString());
    spec.set_strategy(wire::v1::PACK);
    (*spec.add_bundles()->mutable_resources()->mutable_quantities())["CPU"] = 10'000;
    return spec;
  }

  wire::v1::StatusReply Create(const wire::v1::PlacementGroupSpec& spec) {
    v1::ChangePlacementGroupsRequest request;
    *request.add_changes()->mutable_create() = spec;
    return control_.ChangePlacementGroups(request)->results(0);
  }

  base::VirtualClock clock_;
  MemoryStorage storage_;
  RecordingSender sender_;
  const NodeId node_ = NodeId::Random();
  ControlPlane control_{base::Config(),
                        {.clock = &clock_,
                         .wall_clock = [] { return absl::UnixEpoch(); },
                         .storage = &storage_,
                         .sender = &sender_}};
};

TEST_F(ControlPlaneTest, ACreationThatComesAfterItsJobsEndLeavesNoGroup) {
  const JobId job = StartJob();
  const wire::v1::PlacementGroupSpec in_time = Group(job);
  EXPECT_EQ(Create(in_time).code(), 0);
  Finish(job);
  const wire::v1::StatusReply late = Create(Group(job));
  EXPECT_NE(late.code(), 0);
  EXPECT_NE(late.message().find("has finished"), std::string::npos) << late.message();
  wire::v1::PlacementGroupSpec detached = Group(job);
  detached.set_detached(true);
  EXPECT_EQ(Create(detached).code(), 0);
  const auto groups = control_.ListPlacementGroups({});
  int living = 0;
  for (const wire::v1::PlacementGroupInfo& group : groups->groups()) {
    living += group.state() != wire::v1::GROUP_STATE_REMOVED ? 1 : 0;
  }
  EXPECT_EQ(living, 1);
}

TEST_F(ControlPlaneTest, ADeadActorCreatesNoGroup) {
  wire::v1::PlacementGroupSpec spec = Group(StartJob());
  spec.set_creator_actor(ActorId::Random().BinaryString());
  const wire::v1::StatusReply reply = Create(spec);
  EXPECT_NE(reply.message().find("is dead"), std::string::npos) << reply.message();
}

TEST_F(ControlPlaneTest, NoJobBeginsOnADeadNode) {
  v1::NodeMessage leaving;
  leaving.mutable_leaving();
  ASSERT_TRUE(control_.HandleNodeMessage(node_, leaving).ok());
  const auto reply = control_.AddJob(Driver(node_));
  EXPECT_EQ(reply.status().code(), absl::StatusCode::kFailedPrecondition) << reply.status();
  EXPECT_TRUE(control_.ListJobs({})->jobs().empty());
}

}  // namespace
}  // namespace ray::gcs
