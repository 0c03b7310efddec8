// Objects with a file of their own: larger than the store, or come when it stayed full.
#include <map>

#include "tests/cpp/store/object_store_fixture.h"

namespace ray::store {
namespace {

using testing::HasSubstr;

constexpr uint64_t kLarge = 3 * kCapacity;

class ObjectFileTest : public ObjectStoreFixture {
 protected:
  void SetUp() override { Start({.spilling_threshold = 1.0}); }

  // A creation that got its file.
  CreateReply CreateInFile(ClientId client, uint32_t id, uint64_t size,
                           base::WorkerId owner = Owner(1)) {
    CreateResult created = Create(client, id, size, owner);
    disk.FinishAll();
    EXPECT_TRUE(created->has_value());
    if (!created->has_value()) return {};
    EXPECT_EQ((*created)->outcome, Created::kCreated) << (*created)->message;
    EXPECT_NE((*created)->path, "");
    return **created;
  }
  // Of an object of another node, by Ann.
  void CreateCopy(uint32_t id, uint64_t size) {
    std::optional<CreateReply>& reply = copies[id];
    absl::Status status = store->Create(
        kAnn, {.id = Id(id), .size_bytes = size, .owner = Owner(1), .secondary = true},
        [&reply](CreateReply created) { reply = std::move(created); });
    EXPECT_TRUE(status.ok()) << status;
  }
  std::map<uint32_t, std::optional<CreateReply>> copies;
  void PutInFile(ClientId client, uint32_t id, uint64_t size, base::WorkerId owner = Owner(1)) {
    FillFile(id, CreateInFile(client, id, size, owner).path);
    Seal(client, id);
    Release(client, id);
  }
};

TEST_F(ObjectFileTest, AnObjectLargerThanTheStoreIsWrittenAndReadInAFile) {
  auto created = Create(kAnn, 1, kLarge);
  EXPECT_FALSE(created->has_value());
  disk.FinishAll();
  ASSERT_TRUE(created->has_value());
  ASSERT_EQ((*created)->outcome, Created::kCreated);
  FillFile(1, (*created)->path);
  auto got = Get(kBob, {1});
  EXPECT_FALSE(got->has_value());
  Seal(kAnn, 1);
  ASSERT_TRUE(got->has_value());
  const GetReply::Entry& entry = (*got)->entries[0];
  ASSERT_EQ(entry.outcome, Got::kPresent);
  EXPECT_EQ(entry.path, (*created)->path);
  EXPECT_EQ(entry.extent, (Extent{0, kLarge}));
  EXPECT_TRUE(HoldsItsBytes(1, entry));
}

TEST_F(ObjectFileTest, ItTakesDiskButNoMemory) {
  PutInFile(kAnn, 1, kLarge);
  Get(kBob, {1});
  StoreStats stats = store->Stats();
  EXPECT_EQ(stats.allocated_bytes + stats.used_bytes + stats.pinned_bytes, 0u);
  EXPECT_EQ(stats.disk_bytes, kLarge);
  EXPECT_EQ(stats.objects, 1u);
  PutPinned(kAnn, 2, 1000 * kKiB);  // the whole store is there for others
  EXPECT_THAT(store->Breakdown(), HasSubstr("On disk: 3.0 MiB"));
}

TEST_F(ObjectFileTest, TheFileGoesWithTheObject) {
  PutInFile(kAnn, 1, kLarge);
  auto got = Get(kBob, {1});
  Free(1);
  disk.FinishAll();
  EXPECT_EQ(disk.files.size(), 1u);  // Bob maps it
  EXPECT_EQ((*Get(kAnn, {1}))->entries[0].outcome, Got::kGone);
  Release(kBob, 1);
  disk.FinishAll();
  EXPECT_TRUE(disk.files.empty());
  EXPECT_EQ(store->Stats().disk_bytes, 0u);
  EXPECT_EQ(store->Stats().objects, 0u);
}

TEST_F(ObjectFileTest, TheFileGoesWhenItsCreatorDiesOrGivesUpInMidWrite) {
  CreateInFile(kAnn, 1, kLarge);
  auto second = Create(kBob, 1, kLarge);  // waits for the outcome
  EXPECT_FALSE(second->has_value());
  store->ClientGone(kAnn);
  disk.FinishAll();
  ASSERT_TRUE(second->has_value());
  EXPECT_EQ((*second)->outcome, Created::kCreated);
  EXPECT_EQ(disk.files.size(), 1u);
  store->Abort(kBob, Id(1));
  disk.FinishAll();
  EXPECT_TRUE(disk.files.empty());
  EXPECT_EQ(store->Stats().disk_bytes, 0u);
}

TEST_F(ObjectFileTest, TheFileGoesWithTheOwner) {
  PutInFile(kAnn, 1, kLarge, Owner(7));
  store->OwnerGone(Owner(7));
  disk.FinishAll();
  EXPECT_TRUE(disk.files.empty());
  // Also if it is created on the owner's behalf later.
  CreateInFile(kAnn, 2, kLarge, Owner(7));
  Seal(kAnn, 2);
  Release(kAnn, 2);
  disk.FinishAll();
  EXPECT_TRUE(disk.files.empty());
}

TEST_F(ObjectFileTest, AFileThatComesTooLateIsRemoved) {
  Create(kAnn, 1, kLarge);
  store->ClientGone(kAnn);
  auto aborted = Create(kBob, 2, kLarge);
  store->Abort(kBob, Id(2));
  ASSERT_TRUE(aborted->has_value());
  EXPECT_EQ((*aborted)->outcome, Created::kAborted);
  EXPECT_EQ(disk.pending(), 2u);
  disk.FinishAll();
  EXPECT_TRUE(disk.files.empty());
  EXPECT_EQ(store->Stats().disk_bytes, 0u);
}

TEST_F(ObjectFileTest, TheSecondOfTwoCreationsFindsTheObject) {
  auto first = Create(kAnn, 1, kLarge);
  auto second = Create(kBob, 1, kLarge);
  disk.FinishAll();
  ASSERT_TRUE(first->has_value());
  EXPECT_FALSE(second->has_value());
  Seal(kAnn, 1);
  ASSERT_TRUE(second->has_value());
  EXPECT_EQ((*second)->outcome, Created::kExists);
  disk.FinishAll();
  EXPECT_EQ(disk.files.size(), 1u);
}

TEST_F(ObjectFileTest, AStoreThatIsStuckGivesFiles) {
  PutPinned(kAnn, 1, 900 * kKiB);
  auto created = Create(kBob, 2, 500 * kKiB);
  Advance(absl::Seconds(1));
  EXPECT_EQ(disk.makes, 0);
  EXPECT_EQ(store->NextDeadline(), clock.Now() + absl::Seconds(1));
  Advance(absl::Seconds(1));
  disk.FinishAll();
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kCreated);
  FillFile(2, (*created)->path);
  Seal(kBob, 2);
  auto got = Get(kAnn, {1, 2});
  ASSERT_TRUE(got->has_value());
  EXPECT_TRUE((*got)->entries[0].path.empty());
  EXPECT_TRUE(HoldsItsBytes(2, (*got)->entries[1]));
  // Nothing has changed: the next one need not wait to find that out.
  Create(kBob, 3, 500 * kKiB);
  Advance(absl::ZeroDuration());
  EXPECT_EQ(disk.makes, 2);
}

TEST_F(ObjectFileTest, WhileTheDiskIsWrittenACreationWaitsForItsTimeout) {
  PutPinned(kAnn, 1, 800 * kKiB);
  Put(kAnn, 2, 100 * kKiB);
  auto created = Create(kBob, 3, 500 * kKiB);
  EXPECT_EQ(disk.writes, 1);
  Advance(absl::Seconds(9));
  EXPECT_EQ(disk.makes, 0);
  Advance(absl::Seconds(1));
  EXPECT_EQ(disk.makes, 1);
}

TEST_F(ObjectFileTest, ACreationThatGetsNoFileWaitsOnForMemoryInItsOldPlace) {
  PutPinned(kAnn, 1, 900 * kKiB);
  auto created = Create(kBob, 2, 500 * kKiB);
  auto behind = Create(kBob, 3, 600 * kKiB);
  Advance(absl::Seconds(2));
  disk.next_error = absl::ResourceExhaustedError("no space left on device");
  disk.FinishOne();
  EXPECT_FALSE(created->has_value());
  Free(1);
  Release(kAnn, 1);
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kCreated);
  EXPECT_EQ((*created)->path, "");
  disk.FinishAll();
  ASSERT_TRUE(behind->has_value());
}

