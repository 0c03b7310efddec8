#include "ray/scheduling/lease_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

namespace ray::scheduling {
namespace {

using base::JobId;
using base::LeaseId;
using base::WorkerId;
using resources::NodeResources;
using resources::ResourceSet;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Granted {
  ClientId client;
  uint64_t request;
  LeaseId lease;
  WorkerId worker;
  bool contended;
};

// A pool of workers that are idle at once, or come when the test says so.
class FakePool : public LeaseQueue::Actions {
 public:
  bool has_idle = true;
  std::vector<Granted> granted;
  std::deque<LeaseId> awaited;
  std::vector<std::pair<WorkerId, WorkerAfter>> released;
  std::vector<std::pair<ClientId, uint64_t>> refused;
  std::vector<std::pair<uint64_t, std::string>> given_up;
  std::vector<ClientId> reclaimed;
  std::vector<LeaseWarning> warnings;

  std::optional<WorkerId> AcquireWorker(const LeaseId& lease, const JobId&,
                                        const std::string&) override {
    if (has_idle) return WorkerId::Random();
    awaited.push_back(lease);
    return std::nullopt;
  }
  void AbandonWorker(const LeaseId& lease) override { std::erase(awaited, lease); }
  void ReleaseWorker(const WorkerId& worker, WorkerAfter after) override {
    released.emplace_back(worker, after);
  }
  void GrantLease(const LeaseGrant& grant) override {
    granted.push_back({grant.client, grant.request_id, grant.lease, grant.worker, grant.contended});
  }
  void RefuseLease(ClientId client, uint64_t request) override {
    refused.emplace_back(client, request);
  }
  void GiveUp(ClientId, uint64_t request, const std::string& why) override {
    given_up.emplace_back(request, why);
  }
  void ReclaimLeases(ClientId client) override { reclaimed.push_back(client); }
  void Warn(const LeaseWarning& warning) override { warnings.push_back(warning); }
};

class LeaseQueueTest : public ::testing::Test {
 protected:
  LeaseQueueTest() { MakeQueue({{"CPU", 2}, {"memory", 1000}}); }

  void MakeQueue(const ResourceSet& total, const LeaseQueue::Options& options = {}) {
    queue_ = std::make_unique<LeaseQueue>(options, NodeResources(total), &clock_, &pool_);
  }
  // Asks, in order, for requests 1, 2, ... of each client.
  uint64_t Ask(ClientId client, const ResourceSet& resources) {
    const uint64_t id = ++last_request_[client];
    EXPECT_TRUE(queue_
                    ->Request({.client = client,
                               .request_id = id,
                               .resources = resources,
                               .job = base::JobIdFromInt(1),
                               .task_name = "f"})
                    .ok());
    queue_->CheckInvariants();
    return id;
  }
  void Return(const Granted& granted) {
    EXPECT_TRUE(queue_->Return(granted.client, granted.lease, LeaseEnd::kDone).ok());
    queue_->CheckInvariants();
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    queue_->Tick();
    queue_->CheckInvariants();
  }
  std::vector<ClientId> GrantedClients() const {
    std::vector<ClientId> clients;
    for (const Granted& granted : pool_.granted) clients.push_back(granted.client);
    return clients;
  }

