#include "ray/net/event_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "ray/base/clock.h"
#include "ray/net/endpoint.h"
#include "ray/net/event_loop_testutil.h"

namespace ray::net {
namespace {

using ::testing::ElementsAre;

// A descriptor that is readable from the start and stays so.
UniqueFd ReadableFd() { return UniqueFd(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)); }

class EventLoopTest : public ::testing::Test {
 protected:
  EventLoop loop_;
  std::vector<int> ran_;

  EventLoop::Task Note(int number) {
    return [this, number] { ran_.push_back(number); };
  }
};

TEST_F(EventLoopTest, TimersRunInOrderOfTheirTimes) {
  loop_.RunAfter(absl::Milliseconds(3), Note(3));
  loop_.RunAfter(absl::Milliseconds(1), Note(1));
  loop_.RunAfter(absl::Milliseconds(2), Note(2));
  ASSERT_TRUE(PollUntil(&loop_, [&] { return ran_.size() == 3; }));
  EXPECT_THAT(ran_, ElementsAre(1, 2, 3));
}

TEST_F(EventLoopTest, TimerNeverRunsEarly) {
  const int64_t start = base::MonotonicNanos();
  loop_.RunAfter(absl::Milliseconds(2), Note(1));
  ASSERT_TRUE(PollUntil(&loop_, [&] { return !ran_.empty(); }));
  EXPECT_GE(base::MonotonicNanos() - start, 2'000'000);
}

TEST_F(EventLoopTest, CancelledTimerDoesNotRun) {
  auto cancelled = loop_.RunAfter(absl::Milliseconds(1), Note(1));
  auto other = loop_.RunAfter(absl::Milliseconds(1), Note(2));
  loop_.Cancel(cancelled);
  ASSERT_TRUE(PollUntil(&loop_, [&] { return !ran_.empty(); }));
  EXPECT_THAT(ran_, ElementsAre(2));
  loop_.Cancel(other);      // already ran
  loop_.Cancel(cancelled);  // twice
}

TEST_F(EventLoopTest, TimerMayCancelAnotherThatIsDueToo) {
  EventLoop::TimerId second = 0;
  loop_.RunAfter(absl::ZeroDuration(), [&] { loop_.Cancel(second); });
  second = loop_.RunAfter(absl::ZeroDuration(), Note(2));
  loop_.RunAfter(absl::Milliseconds(1), Note(3));
  ASSERT_TRUE(PollUntil(&loop_, [&] { return !ran_.empty(); }));
  EXPECT_THAT(ran_, ElementsAre(3));
}

TEST_F(EventLoopTest, PostedTasksRunInOrderEachOnce) {  // LOOP-2
  loop_.Post(Note(1));
  loop_.Post([this] {
    ran_.push_back(2);
    loop_.Post(Note(4));
  });
  loop_.Post(Note(3));
  ASSERT_TRUE(PollUntil(&loop_, [&] { return ran_.size() >= 4; }));
  EXPECT_EQ(loop_.Poll(absl::ZeroDuration()), 0);
  EXPECT_THAT(ran_, ElementsAre(1, 2, 3, 4));
}

TEST_F(EventLoopTest, PostFromAnotherThreadWakesASleepingLoop) {
  std::thread poster([this] { loop_.Post(Note(1)); });
  ASSERT_TRUE(PollUntil(&loop_, [&] { return !ran_.empty(); }));
  poster.join();
}

TEST_F(EventLoopTest, TasksOfManyThreadsAllRunInTheOrderOfTheirThread) {
  constexpr int kThreads = 4;
  constexpr int kTasks = 1000;
  std::vector<std::vector<int>> by_thread(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t, &by_thread] {
      for (int i = 0; i < kTasks; ++i) {
        loop_.Post([&by_thread, t, i] { by_thread[t].push_back(i); });
      }
    });
  }
  auto all_ran = [&] {
    size_t total = 0;
    for (const auto& of_thread : by_thread) total += of_thread.size();
    return total == size_t{kThreads} * kTasks;
  };
  EXPECT_TRUE(PollUntil(&loop_, all_ran));
  for (std::thread& thread : threads) thread.join();
  for (const auto& of_thread : by_thread) EXPECT_TRUE(std::ranges::is_sorted(of_thread));
}

TEST_F(EventLoopTest, WatchIsLevelTriggered) {
  UniqueFd fd = ReadableFd();
  loop_.Watch(fd.get(), EPOLLIN, [this](uint32_t) { ran_.push_back(1); });
  EXPECT_EQ(loop_.Poll(absl::ZeroDuration()), 1);
  EXPECT_EQ(loop_.Poll(absl::ZeroDuration()), 1);
  EXPECT_THAT(ran_, ElementsAre(1, 1));
}

TEST_F(EventLoopTest, ModifyChangesWhatIsWaitedFor) {
  UniqueFd fd = ReadableFd();
  loop_.Watch(fd.get(), EPOLLIN, [this](uint32_t events) { ran_.push_back(events); });
  loop_.Modify(fd.get(), EPOLLOUT);
  loop_.Poll(absl::ZeroDuration());
  loop_.Modify(fd.get(), 0);
  loop_.Poll(absl::ZeroDuration());
  EXPECT_THAT(ran_, ElementsAre(EPOLLOUT));
}

