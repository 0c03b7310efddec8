// Spilling and restoring, on a disk of the test's own.
#include "tests/cpp/store/object_store_fixture.h"

namespace ray::store {
namespace {

using testing::HasSubstr;

// Demand only: files of up to 128 KiB, an eighth of the store.
class ObjectSpillingTest : public ObjectStoreFixture {
 protected:
  void SetUp() override { Start({.spilling_threshold = 1.0}); }

  // Fills the store with objects 1..10 of 100 KiB that nobody pins.
  void FillStore() {
    for (uint32_t id = 1; id <= 10; ++id) Put(kAnn, id, 100 * kKiB);
  }
  // Puts an object of 100 KiB into a store that may be full.
  void PutAfterSpilling(uint32_t id) {
    CreateResult created = Create(kAnn, id, 100 * kKiB);
    disk.FinishAll();
    ASSERT_TRUE(created->has_value());
    ASSERT_EQ((*created)->outcome, Created::kCreated);
    Fill(id, (*created)->offset, 100 * kKiB);
    Seal(kAnn, id);
    Release(kAnn, id);
  }
};

TEST_F(ObjectSpillingTest, ACreationInAFullStoreSpillsTheOldestObjectsTogether) {
  FillStore();
  EXPECT_EQ(disk.writes, 0);
  auto created = Create(kAnn, 11, 100 * kKiB);
  EXPECT_FALSE(created->has_value());
  EXPECT_EQ(disk.writes, 1);
  disk.FinishAll();
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kCreated);
  ASSERT_EQ(disk.files.size(), 1u);
  EXPECT_THAT(disk.files.begin()->second, testing::ElementsAre(std::string(100 * kKiB, Letter(1)),
                                                               std::string(100 * kKiB, Letter(2))));
  EXPECT_TRUE(store->Contains(Id(1)));
  // The second object is on disk, but its memory was not needed: it can be read at once.
  EXPECT_EQ(store->Stats().spilled_objects, 1u);
  EXPECT_TRUE(Get(kBob, {2})->has_value());
  EXPECT_EQ(disk.reads, 0);
}

TEST_F(ObjectSpillingTest, GetRestoresASpilledObjectWithItsBytes) {
  FillStore();
  PutAfterSpilling(11);
  auto got = Get(kBob, {1});
  EXPECT_FALSE(got->has_value());
  disk.FinishAll();
  ASSERT_TRUE(got->has_value());
  ASSERT_EQ((*got)->entries[0].outcome, Got::kPresent);
  EXPECT_TRUE(HoldsItsBytes(1, (*got)->entries[0]));
}

TEST_F(ObjectSpillingTest, AnObjectIsWrittenOnce) {  // SPILL-1
  FillStore();
  PutAfterSpilling(11);
  Get(kBob, {1});
  disk.FinishAll();
  Release(kBob, 1);
  int writes = disk.writes;
  // Object 1 is on disk already: its memory is free for the taking.
  for (uint32_t id = 2; id <= 11; ++id) Free(id);
  PutPinned(kAnn, 20, 1000 * kKiB);
  EXPECT_EQ(disk.writes, writes);
  EXPECT_TRUE(store->Contains(Id(1)));
}

TEST_F(ObjectSpillingTest, PinnedObjectsAreNotSpilled) {
  for (uint32_t id = 1; id <= 10; ++id) PutPinned(kAnn, id, 100 * kKiB);
  auto created = Create(kAnn, 11, 100 * kKiB);
  EXPECT_EQ(disk.writes, 0);
  Release(kAnn, 7);
  disk.FinishAll();
  EXPECT_TRUE(created->has_value());
  EXPECT_EQ(store->Stats().spilled_objects, 1u);
}

TEST_F(ObjectSpillingTest, AnObjectPinnedWhileItIsWrittenKeepsItsMemory) {
  FillStore();
  auto created = Create(kAnn, 11, 200 * kKiB);
  auto got = Get(kBob, {1, 2});  // both are being written; they are readable meanwhile
  ASSERT_TRUE(got->has_value());
  disk.FinishOne();
  EXPECT_FALSE(created->has_value());
  EXPECT_TRUE(HoldsItsBytes(1, (*got)->entries[0]));
  disk.FinishAll();
  EXPECT_TRUE(created->has_value());  // from other objects
  EXPECT_TRUE(HoldsItsBytes(2, (*got)->entries[1]));
}

TEST_F(ObjectSpillingTest, AFileIsRemovedWhenAllItsObjectsAreGone) {  // SPILL-2
  FillStore();
  PutAfterSpilling(11);
  ASSERT_EQ(disk.files.size(), 1u);
  EXPECT_EQ(store->Stats().disk_bytes, 200 * kKiB);
  Free(1);
  disk.FinishAll();
  EXPECT_EQ(disk.files.size(), 1u);
  Free(2);
  disk.FinishAll();
  EXPECT_EQ(disk.files.size(), 0u);
  EXPECT_EQ(store->Stats().disk_bytes, 0u);
}

TEST_F(ObjectSpillingTest, ObjectsFreedWhileTheyAreWrittenLeaveNoFile) {
  FillStore();
  Create(kAnn, 11, 100 * kKiB);
  Free(1);
  Free(2);
  disk.FinishAll();
  EXPECT_TRUE(disk.files.empty());
  EXPECT_EQ(store->Stats().objects, 9u);
}

TEST_F(ObjectSpillingTest, AnObjectFreedWhileItIsRestoredIsGone) {
  FillStore();
  PutAfterSpilling(11);
  auto got = Get(kBob, {1});
  Free(1);
  disk.FinishAll();
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].outcome, Got::kGone);
  EXPECT_EQ(store->Stats().objects, 10u);
}

