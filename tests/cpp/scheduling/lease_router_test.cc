#include "ray/scheduling/lease_router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <optional>

namespace ray::scheduling {
namespace {

using base::LeaseId;
using base::NodeId;
using base::PlacementGroupId;
using resources::ResourceSet;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using wire::v1::RequestLease;
using wire::v1::RequestLeaseReply;

const ResourceSet kOneCpu{{"CPU", 1}};
const ResourceSet kOneGpu{{"GPU", 1}};

struct Sent {
  NodeId node;
  RequestLease request;
};

// One raylet with one CPU. The test plays the processes of its node and the other raylets.
class LeaseRouterTest : public ::testing::Test,
                        public LeaseQueue::Actions,
                        public LeaseRouter::Actions {
 protected:
  LeaseRouterTest() { Make({}); }

  void Make(absl::Duration infeasible_timeout) {
    queue_ = std::make_unique<LeaseQueue>(LeaseQueue::Options{}, resources::NodeResources(kOneCpu),
                                          &clock_, this);
    LeaseRouter::Options options{.self = self_};
    if (infeasible_timeout > absl::ZeroDuration()) options.infeasible_timeout = infeasible_timeout;
    router_ = std::make_unique<LeaseRouter>(options, queue_.get(), &clock_, this);
  }
  void TearDown() override { router_->CheckInvariants(); }

  NodeId AddNode(const ResourceSet& total) {
    const NodeId id = NodeId::Random();
    totals_[id] = total;
    Report(id, total);
    return id;
  }
  void Report(const NodeId& node, const ResourceSet& available, bool draining = false) {
    wire::v1::NodeState state;
    state.set_node_id(node.BinaryString());
    state.set_alive(true);
    *state.mutable_total() = totals_[node].ToWire();
    *state.mutable_available() = available.ToWire();
    state.set_draining(draining);
    router_->NodeChanged(state);
    router_->Rebalance();
  }
  RequestLease Message(const ResourceSet& resources) {
    RequestLease request;
    request.set_request_id(++last_request_);
    *request.mutable_resources() = resources.ToWire();
    request.set_job_id(base::JobIdFromInt(1).BinaryString());
    request.set_task_name("f");
    return request;
  }
  uint64_t Ask(const RequestLease& request, ClientId client = 1) {
    EXPECT_TRUE(router_->Request(client, request).ok());
    router_->CheckInvariants();
    return request.request_id();
  }
  uint64_t Ask(const ResourceSet& resources) { return Ask(Message(resources)); }
  RequestLease InBundle(int index) {
    RequestLease request = Message(kOneCpu);
    request.mutable_strategy()->mutable_bundle()->set_placement_group_id(group_.BinaryString());
    request.mutable_strategy()->mutable_bundle()->set_bundle_index(index);
    return request;
  }
  void PlaceGroup(const std::vector<NodeId>& nodes) {
    wire::v1::PlacementGroupInfo info;
    info.mutable_spec()->set_placement_group_id(group_.BinaryString());
    for (const NodeId& node : nodes) {
      wire::v1::Bundle& bundle = *info.mutable_spec()->add_bundles();
      *bundle.mutable_resources() = kOneCpu.ToWire();
      bundle.set_node_id(node.BinaryString());
    }
    router_->GroupPlaced(info);
    router_->CheckInvariants();
  }
  // The answer of another raylet to what was sent there last.
  LeaseId Reply(const Sent& sent, RequestLeaseReply::Outcome outcome,
                const ResourceSet& available = {}) {
    RequestLeaseReply reply;
    reply.set_outcome(outcome);
    const LeaseId lease = LeaseId::Random();
    if (outcome == RequestLeaseReply::GRANTED) reply.set_lease_id(lease.BinaryString());
    *reply.mutable_available() = available.ToWire();
    router_->Answered(sent.node, sent.request.request_id(), reply);
    router_->CheckInvariants();
    return lease;
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    queue_->Tick();
    router_->Tick();
    router_->CheckInvariants();
  }
  RequestLeaseReply::Outcome OutcomeOf(uint64_t request, ClientId client = 1) {
    auto found = answers_.find({client, request});
    return found == answers_.end() ? RequestLeaseReply::OUTCOME_UNSPECIFIED
                                   : found->second.outcome();
  }

  // -- LeaseQueue::Actions
  std::optional<base::WorkerId> AcquireWorker(const LeaseId&, const base::JobId&,
                                              const std::string&) override {
    return base::WorkerId::Random();
  }
  void AbandonWorker(const LeaseId&) override {}
  void ReleaseWorker(const base::WorkerId&, WorkerAfter) override {}
  void GrantLease(const LeaseGrant& grant) override {
    here_ = grant.lease;
    RequestLeaseReply reply;
    reply.set_outcome(RequestLeaseReply::GRANTED);
    router_->Settled(grant.client, grant.request_id);
    Answer(grant.client, grant.request_id, reply);
  }
  void RefuseLease(ClientId client, uint64_t request) override {
    RequestLeaseReply reply;
    reply.set_outcome(RequestLeaseReply::GROUP_REMOVED);
    router_->Settled(client, request);
    Answer(client, request, reply);
  }
  void GiveUp(ClientId, uint64_t, const std::string&) override {}
  void ReclaimLeases(ClientId) override {}
  void Warn(const LeaseWarning& warning) override { warnings_.push_back(warning); }

  // -- LeaseRouter::Actions
  void Answer(ClientId client, uint64_t request, const RequestLeaseReply& reply) override {
    const bool is_first = answers_.emplace(std::pair(client, request), reply).second;
    EXPECT_TRUE(is_first) << "request " << request << " is answered twice";
  }
  bool Forward(const NodeId& node, const RequestLease& request) override {
    if (broken_.contains(node)) return false;
    sent_.push_back({node, request});
    return true;
  }
  void CancelForwarded(const NodeId& node, uint64_t id) override {
    cancelled_.emplace_back(node, id);
  }
  void ReturnLease(const NodeId& node, const LeaseId& lease, LeaseEnd end) override {
    returned_.emplace_back(node, lease, end);
  }
  void WatchGroup(const PlacementGroupId& group) override { watched_.push_back(group); }

  base::VirtualClock clock_;
  const NodeId self_ = NodeId::Random();
  const PlacementGroupId group_ = PlacementGroupId::Random();
  std::map<NodeId, ResourceSet> totals_;
  std::set<NodeId> broken_;
  uint64_t last_request_ = 0;
  LeaseId here_;  // granted last by the own queue
  std::map<std::pair<ClientId, uint64_t>, RequestLeaseReply> answers_;
  std::vector<Sent> sent_;
  std::vector<std::pair<NodeId, uint64_t>> cancelled_;
  std::vector<std::tuple<NodeId, LeaseId, LeaseEnd>> returned_;
  std::vector<LeaseWarning> warnings_;
  std::vector<PlacementGroupId> watched_;
  std::unique_ptr<LeaseQueue> queue_;
  std::unique_ptr<LeaseRouter> router_;
};

TEST_F(LeaseRouterTest, GrantsHereAndThenElsewhere) {
  const NodeId other = AddNode(kOneCpu);
  EXPECT_EQ(OutcomeOf(Ask(kOneCpu)), RequestLeaseReply::GRANTED);
  const uint64_t second = Ask(kOneCpu);
  ASSERT_THAT(sent_, SizeIs(1));
  EXPECT_EQ(sent_[0].node, other);
  EXPECT_TRUE(sent_[0].request.now_or_never());
  const LeaseId lease = Reply(sent_[0], RequestLeaseReply::GRANTED);
  EXPECT_EQ(OutcomeOf(second), RequestLeaseReply::GRANTED);
  EXPECT_THAT(router_->HoldersAt(other), ElementsAre(1));
  EXPECT_FALSE(router_->Return(lease, 2, false)) << "it is another client's";
  EXPECT_TRUE(router_->Return(lease, 1, true));
  EXPECT_THAT(returned_, ElementsAre(std::tuple(other, lease, LeaseEnd::kBroken)));
  EXPECT_FALSE(router_->Return(lease, 1, false));
  EXPECT_THAT(router_->HoldersAt(other), IsEmpty());
}

TEST_F(LeaseRouterTest, ARefusalCorrectsTheViewAndTheRequestIsPlacedAnew) {
  AddNode(kOneCpu);
  AddNode(kOneCpu);
  Ask(kOneCpu);
  const uint64_t second = Ask(kOneCpu);
  Reply(sent_[0], RequestLeaseReply::SPILLBACK);
  ASSERT_THAT(sent_, SizeIs(2));
  EXPECT_NE(sent_[1].node, sent_[0].node);
  Reply(sent_[1], RequestLeaseReply::SPILLBACK);
  EXPECT_THAT(sent_, SizeIs(2));
  EXPECT_EQ(queue_->queued(), 1u) << "it waits here";
  // One of them has room again.
  Report(sent_[0].node, kOneCpu);
  ASSERT_THAT(sent_, SizeIs(3));
  EXPECT_EQ(queue_->queued(), 0u);
  Reply(sent_[2], RequestLeaseReply::GRANTED);
  EXPECT_EQ(OutcomeOf(second), RequestLeaseReply::GRANTED);
}

TEST_F(LeaseRouterTest, AStaleAnswerDoesNotHideANodeForever) {
  const NodeId other = AddNode(kOneCpu);
  Ask(kOneCpu);
  Ask(kOneCpu);
  // The node reported that it is free again before its answer arrived, which says that it is not.
  Reply(sent_[0], RequestLeaseReply::SPILLBACK);
  EXPECT_EQ(queue_->queued(), 1u);
  Advance(absl::Seconds(1.1));
  ASSERT_THAT(sent_, SizeIs(2));
  EXPECT_EQ(sent_[1].node, other);
}

TEST_F(LeaseRouterTest, RequestsUnderWayAreCountedBeforeTheyAreAnswered) {
  AddNode({{"CPU", 2}});
  for (int i = 0; i < 5; ++i) Ask(kOneCpu);
  EXPECT_THAT(sent_, SizeIs(2));
  EXPECT_EQ(queue_->queued(), 2u);
}

TEST_F(LeaseRouterTest, WaitsWhereItCouldRunAFewAtEach) {
  const NodeId a = AddNode({{"GPU", 1}});
  Report(a, {});
  std::vector<uint64_t> ids;
  for (int i = 0; i < 6; ++i) ids.push_back(Ask(kOneGpu));
  ASSERT_THAT(sent_, SizeIs(4));
  EXPECT_FALSE(sent_[0].request.now_or_never());
  EXPECT_THAT(router_->Explain(1, ids[5]), HasSubstr("all nodes that could run it are in use"));
  Reply(sent_[0], RequestLeaseReply::GRANTED);
  EXPECT_EQ(OutcomeOf(ids[0]), RequestLeaseReply::GRANTED);
  EXPECT_THAT(sent_, SizeIs(5)) << "the next one takes its place";

  // A node with room comes: the oldest move there, once they are dropped where they wait.
  const NodeId b = AddNode({{"GPU", 2}});
  EXPECT_THAT(cancelled_, SizeIs(2));
  ASSERT_THAT(sent_, SizeIs(6)) << "the last one, which was held here, waits there";
  EXPECT_FALSE(sent_[5].request.now_or_never());
  Reply(sent_[1], RequestLeaseReply::CANCELLED);
  ASSERT_THAT(sent_, SizeIs(7));
  EXPECT_EQ(sent_[6].node, b);
  EXPECT_TRUE(sent_[6].request.now_or_never());
  // The other was granted where it waited after all.
  Reply(sent_[2], RequestLeaseReply::GRANTED);
  EXPECT_EQ(OutcomeOf(ids[2]), RequestLeaseReply::GRANTED);
  Reply(sent_[6], RequestLeaseReply::GRANTED);
  EXPECT_EQ(OutcomeOf(ids[1]), RequestLeaseReply::GRANTED);
}

TEST_F(LeaseRouterTest, AGrantThatCrossesACancellationIsReturned) {
  const NodeId other = AddNode(kOneGpu);
  const uint64_t id = Ask(kOneGpu);
  router_->Cancel(1, id);
  router_->Cancel(1, id);
  EXPECT_THAT(cancelled_, SizeIs(1));
  EXPECT_EQ(OutcomeOf(id), RequestLeaseReply::OUTCOME_UNSPECIFIED);
  const LeaseId lease = Reply(sent_[0], RequestLeaseReply::GRANTED);
  EXPECT_EQ(OutcomeOf(id), RequestLeaseReply::CANCELLED);
  EXPECT_THAT(returned_, ElementsAre(std::tuple(other, lease, LeaseEnd::kDone)));
  // Again: it means nothing.
  Reply(sent_[0], RequestLeaseReply::GRANTED);
  EXPECT_THAT(returned_, SizeIs(1));
}

TEST_F(LeaseRouterTest, CancelsWhereverTheRequestIs) {
  const uint64_t held = Ask(kOneGpu);
  router_->Cancel(1, held);
  EXPECT_EQ(OutcomeOf(held), RequestLeaseReply::CANCELLED);
  Ask(kOneCpu);
  const uint64_t queued = Ask(kOneCpu);
  router_->Cancel(1, queued);
  EXPECT_EQ(OutcomeOf(queued), RequestLeaseReply::CANCELLED);
  EXPECT_EQ(router_->requests(), 0u);
}

TEST_F(LeaseRouterTest, AnOwnersEndTakesItsRequestsAndLeasesElsewhereAlong) {
  const NodeId other = AddNode({{"GPU", 2}});
  Ask(kOneGpu);
  const LeaseId held = Reply(sent_[0], RequestLeaseReply::GRANTED, kOneGpu);
  const uint64_t open = Ask(kOneGpu);
  queue_->ClientGone(1);
  router_->ClientGone(1);
  EXPECT_THAT(returned_, ElementsAre(std::tuple(other, held, LeaseEnd::kOwnerGone)));
  EXPECT_THAT(cancelled_, SizeIs(1));
  const LeaseId late = Reply(sent_[1], RequestLeaseReply::GRANTED);
  EXPECT_EQ(returned_.back(), std::tuple(other, late, LeaseEnd::kDone));
  EXPECT_EQ(OutcomeOf(open), RequestLeaseReply::OUTCOME_UNSPECIFIED);
  EXPECT_EQ(router_->forwarded(), 0u);
}

TEST_F(LeaseRouterTest, ANodesDeathPlacesItsRequestsAnew) {
  const NodeId a = AddNode(kOneGpu);
  const uint64_t id = Ask(kOneGpu);
  router_->NodeDead(a);
  EXPECT_EQ(OutcomeOf(id), RequestLeaseReply::OUTCOME_UNSPECIFIED);
  const NodeId b = AddNode(kOneGpu);
  ASSERT_THAT(sent_, SizeIs(2));
  EXPECT_EQ(sent_[1].node, b);
  Reply(sent_[0], RequestLeaseReply::GRANTED);  // late, of the dead node
  EXPECT_EQ(OutcomeOf(id), RequestLeaseReply::OUTCOME_UNSPECIFIED);
  Reply(sent_[1], RequestLeaseReply::GRANTED);
  router_->NodeDead(b);
  EXPECT_EQ(router_->remote_leases(), 0u);
}

TEST_F(LeaseRouterTest, WhatASilentNodeWasAskedForGoesElsewhere) {
  const NodeId silent = AddNode(kOneGpu);
  const uint64_t id = Ask(kOneGpu);
  router_->NodeSilent(silent);
  router_->CheckInvariants();
  EXPECT_THAT(cancelled_, SizeIs(1));
  const NodeId other = AddNode(kOneGpu);
  ASSERT_THAT(sent_, SizeIs(2));
  EXPECT_EQ(sent_[1].node, other);
  const LeaseId late = Reply(sent_[0], RequestLeaseReply::GRANTED);
  EXPECT_THAT(returned_, ElementsAre(std::tuple(silent, late, LeaseEnd::kDone)));
  EXPECT_EQ(OutcomeOf(id), RequestLeaseReply::OUTCOME_UNSPECIFIED);
  Reply(sent_[1], RequestLeaseReply::GRANTED);
  EXPECT_EQ(OutcomeOf(id), RequestLeaseReply::GRANTED);
}

TEST_F(LeaseRouterTest, ANodeThatCannotBeAskedIsLeftAloneForAMoment) {
  const NodeId a = AddNode(kOneGpu);
  broken_.insert(a);
  Ask(kOneGpu);
  EXPECT_THAT(sent_, IsEmpty());
  broken_.clear();
  Advance(absl::Seconds(0.5));
  EXPECT_THAT(sent_, IsEmpty());
  Advance(absl::Seconds(0.6));
  ASSERT_THAT(sent_, SizeIs(1));
  router_->Answered(a, sent_[0].request.request_id(), absl::UnavailableError("reset"));
  EXPECT_THAT(sent_, SizeIs(1));
  Advance(absl::Seconds(1.1));
  EXPECT_THAT(sent_, SizeIs(2));
}

TEST_F(LeaseRouterTest, WhatNoNodeCanHoldIsWarnedOfAndRefusedInTheEnd) {
  Make(absl::Seconds(10));
  const uint64_t id = Ask(ResourceSet{{"TPU", 3}});
  EXPECT_THAT(router_->Explain(1, id), HasSubstr("3 TPU (no node has more than 0)"));
  const auto demands = router_->Demands(100);
  ASSERT_THAT(demands, SizeIs(1));
  EXPECT_TRUE(demands[0].infeasible());
  EXPECT_EQ(demands[0].count(), 1u);
  Advance(absl::Seconds(6));
  Advance(absl::Seconds(1));
  ASSERT_THAT(warnings_, SizeIs(1));
  EXPECT_TRUE(warnings_[0].infeasible);
  EXPECT_THAT(warnings_[0].message, HasSubstr("The nodes of the cluster: 1 x {CPU: 1}"));
  Advance(absl::Seconds(4));
  EXPECT_EQ(OutcomeOf(id), RequestLeaseReply::REFUSED);
  EXPECT_EQ(router_->NextTick(), absl::InfiniteFuture());
}

TEST_F(LeaseRouterTest, AffinityHoldsOrFails) {
  const NodeId other = AddNode(kOneCpu);
  auto to = [&](const NodeId& node, bool soft, const ResourceSet& resources) {
    RequestLease request = Message(resources);
    request.mutable_strategy()->mutable_node_affinity()->set_node_id(node.BinaryString());
    request.mutable_strategy()->mutable_node_affinity()->set_soft(soft);
    return Ask(request);
  };
  to(other, false, kOneCpu);
  ASSERT_THAT(sent_, SizeIs(1));
  EXPECT_EQ(sent_[0].node, other);
  EXPECT_FALSE(sent_[0].request.now_or_never()) << "it waits there";
  Reply(sent_[0], RequestLeaseReply::GRANTED);
  const uint64_t never = to(other, false, kOneGpu);
  EXPECT_EQ(OutcomeOf(never), RequestLeaseReply::REFUSED);
  EXPECT_THAT((answers_[{1, never}].message()), HasSubstr("can never hold the {GPU: 1}"));
  EXPECT_EQ(OutcomeOf(to(NodeId::Random(), true, kOneCpu)), RequestLeaseReply::GRANTED);
  // A node that is not there may have joined just now.
  const uint64_t unknown = to(NodeId::Random(), false, kOneCpu);
  EXPECT_EQ(OutcomeOf(unknown), RequestLeaseReply::OUTCOME_UNSPECIFIED);
  Advance(absl::Seconds(1));
  EXPECT_EQ(OutcomeOf(unknown), RequestLeaseReply::REFUSED);
  EXPECT_THAT((answers_[{1, unknown}].message()), HasSubstr("not in the cluster"));
  // One that dies while the request waits there.
  const uint64_t waits = to(other, false, kOneCpu);
  Advance(absl::Seconds(1));
  router_->NodeDead(other);
  EXPECT_EQ(OutcomeOf(waits), RequestLeaseReply::REFUSED);
}

TEST_F(LeaseRouterTest, AffinityThatMayNotWaitIsRefusedWithoutRoom) {
  const NodeId other = AddNode(kOneCpu);
  auto to = [&](const NodeId& node) {
    RequestLease request = Message(kOneCpu);
    request.mutable_strategy()->mutable_node_affinity()->set_node_id(node.BinaryString());
    request.mutable_strategy()->mutable_node_affinity()->set_fail_on_unavailable(true);
    return Ask(request);
  };
  EXPECT_EQ(OutcomeOf(to(self_)), RequestLeaseReply::GRANTED);
  const LeaseId first = here_;
  // A lease that is not used may be given back at once.
  const uint64_t in_time = to(self_);
  Advance(absl::Milliseconds(100));
  EXPECT_EQ(OutcomeOf(in_time), RequestLeaseReply::OUTCOME_UNSPECIFIED);
  EXPECT_TRUE(queue_->Return(1, first, LeaseEnd::kDone).ok());
  EXPECT_EQ(OutcomeOf(in_time), RequestLeaseReply::GRANTED);
  const uint64_t too_late = to(self_);
  Advance(absl::Milliseconds(600));
  EXPECT_EQ(OutcomeOf(too_late), RequestLeaseReply::REFUSED);
  EXPECT_THAT((answers_[{1, too_late}].message()), HasSubstr("free now"));

  // At another node it is refused once that node has confirmed that it dropped it.
  const uint64_t there = to(other);
  ASSERT_THAT(sent_, SizeIs(1));
  EXPECT_FALSE(sent_[0].request.now_or_never());
  Advance(absl::Milliseconds(600));
  EXPECT_EQ(OutcomeOf(there), RequestLeaseReply::OUTCOME_UNSPECIFIED);
  EXPECT_THAT(cancelled_, SizeIs(1));
  Reply(sent_[0], RequestLeaseReply::CANCELLED);
  EXPECT_EQ(OutcomeOf(there), RequestLeaseReply::REFUSED);
  // A grant that crosses that is good.
  const uint64_t crossing = to(other);
  Advance(absl::Milliseconds(600));
  Reply(sent_.back(), RequestLeaseReply::GRANTED);
  EXPECT_EQ(OutcomeOf(crossing), RequestLeaseReply::GRANTED);
  // A node that cannot be asked.
  broken_.insert(other);
  const uint64_t unreachable = to(other);
  Advance(absl::Milliseconds(600));
  EXPECT_EQ(OutcomeOf(unreachable), RequestLeaseReply::REFUSED);
}

TEST_F(LeaseRouterTest, SoftAffinityWaitsUnlessItMaySpill) {
  const NodeId named = AddNode(kOneCpu);
  auto to_named = [&](bool spill) {
    RequestLease request = Message(kOneCpu);
    auto& affinity = *request.mutable_strategy()->mutable_node_affinity();
    affinity.set_node_id(named.BinaryString());
    affinity.set_soft(true);
    affinity.set_spill_on_unavailable(spill);
    return Ask(request);
  };
  to_named(true);
  ASSERT_THAT(sent_, SizeIs(1));
  EXPECT_EQ(sent_[0].node, named) << "there is room";
  EXPECT_TRUE(sent_[0].request.now_or_never());
  Reply(sent_[0], RequestLeaseReply::GRANTED);
  to_named(false);
  ASSERT_THAT(sent_, SizeIs(2));
  EXPECT_FALSE(sent_[1].request.now_or_never()) << "it waits there";
  const uint64_t spilled = to_named(true);
  EXPECT_EQ(OutcomeOf(spilled), RequestLeaseReply::GRANTED) << "here";
  // Nothing is free: it takes the first that is, wherever.
  const uint64_t waits = to_named(true);
  EXPECT_EQ(OutcomeOf(waits), RequestLeaseReply::OUTCOME_UNSPECIFIED);
  Report(named, {});
  Report(named, kOneCpu);
  ASSERT_THAT(sent_, SizeIs(3));
  EXPECT_EQ(sent_[2].node, named);
  Reply(sent_[2], RequestLeaseReply::GRANTED);
  EXPECT_EQ(OutcomeOf(waits), RequestLeaseReply::GRANTED);
}

TEST_F(LeaseRouterTest, ArgumentsDrawATaskWhereThereIsRoom) {
  const NodeId other = AddNode(kOneCpu);
  RequestLease request = Message(kOneCpu);
  request.set_preferred_node(other.BinaryString());
  Ask(request);
  ASSERT_THAT(sent_, SizeIs(1));
  EXPECT_EQ(sent_[0].node, other);
  request = Message(kOneCpu);
  request.set_preferred_node(other.BinaryString());
  EXPECT_EQ(OutcomeOf(Ask(request)), RequestLeaseReply::GRANTED) << "here, as there is no room";
}

TEST_F(LeaseRouterTest, ADrainingNodeSendsItsRequestsAway) {
  Ask(kOneCpu);
  Ask(kOneCpu);
  EXPECT_EQ(queue_->queued(), 1u);
  router_->Drain();
  EXPECT_EQ(queue_->queued(), 0u);
  const NodeId other = AddNode(kOneCpu);
  ASSERT_THAT(sent_, SizeIs(1));
  EXPECT_EQ(sent_[0].node, other);
  RequestLease foreign = Message(kOneCpu);
  ASSERT_TRUE(router_->Serve(9, foreign).ok());
  EXPECT_EQ(OutcomeOf(foreign.request_id(), 9), RequestLeaseReply::SPILLBACK);
}

TEST_F(LeaseRouterTest, ServesOtherRayletsFromTheOwnQueueAndOnce) {
  AddNode(kOneCpu);
  RequestLease first = Message(kOneCpu);
  first.set_now_or_never(true);
  ASSERT_TRUE(router_->Serve(9, first).ok());
  EXPECT_EQ(OutcomeOf(first.request_id(), 9), RequestLeaseReply::GRANTED);
  ASSERT_TRUE(router_->Serve(9, first).ok()) << "a late duplicate";
  EXPECT_EQ(queue_->leases() + queue_->queued(), 1u);
  RequestLease second = Message(kOneCpu);
  second.set_now_or_never(true);
  ASSERT_TRUE(router_->Serve(9, second).ok());
  EXPECT_EQ(OutcomeOf(second.request_id(), 9), RequestLeaseReply::SPILLBACK);
  RequestLease third = Message(kOneCpu);
  ASSERT_TRUE(router_->Serve(9, third).ok());
  EXPECT_EQ(queue_->queued(), 1u) << "it waits, and is not passed on";
  EXPECT_THAT(sent_, IsEmpty());
  ASSERT_TRUE(queue_->Return(9, here_, LeaseEnd::kDone).ok());
  EXPECT_EQ(OutcomeOf(third.request_id(), 9), RequestLeaseReply::GRANTED);
}

TEST_F(LeaseRouterTest, ABundlesRequestGoesToItsNodeAndFollowsIt) {
  const NodeId a = AddNode(kOneCpu);
  const NodeId b = AddNode(kOneCpu);
  const uint64_t id = Ask(InBundle(1));
  EXPECT_THAT(watched_, ElementsAre(group_));
  EXPECT_THAT(router_->Explain(1, id), HasSubstr("the group is not placed yet"));
  PlaceGroup({self_, a});
  ASSERT_THAT(sent_, SizeIs(1));
  EXPECT_EQ(sent_[0].node, a);
  EXPECT_FALSE(sent_[0].request.now_or_never());
  router_->NodeDead(a);
  Advance(absl::Seconds(1));
  EXPECT_THAT(watched_, SizeIs(2));
  PlaceGroup({self_, b});
  ASSERT_THAT(sent_, SizeIs(2));
  EXPECT_EQ(sent_[1].node, b);
  // The bundle goes elsewhere while its node lives.
  Reply(sent_[1], RequestLeaseReply::SPILLBACK);
  Advance(absl::Seconds(1));
  EXPECT_THAT(watched_, SizeIs(3));
  router_->GroupRemoved(group_);
  EXPECT_EQ(OutcomeOf(id), RequestLeaseReply::GROUP_REMOVED);
  const uint64_t out_of_range = Ask(InBundle(2));
  PlaceGroup({self_, b});
  EXPECT_EQ(OutcomeOf(out_of_range), RequestLeaseReply::REFUSED);
}

TEST_F(LeaseRouterTest, AnyBundleIsLookedForInTurn) {
  const NodeId a = AddNode(kOneCpu);
  const NodeId b = AddNode(kOneCpu);
  const uint64_t id = Ask(InBundle(-1));
  PlaceGroup({a, b});
  ASSERT_THAT(sent_, SizeIs(1));
  EXPECT_TRUE(sent_[0].request.now_or_never());
  Reply(sent_[0], RequestLeaseReply::SPILLBACK);
  ASSERT_THAT(sent_, SizeIs(2));
  EXPECT_NE(sent_[1].node, sent_[0].node);
  Reply(sent_[1], RequestLeaseReply::SPILLBACK);
  ASSERT_THAT(sent_, SizeIs(3)) << "it waits at one of them";
  EXPECT_FALSE(sent_[2].request.now_or_never());
  Advance(absl::Milliseconds(60));
  ASSERT_THAT(cancelled_, SizeIs(1)) << "and looks again after a while";
  Reply(sent_[2], RequestLeaseReply::CANCELLED);
  ASSERT_THAT(sent_, SizeIs(4));
  EXPECT_TRUE(sent_[3].request.now_or_never());
  Reply(sent_[3], RequestLeaseReply::GRANTED);
  EXPECT_EQ(OutcomeOf(id), RequestLeaseReply::GRANTED);
}

TEST_F(LeaseRouterTest, BundlesOfThisNodeAreUsedOnceTheyAreCommitted) {
  const uint64_t id = Ask(InBundle(0));
  PlaceGroup({self_});
  EXPECT_EQ(OutcomeOf(id), RequestLeaseReply::OUTCOME_UNSPECIFIED);
  ASSERT_TRUE(queue_->PrepareBundles(group_, {{0, kOneCpu}}));
  queue_->CommitBundles(group_, {0});
  router_->BundlesChanged(group_);
  EXPECT_EQ(OutcomeOf(id), RequestLeaseReply::GRANTED);
}

TEST_F(LeaseRouterTest, ARequestThatComesAfterItsGroupWasRemovedIsRefused) {
  ASSERT_TRUE(queue_->PrepareBundles(group_, {{0, kOneCpu}}));
  queue_->CommitBundles(group_, {0});
  EXPECT_EQ(OutcomeOf(Ask(InBundle(-1))), RequestLeaseReply::GRANTED);
  PlaceGroup({self_});
  queue_->RemoveGroup(group_);
  router_->BundlesChanged(group_);
  watched_.clear();
  Advance(absl::Seconds(1));
  const uint64_t late = Ask(InBundle(-1));
  ASSERT_THAT(watched_, ElementsAre(group_));
  router_->GroupRemoved(group_);
  EXPECT_EQ(OutcomeOf(late), RequestLeaseReply::GROUP_REMOVED);
}

TEST_F(LeaseRouterTest, WhatNoBundleCanHoldIsExplained) {
  const NodeId other = AddNode({{"CPU", 4}});
  RequestLease large = InBundle(-1);
  *large.mutable_resources() = ResourceSet{{"CPU", 2}}.ToWire();
  const uint64_t id = Ask(large);
  PlaceGroup({other});
  EXPECT_THAT(router_->Explain(1, id), HasSubstr("no bundle of the group has as much"));
  Advance(absl::Seconds(6));
  ASSERT_THAT(warnings_, SizeIs(1));
  EXPECT_TRUE(warnings_[0].infeasible);
}

TEST_F(LeaseRouterTest, AServedRequestGoesBackWhenItsBundleIsElsewhere) {
  RequestLease request = InBundle(0);
  ASSERT_TRUE(router_->Serve(9, request).ok());
  EXPECT_THAT(watched_, ElementsAre(group_));
  EXPECT_EQ(queue_->queued(), 1u) << "the order to commit it may be under way";
  PlaceGroup({AddNode(kOneCpu)});
  EXPECT_EQ(OutcomeOf(request.request_id(), 9), RequestLeaseReply::SPILLBACK);
}

TEST_F(LeaseRouterTest, DemandsCountWhatWaitsAndItsBacklog) {
  RequestLease request = Message(kOneCpu);
  Ask(request);
  EXPECT_THAT(router_->Demands(100), IsEmpty()) << "it is granted";
  request = Message(kOneCpu);
  request.set_backlog(40);
  Ask(request);
  Ask(ResourceSet{{"CPU", 9}});
  const auto demands = router_->Demands(100);
  ASSERT_THAT(demands, SizeIs(2));
  EXPECT_EQ(demands[0].count(), 40u);
  EXPECT_FALSE(demands[0].infeasible());
  EXPECT_TRUE(demands[1].infeasible());
  EXPECT_THAT(router_->Demands(1), SizeIs(1));
}

TEST_F(LeaseRouterTest, RefusesWhatNoGoodClientSends) {
  Ask(kOneCpu);
  Ask(kOneCpu);
  RequestLease again = Message(kOneCpu);
  again.set_request_id(last_request_ - 1);
  EXPECT_EQ(router_->Request(1, again).code(), absl::StatusCode::kAlreadyExists);
  RequestLease bad = Message(kOneCpu);
  bad.set_preferred_node("short");
  EXPECT_EQ(router_->Request(1, bad).code(), absl::StatusCode::kInvalidArgument);
  bad = Message(kOneCpu);
  bad.mutable_strategy()->mutable_node_affinity()->set_node_id("short");
  EXPECT_EQ(router_->Request(1, bad).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace ray::scheduling
