#include "ray/core/task_receiver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace ray::core {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class TaskReceiverTest : public ::testing::Test {
 protected:
  IncomingCallPtr Arrive(const std::string& group = "", uint32_t fetching = 0,
                         bool out_of_turn = false) {
    auto call = std::make_shared<IncomingCall>();
    call->task_id = base::MakeTaskId(++arrived_, base::ActorId());
    auto task_template = std::make_shared<ReceivedTemplate>();
    task_template->concurrency_group = group;
    call->task_template = task_template;
    call->fetching = fetching;
    call->out_of_turn = out_of_turn;
    EXPECT_TRUE(receiver_.Enqueue(call));
    receiver_.CheckInvariants();
    return call;
  }
  IncomingCallPtr Pop() {
    const bool runnable = receiver_.HasRunnable();
    IncomingCallPtr call = receiver_.PopRunnable();
    receiver_.CheckInvariants();
    EXPECT_EQ(runnable, call != nullptr);
    return call;
  }
  void Finish(const IncomingCallPtr& call) {
    receiver_.Finish(*call);
    receiver_.CheckInvariants();
  }

  TaskReceiver receiver_;
  uint64_t arrived_ = 0;
};

TEST_F(TaskReceiverTest, RunsOneCallAtATimeInTheOrderOfArrival) {
  auto first = Arrive();
  auto second = Arrive();
  EXPECT_EQ(Pop(), first);
  EXPECT_EQ(Pop(), nullptr);
  Finish(first);
  EXPECT_EQ(Pop(), second);
}

TEST_F(TaskReceiverTest, CallWhoseArgumentsAreUnderWayHoldsBackThoseBehind) {
  auto first = Arrive("", 1);
  auto second = Arrive();
  EXPECT_EQ(Pop(), nullptr);
  first->fetching = 0;
  EXPECT_EQ(Pop(), first);
  Finish(first);
  EXPECT_EQ(Pop(), second);
}

TEST_F(TaskReceiverTest, CallOutOfTurnGoesFirstOnceItsArgumentsAreThere) {
  auto waits_for_lost = Arrive("", 1);
  auto behind = Arrive();
  auto not_yet = Arrive("", 1, /*out_of_turn=*/true);
  EXPECT_EQ(Pop(), nullptr);
  auto computes_again = Arrive("", 0, /*out_of_turn=*/true);
  EXPECT_EQ(Pop(), computes_again);
  EXPECT_THAT(receiver_.RunningAheadOf(not_yet->task_id), ElementsAre(computes_again));
  Finish(computes_again);
  EXPECT_EQ(Pop(), nullptr);
  waits_for_lost->fetching = 0;
  not_yet->fetching = 0;
  for (const auto& next : {not_yet, waits_for_lost, behind}) {
    EXPECT_EQ(Pop(), next);
    Finish(next);
  }
}

TEST_F(TaskReceiverTest, CallOutOfTurnCanBeTakenBack) {
  auto call = Arrive("", 1, /*out_of_turn=*/true);
  EXPECT_THAT(receiver_.Recall([](const IncomingCall&) { return true; }), ElementsAre(call));
  receiver_.CheckInvariants();
  EXPECT_EQ(receiver_.queued(), 0u);
}

TEST_F(TaskReceiverTest, CallsThatCameBeforeTheGroupsMoveOver) {
  auto early = Arrive("io");
  receiver_.SetGroups(1, {{"io", 2}});
  receiver_.CheckInvariants();
  EXPECT_EQ(Pop(), early);
}

TEST_F(TaskReceiverTest, CallThatComesTwiceIsTakenOnce) {
  auto call = Arrive();
  EXPECT_FALSE(receiver_.Enqueue(call));
  Pop();
  EXPECT_FALSE(receiver_.Enqueue(call));
  Finish(call);
  EXPECT_TRUE(receiver_.Enqueue(call));
}

TEST_F(TaskReceiverTest, GroupRunsUpToItsLimit) {  // RECV-2
  receiver_.SetGroups(3, {});
  for (int i = 0; i < 5; ++i) Arrive();
  auto first = Pop();
  EXPECT_NE(Pop(), nullptr);
  EXPECT_NE(Pop(), nullptr);
  EXPECT_EQ(Pop(), nullptr);
  Finish(first);
  EXPECT_NE(Pop(), nullptr);
}