TEST_F(ObjectSpillingTest, ABrokenSpillFileLosesTheObjectWithAReason) {
  FillStore();
  PutAfterSpilling(11);
  disk.next_error = absl::DataLossError("the spill file is truncated");
  auto got = Get(kBob, {1, 3});
  disk.FinishAll();
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].outcome, Got::kGone);
  EXPECT_THAT((*got)->entries[0].reason, HasSubstr("truncated"));
  EXPECT_EQ((*got)->entries[1].outcome, Got::kPresent);
  // It can be made again.
  EXPECT_FALSE(store->Contains(Id(1)));
  auto again = Create(kAnn, 1, 1 * kKiB);
  ASSERT_TRUE(again->has_value());
  EXPECT_EQ((*again)->outcome, Created::kCreated);
}

TEST_F(ObjectSpillingTest, AFailedWriteLosesNothingAndIsTriedAgain) {
  FillStore();
  disk.next_error = absl::ResourceExhaustedError("no space left on device");
  auto created = Create(kAnn, 11, 100 * kKiB);
  disk.FinishAll();
  EXPECT_FALSE(created->has_value());
  EXPECT_EQ(disk.writes, 1);
  EXPECT_EQ(store->NextDeadline(), clock.Now() + absl::Seconds(1));
  EXPECT_EQ(store->Stats().spill_failures, 1u);
  Advance(absl::Seconds(1));
  EXPECT_EQ(disk.writes, 2);
  disk.FinishAll();
  EXPECT_TRUE(created->has_value());
}

TEST_F(ObjectSpillingTest, AFullDiskIsNamedWhenACreationGivesUp) {
  FillStore();
  auto created = Create(kAnn, 11, 100 * kKiB);
  for (int second = 0; second < 10; ++second) {
    disk.next_error = absl::ResourceExhaustedError("no space left on device");
    disk.FinishAll();
    Advance(absl::Seconds(1));
  }
  EXPECT_EQ(disk.makes, 1);
  while (disk.pending() > 0) {
    disk.next_error = absl::ResourceExhaustedError("no space left on device");
    disk.FinishOne();
  }
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kOutOfDisk);
  EXPECT_THAT((*created)->message, HasSubstr("no space left on device"));
  EXPECT_THAT((*created)->message, HasSubstr("Memory by kind and owner"));
}

TEST_F(ObjectSpillingTest, TheDiskQuotaHoldsAndIsNamed) {
  Start({.spilling_threshold = 1.0, .spill_quota_bytes = 250 * kKiB});
  FillStore();
  auto first = Create(kAnn, 11, 200 * kKiB);
  disk.FinishAll();
  ASSERT_TRUE(first->has_value());
  auto second = Create(kAnn, 12, 200 * kKiB);
  disk.FinishAll();
  EXPECT_EQ(store->Stats().disk_bytes, 200 * kKiB);
  Advance(absl::Seconds(10));
  EXPECT_EQ(disk.makes, 0);  // the quota holds for a file of its own as well
  ASSERT_TRUE(second->has_value());
  EXPECT_EQ((*second)->outcome, Created::kOutOfDisk);
  EXPECT_THAT((*second)->message, HasSubstr("spill_disk_quota_bytes"));
  // Room on disk again: spilling goes on.
  Free(1);
  Free(2);
  auto third = Create(kAnn, 13, 200 * kKiB);
  disk.FinishAll();
  EXPECT_TRUE(third->has_value());
}

