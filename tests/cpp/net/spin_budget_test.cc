#include "ray/net/spin_budget.h"

#include <gtest/gtest.h>

namespace ray::net {
namespace {

constexpr int64_t kMax = 50'000;
constexpr int64_t kShort = 20'000;
constexpr int64_t kLong = 1'000'000;

// Waits that end soon after the thread has stopped polling, until it polls in full again.
int ShortSleepsUntilTried(SpinBudget* budget) {
  int sleeps = 0;
  do {
    budget->Slept(kShort, true);
    ++sleeps;
  } while (budget->nanos() < kMax);
  return sleeps;
}

TEST(SpinBudgetTest, PollsInFullAtFirst) { EXPECT_EQ(SpinBudget(kMax).nanos(), kMax); }

TEST(SpinBudgetTest, LongSleepsShowThatPollingWasForNothing) {
  SpinBudget budget(kMax);
  budget.Slept(kLong, true);
  EXPECT_EQ(budget.nanos(), kMax / 2);
  for (int i = 0; i < 20; ++i) budget.Slept(kLong, true);
  EXPECT_EQ(budget.nanos(), SpinBudget::kMinNanos);
}

TEST(SpinBudgetTest, ASleepThatEndsByItselfCountsAsLong) {
  SpinBudget budget(kMax);
  budget.Slept(kShort, false);
  EXPECT_EQ(budget.nanos(), kMax / 2);
}

TEST(SpinBudgetTest, AShortSleepShowsThatPollingWouldHavePaid) {
  SpinBudget budget(kMax);
  for (int i = 0; i < 20; ++i) budget.Slept(kLong, true);
  budget.Slept(kShort, true);
  EXPECT_EQ(budget.nanos(), kMax);
}

TEST(SpinBudgetTest, WhatComesOnlyDuringSleepIsNoLongerPolledFor) {
  SpinBudget budget(kMax);
  int tried_in_full = 0;
  for (int i = 0; i < 10'000; ++i) {
    tried_in_full += budget.nanos() == kMax;
    budget.Slept(kShort, true);
  }
  EXPECT_LE(tried_in_full, 20);  // each try doubles the pause up to the next
  EXPECT_GE(tried_in_full, 10);
}

TEST(SpinBudgetTest, SuccessRestoresTrust) {
  SpinBudget budget(kMax);
  for (int i = 0; i < 5000; ++i) budget.Slept(kShort, true);
  while (budget.nanos() < kMax) budget.Slept(kShort, true);
  for (int i = 0; i < 20; ++i) budget.Found();
  budget.Slept(kShort, true);
  EXPECT_LE(ShortSleepsUntilTried(&budget), 3);
}

TEST(SpinBudgetTest, NoPollingMeansNone) {
  SpinBudget budget(0);
  EXPECT_EQ(budget.nanos(), 0);
  budget.Slept(kShort, true);
  budget.Slept(kLong, true);
  budget.Found();
  EXPECT_EQ(budget.nanos(), 0);
}

}  // namespace
}  // namespace ray::net
