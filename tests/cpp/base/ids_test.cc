#include "ray/base/ids.h"

#include <gtest/gtest.h>

#include "absl/container/flat_hash_set.h"

namespace ray::base {
namespace {

const JobId kFirstJob = JobIdFromInt(1);

std::string Repeat(std::string_view hex, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += hex;
  return out;
}

TEST(Ids, DefaultIsNilAndEveryByteIsFf) {
  EXPECT_TRUE(ObjectId().IsNil());
  EXPECT_EQ(ActorId().Hex(), Repeat("ff", 16));
}

TEST(Ids, SizesAreThoseThatRayPrints) {
  EXPECT_EQ(JobId().Hex().size(), 8u);
  EXPECT_EQ(ActorId().Hex().size(), 32u);
  EXPECT_EQ(TaskId().Hex().size(), 48u);
  EXPECT_EQ(ObjectId().Hex().size(), 56u);
  EXPECT_EQ(NodeId().Hex().size(), 56u);
  EXPECT_EQ(WorkerId().Hex().size(), 56u);
}

TEST(Ids, JobIsLittleEndian) {
  EXPECT_EQ(kFirstJob.Hex(), "01000000");
  EXPECT_EQ(JobIdFromInt(0x01020304).Hex(), "04030201");
  EXPECT_EQ(JobIdToInt(JobIdFromInt(0xfffffffe)), 0xfffffffeu);
}

TEST(Ids, ActorEndsInItsJob) {
  EXPECT_EQ(NilActorOf(kFirstJob).Hex(), Repeat("ff", 12) + "01000000");
  ActorId actor = NewActorId(kFirstJob);
  EXPECT_EQ(JobOf(actor), kFirstJob);
  EXPECT_NE(actor, NilActorOf(kFirstJob));
  EXPECT_NE(actor, NewActorId(kFirstJob));
}

// Golden: real Ray 2.60.0 prints
// ObjectRef(00ffffffffffffffffffffffffffffffffffffff0100000001e1f505) for the first put.
TEST(Ids, FirstPutOfTheDriverPrintsLikeRays) {
  TaskId driver = DriverTaskId(kFirstJob);
  EXPECT_EQ(driver.Hex(), "00" + Repeat("ff", 19) + "01000000");
  EXPECT_EQ(PutObjectId(driver, 1).Hex(), driver.Hex() + "01e1f505");
  EXPECT_EQ(PutObjectId(driver, 2).Hex(), driver.Hex() + "02e1f505");
}

TEST(Ids, ObjectHoldsItsTaskAndIndex) {
  ActorId actor = NewActorId(kFirstJob);
  TaskId task = MakeTaskId(0x0807060504030201, actor);
  EXPECT_EQ(task.Hex(), "0102030405060708" + actor.Hex());
  EXPECT_EQ(ActorOf(task), actor);

  ObjectId second_return = ReturnObjectId(task, 2);
  EXPECT_EQ(second_return.Hex(), task.Hex() + "02000000");
  EXPECT_EQ(TaskOf(second_return), task);
  EXPECT_EQ(IndexOf(second_return), 2u);
  EXPECT_EQ(IndexOf(PutObjectId(task, 3)), kPutIndexBase + 3);
}

TEST(Ids, FromBinaryRefusesAnotherLength) {
  ObjectId id = ObjectId::Random();
  EXPECT_EQ(*ObjectId::FromBinary(id.Binary()), id);
  for (size_t size : {0, 27, 29}) {
    EXPECT_EQ(ObjectId::FromBinary(std::string(size, 'x')).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(Ids, OrderIsThatOfTheBytes) {
  EXPECT_LT(JobIdFromInt(1), JobIdFromInt(2));
  EXPECT_LT(JobIdFromInt(0x0100), JobIdFromInt(1));  // 00 01 .. before 01 00 ..
}

TEST(TaskIdGenerator, NeverRepeats) {
  TaskIdGenerator generator;
  absl::flat_hash_set<TaskId> seen;
  constexpr int kTasks = 10'000;
  for (int i = 0; i < kTasks; ++i) seen.insert(generator.Next(NilActorOf(kFirstJob)));
  EXPECT_EQ(seen.size(), size_t{kTasks});
}

TEST(TaskIdGenerator, StartsDifferentInEachProcess) {
  EXPECT_NE(TaskIdGenerator().Next(NilActorOf(kFirstJob)),
            TaskIdGenerator().Next(NilActorOf(kFirstJob)));
}

}  // namespace
}  // namespace ray::base