TEST_F(ObjectSpillingTest, OverTheThresholdWholeFilesAreWrittenAheadOfNeed) {
  Start({.spilling_threshold = 0.5});
  for (uint32_t id = 1; id <= 5; ++id) Put(kAnn, id, 100 * kKiB);
  EXPECT_EQ(disk.writes, 0);
  PutPinned(kAnn, 6, 100 * kKiB);
  EXPECT_EQ(disk.writes, 1);
  disk.FinishAll();
  EXPECT_EQ(store->used_bytes(), 400 * kKiB);  // two may be dropped at once
  EXPECT_EQ(disk.writes, 1);
  PutPinned(kAnn, 7, 400 * kKiB);
  EXPECT_EQ(store->Stats().evictions, 0u);
  PutPinned(kAnn, 8, 200 * kKiB);
  EXPECT_EQ(store->Stats().evictions, 2u);
}

TEST_F(ObjectSpillingTest, AsManyFilesAreWrittenAtATimeAsTheTargetHasThreadsFor) {
  Start({.spilling_threshold = 1.0, .parallel_writes = 3});
  FillStore();
  auto created = Create(kAnn, 11, 1000 * kKiB);
  EXPECT_EQ(disk.writes, 3);
  disk.FinishOne();
  EXPECT_EQ(disk.writes, 4);
  disk.FinishAll();
  EXPECT_TRUE(created->has_value());
}

TEST_F(ObjectSpillingTest, LittleIsNotWorthAFileBeforeItIsNeeded) {
  Start({.spilling_threshold = 0.5});
  PutPinned(kAnn, 1, 600 * kKiB);
  Put(kAnn, 2, 100 * kKiB);
  EXPECT_EQ(disk.writes, 0);
  Create(kAnn, 3, 400 * kKiB);
  EXPECT_EQ(disk.writes, 1);
}

// Objects 1 and 2 are only on disk, and Ann pins all memory.
class StuckStoreTest : public ObjectSpillingTest {
 protected:
  void SetUp() override {
    ObjectSpillingTest::SetUp();
    FillStore();
    PutAfterSpilling(11);
    PutAfterSpilling(12);
    ASSERT_TRUE(Get(kAnn, {3, 4, 5, 6, 7, 8, 9, 10, 11, 12})->has_value());
  }
};

TEST_F(StuckStoreTest, WhatFindsNoMemoryToBeRestoredIsMapped) {
  auto got = Get(kBob, {1, 3, 2});
  Advance(absl::Seconds(1));
  EXPECT_FALSE(got->has_value());
  EXPECT_EQ(store->NextDeadline(), clock.Now() + absl::Seconds(1));
  Advance(absl::Seconds(1));
  disk.FinishAll();
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ(disk.maps, 2);
  EXPECT_EQ(disk.reads, 0);
  const auto& entries = (*got)->entries;
  EXPECT_THAT(entries, testing::Each(testing::Field(&GetReply::Entry::outcome, Got::kPresent)));
  EXPECT_TRUE(HoldsItsBytes(1, entries[0]));
  EXPECT_TRUE(HoldsItsBytes(3, entries[1]));
  EXPECT_TRUE(HoldsItsBytes(2, entries[2]));
  EXPECT_NE(entries[0].path, "");
  EXPECT_EQ(entries[1].path, "");
  // It stays so, until it is freed.
  EXPECT_TRUE(Get(kAnn, {1})->has_value());
  EXPECT_EQ(store->Stats().spilled_objects, 2u);
  Free(1);
  Free(2);
  Release(kBob, 1);
  Release(kBob, 2);
  disk.FinishAll();
  EXPECT_EQ(disk.files.size(), 1u);
  Release(kAnn, 1);
  disk.FinishAll();
  EXPECT_TRUE(disk.files.empty());
}

TEST_F(StuckStoreTest, WhileItLastsNoOtherGetWaitsAsLong) {
  Get(kBob, {1});
  Advance(absl::Seconds(2));
  disk.FinishAll();
  auto got = Get(kBob, {2});
  EXPECT_LE(store->NextDeadline(), clock.Now());
  Advance(absl::ZeroDuration());
  disk.FinishAll();
  EXPECT_TRUE(got->has_value());
}

