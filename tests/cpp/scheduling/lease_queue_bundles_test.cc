// Placement groups in the lease queue: bundles are pools of their own, requests for them wait for
// their commit and end with their removal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ray/scheduling/lease_queue.h"

namespace ray::scheduling {
namespace {

using base::LeaseId;
using base::PlacementGroupId;
using base::WorkerId;
using resources::NodeResources;
using resources::ResourceSet;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

const ResourceSet kOneCpu{{"CPU", 1}};
const ResourceSet kTwoCpus{{"CPU", 2}};

struct Granted {
  uint64_t request;
  LeaseId lease;
  WorkerId worker;
  std::map<std::string, std::vector<resources::InstanceShare>> instances;
};

// Workers are idle at once.
class FakePool : public LeaseQueue::Actions {
 public:
  std::vector<Granted> granted;
  std::vector<uint64_t> refused;
  std::vector<std::pair<WorkerId, WorkerAfter>> released;
  std::vector<LeaseWarning> warnings;

  std::optional<WorkerId> AcquireWorker(const LeaseId&, const base::JobId&,
                                        const std::string&) override {
    return WorkerId::Random();
  }
  void AbandonWorker(const LeaseId&) override {}
  void ReleaseWorker(const WorkerId& worker, WorkerAfter after) override {
    released.emplace_back(worker, after);
  }
  void GrantLease(const LeaseGrant& grant) override {
    granted.push_back({grant.request_id, grant.lease, grant.worker, grant.allocation->instances()});
  }
  void GiveUp(ClientId, uint64_t, const std::string&) override {}
  void RefuseLease(ClientId, uint64_t request) override { refused.push_back(request); }
  void ReclaimLeases(ClientId) override {}
  void Warn(const LeaseWarning& warning) override { warnings.push_back(warning); }
};

class LeaseQueueBundlesTest : public ::testing::Test {
 protected:
  uint64_t Ask(const ResourceSet& resources, const BundleRef& bundle = {}) {
    EXPECT_TRUE(queue_
                    .Request({.client = 1,
                              .request_id = ++last_request_,
                              .resources = resources,
                              .job = base::JobIdFromInt(1),
                              .task_name = "f",
                              .bundle = bundle})
                    .ok());
    queue_.CheckInvariants();
    return last_request_;
  }
  bool Prepare(const std::vector<std::pair<uint32_t, ResourceSet>>& bundles) {
    const bool ok = queue_.PrepareBundles(group_, bundles);
    queue_.CheckInvariants();
    return ok;
  }
  void Commit(const std::vector<uint32_t>& indices) {
    queue_.CommitBundles(group_, indices);
    queue_.CheckInvariants();
  }
  BundleRef Bundle(int index = BundleRef::kAny) const { return {group_, index}; }
  base::FixedPoint Free(std::string_view name) const {
    return queue_.resources().available().Get(name);
  }

