#include "ray/core/actor_submitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "ray/core/worker_address_testutil.h"

namespace ray::core {
namespace {

using base::ActorId;
using base::TaskId;
using base::WorkerId;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

class RecordedActions : public ActorSubmitter::Actions {
 public:
  std::vector<TaskPtr> pushed;
  std::vector<std::pair<TaskPtr, std::string>> failed;  // with the code
  std::vector<ActorId> subscribed;
  std::vector<ActorId> asked_later;
  std::vector<ActorId> dead;
  bool connected = false;

  void PushCall(const AddressPtr&, const TaskPtr& task) override { pushed.push_back(task); }
  void Fail(const TaskPtr& task, const SystemError& error) override {
    failed.emplace_back(task, error.code);
  }
  void Subscribe(const ActorId& actor) override { subscribed.push_back(actor); }
  void AskLater(const ActorId& actor) override { asked_later.push_back(actor); }
  void ActorDead(const ActorId& actor) override { dead.push_back(actor); }
  bool IsConnected(const WorkerId&) override { return connected; }
};

class ActorSubmitterTest : public ::testing::Test {
 protected:
  ActorSubmitterTest() { submitter_.AddActor(actor_, -1); }
  ~ActorSubmitterTest() override { submitter_.CheckInvariants(); }

  TaskPtr Call(int retries = 0, uint32_t unresolved = 0) {
    auto task = std::make_shared<Task>();
    task->id = base::MakeTaskId(++made_, actor_);
    task->actor_id = actor_;
    task->retries_left = retries;
    task->unresolved = unresolved;
    submitter_.Submit(task);
    submitter_.CheckInvariants();
    return task;
  }
  void Tell(wire::v1::ActorState state, uint64_t revision, const AddressPtr& address = nullptr) {
    wire::v1::ActorInfo info;
    info.set_actor_id(actor_.BinaryString());
    info.set_state(state);
    info.set_revision(revision);
    info.set_death_message("it died");
    if (address != nullptr) address->ToProto(info.mutable_address());
    submitter_.OnActorInfo(info);
    submitter_.CheckInvariants();
  }
  WorkerId ComeAlive() {
    AddressPtr address = MakeAddress();
    Tell(wire::v1::ALIVE, ++revision_, address);
    return address->worker_id;
  }
  void Restart() { Tell(wire::v1::RESTARTING, ++revision_); }
  void Die() { Tell(wire::v1::DEAD, ++revision_); }
  void Lose(const WorkerId& worker) {
    submitter_.OnConnectionLost(worker);
    submitter_.CheckInvariants();
  }

  void AnotherDies() {
    const ActorId id = base::NewActorId(base::JobIdFromInt(1));
    submitter_.AddActor(id, -1);
    wire::v1::ActorInfo info;
    info.set_actor_id(id.BinaryString());
    info.set_state(wire::v1::DEAD);
    info.set_revision(1);
    submitter_.OnActorInfo(info);
  }