TEST_F(ObjectFileTest, ADiskWithoutRoomEndsTheCreationWithFigures) {
  auto created = Create(kAnn, 1, kLarge);
  disk.next_error = absl::ResourceExhaustedError("no space left on device");
  disk.FinishAll();
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kOutOfDisk);
  EXPECT_THAT((*created)->message, HasSubstr("no room for an object of 3.0 MiB"));
  EXPECT_THAT((*created)->message, HasSubstr("larger than the object store of 1.0 MiB"));
  EXPECT_THAT((*created)->message, HasSubstr("no space left on device"));
  EXPECT_EQ(store->Stats().disk_bytes, 0u);
}

TEST_F(ObjectFileTest, TheQuotaIsForAllFiles) {
  Start({.spilling_threshold = 1.0, .spill_quota_bytes = 4 * kCapacity});
  PutInFile(kAnn, 1, kLarge);
  auto created = Create(kAnn, 2, kLarge);
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kOutOfDisk);
  EXPECT_THAT((*created)->message, HasSubstr("3.0 MiB of the 4.0 MiB"));
  EXPECT_EQ((*Create(kAnn, 3, UINT64_MAX))->outcome, Created::kOutOfDisk);
  Free(1);
  PutInFile(kAnn, 2, kLarge);
}

TEST_F(ObjectFileTest, ASizeThatNoDiskHasIsRefusedAtOnce) {
  EXPECT_EQ((*Create(kAnn, 1, UINT64_MAX))->outcome, Created::kOutOfDisk);
  EXPECT_EQ(disk.makes, 0);
}

