// Objects whose copies are on other nodes: gets that fail, secondary copies, owners.
#include "tests/cpp/store/object_store_fixture.h"

namespace ray::store {
namespace {

constexpr ClientId kPuller{99};

class ObjectCopiesTest : public ObjectStoreFixture {
 protected:
  void SetUp() override { Start({}); }

  // A copy of another node's object.
  void PutCopy(uint32_t id, uint64_t size) {
    bool created = false;
    ASSERT_TRUE(
        store
            ->Create(
                kPuller, {.id = Id(id), .size_bytes = size, .owner = Owner(1), .secondary = true},
                [&](const CreateReply& reply) { created = reply.outcome == Created::kCreated; })
            .ok());
    ASSERT_TRUE(created);
    Seal(kPuller, id);
    Release(kPuller, id);
  }
};

TEST_F(ObjectCopiesTest, GetThatNeedNotWaitAnyLongerSaysWhy) {
  Put(kAnn, 1, kKiB);
  GetResult get = Get(kBob, {1, 2, 3});
  store->FailGets(Id(2), Got::kLost, "no copy anywhere");
  EXPECT_FALSE(get->has_value()) << "it still waits for 3";
  Put(kAnn, 3, kKiB);
  ASSERT_TRUE(get->has_value());
  EXPECT_EQ((*get)->entries[0].outcome, Got::kPresent);
  EXPECT_EQ((*get)->entries[1].outcome, Got::kLost);
  EXPECT_EQ((*get)->entries[1].reason, "no copy anywhere");
  EXPECT_EQ((*get)->entries[2].outcome, Got::kPresent);
}

TEST_F(ObjectCopiesTest, LaterGetsWaitAsBefore) {
  store->FailGets(Id(1), Got::kLost, "no copy anywhere");
  GetResult get = Get(kBob, {1});
  EXPECT_FALSE(get->has_value());
  Put(kAnn, 1, kKiB);
  EXPECT_EQ((*get)->entries[0].outcome, Got::kPresent);
}

TEST_F(ObjectCopiesTest, ObjectThatComesInTheEndIsPresent) {
  GetResult get = Get(kBob, {1, 2});
  store->FailGets(Id(1), Got::kLost, "no copy anywhere");
  store->FailGets(Id(1), Got::kLost, "no copy anywhere");
  Put(kAnn, 1, kKiB);
  EXPECT_FALSE(get->has_value());
  Free(1);
  store->FailGets(Id(2), Got::kNoMemory, "full");
  ASSERT_TRUE(get->has_value());
  EXPECT_EQ((*get)->entries[0].outcome, Got::kGone);
  EXPECT_EQ((*get)->entries[1].outcome, Got::kNoMemory);
}

TEST_F(ObjectCopiesTest, GetOfWhatIsHereDoesNotFail) {
  Put(kAnn, 1, kKiB);
  GetResult get = Get(kBob, {1, 2});
  store->FailGets(Id(1), Got::kLost, "no copy anywhere");
  Put(kAnn, 2, kKiB);
  EXPECT_EQ((*get)->entries[0].outcome, Got::kPresent);
}

TEST_F(ObjectCopiesTest, EvictionOfASecondaryCopyIsTold) {
  std::vector<base::ObjectId> evicted;
  store->OnEviction([&](const base::ObjectId& id) { evicted.push_back(id); });
  PutCopy(1, kCapacity / 2);
  PutCopy(2, kCapacity / 4);
  PutCopy(3, kKiB);
  Free(3);
  Put(kAnn, 4, kCapacity / 2);
  EXPECT_EQ(evicted, std::vector<base::ObjectId>{Id(1)});
  EXPECT_FALSE(store->Contains(Id(1)));
  EXPECT_TRUE(store->Find(Id(2))->secondary);
}

TEST_F(ObjectCopiesTest, GetWaitsForAnEvictedCopyAgain) {
  PutCopy(1, kCapacity / 2);
  GetResult get = Get(kBob, {1, 2});
  PutPinned(kAnn, 4, kCapacity * 3 / 4);
  EXPECT_FALSE(store->Contains(Id(1)));
  Put(kAnn, 2, kKiB);
  EXPECT_FALSE(get->has_value());
  store->FailGets(Id(1), Got::kLost, "no copy anywhere");
  EXPECT_EQ((*get)->entries[0].outcome, Got::kLost);
}

TEST_F(ObjectCopiesTest, CreationMakesASecondaryCopyThePrimaryOne) {
  PutCopy(1, kCapacity / 2);
  EXPECT_EQ((*Create(kAnn, 1, kCapacity / 2))->outcome, Created::kExists);
  EXPECT_FALSE(store->Find(Id(1))->secondary);
  CreateResult other = Create(kBob, 2, kCapacity);
  EXPECT_FALSE(other->has_value());
  disk.FinishAll();
  EXPECT_TRUE(other->has_value()) << "spilled, not dropped";
  EXPECT_TRUE(store->Contains(Id(1)));
}

TEST_F(ObjectCopiesTest, CreationThatWaitedForAFetchMakesItThePrimaryOne) {
  ASSERT_TRUE(store
                  ->Create(kPuller,
                           {.id = Id(1), .size_bytes = kKiB, .owner = Owner(1), .secondary = true},
                           [](const CreateReply&) {})
                  .ok());
  EXPECT_TRUE(store->Find(Id(1))->secondary);
  EXPECT_FALSE(store->Find(Id(1))->sealed);
  CreateResult waits = Create(kAnn, 1, kKiB);
  EXPECT_FALSE(waits->has_value());
  Seal(kPuller, 1);
  EXPECT_EQ((*waits)->outcome, Created::kExists);
  EXPECT_FALSE(store->Find(Id(1))->secondary);
}

TEST_F(ObjectCopiesTest, TellsWhoWaitsForMemoryAndWhoOwnsSomething) {
  EXPECT_EQ(store->FirstWaitingCreator(), std::nullopt);
  PutPinned(kAnn, 1, kCapacity, Owner(3));
  Create(kBob, 2, kKiB);
  Create(kAnn, 3, kKiB);
  EXPECT_EQ(store->FirstWaitingCreator(), kBob);
  EXPECT_TRUE(store->HasObjectsOf(Owner(3)));
  EXPECT_FALSE(store->HasObjectsOf(Owner(2)));
  Free(1);
  EXPECT_EQ(store->Find(Id(1)), std::nullopt);
}

}  // namespace
}  // namespace ray::store