TEST_F(TaskReceiverTest, GroupsDoNotHoldEachOtherBack) {
  receiver_.SetGroups(1, {{"io", 2}});
  EXPECT_TRUE(receiver_.HasGroup("io"));
  EXPECT_FALSE(receiver_.HasGroup("cpu"));
  auto plain = Arrive();
  auto blocked = Arrive("", 1);
  auto io1 = Arrive("io");
  auto io2 = Arrive("io");
  auto io3 = Arrive("io");
  EXPECT_EQ(Pop(), plain);
  EXPECT_EQ(Pop(), io1);
  EXPECT_EQ(Pop(), io2);
  EXPECT_EQ(Pop(), nullptr);
  Finish(io1);
  EXPECT_EQ(Pop(), io3);
  EXPECT_EQ(receiver_.queued(), 1u);
  EXPECT_EQ(receiver_.running(), 3u);
}

TEST_F(TaskReceiverTest, CallOfAnUnknownGroupRunsInTheDefaultOne) {
  auto call = Arrive("no such group");
  EXPECT_EQ(Pop(), call);
  Finish(call);
}

TEST_F(TaskReceiverTest, CreationCallHasNoTemplate) {
  auto call = std::make_shared<IncomingCall>();
  receiver_.Enqueue(call);
  EXPECT_EQ(Pop(), call);
  Finish(call);
}

TEST_F(TaskReceiverTest, RecallTakesWhatMatchesAndHasNotStarted) {  // RECV-1
  auto running = Arrive();
  auto keep = Arrive();
  auto a = Arrive();
  auto b = Arrive();
  ASSERT_EQ(Pop(), running);
  EXPECT_THAT(receiver_.Recall([&](const IncomingCall& call) { return &call != keep.get(); }),
              ElementsAre(a, b));
  receiver_.CheckInvariants();
  EXPECT_EQ(receiver_.queued(), 1u);
  Finish(running);
  EXPECT_EQ(Pop(), keep);
  Finish(keep);
  EXPECT_EQ(Pop(), nullptr);
}

TEST_F(TaskReceiverTest, RunningCallsCanBeFound) {
  receiver_.SetGroups(2, {});
  auto a = Arrive();
  auto b = Arrive();
  EXPECT_EQ(receiver_.FindRunning(a->task_id), nullptr);
  Pop();
  Pop();
  EXPECT_EQ(receiver_.FindRunning(a->task_id), a);
  EXPECT_THAT(receiver_.Running(), UnorderedElementsAre(a, b));
  Finish(a);
  EXPECT_EQ(receiver_.FindRunning(a->task_id), nullptr);
  EXPECT_THAT(receiver_.Running(), ElementsAre(b));
}

// RECV-1, RECV-2: whatever the order of events, each call leaves once.
TEST_F(TaskReceiverTest, RandomEventsLoseAndRepeatNothing) {
  std::mt19937 random(11);
  receiver_.SetGroups(2, {{"a", 1}, {"b", 3}});
  const std::string groups[] = {"", "a", "b"};
  std::vector<IncomingCallPtr> running;
  std::vector<IncomingCallPtr> fetching;
  size_t left = 0;
  auto start = [&] {
    auto call = Pop();
    if (call == nullptr) return;
    EXPECT_EQ(call->fetching, 0u);
    running.push_back(call);
  };
  for (int step = 0; step < 5000; ++step) {
    switch (random() % 5) {
      case 0:
      case 1: {
        auto call = Arrive(groups[random() % 3], random() % 4 == 0 ? 1 : 0);
        if (call->fetching > 0) fetching.push_back(call);
        break;
      }
      case 2:
        start();
        break;
      case 3:
        if (running.empty()) break;
        std::swap(running[random() % running.size()], running.back());
        Finish(running.back());
        running.pop_back();
        ++left;
        break;
      case 4:
        if (random() % 50 == 0) {
          left += receiver_.Recall([&](const IncomingCall&) { return random() % 2 == 0; }).size();
        }
        for (auto& call : fetching) call->fetching = 0;
        fetching.clear();
        break;
    }
    receiver_.CheckInvariants();
    ASSERT_EQ(left + receiver_.queued() + receiver_.running(), arrived_);
  }
  for (auto& call : fetching) call->fetching = 0;
  while (receiver_.queued() + receiver_.running() > 0) {
    while (receiver_.HasRunnable()) start();
    ASSERT_THAT(running, ::testing::Not(IsEmpty()));
    Finish(running.back());
    running.pop_back();
    ++left;
  }
  EXPECT_EQ(left, arrived_);
}

}  // namespace
}  // namespace ray::core
