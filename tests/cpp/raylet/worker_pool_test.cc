#include "ray/raylet/worker_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <set>

namespace ray::raylet {
namespace {

using base::JobId;
using base::LeaseId;
using base::WorkerId;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;
using Use = WorkerPool::Use;

const JobId kJobA = base::JobIdFromInt(1);
const JobId kJobB = base::JobIdFromInt(2);

struct Ready {
  Use use;
  LeaseId lease;
  WorkerId worker;
};

class RecordedActions : public WorkerPool::Actions {
 public:
  std::deque<StartupToken> forks;
  std::vector<pid_t> killed;
  std::vector<WorkerId> asked;
  std::vector<WorkerId> disconnected;
  std::vector<Ready> ready;
  std::vector<WorkerDeath> deaths;
  absl::Time deadline = absl::InfiniteFuture();

  std::vector<std::string> environments;  // of the forks
  std::vector<std::pair<LeaseId, std::string>> failed;

  void Fork(StartupToken token, const std::string& environment) override {
    forks.push_back(token);
    environments.push_back(environment);
  }
  void EnvironmentFailed(Use, const LeaseId& lease, const std::string& why) override {
    failed.emplace_back(lease, why);
  }
  void Kill(pid_t pid) override { killed.push_back(pid); }
  void AskToExit(const WorkerId& worker, std::string_view) override { asked.push_back(worker); }
  void Disconnect(const WorkerId& worker) override { disconnected.push_back(worker); }
  void WorkerReady(Use use, const LeaseId& lease, const WorkerId& worker) override {
    ready.push_back({use, lease, worker});
  }
  void WorkerDied(const WorkerDeath& death) override { deaths.push_back(death); }
  void SetDeadline(absl::Time when) override { deadline = when; }
};

class WorkerPoolTest : public ::testing::Test {
 protected:
  void MakePool(WorkerPool::Options options) {
    pool_ = std::make_unique<WorkerPool>(options, &clock_, &actions_);
  }
  WorkerPoolTest() { MakePool({.num_cpus = 2, .prestart = 2}); }

  // The oldest fork asked for comes up.
  WorkerId ComeUp() {
    const StartupToken token = actions_.forks.front();
    actions_.forks.pop_front();
    pool_->Forked(token, PidOf(token));
    return SayHello(token);
  }
  WorkerId SayHello(StartupToken token) {
    const WorkerId worker = WorkerId::Random();
    EXPECT_TRUE(pool_->Expects(token));
    pool_->Register(token, worker, PidOf(token));
    tokens_[worker] = token;
    pool_->CheckInvariants();
    return worker;
  }
  static pid_t PidOf(StartupToken token) { return static_cast<pid_t>(1000 + token); }
  pid_t PidOf(const WorkerId& worker) { return PidOf(tokens_.at(worker)); }

  LeaseId Want(const JobId& job, Use use = Use::kTask) {
    const LeaseId lease = LeaseId::Random();
    given_ = pool_->Acquire(use, lease, job, "");
    pool_->CheckInvariants();
    return lease;
  }
  void Exit(const WorkerId& worker, ExitStatus status) {
    pool_->Exited(tokens_.at(worker), status);
    pool_->CheckInvariants();
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    if (actions_.deadline <= clock_.Now()) pool_->Tick();
    pool_->CheckInvariants();
  }

