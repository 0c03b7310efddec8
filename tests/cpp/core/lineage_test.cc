#include "ray/core/lineage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace ray::core {
namespace {

using base::ReturnObjectId;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TaskPtr MakeTask(size_t argument_bytes = 0) {
  auto task = std::make_shared<Task>();
  task->id = base::TaskId::Random();
  task->args = Buffer::Copy(std::string(argument_bytes, 'a'));
  return task;
}

TEST(Lineage, ATaskIsKeptAsLongAsItsObjects) {
  Lineage lineage;
  TaskPtr task = MakeTask();
  EXPECT_THAT(lineage.Keep(task, 2), IsEmpty());
  EXPECT_EQ(lineage.ObjectGone(ReturnObjectId(task->id, 1)), nullptr);
  EXPECT_EQ(lineage.ObjectGone(ReturnObjectId(task->id, 2)), task);
  EXPECT_TRUE(lineage.empty());
  EXPECT_EQ(lineage.bytes(), 0u);
}

TEST(Lineage, ATaskThatRunsAgainIsNotKept) {
  Lineage lineage;
  TaskPtr task = MakeTask();
  lineage.Keep(task, 1);
  EXPECT_EQ(lineage.Take(task->id), task);
  EXPECT_EQ(lineage.Take(task->id), nullptr);
  EXPECT_EQ(lineage.ObjectGone(ReturnObjectId(task->id, 1)), nullptr);
  EXPECT_THAT(lineage.Keep(task, 1), IsEmpty());
}

TEST(Lineage, TheOldestGoFirst) {
  Lineage lineage(3 * (sizeof(Task) + 1000));
  TaskPtr first = MakeTask(1000);
  TaskPtr second = MakeTask(1000);
  TaskPtr third = MakeTask(1000);
  TaskPtr fourth = MakeTask(1000);
  lineage.Keep(first, 1);
  lineage.Keep(second, 1);
  lineage.Take(first->id);
  lineage.Keep(third, 1);
  lineage.Keep(first, 1);
  EXPECT_THAT(lineage.Keep(fourth, 1), ElementsAre(second));
  EXPECT_EQ(lineage.size(), 3u);
}

TEST(Lineage, ATaskLargerThanTheLimitIsNotKept) {
  Lineage lineage(1000);
  TaskPtr task = MakeTask(5000);
  EXPECT_THAT(lineage.Keep(task, 1), ElementsAre(task));
  EXPECT_TRUE(lineage.empty());
}

TEST(Lineage, UnknownObjectsAreIgnored) {
  Lineage lineage;
  EXPECT_EQ(lineage.ObjectGone(base::ObjectId::Random()), nullptr);
  EXPECT_EQ(lineage.Take(base::TaskId::Random()), nullptr);
}

}  // namespace
}  // namespace ray::core
