// Leases between the raylets of two nodes, as a driver of the first one sees them.
#include <gmock/gmock.h>

#include "tests/cpp/integration/raylet_fixture.h"

namespace ray::raylet {
namespace {

using resources::ResourceSet;
using ::testing::HasSubstr;
using wire::v1::RequestLeaseReply;

class TwoRayletsTest : public RayletFixture {
 protected:
  void SetUp() override {
    RayletFixture::SetUp();
    there_session_ = session_ + "/there";
    mkdir(there_session_.c_str(), 0700);
    mkdir((there_session_ + "/logs").c_str(), 0700);
    there_ = MakeRaylet(there_session_, {{"CPU", 2}, {"one", 1}}, {{"zone", "b"}});
    driver_ = Driver();
    ASSERT_TRUE(WaitUntilTheyKnowEachOther(*raylet_, *there_));
  }
  void TearDown() override {
    driver_.reset();
    workers_.clear();
    there_.reset();
    RayletFixture::TearDown();
  }

  std::shared_ptr<RequestLeaseReply> Ask(const wire::v1::RequestLease& request) {
    auto reply = std::make_shared<RequestLeaseReply>();
    driver_->connection().Call(wire::v1::REQUEST_LEASE, request,
                               [reply](absl::StatusOr<net::Frame> frame) {
                                 if (frame.ok())
                                   reply->ParseFromString(std::string(frame->metadata));
                               });
    return reply;
  }
  std::shared_ptr<RequestLeaseReply> Ask(const ResourceSet& resources) {
    return Ask(LeaseFor(*driver_, ++last_request_, resources));
  }
  bool WaitFor(const std::shared_ptr<RequestLeaseReply>& reply,
               RequestLeaseReply::Outcome outcome) {
    return Poll([&] { return reply->outcome() == outcome; });
  }
  // A lease of one CPU at the other node, with its worker.
  std::shared_ptr<RequestLeaseReply> LeaseThere() {
    auto reply = Ask(ResourceSet{{"CPU", 1}, {"one", 1}});
    workers_.push_back(WorkerOf(*there_, &workers_there_));
    EXPECT_TRUE(WaitFor(reply, RequestLeaseReply::GRANTED));
    EXPECT_EQ(reply->worker().node_id(), there_->identity().id.Binary());
    EXPECT_EQ(reply->worker().worker_id(), workers_.back()->id.Binary());
    return reply;
  }
  void Return(const RequestLeaseReply& granted) {
    wire::v1::ReturnLease message;
    message.set_lease_id(granted.lease_id());
    driver_->Send(wire::v1::RETURN_LEASE, message);
  }