  base::VirtualClock clock_;
  FakePool pool_;
  LeaseQueue queue_{LeaseQueue::Options(), NodeResources(ResourceSet{{"CPU", 4}, {"GPU", 4}}),
                    &clock_, &pool_};
  const PlacementGroupId group_ = base::NewPlacementGroupId(base::JobIdFromInt(1));
  uint64_t last_request_ = 0;
};

TEST_F(LeaseQueueBundlesTest, SetsResourcesAsideAllOrNone) {
  EXPECT_TRUE(Prepare({{0, kOneCpu}, {1, kTwoCpus}}));
  EXPECT_EQ(Free("CPU"), base::FixedPoint::FromInt(1));
  EXPECT_EQ(queue_.resources().total().Get("CPU"), base::FixedPoint::FromInt(4));
  EXPECT_FALSE(Prepare({{2, kOneCpu}, {3, kOneCpu}}));
  EXPECT_EQ(Free("CPU"), base::FixedPoint::FromInt(1));
  EXPECT_TRUE(Prepare({{0, kOneCpu}, {1, kTwoCpus}}));  // asked again: nothing is taken twice
  EXPECT_EQ(Free("CPU"), base::FixedPoint::FromInt(1));
  ASSERT_THAT(queue_.Bundles(), SizeIs(1));
  EXPECT_THAT(queue_.Bundles()[0].indices, ElementsAre(0, 1));
}

TEST_F(LeaseQueueBundlesTest, GrantsFromABundleOnceItIsCommitted) {
  const uint64_t early = Ask(kOneCpu, Bundle(0));
  ASSERT_TRUE(Prepare({{0, kOneCpu}}));
  EXPECT_THAT(pool_.granted, IsEmpty());
  Commit({0});
  ASSERT_THAT(pool_.granted, SizeIs(1));
  EXPECT_EQ(pool_.granted[0].request, early);
  EXPECT_EQ(Free("CPU"), base::FixedPoint::FromInt(3));  // of the node nothing more is taken
}

TEST_F(LeaseQueueBundlesTest, ABundleLimitsWhatRunsInIt) {
  ASSERT_TRUE(Prepare({{0, kOneCpu}, {1, kOneCpu}}));
  Commit({0, 1});
  Ask(kOneCpu, Bundle(0));
  const uint64_t waits = Ask(kOneCpu, Bundle(0));
  EXPECT_THAT(pool_.granted, SizeIs(1));
  Ask(kOneCpu, Bundle());  // any bundle: the other one
  EXPECT_THAT(pool_.granted, SizeIs(2));
  Ask(kOneCpu);  // the node has room of its own
  ASSERT_THAT(pool_.granted, SizeIs(3));
  EXPECT_TRUE(queue_.Return(1, pool_.granted[0].lease, LeaseEnd::kDone).ok());
  queue_.CheckInvariants();
  ASSERT_THAT(pool_.granted, SizeIs(4));
  EXPECT_EQ(pool_.granted[3].request, waits);
}

TEST_F(LeaseQueueBundlesTest, DevicesOfABundleStayItsOwn) {
  ASSERT_TRUE(Prepare({{0, {{"GPU", 1}}}, {1, {{"GPU", 2}}}}));
  Commit({0, 1});
  Ask({{"GPU", 2}}, Bundle(1));
  Ask({{"GPU", 1}}, Bundle(0));
  Ask({{"GPU", 1}});
  ASSERT_THAT(pool_.granted, SizeIs(3));
  std::set<uint32_t> devices;
  for (const Granted& granted : pool_.granted) {
    for (const auto& share : granted.instances.at("GPU")) devices.insert(share.index);
  }
  EXPECT_THAT(devices, ElementsAre(0, 1, 2, 3));
}

TEST_F(LeaseQueueBundlesTest, ABlockedWorkerLendsItsCpusToItsBundle) {
  ASSERT_TRUE(Prepare({{0, kOneCpu}}));
  Commit({0});
  Ask(kOneCpu, Bundle());
  Ask(kOneCpu, Bundle());
  ASSERT_THAT(pool_.granted, SizeIs(1));
  queue_.SetBlocked(pool_.granted[0].worker, true);
  queue_.CheckInvariants();
  EXPECT_THAT(pool_.granted, SizeIs(2));
  EXPECT_EQ(Free("CPU"), base::FixedPoint::FromInt(3));
}

TEST_F(LeaseQueueBundlesTest, RemovalRefusesWhatWaitsAndKillsWhatRuns) {
  ASSERT_TRUE(Prepare({{0, kOneCpu}}));
  Commit({0});
  Ask(kOneCpu, Bundle());
  const uint64_t waits = Ask(kOneCpu, Bundle());
  const uint64_t of_node = Ask({{"CPU", 4}});
  queue_.RemoveGroup(group_);
  queue_.CheckInvariants();
  EXPECT_THAT(pool_.refused, ElementsAre(waits));
  EXPECT_THAT(pool_.released, ElementsAre(Pair(pool_.granted[0].worker, WorkerAfter::kKill)));
  // And what was set aside is free for others.
  ASSERT_THAT(pool_.granted, SizeIs(2));
  EXPECT_EQ(pool_.granted[1].request, of_node);
  EXPECT_FALSE(queue_.HasCommitted(group_));
}

TEST_F(LeaseQueueBundlesTest, ReturnsABundleOnceItsActorIsGone) {
  ASSERT_TRUE(Prepare({{0, kTwoCpus}}));
  Commit({0});
  EXPECT_FALSE(queue_.AllocateActor({{"CPU", 3}}, Bundle(0)).has_value());
  const auto actor = queue_.AllocateActor(kOneCpu, Bundle(0));
  ASSERT_TRUE(actor.has_value());
  queue_.AttachActorWorker(*actor, WorkerId::Random());
  queue_.CheckInvariants();
  queue_.RemoveGroup(group_);
  queue_.CheckInvariants();
  EXPECT_EQ(Free("CPU"), base::FixedPoint::FromInt(2));
  queue_.ReleaseActor(*actor);
  queue_.CheckInvariants();
  EXPECT_EQ(Free("CPU"), base::FixedPoint::FromInt(4));
}

TEST_F(LeaseQueueBundlesTest, ExplainsWhyARequestWaits) {
  Ask(kOneCpu, Bundle());
  clock_.Advance(absl::Seconds(10));
  queue_.Tick();
  ASSERT_THAT(pool_.warnings, SizeIs(1));
  EXPECT_FALSE(pool_.warnings[0].infeasible);
  EXPECT_THAT(pool_.warnings[0].message, HasSubstr("the group is not placed yet"));

  ASSERT_TRUE(Prepare({{0, kOneCpu}}));
  Commit({0});
  Ask(kTwoCpus, Bundle());
  clock_.Advance(absl::Seconds(10));
  queue_.Tick();
  queue_.CheckInvariants();
  ASSERT_THAT(pool_.warnings, SizeIs(2));
  EXPECT_TRUE(pool_.warnings[1].infeasible);
  EXPECT_THAT(pool_.warnings[1].message, HasSubstr("no bundle that it may use"));
}

}  // namespace
}  // namespace ray::scheduling