TEST_F(StuckStoreTest, AnObjectThatIsBrokenOnDiskIsNotMapped) {
  auto got = Get(kBob, {1});
  Advance(absl::Seconds(2));
  disk.next_error = absl::DataLossError("the spill file was changed");
  disk.FinishAll();
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].outcome, Got::kGone);
  EXPECT_THAT((*got)->entries[0].reason, HasSubstr("was changed"));
}

TEST_F(StuckStoreTest, AnObjectFreedWhileItIsCheckedIsGone) {
  auto got = Get(kBob, {1});
  Advance(absl::Seconds(2));
  Free(1);
  disk.FinishAll();
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].outcome, Got::kGone);
  EXPECT_EQ(store->Stats().objects, 11u);
}

TEST_F(StuckStoreTest, RestoringIsGivenUpIfTheStorageCannotBeMapped) {
  disk.mappable = false;
  auto got = Get(kBob, {1, 3});
  Advance(absl::Seconds(10));
  disk.FinishAll();
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].outcome, Got::kNoMemory);
  EXPECT_THAT((*got)->entries[0].reason, HasSubstr("pinned by clients"));
  EXPECT_THAT((*got)->entries[0].reason, HasSubstr("cannot be mapped"));
  EXPECT_EQ((*got)->entries[1].outcome, Got::kPresent);
  EXPECT_TRUE(store->Contains(Id(1)));
}

TEST_F(ObjectSpillingTest, RestoringGoesOnWhenMemoryIsReleased) {
  FillStore();
  PutAfterSpilling(11);
  Get(kAnn, {2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  auto got = Get(kBob, {1});
  Release(kAnn, 5);
  disk.FinishAll();
  ASSERT_TRUE(got->has_value());
  EXPECT_TRUE(HoldsItsBytes(1, (*got)->entries[0]));
}

TEST_F(ObjectSpillingTest, AGetOfObjectsInMemoryPassesOneThatWaitsForMemory) {
  FillStore();
  PutAfterSpilling(11);
  Get(kAnn, {2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  Get(kBob, {1});
  EXPECT_TRUE(Get(kBob, {3})->has_value());
}

TEST_F(ObjectSpillingTest, TwoGetsThatNeedMostOfTheStoreAreServedOneAfterTheOther) {
  for (uint32_t id = 1; id <= 30; ++id) PutAfterSpilling(id);
  auto anns = Get(kAnn, {1, 2, 3, 4, 5, 6, 7, 8});
  auto bobs = Get(kBob, {11, 12, 13, 14, 15, 16, 17, 18});
  disk.FinishAll();
  ASSERT_TRUE(anns->has_value());
  EXPECT_FALSE(bobs->has_value());
  for (uint32_t id = 1; id <= 8; ++id) {
    EXPECT_TRUE(HoldsItsBytes(id, (*anns)->entries[id - 1]));
    Release(kAnn, id);
  }
  disk.FinishAll();
  ASSERT_TRUE(bobs->has_value());
  for (const auto& entry : (*bobs)->entries) EXPECT_EQ(entry.outcome, Got::kPresent);
}

TEST_F(ObjectSpillingTest, AGetWithoutTimeStartsRestoringForTheNextOne) {
  FillStore();
  PutAfterSpilling(11);
  auto first = Get(kBob, {1}, absl::ZeroDuration());
  ASSERT_TRUE(first->has_value());
  EXPECT_EQ((*first)->entries[0].outcome, Got::kAbsent);
  disk.FinishAll();
  auto second = Get(kBob, {1}, absl::ZeroDuration());
  EXPECT_EQ((*second)->entries[0].outcome, Got::kPresent);
}

TEST_F(ObjectSpillingTest, DeathOfAClientWhileItsObjectsAreRestoredLeavesThemDroppable) {
  FillStore();
  PutAfterSpilling(11);
  Get(kBob, {1});
  store->ClientGone(kBob);
  disk.FinishAll();
  EXPECT_EQ(store->Stats().waiting_gets, 0u);
  EXPECT_EQ(store->Stats().pinned_bytes, 0u);
  EXPECT_TRUE(store->Contains(Id(1)));
}

TEST_F(ObjectSpillingTest, TheTargetMayOutliveTheStore) {
  FillStore();
  Create(kAnn, 11, 100 * kKiB);
  store.reset();
  disk.FinishAll();
}

}  // namespace
}  // namespace ray::store