  std::string there_session_;
  std::unique_ptr<Raylet> there_;
  size_t workers_there_ = 0;
  std::unique_ptr<TestClient> driver_;
  std::vector<std::unique_ptr<TestClient>> workers_;
  uint64_t last_request_ = 0;
};

TEST_F(TwoRayletsTest, ALeaseIsGrantedWhereItsResourcesAreAndReturnedThere) {
  const auto first = LeaseThere();
  const auto second = Ask(ResourceSet{{"one", 1}});
  Return(*first);
  ASSERT_TRUE(WaitFor(second, RequestLeaseReply::GRANTED));
  EXPECT_EQ(second->worker().worker_id(), first->worker().worker_id()) << "the worker is reused";
  EXPECT_EQ(workers_there_, 1u);
}

TEST_F(TwoRayletsTest, TheNodeWithGpusIsUsedOnceTheOtherIsFull) {
  const auto first = Ask(ResourceSet{{"CPU", 2}});
  workers_.push_back(WorkerOf(*there_, &workers_there_));
  ASSERT_TRUE(WaitFor(first, RequestLeaseReply::GRANTED));
  EXPECT_EQ(first->worker().node_id(), there_->identity().id.Binary());
  const auto second = Ask(ResourceSet{{"CPU", 2}});
  workers_.push_back(Worker());
  ASSERT_TRUE(WaitFor(second, RequestLeaseReply::GRANTED));
  EXPECT_EQ(second->worker().node_id(), raylet_->identity().id.Binary());
}

TEST_F(TwoRayletsTest, ARequestThatWaitsThereCanBeCancelledAndExplained) {
  const auto first = LeaseThere();
  const auto second = Ask(ResourceSet{{"one", 1}});
  wire::v1::PendingWarning warning;
  // The first one may have waited for its worker to start.
  while (warning.request_id() != last_request_ && !HasFailure()) {
    warning = driver_->Next(wire::v1::TASK_PENDING_WARNING).As<wire::v1::PendingWarning>();
  }
  EXPECT_FALSE(warning.infeasible());
  wire::v1::ExplainLease question;
  question.set_request_id(last_request_);
  const auto why = driver_->Call<wire::v1::LeaseExplanation>(wire::v1::EXPLAIN_LEASE, question);
  EXPECT_THAT(why.message(), HasSubstr("waits for {one: 1}"));
  wire::v1::CancelLease cancel;
  cancel.set_request_id(last_request_);
  driver_->Send(wire::v1::CANCEL_LEASE, cancel);
  EXPECT_TRUE(WaitFor(second, RequestLeaseReply::CANCELLED));
}

TEST_F(TwoRayletsTest, HoldersOfLeasesThereAreAskedForThemWhenOthersWaitThere) {
  LeaseThere();
  auto other = Driver();
  other->connection().Call(wire::v1::REQUEST_LEASE, LeaseFor(*other, 1, {{"one", 1}}),
                           [](const absl::StatusOr<net::Frame>&) {});
  driver_->Next(wire::v1::RECLAIM_LEASES);
}

TEST_F(TwoRayletsTest, TheEndOfADriverEndsItsWorkersThere) {
  LeaseThere();
  const pid_t pid = workers_.back()->pid;
  driver_.reset();
  EXPECT_TRUE(WaitDead(pid));
  driver_ = Driver();
  last_request_ = 0;
  LeaseThere();
}

TEST_F(TwoRayletsTest, TheEndOfARayletEndsWhatItsProcessesHoldElsewhere) {
  // A driver of the other node takes a worker of this one.
  auto visitor = ConnectTo(*there_);
  visitor->welcome =
      visitor->Call<wire::v1::HelloReply>(wire::v1::HELLO, HelloOf(*visitor, wire::v1::DRIVER));
  RequestLeaseReply reply;
  visitor->connection().Call(wire::v1::REQUEST_LEASE, LeaseFor(*visitor, 1, {{"GPU", 1}}),
                             [&](absl::StatusOr<net::Frame> frame) {
                               if (frame.ok()) reply.ParseFromString(std::string(frame->metadata));
                             });
  workers_.push_back(Worker());
  ASSERT_TRUE(Poll([&] { return reply.outcome() == RequestLeaseReply::GRANTED; }));
  EXPECT_EQ(reply.instances().at("GPU").ids_size(), 1);
  there_.reset();
  EXPECT_TRUE(WaitDead(workers_.back()->pid));
}

TEST_F(TwoRayletsTest, RequestsOfADeadNodeArePlacedAnew) {
  const auto held = Ask(ResourceSet{{"CPU", 2}, {"GPU", 1}});
  workers_.push_back(Worker());
  ASSERT_TRUE(WaitFor(held, RequestLeaseReply::GRANTED));
  const auto waits = Ask(ResourceSet{{"CPU", 1}});
  // It has its resources there, and waits for a worker that never comes.
  ASSERT_TRUE(Poll([&] { return !ForksIn(there_session_).empty(); }));
  there_.reset();
  Return(*held);
  workers_.push_back(Worker());  // the first one has used a device, and ends
  EXPECT_TRUE(WaitFor(waits, RequestLeaseReply::GRANTED));
  EXPECT_EQ(waits->worker().node_id(), raylet_->identity().id.Binary());
}

TEST_F(TwoRayletsTest, AffinityAndLabelsChooseTheNode) {
  wire::v1::RequestLease request = LeaseFor(*driver_, ++last_request_, {{"CPU", 1}});
  auto* affinity = request.mutable_strategy()->mutable_node_affinity();
  affinity->set_node_id(there_->identity().id.BinaryString());
  const auto by_id = Ask(request);
  workers_.push_back(WorkerOf(*there_, &workers_there_));
  ASSERT_TRUE(WaitFor(by_id, RequestLeaseReply::GRANTED));
  EXPECT_EQ(by_id->worker().node_id(), there_->identity().id.Binary());
  Return(*by_id);

  request = LeaseFor(*driver_, ++last_request_, {{"CPU", 1}});
  auto* rule = request.mutable_strategy()->add_required_labels();
  rule->set_key("zone");
  rule->set_kind(wire::v1::SchedulingStrategy::LabelCondition::IN);
  rule->add_values("b");
  const auto by_label = Ask(request);
  ASSERT_TRUE(WaitFor(by_label, RequestLeaseReply::GRANTED));
  EXPECT_EQ(by_label->worker().node_id(), there_->identity().id.Binary());
}

TEST_F(TwoRayletsTest, ALeaseOfABundleComesFromItsNode) {
  wire::v1::PlacementGroupSpec group;
  const auto id =
      base::PlacementGroupId::FromBinary(std::string(14, 'g') + driver_->welcome.job_id());
  ASSERT_TRUE(id.ok());
  group.set_placement_group_id(id->BinaryString());
  group.set_strategy(wire::v1::STRICT_SPREAD);
  for (int i = 0; i < 2; ++i) {
    *group.add_bundles()->mutable_resources() = ResourceSet{{"CPU", 1}}.ToWire();
  }
  driver_->Call<wire::v1::StatusReply>(wire::v1::CREATE_PLACEMENT_GROUP, group);
  std::vector<std::shared_ptr<RequestLeaseReply>> replies;
  for (int i = 0; i < 2; ++i) {
    wire::v1::RequestLease request = LeaseFor(*driver_, ++last_request_, {{"CPU", 1}});
    auto* bundle = request.mutable_strategy()->mutable_bundle();
    bundle->set_placement_group_id(id->BinaryString());
    bundle->set_bundle_index(i);
    replies.push_back(Ask(request));
  }
  workers_.push_back(Worker());
  workers_.push_back(WorkerOf(*there_, &workers_there_));
  for (const auto& reply : replies) ASSERT_TRUE(WaitFor(reply, RequestLeaseReply::GRANTED));
  EXPECT_NE(replies[0]->worker().node_id(), replies[1]->worker().node_id());

  // Any bundle: the one that is free, wherever it is.
  Return(*replies[1]);
  wire::v1::RequestLease any = LeaseFor(*driver_, ++last_request_, {{"CPU", 1}});
  any.mutable_strategy()->mutable_bundle()->set_placement_group_id(id->BinaryString());
  any.mutable_strategy()->mutable_bundle()->set_bundle_index(-1);
  const auto reply = Ask(any);
  ASSERT_TRUE(WaitFor(reply, RequestLeaseReply::GRANTED));
  EXPECT_EQ(reply->worker().node_id(), replies[1]->worker().node_id());
}

}  // namespace
}  // namespace ray::raylet