TEST_F(ObjectFileTest, ADiskThatDoesNotAnswerEndsTheCreation) {
  auto created = Create(kAnn, 1, kLarge);
  EXPECT_EQ(store->NextDeadline(), clock.Now() + absl::Seconds(30));
  Advance(absl::Seconds(30));
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kOutOfDisk);
  EXPECT_THAT((*created)->message, HasSubstr("within 30s"));
  disk.FinishAll();
  EXPECT_TRUE(disk.files.empty());
}

TEST_F(ObjectFileTest, ASecondaryCopyGetsAFileOnlyIfItIsLargerThanTheStore) {
  CreateCopy(1, kLarge);
  disk.FinishAll();
  FillFile(1, copies[1]->path);
  Seal(kAnn, 1);
  Release(kAnn, 1);
  auto got = Get(kBob, {1});
  ASSERT_TRUE(got->has_value());
  EXPECT_TRUE(HoldsItsBytes(1, (*got)->entries[0]));
  PutPinned(kBob, 2, 900 * kKiB);
  CreateCopy(3, 900 * kKiB);
  Advance(absl::Seconds(10));
  ASSERT_TRUE(copies[3].has_value());
  EXPECT_EQ(copies[3]->outcome, Created::kFull);
  EXPECT_EQ(disk.makes, 1);
}

TEST_F(ObjectFileTest, ASecondaryCopyThatNobodyReadsMakesRoomOnDisk) {
  Start({.spilling_threshold = 1.0, .spill_quota_bytes = kLarge + kLarge / 2});
  std::vector<base::ObjectId> evicted;
  store->OnEviction([&](const base::ObjectId& id) { evicted.push_back(id); });
  for (uint32_t id : {1, 2}) {
    CreateCopy(id, kLarge / 2);
    disk.FinishAll();
    Seal(kAnn, id);
    Release(kAnn, id);
  }
  Get(kBob, {2});
  CreateInFile(kAnn, 3, kLarge - 1000);
  EXPECT_THAT(evicted, testing::ElementsAre(Id(1)));
  EXPECT_TRUE(store->Contains(Id(2))) << "somebody reads it";
  // Nothing is left that could go.
  auto refused = Create(kAnn, 4, kLarge);
  ASSERT_TRUE(refused->has_value());
  EXPECT_EQ((*refused)->outcome, Created::kOutOfDisk);
  // The primary copy stays.
  EXPECT_TRUE(store->MakePrimary(Id(2)));
  Release(kBob, 2);
  EXPECT_EQ((*Create(kAnn, 5, kLarge))->outcome, Created::kOutOfDisk);
  EXPECT_TRUE(store->Contains(Id(2)));
}

TEST_F(ObjectFileTest, WithoutADiskTheObjectIsTooLarge) {
  Start({}, /*with_spilling=*/false);
  auto created = Create(kAnn, 1, kLarge);
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kTooLarge);
}

}  // namespace
}  // namespace ray::store