  base::VirtualClock clock_;
  RecordedActions actions_;
  std::unique_ptr<WorkerPool> pool_;
  std::map<WorkerId, StartupToken> tokens_;
  std::optional<WorkerId> given_;  // by the last Want
};

TEST(WorkerState, OnlyIdleWorkersAreGivenOut) {
  for (WorkerState to : {WorkerState::kLeased, WorkerState::kActor}) {
    EXPECT_TRUE(MayFollow(WorkerState::kIdle, to));
    EXPECT_FALSE(MayFollow(WorkerState::kStarting, to));
    EXPECT_FALSE(MayFollow(WorkerState::kExiting, to));
  }
  EXPECT_FALSE(MayFollow(WorkerState::kExiting, WorkerState::kIdle));
}

TEST_F(WorkerPoolTest, PrestartsWorkersThatAreGivenOutAtOnce) {
  pool_->Start();
  EXPECT_THAT(actions_.forks, SizeIs(2));
  const WorkerId first = ComeUp();
  EXPECT_EQ(pool_->idle(), 1u);
  Want(kJobA);
  EXPECT_EQ(given_, first);
  EXPECT_EQ(pool_->JobOf(PidOf(first)), kJobA);
}

TEST_F(WorkerPoolTest, ForksOneForEachLeaseThatWaits) {
  const LeaseId first = Want(kJobA);
  const LeaseId second = Want(kJobA);
  EXPECT_EQ(given_, std::nullopt);
  EXPECT_THAT(actions_.forks, SizeIs(2));
  const WorkerId worker = ComeUp();
  ASSERT_THAT(actions_.ready, SizeIs(1));
  EXPECT_EQ(actions_.ready[0].lease, first);
  EXPECT_EQ(actions_.ready[0].worker, worker);
  ComeUp();
  EXPECT_EQ(actions_.ready[1].lease, second);
}

TEST_F(WorkerPoolTest, ForkUnderWayServesWhoeverWaits) {
  pool_->Start();
  Want(kJobA);
  Want(kJobB);
  EXPECT_THAT(actions_.forks, SizeIs(2)) << "the prestarted ones will do";
}

TEST_F(WorkerPoolTest, LimitsForksUnderWay) {
  MakePool({.starting_max = 3});
  for (int i = 0; i < 5; ++i) Want(kJobA);
  EXPECT_THAT(actions_.forks, SizeIs(3));
  ComeUp();
  EXPECT_THAT(actions_.forks, SizeIs(3));
}

TEST_F(WorkerPoolTest, WorkerServesOneJobOnly) {
  Want(kJobA);
  const WorkerId worker = ComeUp();
  pool_->Release(worker);
  Want(kJobB);
  EXPECT_EQ(given_, std::nullopt);
  EXPECT_THAT(actions_.forks, SizeIs(1)) << "a fresh one";
  Want(kJobA);
  EXPECT_EQ(given_, worker);
}

TEST_F(WorkerPoolTest, ReleasedWorkerGoesToTheLeaseThatWaitsForItsJob) {
  Want(kJobA);
  const WorkerId worker = ComeUp();
  const LeaseId of_b = Want(kJobB);
  const LeaseId of_a = Want(kJobA);
  pool_->Release(worker);
  pool_->CheckInvariants();
  ASSERT_THAT(actions_.ready, SizeIs(2));
  EXPECT_EQ(actions_.ready[1].lease, of_a);
  ComeUp();
  EXPECT_EQ(actions_.ready[2].lease, of_b);
}

TEST_F(WorkerPoolTest, TaskPrefersAWarmWorkerAndActorAFreshOne) {
  pool_->Start();
  const WorkerId warm = ComeUp();
  Want(kJobA);
  pool_->Release(warm);
  const WorkerId fresh = ComeUp();
  Want(kJobA, Use::kActor);
  EXPECT_EQ(given_, fresh);
  Want(kJobA);
  EXPECT_EQ(given_, warm);
}

TEST_F(WorkerPoolTest, AbandonedLeaseGetsNoWorker) {
  const LeaseId lease = Want(kJobA);
  pool_->Abandon(lease);
  pool_->Abandon(lease);
  ComeUp();
  EXPECT_THAT(actions_.ready, IsEmpty());
  EXPECT_EQ(pool_->idle(), 1u);
}

TEST_F(WorkerPoolTest, KilledWorkerSaysWhyInItsDeath) {
  Want(kJobA);
  const WorkerId worker = ComeUp();
  pool_->Kill(worker, "nobody wants what it runs");
  EXPECT_THAT(actions_.killed, ElementsAre(PidOf(worker)));
  pool_->Disconnected(worker);
  Exit(worker, {.signal = 9});
  ASSERT_THAT(actions_.deaths, SizeIs(1));
  EXPECT_EQ(actions_.deaths[0].reason, "nobody wants what it runs");
}

TEST_F(WorkerPoolTest, DeathNeedsBrokenConnectionAndExitStatusInEitherOrder) {
  pool_->Start();
  const WorkerId first = ComeUp();
  const WorkerId second = ComeUp();
  pool_->Disconnected(first);
  Exit(second, {.exit_code = 3});
  EXPECT_THAT(actions_.deaths, IsEmpty());
  Exit(first, {.signal = 11});
  pool_->Disconnected(second);
  ASSERT_THAT(actions_.deaths, SizeIs(2));
  EXPECT_EQ(actions_.deaths[0].worker, first);
  EXPECT_EQ(actions_.deaths[0].status->signal, 11);
  EXPECT_EQ(actions_.deaths[1].status->exit_code, 3);
  EXPECT_EQ(pool_->size(), 0u);
}

TEST_F(WorkerPoolTest, WorkerThatOnlyDisconnectsIsKilledAndReportedSoon) {
  pool_->Start();
  const WorkerId worker = ComeUp();
  pool_->Disconnected(worker);
  EXPECT_THAT(actions_.killed, IsEmpty()) << "it may be exiting";
  Advance(absl::Milliseconds(200));
  EXPECT_THAT(actions_.killed, ElementsAre(PidOf(worker)));
  ASSERT_THAT(actions_.deaths, SizeIs(1));
  EXPECT_EQ(actions_.deaths[0].status, std::nullopt);
  Exit(worker, {.signal = 9});
  EXPECT_THAT(actions_.deaths, SizeIs(1)) << "it comes too late";
}

TEST_F(WorkerPoolTest, EndedWorkerWhoseConnectionStaysOpenIsDisconnected) {
  pool_->Start();
  const WorkerId worker = ComeUp();
  Exit(worker, {.exit_code = 0});
  Advance(absl::Milliseconds(200));
  EXPECT_THAT(actions_.disconnected, ElementsAre(worker));
  EXPECT_THAT(actions_.deaths, SizeIs(1));
  EXPECT_THAT(actions_.killed, IsEmpty());
}

TEST_F(WorkerPoolTest, DeathSaysThatItWasIntendedAndWhy) {
  Want(kJobA, Use::kActor);
  const WorkerId worker = ComeUp();
  pool_->Leaving(worker, /*intended=*/true, "exit_actor");
  pool_->Disconnected(worker);
  Exit(worker, {.exit_code = 0});
  ASSERT_THAT(actions_.deaths, SizeIs(1));
  EXPECT_TRUE(actions_.deaths[0].intended);
  EXPECT_EQ(actions_.deaths[0].reason, "exit_actor");
  EXPECT_EQ(actions_.deaths[0].job, kJobA);
}

TEST_F(WorkerPoolTest, LeavingWorkerIsGivenToNobody) {
  pool_->Start();
  const WorkerId worker = ComeUp();
  pool_->Leaving(worker, true, "sys.exit");
  Want(kJobA);
  EXPECT_EQ(given_, std::nullopt);
  pool_->Release(worker);  // harmless
  EXPECT_EQ(pool_->idle(), 0u);
}

TEST_F(WorkerPoolTest, WorkerThatDoesNotRegisterIsKilledAndForkedAgain) {
  Want(kJobA);
  const StartupToken token = actions_.forks.front();
  pool_->Forked(token, PidOf(token));
  Advance(absl::Seconds(30));
  EXPECT_THAT(actions_.killed, ElementsAre(PidOf(token)));
  EXPECT_FALSE(pool_->Expects(token));
  EXPECT_THAT(actions_.forks, SizeIs(1)) << "not at once";
  Advance(absl::Milliseconds(100));
  EXPECT_THAT(actions_.forks, SizeIs(2));
}

TEST_F(WorkerPoolTest, WorkerWithAnEnvironmentIsToldWhichAndHasMoreTime) {
  const EnvironmentHandle handle = pool_->Learn("hash", "the environment");
  const LeaseId lease = LeaseId::Random();
  EXPECT_EQ(pool_->Acquire(Use::kTask, lease, kJobA, "hash"), std::nullopt);
  EXPECT_EQ(actions_.environments.back(), "the environment");
  Advance(absl::Minutes(9));
  EXPECT_TRUE(pool_->Expects(actions_.forks.back()));
  Advance(absl::Minutes(2));
  EXPECT_FALSE(pool_->Expects(actions_.forks.front()));
}

TEST_F(WorkerPoolTest, WhoWaitsForAnEnvironmentThatFailsHearsWhy) {
  const LeaseId one = LeaseId::Random();
  const LeaseId other = LeaseId::Random();
  const LeaseId unconcerned = LeaseId::Random();
  pool_->Acquire(Use::kTask, one, kJobA, "bad");
  pool_->Acquire(Use::kActor, other, kJobB, "bad");
  pool_->Acquire(Use::kTask, unconcerned, kJobA, "good");
  ASSERT_EQ(actions_.forks.size(), 2u) << "one at a time for an environment that is new";
  const StartupToken token = actions_.forks.front();
  pool_->Forked(token, PidOf(token));
  pool_->EnvironmentFailed(token, "no such package");
  EXPECT_THAT(actions_.failed,
              UnorderedElementsAre(Pair(one, "no such package"), Pair(other, "no such package")));
  EXPECT_EQ(pool_->waiting(), 1u);
  const size_t forks = actions_.forks.size();
  pool_->Exited(token, {.exit_code = 1});
  Advance(absl::Seconds(20));
  EXPECT_EQ(actions_.forks.size(), forks) << "nobody wants it any more";
  ASSERT_THAT(actions_.deaths, SizeIs(1));
  pool_->EnvironmentFailed(token, "again");
  EXPECT_THAT(actions_.failed, SizeIs(2));
}

TEST_F(WorkerPoolTest, ForksMoreAndMoreSlowlyWhileStartsFail) {
  Want(kJobA);
  absl::Duration waited;
  for (int failures = 0; failures < 6; ++failures) {
    const size_t forks = actions_.forks.size();
    pool_->Exited(actions_.forks.back(), {.exit_code = 1});
    for (; actions_.forks.size() == forks; waited += absl::Milliseconds(100)) {
      Advance(absl::Milliseconds(100));
    }
  }
  EXPECT_EQ(waited, absl::Milliseconds(100 + 200 + 400 + 800 + 1600 + 3200));
  EXPECT_THAT(actions_.deaths, SizeIs(6));
}

TEST_F(WorkerPoolTest, ForkThatIsConfirmedTooLateIsKilled) {
  Want(kJobA);
  const StartupToken token = actions_.forks.front();
  Advance(absl::Seconds(30));
  Advance(absl::Seconds(1));
  ASSERT_THAT(actions_.deaths, SizeIs(1));
  pool_->Forked(token, 77);
  EXPECT_THAT(actions_.killed, ElementsAre(77));
}

TEST_F(WorkerPoolTest, ForksAgainWhatALostZygoteOwed) {
  Want(kJobA);
  const WorkerId registered = ComeUp();
  Want(kJobA);
  Want(kJobA);
  pool_->Forked(actions_.forks.front(), 55);
  pool_->ZygoteLost();
  pool_->CheckInvariants();
  EXPECT_THAT(actions_.killed, ElementsAre(55));
  EXPECT_THAT(actions_.forks, SizeIs(4)) << "two more";
  EXPECT_TRUE(pool_->JobOf(registered) == kJobA) << "it lives on";
}

TEST_F(WorkerPoolTest, EndsWorkersBeyondTheCpusThatAreIdleForLong) {
  for (int i = 0; i < 4; ++i) Want(kJobA);
  std::vector<WorkerId> workers;
  for (int i = 0; i < 4; ++i) workers.push_back(ComeUp());
  for (const WorkerId& worker : workers) {
    pool_->Release(worker);
    clock_.Advance(absl::Seconds(1));
  }
  Advance(absl::Seconds(50));
  EXPECT_THAT(actions_.asked, IsEmpty());
  Advance(absl::Seconds(10));
  EXPECT_THAT(actions_.asked, ElementsAre(workers[0], workers[1]));
  Advance(absl::Seconds(600));
  EXPECT_THAT(actions_.asked, SizeIs(2)) << "as many as there are CPUs stay";
  EXPECT_THAT(actions_.killed, IsEmpty()) << "they may own what others need";
}

TEST_F(WorkerPoolTest, WorkerThatDoesNotExitWhenAskedIsKilledAfterTheGrace) {
  Want(kJobA, Use::kActor);
  const WorkerId worker = ComeUp();
  pool_->AskToExit(worker, "creation failed", /*patient=*/false);
  EXPECT_THAT(actions_.asked, ElementsAre(worker));
  Advance(absl::Seconds(1));
  EXPECT_THAT(actions_.killed, IsEmpty());
  Advance(absl::Seconds(1));
  EXPECT_THAT(actions_.killed, ElementsAre(PidOf(worker)));
}

TEST_F(WorkerPoolTest, FinishedJobTakesWorkersThatServeNobodyAlong) {
  for (int i = 0; i < 3; ++i) Want(kJobA);
  const WorkerId idle = ComeUp();
  const WorkerId leaving = ComeUp();
  const WorkerId leased = ComeUp();
  pool_->Release(idle);
  pool_->AskToExit(leaving, "it was idle for long", /*patient=*/true);
  pool_->JobFinished(kJobA);
  pool_->CheckInvariants();
  EXPECT_THAT(actions_.killed, UnorderedElementsAre(PidOf(idle), PidOf(leaving)));
  EXPECT_EQ(pool_->JobOf(leased), kJobA);
}

TEST_F(WorkerPoolTest, PidsAreThoseOfProcessesThatMayRun) {
  pool_->Start();
  const WorkerId first = ComeUp();
  const WorkerId second = ComeUp();
  Exit(first, {.exit_code = 0});
  EXPECT_THAT(pool_->Pids(), ElementsAre(PidOf(second)));
}

// Random demand and deaths; every fork ends in exactly one death, no lease gets two workers.
TEST_F(WorkerPoolTest, KeepsItsInvariantsThroughRandomUse) {
  std::mt19937 random(5);
  const auto any = [&](size_t below) { return random() % below; };
  MakePool({.num_cpus = 4, .prestart = 2, .starting_max = 6});
  pool_->Start();
  std::set<LeaseId> waiting;
  std::map<WorkerId, JobId> used;
  std::map<LeaseId, std::pair<JobId, Use>> wanted;
  std::set<WorkerId> actors;
  size_t forks = 0;
  size_t ready_seen = 0;
  for (int step = 0; step < 20'000; ++step) {
    const auto some_used = used.empty() ? used.end() : std::next(used.begin(), any(used.size()));
    switch (any(8)) {
      case 0: {
        const JobId job = base::JobIdFromInt(1 + any(3));
        const Use use = any(4) == 0 ? Use::kActor : Use::kTask;
        const LeaseId lease = Want(job, use);
        wanted[lease] = {job, use};
        if (given_.has_value()) {
          ASSERT_TRUE(used.emplace(*given_, job).second) << "POOL-1";
          if (use == Use::kActor) actors.insert(*given_);
        } else {
          waiting.insert(lease);
        }
        break;
      }
      case 1:
      case 2:
        if (!actions_.forks.empty()) {
          const StartupToken token = actions_.forks.front();
          actions_.forks.pop_front();
          ++forks;
          if (any(2) == 0) pool_->Forked(token, PidOf(token));
          if (!pool_->Expects(token)) break;
          if (any(10) == 0) {
            pool_->Exited(token, {.exit_code = 1});
          } else {
            SayHello(token);
          }
        }
        break;
      case 3:
      case 4:
        if (some_used != used.end()) {
          const WorkerId worker = some_used->first;
          used.erase(some_used);
          if (any(5) > 0 && !actors.contains(worker)) {
            pool_->Release(worker);
          } else {
            pool_->Kill(worker, "by chance");
          }
        }
        break;
      case 5:
        if (!waiting.empty() && any(3) == 0) {
          const LeaseId lease = *std::next(waiting.begin(), any(waiting.size()));
          waiting.erase(lease);
          pool_->Abandon(lease);
        }
        break;
      case 6:
        if (some_used != used.end() && any(3) == 0) {
          const WorkerId worker = some_used->first;
          used.erase(some_used);
          if (any(2) == 0) pool_->Exited(tokens_.at(worker), {.signal = 9});
          pool_->Disconnected(worker);
        }
        break;
      case 7:
        if (any(200) == 0) pool_->ZygoteLost();
        Advance(absl::Milliseconds(any(3000)));
        break;
    }
    pool_->CheckInvariants();
    for (; ready_seen < actions_.ready.size(); ++ready_seen) {
      const Ready& ready = actions_.ready[ready_seen];
      ASSERT_EQ(waiting.erase(ready.lease), 1u);
      ASSERT_EQ(wanted.at(ready.lease).second, ready.use);
      ASSERT_TRUE(used.emplace(ready.worker, wanted.at(ready.lease).first).second) << "POOL-1";
      if (ready.use == Use::kActor) actors.insert(ready.worker);
    }
    for (const auto& [worker, job] : used) ASSERT_EQ(pool_->JobOf(worker), job);
  }
  std::set<StartupToken> dead;
  for (const WorkerDeath& death : actions_.deaths) ASSERT_TRUE(dead.insert(death.token).second);
  EXPECT_EQ(dead.size() + pool_->size(), forks + actions_.forks.size()) << "POOL-2";
}

TEST_F(WorkerPoolTest, AWorkerThatIsKilledForMemorySaysSo) {
  Want(kJobA);
  const WorkerId worker = ComeUp();
  EXPECT_EQ(pool_->PidOf(worker), PidOf(worker));
  pool_->KillForMemory(worker, "memory was short");
  EXPECT_THAT(actions_.killed, ElementsAre(PidOf(worker)));
  Exit(worker, {.signal = 9});
  pool_->Disconnected(worker);
  ASSERT_THAT(actions_.deaths, SizeIs(1));
  EXPECT_TRUE(actions_.deaths[0].out_of_memory);
  EXPECT_EQ(actions_.deaths[0].reason, "memory was short");
  EXPECT_EQ(pool_->PidOf(worker), 0);
  pool_->KillForMemory(worker, "again");  // harmless
}

TEST_F(WorkerPoolTest, IdleWorkersAreThoseThatServeNobody) {
  pool_->Start();
  const WorkerId first = ComeUp();
  const WorkerId second = ComeUp();
  EXPECT_THAT(pool_->IdleWorkers(), UnorderedElementsAre(first, second));
  Want(kJobA);
  EXPECT_THAT(pool_->IdleWorkers(), ElementsAre(given_ == first ? second : first));
}

TEST_F(WorkerPoolTest, EnvironmentsThatNobodyNeedsAreForgotten) {
  const EnvironmentHandle kept = pool_->Learn("kept", "the environment that is kept");
  for (int i = 0; i < 10'000; ++i) {
    const std::string hash = std::to_string(i);
    const EnvironmentHandle handle = pool_->Learn(hash, "environment");
    const LeaseId lease = LeaseId::Random();
    EXPECT_EQ(pool_->Acquire(Use::kTask, lease, kJobA, hash), std::nullopt);
    const WorkerId worker = ComeUp();  // proves the environment
    pool_->Kill(worker, "");
    Exit(worker, {.signal = 9});
    pool_->Disconnected(worker);
    ASSERT_LE(pool_->environments(), 3 * WorkerPool::kEnvironmentsKept);
  }
  pool_->Acquire(Use::kTask, LeaseId::Random(), kJobA, "kept");
  EXPECT_EQ(actions_.environments.back(), "the environment that is kept");
}

}  // namespace
}  // namespace ray::raylet
