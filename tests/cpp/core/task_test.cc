#include "ray/core/task.h"

#include <gtest/gtest.h>

namespace ray::core {
namespace {

Task WithRetries(int max_retries) {
  auto of = std::make_shared<TaskTemplate>();
  of->max_retries = max_retries;
  Task task;
  task.task_template = of;
  task.retries_left = max_retries;
  return task;
}

TEST(Task, ShortMemoryUsesNoRetryWhileItsOwnerHadMoreWorkThere) {
  Task task = WithRetries(1);
  for (uint32_t i = 1; i <= 50; ++i) {
    ASSERT_TRUE(task.TakeMemoryRetry(/*was_alone=*/false));
    ASSERT_EQ(task.memory_deaths, i);
    ASSERT_EQ(task.attempt, i);
  }
  EXPECT_EQ(task.retries_left, 1);
}

TEST(Task, AloneItIsTooLargeAndUsesItsRetries) {
  Task task = WithRetries(2);
  EXPECT_TRUE(task.TakeMemoryRetry(/*was_alone=*/true));
  EXPECT_TRUE(task.TakeMemoryRetry(/*was_alone=*/true));
  EXPECT_FALSE(task.TakeMemoryRetry(/*was_alone=*/true));
  EXPECT_TRUE(task.TakeMemoryRetry(/*was_alone=*/false));  // it is in the way once more
  Task unlimited = WithRetries(kUnlimited);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(unlimited.TakeMemoryRetry(/*was_alone=*/true));
}

TEST(Task, WhatMayNotRunTwiceNeverDoes) {
  EXPECT_FALSE(WithRetries(0).TakeMemoryRetry(/*was_alone=*/false));
  Task cancelled = WithRetries(3);
  cancelled.cancelled = true;
  EXPECT_FALSE(cancelled.TakeMemoryRetry(/*was_alone=*/false));
}

}  // namespace
}  // namespace ray::core