TEST_F(EventLoopTest, SecondWatchReplacesTheFirst) {
  UniqueFd fd = ReadableFd();
  loop_.Watch(fd.get(), EPOLLIN, [this](uint32_t) { ran_.push_back(1); });
  loop_.Watch(fd.get(), EPOLLIN, [this](uint32_t) { ran_.push_back(2); });
  loop_.Poll(absl::ZeroDuration());
  EXPECT_THAT(ran_, ElementsAre(2));
}

TEST_F(
    EventLoopTest,
    NoHandlerRunsAfterUnwatch) {  // LOOP-1: both are ready in one turn; the first removes the other
  UniqueFd a = ReadableFd();
  UniqueFd b = ReadableFd();
  loop_.Watch(a.get(), EPOLLIN, [&](uint32_t) {
    ran_.push_back(1);
    loop_.Unwatch(b.get());
  });
  loop_.Watch(b.get(), EPOLLIN, [&](uint32_t) {
    ran_.push_back(2);
    loop_.Unwatch(a.get());
  });
  for (int i = 0; i < 3; ++i) loop_.Poll(absl::ZeroDuration());
  EXPECT_EQ(std::set<int>(ran_.begin(), ran_.end()).size(), 1u);
}

TEST_F(EventLoopTest, EventOfAnEarlierWatchDoesNotReachANewOneOfTheSameNumber) {  // LOOP-1
  UniqueFd a = ReadableFd();
  UniqueFd b = ReadableFd();
  auto rewatch = [&](int fd) {
    loop_.Unwatch(fd);
    loop_.Watch(fd, EPOLLOUT, [this](uint32_t events) { ran_.push_back(events); });
  };
  bool first = true;
  auto handler = [&](int other) {
    return [&, other](uint32_t) {
      if (std::exchange(first, false)) rewatch(other);
    };
  };
  loop_.Watch(a.get(), EPOLLIN, handler(b.get()));
  loop_.Watch(b.get(), EPOLLIN, handler(a.get()));
  loop_.Poll(absl::ZeroDuration());
  EXPECT_TRUE(ran_.empty());  // the old EPOLLIN was dropped
  loop_.Poll(absl::ZeroDuration());
  EXPECT_THAT(ran_, ElementsAre(EPOLLOUT));
}

TEST_F(EventLoopTest, HandlerMayUnwatchItself) {
  UniqueFd fd = ReadableFd();
  auto kept = std::make_shared<int>(7);
  std::weak_ptr<int> weak = kept;
  loop_.Watch(fd.get(), EPOLLIN, [this, kept, number = fd.get()](uint32_t) {
    loop_.Unwatch(number);
    ran_.push_back(*kept);  // what the handler holds lives until it returns
  });
  kept.reset();
  loop_.Poll(absl::ZeroDuration());
  loop_.Poll(absl::ZeroDuration());
  EXPECT_THAT(ran_, ElementsAre(7));
  EXPECT_TRUE(weak.expired());
}

TEST_F(EventLoopTest, PollReturnsAtItsTimeout) {
  const int64_t start = base::MonotonicNanos();
  EXPECT_EQ(loop_.Poll(absl::Milliseconds(2)), 0);
  EXPECT_GE(base::MonotonicNanos() - start, 2'000'000);
}

TEST_F(EventLoopTest, StopEndsRun) {
  std::thread stopper([this] { loop_.Stop(); });
  loop_.Run();
  stopper.join();
}

TEST(EventLoop, HandlersRunUnderTheDispatchMutex) {
  absl::Mutex mutex;
  EventLoop loop(&mutex);
  UniqueFd fd = ReadableFd();
  int ran = 0;
  auto check = [&] {
    mutex.AssertHeld();
    ++ran;
  };
  loop.Watch(fd.get(), EPOLLIN, [&](uint32_t) { check(); });
  loop.RunAfter(absl::ZeroDuration(), check);
  loop.Post(check);
  loop.Poll(absl::ZeroDuration());
  EXPECT_EQ(ran, 3);
}

TEST(EventLoop, TimerAddedByAnotherThreadShortensTheSleep) {
  absl::Mutex mutex;
  EventLoop loop(&mutex);
  std::atomic<bool> ran{false};
  std::thread adder([&] {
    absl::MutexLock lock(&mutex);
    loop.RunAfter(absl::Milliseconds(1), [&] { ran.store(true); });
  });
  EXPECT_TRUE(PollUntil(&loop, [&] { return ran.load(); }));
  adder.join();
}

// A connection in the loop's care holds itself by its watch, and unwatches as it goes.
TEST(EventLoop, WatchesMayUnwatchWhileTheLoopIsDestroyed) {
  struct SelfUnwatching {
    EventLoop* const loop;
    const UniqueFd fd = ReadableFd();
    explicit SelfUnwatching(EventLoop* of) : loop(of) {}
    ~SelfUnwatching() { loop->Unwatch(fd.get()); }
  };
  std::vector<std::weak_ptr<SelfUnwatching>> held;
  {
    EventLoop loop;
    for (int i = 0; i < 20; ++i) {
      auto watched = std::make_shared<SelfUnwatching>(&loop);
      held.push_back(watched);
      loop.Watch(watched->fd.get(), EPOLLIN, [watched](uint32_t) {});
    }
  }
  for (const auto& weak : held) EXPECT_TRUE(weak.expired());
}

}  // namespace
}  // namespace ray::net