  RecordedActions actions_;
  ActorSubmitter submitter_{&actions_};
  const ActorId actor_ = base::NewActorId(base::JobIdFromInt(1));
  uint64_t revision_ = 0;
  uint64_t made_ = 0;
};

TEST_F(ActorSubmitterTest, SubscribesOnce) {
  submitter_.AddActor(actor_, -1);
  EXPECT_THAT(actions_.subscribed, ElementsAre(actor_));
  EXPECT_TRUE(submitter_.Knows(actor_));
}

TEST_F(ActorSubmitterTest, CallOutOfTurnGoesAheadOfTheQueue) {  // CALL-1
  ComeAlive();
  auto waits_for_lost = Call(0, /*unresolved=*/1);
  auto behind = Call();
  EXPECT_THAT(submitter_.Explain(*behind), ::testing::HasSubstr("before this one: 1"));
  auto computes_again = std::make_shared<Task>();
  computes_again->actor_id = actor_;
  computes_again->out_of_turn = true;
  submitter_.Submit(computes_again);
  EXPECT_THAT(actions_.pushed, ElementsAre(computes_again));
  waits_for_lost->unresolved = 0;
  submitter_.OnResolved(waits_for_lost);
  EXPECT_THAT(actions_.pushed, ElementsAre(computes_again, waits_for_lost, behind));
}

TEST_F(ActorSubmitterTest, CallsWaitForTheActorAndGoInOrder) {  // CALL-1
  auto a = Call();
  auto b = Call();
  EXPECT_THAT(actions_.pushed, IsEmpty());
  ComeAlive();
  auto c = Call();
  EXPECT_THAT(actions_.pushed, ElementsAre(a, b, c));
}

TEST_F(ActorSubmitterTest, CallWithPendingArgumentsHoldsBackThoseBehind) {  // CALL-1
  ComeAlive();
  auto a = Call(0, /*unresolved=*/1);
  auto b = Call();
  EXPECT_THAT(actions_.pushed, IsEmpty());
  a->unresolved = 0;
  submitter_.OnResolved(a);
  EXPECT_THAT(actions_.pushed, ElementsAre(a, b));
}

TEST_F(ActorSubmitterTest, RemovedCallHoldsNobodyBack) {
  ComeAlive();
  auto a = Call(0, /*unresolved=*/1);
  auto b = Call();
  EXPECT_TRUE(submitter_.RemoveQueued(a));
  EXPECT_FALSE(submitter_.RemoveQueued(a));
  EXPECT_THAT(actions_.pushed, ElementsAre(b));
  EXPECT_FALSE(submitter_.RemoveQueued(b));  // it was sent
}

TEST_F(ActorSubmitterTest, RunningCallCanBeFound) {
  auto a = Call();
  EXPECT_EQ(submitter_.WorkerRunning(a), std::nullopt);
  WorkerId worker = ComeAlive();
  EXPECT_EQ((*submitter_.WorkerRunning(a))->worker_id, worker);
  submitter_.OnTaskDone(a);
  EXPECT_EQ(submitter_.WorkerRunning(a), std::nullopt);
}

TEST_F(ActorSubmitterTest, LimitOfPendingCallsCountsWhatIsQueuedAndInFlight) {
  ActorSubmitter limited(&actions_);
  limited.AddActor(actor_, 2);
  auto task = std::make_shared<Task>();
  task->actor_id = actor_;
  limited.Submit(task);
  EXPECT_TRUE(limited.HasRoom(actor_));
  limited.Submit(std::make_shared<Task>(*task));
  EXPECT_FALSE(limited.HasRoom(actor_));
  EXPECT_TRUE(submitter_.HasRoom(actor_));  // no limit
}

TEST_F(ActorSubmitterTest, StaleInformationIsIgnored) {
  ComeAlive();
  Restart();
  Tell(wire::v1::ALIVE, 1, MakeAddress());
  EXPECT_EQ(submitter_.StateOf(actor_), wire::v1::RESTARTING);
  Call();
  EXPECT_THAT(actions_.pushed, IsEmpty());
}

TEST_F(ActorSubmitterTest, LostCallWithoutRetriesAwaitsTheVerdict) {  // CALL-2
  auto call = Call();
  WorkerId worker = ComeAlive();
  Lose(worker);
  EXPECT_THAT(actions_.failed, IsEmpty());
  Restart();
  EXPECT_THAT(actions_.failed, ElementsAre(Pair(call, "ACTOR_UNAVAILABLE")));
}

TEST_F(ActorSubmitterTest, LostCallWhoseActorDoesNotComeBackDies) {  // CALL-2
  auto call = Call();
  WorkerId worker = ComeAlive();
  Lose(worker);
  Die();
  EXPECT_THAT(actions_.failed, ElementsAre(Pair(call, "ACTOR_DIED")));
  EXPECT_THAT(actions_.dead, ElementsAre(actor_));
}

TEST_F(ActorSubmitterTest, VerdictMayBeTheNextIncarnation) {  // CALL-2
  auto call = Call();
  Lose(ComeAlive());
  ComeAlive();
  EXPECT_THAT(actions_.failed, ElementsAre(Pair(call, "ACTOR_UNAVAILABLE")));
}

TEST_F(ActorSubmitterTest, CallsGoOnWhenOnlyTheConnectionBroke) {  // CALL-2
  AddressPtr address = MakeAddress();
  Tell(wire::v1::ALIVE, 1, address);
  TaskPtr lost = Call(/*retries=*/0);
  TaskPtr again = Call(/*retries=*/1);
  submitter_.OnConnectionLost(address->worker_id);
  EXPECT_THAT(actions_.asked_later, ElementsAre(actor_));
  TaskPtr later = Call();
  Tell(wire::v1::ALIVE, 1, address);  // said again, but not because it was asked
  EXPECT_THAT(actions_.pushed, ElementsAre(lost, again));
  submitter_.AskIfCutOff(actor_);
  EXPECT_EQ(actions_.subscribed.size(), 2u);
  Tell(wire::v1::ALIVE, 1, address);
  EXPECT_THAT(actions_.failed, ElementsAre(Pair(lost, "ACTOR_UNAVAILABLE")));
  EXPECT_THAT(actions_.pushed, ElementsAre(lost, again, again, later));
  submitter_.AskIfCutOff(actor_);
  EXPECT_EQ(actions_.subscribed.size(), 2u) << "it is connected";
}

TEST_F(ActorSubmitterTest, LostCallsWithRetriesRunAgainInOrderAheadOfLaterOnes) {  // CALL-1, CALL-2
  auto a = Call(1);
  auto b = Call(1);
  WorkerId worker = ComeAlive();
  Restart();  // known before the connection is seen to break
  auto c = Call();
  Lose(worker);
  actions_.pushed.clear();
  ComeAlive();
  EXPECT_THAT(actions_.pushed, ElementsAre(a, b, c));
  EXPECT_EQ(a->attempt, 1u);
  EXPECT_EQ(a->retries_left, 0);
  EXPECT_THAT(actions_.failed, IsEmpty());
}

TEST_F(ActorSubmitterTest, RepliesThatWereSentBeforeTheEndAreStillTaken) {
  auto call = Call();
  WorkerId worker = ComeAlive();
  actions_.connected = true;  // what the incarnation wrote was not all read yet
  Die();
  EXPECT_THAT(actions_.failed, IsEmpty());
  EXPECT_THAT(actions_.dead, IsEmpty());
  submitter_.OnTaskDone(call);
  Lose(worker);
  EXPECT_THAT(actions_.failed, IsEmpty());
  EXPECT_THAT(actions_.dead, ElementsAre(actor_));
}

TEST_F(ActorSubmitterTest, CallsNotAnsweredByTheEndOfTheConnectionDieWithTheActor) {
  auto call = Call(5);
  WorkerId worker = ComeAlive();
  actions_.connected = true;
  Die();
  Lose(worker);
  EXPECT_THAT(actions_.failed, ElementsAre(Pair(call, "ACTOR_DIED")));
  EXPECT_THAT(actions_.dead, ElementsAre(actor_));
}

TEST_F(ActorSubmitterTest, NewCallsDoNotGoToAnIncarnationKnownToEnd) {
  Call();
  WorkerId worker = ComeAlive();
  actions_.connected = true;
  Restart();
  actions_.pushed.clear();
  auto later = Call();
  EXPECT_THAT(actions_.pushed, IsEmpty());
  Lose(worker);
  ComeAlive();
  EXPECT_THAT(actions_.pushed, ElementsAre(later));
}

TEST_F(ActorSubmitterTest, NewCallsDoNotGoToAnIncarnationThatWasKilled) {
  const WorkerId worker = ComeAlive();
  EXPECT_EQ(submitter_.WorkerOf(actor_), worker);
  submitter_.IncarnationEnds(actor_, worker);
  TaskPtr call = Call();
  EXPECT_THAT(actions_.pushed, IsEmpty());
  Lose(worker);
  EXPECT_TRUE(submitter_.WorkerOf(actor_).IsNil());
  const WorkerId next = ComeAlive();
  EXPECT_THAT(actions_.pushed, ElementsAre(call));
  // Said of an earlier one when the next one is known already.
  submitter_.IncarnationEnds(actor_, worker);
  TaskPtr another = Call();
  EXPECT_THAT(actions_.pushed, ElementsAre(call, another));
  // One that is not restarted.
  submitter_.IncarnationEnds(actor_, next);
  TaskPtr last = Call();
  Die();
  EXPECT_THAT(actions_.pushed, ElementsAre(call, another));
  EXPECT_THAT(actions_.failed, Contains(Pair(last, "ACTOR_DIED")));
}

TEST_F(ActorSubmitterTest, CallsToADeadActorFailAtOnce) {
  auto queued = Call();
  Die();
  auto late = Call();
  EXPECT_THAT(actions_.failed, ElementsAre(Pair(queued, "ACTOR_DIED"), Pair(late, "ACTOR_DIED")));
  EXPECT_THAT(actions_.dead, ElementsAre(actor_));
  Tell(wire::v1::ALIVE, ++revision_, MakeAddress());  // death is final
  EXPECT_EQ(submitter_.StateOf(actor_), wire::v1::DEAD);
}

TEST_F(ActorSubmitterTest, RaisedCallThatIsRetriedGoesToTheBackOfTheQueue) {
  ComeAlive();
  auto a = Call(1);
  auto b = Call();
  submitter_.Retry(a);
  EXPECT_THAT(actions_.pushed, ElementsAre(a, b, a));
}

TEST_F(ActorSubmitterTest, LossOfAnOlderIncarnationChangesNothing) {
  WorkerId first = ComeAlive();
  ComeAlive();
  auto call = Call();
  Lose(first);
  Lose(WorkerId::Random());
  EXPECT_NE(submitter_.WorkerRunning(call), std::nullopt);
}

TEST_F(ActorSubmitterTest, InformationWithoutMeaningIsIgnored) {
  wire::v1::ActorInfo info;
  info.set_actor_id("short");
  info.set_revision(9);
  submitter_.OnActorInfo(info);
  info.set_actor_id(base::NewActorId(base::JobIdFromInt(1)).BinaryString());
  submitter_.OnActorInfo(info);
  EXPECT_EQ(submitter_.StateOf(actor_), wire::v1::PENDING_CREATION);
  Tell(wire::v1::ALIVE, ++revision_);  // no address
  Call();
  EXPECT_THAT(actions_.pushed, IsEmpty());
}

// CALL-3: whatever happens, each call ends in one reply or one failure; CALL-1: in order within an
// incarnation.
TEST_F(ActorSubmitterTest, RandomEventsEndEveryCallOnce) {
  for (uint32_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    RecordedActions actions;
    ActorSubmitter submitter(&actions);
    submitter.AddActor(actor_, -1);
    std::vector<TaskPtr> calls;
    std::vector<TaskPtr> replied;
    AddressPtr address;
    uint64_t revision = 0;
    auto tell = [&](wire::v1::ActorState state) {
      wire::v1::ActorInfo info;
      info.set_actor_id(actor_.BinaryString());
      info.set_state(state);
      info.set_revision(++revision);
      if (state == wire::v1::ALIVE) address->ToProto(info.mutable_address());
      actions.connected = random() % 2 == 0;
      if (!actions.connected) actions.pushed.clear();  // the replies never come
      submitter.OnActorInfo(info);
    };
    auto reply_one = [&] {
      if (actions.pushed.empty()) return;
      TaskPtr task = actions.pushed.front();
      actions.pushed.erase(actions.pushed.begin());
      replied.push_back(task);
      submitter.OnTaskDone(task);
    };
    auto lose = [&] {
      if (address == nullptr) return;
      submitter.OnConnectionLost(address->worker_id);
      actions.pushed.clear();  // the replies never come
    };
    for (int step = 0; step < 100; ++step) {
      switch (random() % 9) {
        case 0:
        case 1:
        case 2: {
          auto task = std::make_shared<Task>();
          task->id = base::MakeTaskId(calls.size(), actor_);
          task->actor_id = actor_;
          task->retries_left = static_cast<int>(random() % 3);
          calls.push_back(task);
          submitter.Submit(task);
          break;
        }
        case 3:
        case 4:
          reply_one();
          break;
        case 5:
          lose();
          break;
        case 6:
          tell(wire::v1::RESTARTING);
          break;
        case 7:
          lose();
          address = MakeAddress();
          tell(wire::v1::ALIVE);
          break;
        case 8:  // the connection, not the incarnation
          if (submitter.StateOf(actor_) != wire::v1::ALIVE) break;
          lose();
          submitter.AskIfCutOff(actor_);
          --revision;
          tell(wire::v1::ALIVE);
          break;
      }
      submitter.CheckInvariants();
      EXPECT_TRUE(std::ranges::is_sorted(actions.pushed, {}, [](const TaskPtr& task) {
        return task->id.data()[0];  // the low byte of the number of the call
      }));
    }
    if (random() % 2 == 0) tell(wire::v1::DEAD);
    lose();
    if (submitter.StateOf(actor_) != wire::v1::DEAD) tell(wire::v1::DEAD);
    submitter.CheckInvariants();
    std::multiset<TaskId> ended;
    for (const TaskPtr& task : replied) ended.insert(task->id);
    for (const auto& [task, code] : actions.failed) ended.insert(task->id);
    std::multiset<TaskId> submitted;
    for (const TaskPtr& task : calls) submitted.insert(task->id);
    ASSERT_EQ(ended, submitted);
    ASSERT_THAT(actions.dead, ElementsAre(actor_));
  }
}

TEST_F(ActorSubmitterTest, OfTheDeadOnlyTheLatestAreKept) {  // CALL-4
  ComeAlive();
  for (size_t i = 0; i < 3 * ActorSubmitter::kDeadActorsKept; ++i) {
    AnotherDies();
    ASSERT_LE(submitter_.actors(), ActorSubmitter::kDeadActorsKept + 1);
  }
  submitter_.CheckInvariants();
  EXPECT_TRUE(submitter_.Knows(actor_));  // it lives
}

TEST_F(ActorSubmitterTest, AForgottenActorsDeathIsAskedForAgain) {
  Die();
  for (size_t i = 0; i < ActorSubmitter::kDeadActorsKept; ++i) AnotherDies();
  ASSERT_FALSE(submitter_.Knows(actor_));
  submitter_.AddActor(actor_, -1);
  EXPECT_EQ(actions_.subscribed.back(), actor_);
  auto call = Call();
  EXPECT_THAT(actions_.failed, IsEmpty());
  Tell(wire::v1::DEAD, 7);
  EXPECT_THAT(actions_.failed, ElementsAre(Pair(call, "ACTOR_DIED")));
}

}  // namespace
}  // namespace ray::core
