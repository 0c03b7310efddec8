#include "ray/net/loop_driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "ray/base/clock.h"

namespace ray::net {
namespace {

using Outcome = LoopDriver::Outcome;

bool Never() { return false; }
int64_t After(absl::Duration time) {
  return base::MonotonicNanos() + absl::ToInt64Nanoseconds(time);
}
// For waits that end only in a test that fails.
int64_t Patience() { return After(absl::Seconds(30)); }

class LoopDriverTest : public ::testing::Test {
 protected:
  // Posts a task that changes state behind the mutex, as a reply does.
  void PostIncrement() {
    loop_.Post([this] {
      mutex_.AssertHeld();
      ++count_;
    });
  }
  Outcome WaitForCount(int target) {
    return driver_.WaitUntil([&] { return count_ >= target; }, Patience(), Never);
  }

  absl::Mutex mutex_;
  EventLoop loop_{&mutex_};
  LoopDriver driver_{&loop_, &mutex_, LoopDriver::Options()};
  int count_ = 0;  // behind mutex_
};

TEST_F(LoopDriverTest, WhatHoldsIsDoneAtOnce) {
  EXPECT_EQ(driver_.WaitUntil([] { return true; }, 0, [] { return true; }), Outcome::kDone);
}

TEST_F(LoopDriverTest, WaitingThreadDrivesTheLoop) {
  PostIncrement();
  EXPECT_EQ(WaitForCount(1), Outcome::kDone);
}

TEST_F(LoopDriverTest, WaitSleepsUntilAnotherThreadPosts) {
  std::thread poster([this] { PostIncrement(); });
  EXPECT_EQ(WaitForCount(1), Outcome::kDone);
  poster.join();
}

TEST_F(LoopDriverTest, WaitEndsAtItsDeadline) {
  const int64_t deadline = After(absl::Milliseconds(5));
  EXPECT_EQ(driver_.WaitUntil(Never, deadline, Never), Outcome::kTimeout);
  EXPECT_GE(base::MonotonicNanos(), deadline);
}

TEST_F(LoopDriverTest, InterruptEndsAWaitThatSleeps) {
  int looked = 0;
  auto interrupted = [&] { return ++looked == 3; };
  EXPECT_EQ(driver_.WaitUntil(Never, Patience(), interrupted), Outcome::kInterrupted);
}

TEST_F(LoopDriverTest, InterruptEndsAWaitThatFollowsAnother) {
  std::atomic<bool> stop{false};
  std::atomic<bool> leads{false};
  std::thread leader([&] {
    driver_.WaitUntil(
        [&] {
          leads.store(true);
          return stop.load();
        },
        Patience(), Never);
  });
  while (!leads.load()) std::this_thread::yield();
  int looked = 0;
  auto interrupted = [&] { return ++looked == 2; };
  EXPECT_EQ(driver_.WaitUntil(Never, Patience(), interrupted), Outcome::kInterrupted);
  stop.store(true);
  loop_.Post([] {});
  leader.join();
}

TEST_F(LoopDriverTest, PollOnceRunsWhatIsDueAndDoesNotBlock) {
  driver_.PollOnce();  // nothing is due
  PostIncrement();
  driver_.PollOnce();
  absl::MutexLock lock(&mutex_);
  EXPECT_EQ(count_, 1);
}

TEST_F(LoopDriverTest, BackgroundServesWhileNobodyWaits) {
  driver_.StartBackground();
  absl::Notification ran;
  loop_.Post([&] { ran.Notify(); });
  EXPECT_TRUE(ran.WaitForNotificationWithTimeout(absl::Seconds(30)));
}

TEST_F(LoopDriverTest, BackgroundTakesOverAfterAWait) {
  driver_.StartBackground();
  PostIncrement();
  EXPECT_EQ(WaitForCount(1), Outcome::kDone);
  absl::Notification ran;
  loop_.Post([&] { ran.Notify(); });
  EXPECT_TRUE(ran.WaitForNotificationWithTimeout(absl::Seconds(30)));
}

TEST_F(LoopDriverTest, ForegroundTakesTheLoopFromTheBackground) {  // DRIVE-3
  driver_.StartBackground();
  absl::Notification background_drives;
  loop_.Post([&] { background_drives.Notify(); });
  background_drives.WaitForNotification();
  const std::thread::id here = std::this_thread::get_id();
  std::thread::id driven_by;
  bool handled = false;
  loop_.Post([&] { handled = true; });
  ASSERT_EQ(driver_.WaitUntil([&] { return handled; }, Patience(), Never), Outcome::kDone);
  loop_.RunAfter(absl::ZeroDuration(), [] {});
  // Now the grace holds the background off: what this thread waits for, it handles itself.
  for (int i = 0; i < 100 && driven_by != here; ++i) {
    handled = false;
    loop_.Post([&] {
      driven_by = std::this_thread::get_id();
      handled = true;
    });
    ASSERT_EQ(driver_.WaitUntil([&] { return handled; }, Patience(), Never), Outcome::kDone);
  }
  EXPECT_EQ(driven_by, here);
}

TEST_F(LoopDriverTest, WhatComesBeforeTheHandOffIsNotSleptOver) {
  driver_.StartBackground();
  // It happens between the look at what is waited for and the claim of the loop, and leaves no
  // event behind. Who then sleeps does so for a slice of 100 ms, each time.
  const auto happens_now = [this] {
    absl::Notification happened;
    loop_.Post([&] {
      mutex_.AssertHeld();
      ++count_;
      happened.Notify();
    });
    happened.WaitForNotification();
    return false;
  };
  int64_t fastest = INT64_MAX;
  for (int round = 1; round <= 5; ++round) {
    const int64_t begin = base::MonotonicNanos();
    EXPECT_EQ(driver_.WaitUntil([&] { return count_ >= round; }, Patience(), happens_now),
              Outcome::kDone);
    fastest = std::min(fastest, base::MonotonicNanos() - begin);
  }
  EXPECT_LT(fastest, absl::ToInt64Nanoseconds(absl::Milliseconds(100)));
}

// A yielding thread that serves completions for as long as the test needs it.
class Server {
 public:
  Server(LoopDriver* driver, absl::FunctionRef<bool()> done)
      : thread_([this, driver, done] {
          while (!driver->DriveUnlessWanted(done, [this] { return stop_.load(); }) &&
                 !stop_.load()) {
            std::this_thread::sleep_for(std::chrono::microseconds(200));
          }
        }) {}
  ~Server() {
    stop_.store(true);
    thread_.join();
  }