  base::VirtualClock clock_;
  FakePool pool_;
  std::map<ClientId, uint64_t> last_request_;
  std::unique_ptr<LeaseQueue> queue_;
};

const ResourceSet kOneCpu{{"CPU", 1}};
const ResourceSet kTwoCpus{{"CPU", 2}};

TEST_F(LeaseQueueTest, GrantsWhatFitsAndQueuesTheRest) {
  for (int i = 0; i < 3; ++i) Ask(1, kOneCpu);
  EXPECT_EQ(pool_.granted.size(), 2u);
  EXPECT_EQ(queue_->queued(), 1u);
  Return(pool_.granted[0]);
  ASSERT_EQ(pool_.granted.size(), 3u);
  EXPECT_EQ(pool_.granted[2].request, 3u);
  EXPECT_EQ(pool_.released.size(), 1u);
  EXPECT_EQ(pool_.released[0].second, WorkerAfter::kReuse);
}

TEST_F(LeaseQueueTest, SharesBetweenClientsInTurn) {
  MakeQueue(kOneCpu);
  for (int i = 0; i < 4; ++i) Ask(1, kOneCpu);
  for (int i = 0; i < 2; ++i) Ask(2, kOneCpu);
  for (size_t i = 0; i < 6; ++i) Return(pool_.granted.at(i));
  EXPECT_THAT(GrantedClients(), ElementsAre(1, 1, 2, 1, 2, 1));
}

TEST_F(LeaseQueueTest, GrantsInOrderWithinAClass) {
  MakeQueue(kOneCpu);
  for (int i = 0; i < 5; ++i) Ask(1, kOneCpu);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(pool_.granted.at(i).request, i + 1);
    Return(pool_.granted[i]);
  }
}

TEST_F(LeaseQueueTest, SmallRequestPassesALargeOneThatDoesNotFitYet) {
  Ask(1, kOneCpu);
  Ask(1, kTwoCpus);
  Ask(2, kOneCpu);
  EXPECT_THAT(GrantedClients(), ElementsAre(1, 2));
}

TEST_F(LeaseQueueTest, LargeRequestIsNotStarvedByAStreamOfSmallOnes) {
  for (int i = 0; i < 100; ++i) Ask(1, kOneCpu);
  const uint64_t large = Ask(2, kTwoCpus);
  bool large_granted = false;
  // Each lease lasts 100 ms, and they never end at the same time.
  for (size_t i = 0; i < 80 && !large_granted; ++i) {
    Advance(absl::Milliseconds(50));
    Return(pool_.granted.at(i));
    large_granted = std::any_of(
        pool_.granted.begin(), pool_.granted.end(),
        [&](const Granted& granted) { return granted.client == 2 && granted.request == large; });
  }
  EXPECT_TRUE(large_granted);
}

TEST_F(LeaseQueueTest, HoldsYoungerRequestsBackOnlyEveryOtherPeriod) {
  Ask(1, kOneCpu);  // lasts for ever
  Ask(1, kTwoCpus);
  Advance(absl::Seconds(3));  // in the second period of 2 s
  Ask(2, kOneCpu);
  EXPECT_EQ(pool_.granted.size(), 1u);
  Advance(absl::Seconds(1.5));
  EXPECT_EQ(pool_.granted.size(), 2u);
}

TEST_F(LeaseQueueTest, DoesNotHoldRequestsBackForOneThatWaitsForAnActor) {
  ASSERT_TRUE(queue_->AllocateActor(kOneCpu).has_value());
  Ask(1, kTwoCpus);
  Advance(absl::Seconds(3));
  Ask(2, kOneCpu);
  EXPECT_THAT(GrantedClients(), ElementsAre(2));
}

TEST_F(LeaseQueueTest, ZeroResourcesAreAlwaysThere) {
  Ask(1, kTwoCpus);
  Ask(1, {});
  EXPECT_EQ(pool_.granted.size(), 2u);
}

TEST_F(LeaseQueueTest, CancelledRequestIsNeverGranted) {
  Ask(1, kTwoCpus);
  const uint64_t second = Ask(1, kTwoCpus);
  const uint64_t third = Ask(1, kTwoCpus);
  EXPECT_TRUE(queue_->Cancel(1, second));
  EXPECT_FALSE(queue_->Cancel(1, second));
  Return(pool_.granted[0]);
  ASSERT_EQ(pool_.granted.size(), 2u);
  EXPECT_EQ(pool_.granted[1].request, third);
  EXPECT_FALSE(queue_->Cancel(1, third)) << "it was granted";
}

TEST_F(LeaseQueueTest, CancelOfALargeRequestLetsOthersPass) {
  Ask(1, kOneCpu);
  const uint64_t large = Ask(1, kTwoCpus);
  Advance(absl::Seconds(3));
  Ask(2, kOneCpu);
  ASSERT_EQ(pool_.granted.size(), 1u);
  queue_->Cancel(1, large);
  EXPECT_EQ(pool_.granted.size(), 2u);
}

TEST_F(LeaseQueueTest, HoldsResourcesWhileAWorkerStarts) {
  pool_.has_idle = false;
  for (int i = 0; i < 3; ++i) Ask(1, kOneCpu);
  EXPECT_EQ(pool_.awaited.size(), 2u) << "one worker for each that fits";
  const WorkerId worker = WorkerId::Random();
  queue_->WorkerReady(pool_.awaited.front(), worker);
  queue_->CheckInvariants();
  ASSERT_EQ(pool_.granted.size(), 1u);
  EXPECT_EQ(pool_.granted[0].worker, worker);
  EXPECT_EQ(pool_.granted[0].request, 1u);
}

TEST_F(LeaseQueueTest, CancelWhileAWorkerStartsGivesTheResourcesToTheNext) {
  pool_.has_idle = false;
  Ask(1, kTwoCpus);
  Ask(2, kTwoCpus);
  const LeaseId first = pool_.awaited.front();
  EXPECT_TRUE(queue_->Cancel(1, 1));
  queue_->CheckInvariants();
  ASSERT_EQ(pool_.awaited.size(), 1u);
  EXPECT_NE(pool_.awaited.front(), first);
}

TEST_F(LeaseQueueTest, RefusesARequestIdThatIsInUse) {
  Ask(1, kTwoCpus);
  Ask(1, kTwoCpus);
  EXPECT_EQ(queue_->Request({.client = 1, .request_id = 2}).code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(queue_->Request({.client = 2, .request_id = 2}).ok());
}

TEST_F(LeaseQueueTest, IgnoresReturnsOfUnknownForeignAndEndedLeases) {
  Ask(1, kOneCpu);
  const Granted& granted = pool_.granted[0];
  EXPECT_EQ(queue_->Return(1, LeaseId::Random(), LeaseEnd::kDone).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(queue_->Return(2, granted.lease, LeaseEnd::kDone).code(), absl::StatusCode::kNotFound);
  Return(granted);
  EXPECT_EQ(queue_->Return(1, granted.lease, LeaseEnd::kDone).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(pool_.released.size(), 1u);
}

TEST_F(LeaseQueueTest, BrokenWorkerIsNotReused) {
  Ask(1, kOneCpu);
  EXPECT_TRUE(queue_->Return(1, pool_.granted[0].lease, LeaseEnd::kBroken).ok());
  EXPECT_THAT(pool_.released,
              ElementsAre(testing::Pair(pool_.granted[0].worker, WorkerAfter::kEnd)));
}

TEST_F(LeaseQueueTest, WorkerThatUsedADeviceIsNotReused) {
  MakeQueue({{"CPU", 1}, {"GPU", 1}});
  Ask(1, {{"GPU", 0.5}});
  Return(pool_.granted[0]);
  EXPECT_THAT(pool_.released,
              ElementsAre(testing::Pair(pool_.granted[0].worker, WorkerAfter::kRetire)));
}

TEST_F(LeaseQueueTest, ClientsEndDropsItsRequestsAndLeases) {
  Ask(1, kOneCpu);
  Ask(1, kOneCpu);
  Ask(1, kTwoCpus);
  Ask(2, kTwoCpus);
  queue_->ClientGone(1);
  queue_->CheckInvariants();
  EXPECT_THAT(GrantedClients(), ElementsAre(1, 1, 2));
  EXPECT_EQ(queue_->queued(), 0u);
  for (const auto& [worker, after] : pool_.released) EXPECT_EQ(after, WorkerAfter::kKill);
  EXPECT_EQ(pool_.released.size(), 2u);
}

TEST_F(LeaseQueueTest, WorkersEndGivesItsResourcesToTheNext) {
  Ask(1, kTwoCpus);
  Ask(1, kTwoCpus);
  queue_->WorkerGone(pool_.granted[0].worker);
  queue_->CheckInvariants();
  EXPECT_EQ(pool_.granted.size(), 2u);
  EXPECT_THAT(pool_.released, IsEmpty()) << "it is gone";
}

TEST_F(LeaseQueueTest, BlockedWorkerLendsItsCpusOnly) {
  MakeQueue({{"CPU", 2}, {"custom", 1}});
  Ask(1, {{"CPU", 2}, {"custom", 1}});
  Ask(1, {{"CPU", 1}, {"custom", 1}});
  Ask(2, kTwoCpus);
  queue_->SetBlocked(pool_.granted[0].worker, true);
  queue_->CheckInvariants();
  EXPECT_THAT(GrantedClients(), ElementsAre(1, 2));
}

TEST_F(LeaseQueueTest, WorkerThatRunsAgainMayOversubscribe) {
  Ask(1, kTwoCpus);
  queue_->SetBlocked(pool_.granted[0].worker, true);
  queue_->SetBlocked(pool_.granted[0].worker, true);
  Ask(1, kTwoCpus);
  ASSERT_EQ(pool_.granted.size(), 2u);
  queue_->SetBlocked(pool_.granted[0].worker, false);
  queue_->SetBlocked(pool_.granted[0].worker, false);
  queue_->CheckInvariants();
  EXPECT_EQ(queue_->resources().available().Get("CPU"), base::FixedPoint::FromInt(-2));
  Ask(1, kOneCpu);
  Return(pool_.granted[1]);
  EXPECT_EQ(pool_.granted.size(), 2u) << "the node is still full";
  Return(pool_.granted[0]);
  EXPECT_EQ(pool_.granted.size(), 3u);
}

// Its word that it runs again comes over another connection than the return, and may come later.
TEST_F(LeaseQueueTest, ReturnOvertakesTheWordThatTheWorkerRunsAgain) {
  Ask(1, kOneCpu);
  queue_->SetBlocked(pool_.granted[0].worker, true);
  Return(pool_.granted[0]);
  EXPECT_THAT(pool_.released,
              ElementsAre(testing::Pair(pool_.granted[0].worker, WorkerAfter::kReuse)));
  EXPECT_EQ(queue_->resources().available(), queue_->resources().total());
}

TEST_F(LeaseQueueTest, ActorHoldsWhatItShrinksTo) {
  const auto actor = queue_->AllocateActor({{"CPU", 1}, {"memory", 10}});
  ASSERT_TRUE(actor.has_value());
  EXPECT_FALSE(queue_->AllocateActor(kTwoCpus).has_value());
  const WorkerId worker = WorkerId::Random();
  queue_->AttachActorWorker(*actor, worker);
  queue_->SetBlocked(worker, true);
  queue_->ShrinkActor(*actor, {{"memory", 10}});
  queue_->CheckInvariants();
  EXPECT_EQ(queue_->AllocationOf(*actor)->quantities(), (ResourceSet{{"memory", 10}}));
  EXPECT_EQ(queue_->resources().available().Get("CPU"), base::FixedPoint::FromInt(2));
  queue_->WorkerGone(worker);
  queue_->ReleaseActor(*actor);  // harmless
  EXPECT_EQ(queue_->resources().available(), queue_->resources().total());
}

TEST_F(LeaseQueueTest, AsksHoldersOfOtherClassesToReturnIdleLeases) {
  Ask(1, kTwoCpus);
  EXPECT_THAT(pool_.reclaimed, IsEmpty());
  Ask(2, kOneCpu);
  EXPECT_THAT(pool_.reclaimed, ElementsAre(1));
  Advance(absl::Milliseconds(5));
  EXPECT_THAT(pool_.reclaimed, ElementsAre(1)) << "not more often than the interval";
  Advance(absl::Milliseconds(20));
  EXPECT_THAT(pool_.reclaimed, ElementsAre(1, 1));
}

TEST_F(LeaseQueueTest, DoesNotAskAClientForLeasesOfTheOneClassThatWaits) {
  for (int i = 0; i < 3; ++i) Ask(1, kOneCpu);
  Advance(absl::Seconds(1));
  EXPECT_THAT(pool_.reclaimed, IsEmpty());
}

TEST_F(LeaseQueueTest, SaysOfALeaseWhetherOthersWaitForIt) {
  MakeQueue(kOneCpu);
  for (int i = 0; i < 2; ++i) Ask(1, kOneCpu);
  for (int i = 0; i < 2; ++i) Ask(2, kOneCpu);
  for (size_t i = 0; i < 4; ++i) Return(pool_.granted.at(i));
  std::vector<bool> contended;
  for (const Granted& granted : pool_.granted) contended.push_back(granted.contended);
  EXPECT_THAT(GrantedClients(), ElementsAre(1, 1, 2, 2));
  // Nobody waits yet; client 2 does; only more of the same; nobody any more.
  EXPECT_THAT(contended, ElementsAre(false, true, false, false));
}

TEST_F(LeaseQueueTest, WarnsOnceOfAnInfeasibleRequestAndNamesWhatIsMissing) {
  Ask(1, {{"CPU", 1}, {"TPU", 3}});
  Ask(1, {{"CPU", 1}, {"TPU", 3}});
  Advance(absl::Seconds(4));
  EXPECT_THAT(pool_.warnings, IsEmpty());
  for (int i = 0; i < 5; ++i) Advance(absl::Seconds(2));
  ASSERT_EQ(pool_.warnings.size(), 1u);
  EXPECT_TRUE(pool_.warnings[0].infeasible);
  EXPECT_EQ(pool_.warnings[0].request_id, 1u);
  EXPECT_THAT(pool_.warnings[0].message, HasSubstr("needs 3 TPU (this node has 0)"));
  EXPECT_THAT(pool_.warnings[0].message, HasSubstr("{CPU: 2, memory: 1000}"));
  EXPECT_THAT(pool_.reclaimed, IsEmpty()) << "nobody can help it";
}

TEST_F(LeaseQueueTest, GivesUpOnAnInfeasibleRequestAfterItsTimeout) {
  MakeQueue({{"CPU", 2}}, {.infeasible_timeout = absl::Seconds(10)});
  Ask(1, {{"TPU", 3}});
  Advance(absl::Seconds(6));
  Ask(1, {{"TPU", 3}});
  Ask(2, {{"CPU", 2}});
  Ask(3, {{"CPU", 2}});
  Advance(absl::Seconds(5));
  ASSERT_EQ(pool_.given_up.size(), 1u);
  EXPECT_EQ(pool_.given_up[0].first, 1u);
  EXPECT_THAT(pool_.given_up[0].second, HasSubstr("needs 3 TPU"));
  Advance(absl::Seconds(20));
  EXPECT_EQ(pool_.given_up.size(), 2u) << "what is merely busy waits on";
  EXPECT_EQ(queue_->queued(), 1u);
}

TEST_F(LeaseQueueTest, ExplainsWhatARequestWaitsFor) {
  const uint64_t never = Ask(1, {{"TPU", 3}});
  const uint64_t first = Ask(2, kTwoCpus);
  const uint64_t second = Ask(2, kTwoCpus);
  EXPECT_THAT(queue_->Explain(1, never), HasSubstr("needs 3 TPU (this node has 0)"));
  EXPECT_EQ(queue_->Explain(2, first), "") << "it is granted";
  EXPECT_THAT(queue_->Explain(2, second),
              HasSubstr("waits for {CPU: 2}: of {CPU: 2} in total, {} is free"));
}

TEST_F(LeaseQueueTest, WarnsOnceWhileAClassWaitsForBusyResources) {
  Ask(1, kTwoCpus);
  for (int i = 0; i < 3; ++i) Ask(2, kTwoCpus);
  for (int i = 0; i < 5; ++i) Advance(absl::Seconds(2));
  ASSERT_EQ(pool_.warnings.size(), 1u);
  EXPECT_FALSE(pool_.warnings[0].infeasible);
  EXPECT_EQ(pool_.warnings[0].client, 2u);
}

TEST_F(LeaseQueueTest, WarnsWhenNoWorkerStarts) {
  pool_.has_idle = false;
  Ask(1, kOneCpu);
  Advance(absl::Seconds(6));
  Advance(absl::Seconds(6));
  ASSERT_EQ(pool_.warnings.size(), 1u);
  EXPECT_THAT(pool_.warnings[0].message, HasSubstr("worker process"));
}

TEST_F(LeaseQueueTest, NeedsNoTickWhenNothingWaits) {
  EXPECT_EQ(queue_->NextTick(), absl::InfiniteFuture());
  Ask(1, kTwoCpus);
  EXPECT_EQ(queue_->NextTick(), absl::InfiniteFuture());
  Ask(1, kTwoCpus);
  queue_->Tick();
  EXPECT_EQ(queue_->NextTick(), clock_.Now() + absl::Milliseconds(20));
}

TEST_F(LeaseQueueTest, CostDoesNotGrowWithAMillionQueuedRequests) {
  MakeQueue(kOneCpu);
  constexpr int kRequests = 1'000'000;
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_TRUE(queue_
                    ->Request({.client = 1,
                               .request_id = static_cast<uint64_t>(i),
                               .resources = kOneCpu,
                               .job = base::JobIdFromInt(1),
                               .task_name = "f"})
                    .ok());
  }
  const int64_t start = base::MonotonicNanos();
  for (size_t i = 0; i < 10'000; ++i) {
    const Granted granted = pool_.granted.at(i);
    ASSERT_TRUE(queue_->Return(1, granted.lease, LeaseEnd::kDone).ok());
  }
  // Microseconds a decision; a scan of the queue would take milliseconds.
  EXPECT_LT(base::MonotonicNanos() - start, 3'000'000'000);
  for (uint64_t i = kRequests - 1; i >= kRequests / 2; --i) ASSERT_TRUE(queue_->Cancel(1, i));
  queue_->ClientGone(1);
  EXPECT_EQ(queue_->queued(), 0u);
}

// Random clients, requests, deaths and delays; a checker that knows what may be granted.
class RandomUse {
 public:
  explicit RandomUse(uint32_t seed) : random_(seed) {}

  void Run(int steps) {
    for (int step = 0; step < steps; ++step) {
      Step();
      queue_.CheckInvariants();
      Check();
    }
    Drain();
  }

 private:
  enum class Request { kOpen, kGranted, kClosed };

  uint32_t Any(uint32_t below) { return static_cast<uint32_t>(random_() % below); }

  void Step() {
    pool_.has_idle = Any(3) > 0;
    switch (Any(9)) {
      case 0:
      case 1:
      case 2:
        return Ask();
      case 3:
      case 4:
        return EndSomeLease();
      case 5:
        return BlockSomeWorker();
      case 6:
        return ServeSomeLease();
      case 7:
        return CancelSomeRequest();
      case 8:
        return ChangeSomeGroup();
      case 9:
        if (Any(10) == 0) return LoseSomeClient();
        clock_.Advance(absl::Milliseconds(Any(500)));
        return queue_.Tick();
    }
  }

  void Ask() {
    const ClientId client = first_client_ + Any(4);
    const uint64_t id = next_request_++;
    const ResourceSet shapes[] = {{{"CPU", 1}},   {{"CPU", 0.5}}, {{"CPU", 4}}, {},
                                  {{"GPU", 0.5}}, {{"GPU", 1}},   {{"TPU", 1}}};
    requests_[{client, id}] = Request::kOpen;
    BundleRef bundle;
    if (Any(2) == 0) bundle = {groups_[Any(3)], static_cast<int>(Any(3)) - 1};
    ASSERT_TRUE(queue_
                    .Request({.client = client,
                              .request_id = id,
                              .resources = shapes[Any(7)],
                              .job = base::JobIdFromInt(1 + Any(2)),
                              .bundle = bundle})
                    .ok());
  }
  void ChangeSomeGroup() {
    const base::PlacementGroupId& group = groups_[Any(3)];
    switch (Any(4)) {
      case 0:
        queue_.PrepareBundles(group, {{0, {{"CPU", 1}, {"GPU", 0.5}}}, {1, {{"CPU", 1}}}});
        return;
      case 1:
        return queue_.CommitBundles(group, {Any(2)});
      case 2:
        queue_.ReturnBundles(group, {Any(2)});
        break;
      case 3:
        queue_.RemoveGroup(group);
        break;
    }
    for (; seen_released_ < pool_.released.size(); ++seen_released_) {
      const WorkerId& worker = pool_.released[seen_released_].first;
      std::erase_if(live_, [&](const Granted& granted) { return granted.worker == worker; });
    }
  }
  void EndSomeLease() {
    if (live_.empty()) return;
    const Granted granted = live_[Any(static_cast<uint32_t>(live_.size()))];
    RemoveLive(granted.lease);
    if (Any(4) == 0) return queue_.WorkerGone(granted.worker);
    ASSERT_TRUE(queue_
                    .Return(granted.client, granted.lease,
                            Any(5) == 0 ? LeaseEnd::kBroken : LeaseEnd::kDone)
                    .ok());
  }
  void BlockSomeWorker() {
    if (live_.empty()) return;
    queue_.SetBlocked(live_[Any(static_cast<uint32_t>(live_.size()))].worker, Any(2) == 0);
  }
  void ServeSomeLease() {
    if (pool_.awaited.empty()) return;
    const LeaseId lease = pool_.awaited[Any(static_cast<uint32_t>(pool_.awaited.size()))];
    std::erase(pool_.awaited, lease);
    queue_.WorkerReady(lease, WorkerId::Random());
  }
  void CancelSomeRequest() {
    if (requests_.empty()) return;
    auto it = std::next(requests_.begin(), Any(static_cast<uint32_t>(requests_.size())));
    const bool was_open = it->second == Request::kOpen;
    ASSERT_EQ(queue_.Cancel(it->first.first, it->first.second), was_open);
    if (was_open) it->second = Request::kClosed;
  }
  void LoseSomeClient() {
    const ClientId client = first_client_++;
    for (auto& [key, state] : requests_) {
      if (key.first == client) state = Request::kClosed;
    }
    std::erase_if(live_, [&](const Granted& granted) { return granted.client == client; });
    queue_.ClientGone(client);
  }

  void RemoveLive(const LeaseId& lease) {
    std::erase_if(live_, [&](const Granted& granted) { return granted.lease == lease; });
  }

  void Check() {
    for (; seen_ < pool_.granted.size(); ++seen_) {
      const Granted& granted = pool_.granted[seen_];
      auto it = requests_.find({granted.client, granted.request});
      ASSERT_NE(it, requests_.end());
      ASSERT_EQ(it->second, Request::kOpen) << "granted twice, or after its end";
      it->second = Request::kGranted;
      live_.push_back(granted);
    }
    for (; seen_refused_ < pool_.refused.size(); ++seen_refused_) {
      auto it = requests_.find(pool_.refused[seen_refused_]);
      ASSERT_NE(it, requests_.end());
      ASSERT_EQ(it->second, Request::kOpen) << "refused after its end";
      it->second = Request::kClosed;
    }
    std::set<WorkerId> workers;
    for (const Granted& granted : live_) ASSERT_TRUE(workers.insert(granted.worker).second);
    ASSERT_EQ(queue_.leases(), live_.size() + pool_.awaited.size());
  }

  // Once everybody is gone all is free.
  void Drain() {
    for (ClientId client = first_client_; client < first_client_ + 4; ++client) {
      queue_.ClientGone(client);
      queue_.CheckInvariants();
    }
    for (const base::PlacementGroupId& group : groups_) queue_.RemoveGroup(group);
    queue_.CheckInvariants();
    EXPECT_EQ(queue_.queued(), 0u);
    EXPECT_EQ(queue_.leases(), 0u);
    EXPECT_EQ(queue_.resources().available(), queue_.resources().total());
  }

  std::mt19937 random_;
  base::VirtualClock clock_;
  FakePool pool_;
  LeaseQueue queue_{LeaseQueue::Options(), NodeResources(ResourceSet{{"CPU", 4}, {"GPU", 2}}),
                    &clock_, &pool_};
  ClientId first_client_ = 1;
  uint64_t next_request_ = 1;
  std::map<std::pair<ClientId, uint64_t>, Request> requests_;
  const base::PlacementGroupId groups_[3] = {base::PlacementGroupId::Random(),
                                             base::PlacementGroupId::Random(),
                                             base::PlacementGroupId::Random()};
  std::vector<Granted> live_;
  size_t seen_ = 0;
  size_t seen_released_ = 0;
  size_t seen_refused_ = 0;
};

class LeaseQueueRandomTest : public ::testing::TestWithParam<uint32_t> {};

TEST_P(LeaseQueueRandomTest, KeepsItsInvariants) { RandomUse(GetParam()).Run(3000); }

INSTANTIATE_TEST_SUITE_P(Seeds, LeaseQueueRandomTest, ::testing::Range(1u, 9u));

}  // namespace
}  // namespace ray::scheduling