  // Only if what it waits for comes.
  void Join() {
    thread_.join();
    thread_ = std::thread([] {});
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST_F(LoopDriverTest, YieldingThreadDrivesUntilWhatItWaitsFor) {  // DRIVE-6
  driver_.StartBackground();
  auto done = [&] { return count_ >= 100; };
  Server server(&driver_, done);
  for (int i = 0; i < 100; ++i) {
    PostIncrement();
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  server.Join();
  absl::MutexLock lock(&mutex_);
  EXPECT_EQ(count_, 100);
}

TEST_F(LoopDriverTest, ForegroundTakesTheLoopFromAYieldingThread) {
  Server server(&driver_, Never);
  for (int i = 1; i <= 20; ++i) {
    PostIncrement();
    ASSERT_EQ(WaitForCount(i), Outcome::kDone);
    // Beyond the grace: the server has the loop again.
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
  loop_.Post([] {});
}

TEST(LoopDriverGraceTest, YieldingThreadLeavesTheLoopAloneBetweenWaits) {
  absl::Mutex mutex;
  EventLoop loop{&mutex};
  LoopDriver driver{&loop, &mutex, {.background_grace = absl::Seconds(60)}};
  auto always = [] { return true; };
  driver.PollOnce();  // a wait that just ended
  EXPECT_FALSE(driver.DriveUnlessWanted(always, Never));
}

TEST_F(LoopDriverTest, BackgroundServesWhenTheYieldingThreadIsGone) {
  driver_.StartBackground();
  PostIncrement();
  auto done = [&] { return count_ >= 1; };
  Server(&driver_, done).Join();
  absl::Notification ran;
  loop_.Post([&] { ran.Notify(); });
  EXPECT_TRUE(ran.WaitForNotificationWithTimeout(absl::Seconds(30)));
}

TEST_F(LoopDriverTest, OnlyOneThreadPollsAtATime) {  // DRIVE-1, and every waiter sees its own end
  driver_.StartBackground();
  constexpr int kThreads = 4;
  constexpr int kRounds = 300;
  std::atomic<int> inside{0};
  std::atomic<bool> overlapped{false};
  Server server(&driver_, Never);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < kRounds; ++round) {
        bool handled = false;
        loop_.Post([&] {
          if (inside.fetch_add(1) != 0) overlapped.store(true);
          handled = true;
          inside.fetch_sub(1);
        });
        ASSERT_EQ(driver_.WaitUntil([&] { return handled; }, Patience(), Never), Outcome::kDone);
        // Pauses beyond the grace let the background thread in, so that it is in the game too.
        if (round % 50 == t) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(overlapped.load());
}

TEST_F(LoopDriverTest, FollowerGoesOnWhenTheLeaderLeaves) {  // DRIVE-5
  std::atomic<int> waiting{0};
  auto wait_for = [&](int target) {
    bool first = true;
    driver_.WaitUntil(
        [&] {
          if (std::exchange(first, false)) waiting.fetch_add(1);
          return count_ >= target;
        },
        Patience(), Never);
  };
  std::thread one([&] { wait_for(1); });
  std::thread two([&] { wait_for(2); });
  while (waiting.load() < 2) std::this_thread::yield();
  PostIncrement();
  one.join();
  PostIncrement();
  two.join();
  absl::MutexLock lock(&mutex_);
  EXPECT_EQ(count_, 2);
}

TEST_F(LoopDriverTest, StopLeavesWaitsToDriveTheLoopThemselves) {
  driver_.StartBackground();
  driver_.Stop();
  driver_.Stop();  // twice is harmless
  PostIncrement();
  EXPECT_EQ(WaitForCount(1), Outcome::kDone);
}

TEST(LoopDriver, StartsAndStopsManyTimes) {
  for (int i = 0; i < 50; ++i) {
    absl::Mutex mutex;
    EventLoop loop(&mutex);
    LoopDriver driver(&loop, &mutex, LoopDriver::Options());
    driver.StartBackground();
  }
}

}  // namespace
}  // namespace ray::net
