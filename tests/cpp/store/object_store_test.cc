// Creation, reading, freeing and back-pressure, without a disk to spill to.
#include "ray/store/object_store.h"

#include "tests/cpp/store/object_store_fixture.h"

namespace ray::store {
namespace {

using testing::HasSubstr;

class ObjectStoreTest : public ObjectStoreFixture {
 protected:
  void SetUp() override { Start({}, /*with_spilling=*/false); }
};

TEST_F(ObjectStoreTest, AnObjectIsReadableOnceSealed) {
  auto created = Create(kAnn, 1, 1000);
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kCreated);
  auto got = Get(kBob, {1});
  EXPECT_FALSE(got->has_value());
  EXPECT_FALSE(store->Contains(Id(1)));
  Seal(kAnn, 1);
  EXPECT_TRUE(store->Contains(Id(1)));
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].outcome, Got::kPresent);
  EXPECT_EQ((*got)->entries[0].extent, (Extent{(*created)->offset, 1000}));
}

TEST_F(ObjectStoreTest, GetAnswersInTheOrderOfTheRequestWhenAllAreThere) {
  Put(kAnn, 1, 100);
  auto got = Get(kBob, {3, 1, 2, 1});
  Put(kAnn, 3, 300);
  EXPECT_FALSE(got->has_value());
  Put(kAnn, 2, 200);
  ASSERT_TRUE(got->has_value());
  std::vector<uint64_t> sizes;
  for (const auto& entry : (*got)->entries) sizes.push_back(entry.extent.size);
  EXPECT_THAT(sizes, testing::ElementsAre(300, 100, 200, 100));
  // Object 1 was named twice and pinned twice.
  Release(kBob, 1);
  Release(kBob, 1);
  EXPECT_EQ(store->Release(kBob, Id(1)).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ObjectStoreTest, GetAnswersAfterItsTimeoutWithWhatIsThere) {
  Put(kAnn, 1, 100);
  auto got = Get(kBob, {1, 2}, absl::Seconds(3));
  EXPECT_EQ(store->NextDeadline(), clock.Now() + absl::Seconds(3));
  Advance(absl::Seconds(2));
  EXPECT_FALSE(got->has_value());
  Advance(absl::Seconds(1));
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].outcome, Got::kPresent);
  EXPECT_EQ((*got)->entries[1].outcome, Got::kAbsent);
  EXPECT_EQ(store->NextDeadline(), absl::InfiniteFuture());
}

TEST_F(ObjectStoreTest, GetWithoutTimeAnswersAtOnce) {
  auto got = Get(kBob, {1}, absl::ZeroDuration());
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].outcome, Got::kAbsent);
  auto none = Get(kBob, {});
  EXPECT_TRUE(none->has_value());
}

TEST_F(ObjectStoreTest, ASealedObjectExistsForALaterCreation) {
  Put(kAnn, 1, 100);
  auto created = Create(kBob, 1, 100);
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kExists);
}

TEST_F(ObjectStoreTest, ACreationWaitsWhileAnotherClientWritesTheObject) {
  Create(kAnn, 1, 100);
  auto second = Create(kBob, 1, 100);
  EXPECT_FALSE(second->has_value());
  Seal(kAnn, 1);
  ASSERT_TRUE(second->has_value());
  EXPECT_EQ((*second)->outcome, Created::kExists);
}

TEST_F(ObjectStoreTest, ACreationSucceedsAfterTheWriterDied) {
  Create(kAnn, 1, 100);
  auto second = Create(kBob, 1, 100);
  auto third = Create(ClientId{3}, 1, 100);
  store->ClientGone(kAnn);
  ASSERT_TRUE(second->has_value());
  EXPECT_EQ((*second)->outcome, Created::kCreated);
  EXPECT_FALSE(third->has_value());
  store->Abort(kBob, Id(1));
  ASSERT_TRUE(third->has_value());
  EXPECT_EQ((*third)->outcome, Created::kCreated);
}

TEST_F(ObjectStoreTest, RefusesRequestsThatBreakTheProtocol) {
  auto never = [](CreateReply) { FAIL(); };
  EXPECT_EQ(store->Create(kAnn, {.id = Id(1), .size_bytes = 0}, never).code(),
            absl::StatusCode::kInvalidArgument);
  Create(kAnn, 1, 100);
  EXPECT_EQ(store->Create(kAnn, {.id = Id(1), .size_bytes = 100}, never).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store->Seal(kBob, Id(1)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store->Seal(kAnn, Id(2)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store->Release(kAnn, Id(1)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store->Release(kBob, Id(1)).code(), absl::StatusCode::kFailedPrecondition);
  Seal(kAnn, 1);
  EXPECT_EQ(store->Seal(kAnn, Id(1)).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ObjectStoreTest, AbortChangesNothingForWhoIsNotWriting) {
  Create(kAnn, 1, 100);
  store->Abort(kBob, Id(1));
  Seal(kAnn, 1);
  store->Abort(kAnn, Id(1));
  EXPECT_TRUE(store->Contains(Id(1)));
}

TEST_F(ObjectStoreTest, ACreationThatWaitsCanBeAborted) {
  PutPinned(kAnn, 1, 900 * kKiB);
  auto waiting = Create(kBob, 2, 800 * kKiB);
  auto behind = Create(kBob, 3, 100 * kKiB);
  EXPECT_FALSE(behind->has_value());
  store->Abort(kBob, Id(2));
  ASSERT_TRUE(waiting->has_value());
  EXPECT_EQ((*waiting)->outcome, Created::kAborted);
  ASSERT_TRUE(behind->has_value());
  EXPECT_EQ((*behind)->outcome, Created::kCreated);
  EXPECT_EQ(store->Stats().waiting_create_bytes, 0u);
}

TEST_F(ObjectStoreTest, FreeDeletesAtOnceWhatNobodyPins) {
  Put(kAnn, 1, 100 * kKiB);
  EXPECT_EQ(store->used_bytes(), 100 * kKiB);
  Free(1);
  EXPECT_EQ(store->used_bytes(), 0u);
  auto got = Get(kBob, {1});
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].outcome, Got::kGone);
  EXPECT_EQ((*got)->entries[0].reason, "its owner freed it");
}

TEST_F(ObjectStoreTest, AFreedObjectKeepsItsBytesWhileAReaderPinsThem) {  // STORE-2
  Put(kAnn, 1, 600 * kKiB);
  Get(kBob, {1});
  Free(1);
  EXPECT_EQ(store->used_bytes(), 600 * kKiB);
  EXPECT_FALSE(store->Contains(Id(1)));
  EXPECT_FALSE(Create(kAnn, 2, 600 * kKiB)->has_value());
  EXPECT_EQ((*Get(kAnn, {1}))->entries[0].outcome, Got::kGone);
  Release(kBob, 1);
  EXPECT_EQ(store->used_bytes(), 600 * kKiB);  // of object 2, which waited
}

TEST_F(ObjectStoreTest, FreeAnswersTheGetsThatWait) {
  auto got = Get(kBob, {1});
  Create(kAnn, 1, 100);
  Free(1);
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].outcome, Got::kGone);
  Seal(kAnn, 1);
  Release(kAnn, 1);
  EXPECT_EQ(store->used_bytes(), 0u);
}

TEST_F(ObjectStoreTest, AFreedObjectCanBeCreatedAgain) {
  Put(kAnn, 1, 100);
  Free(1);
  auto got = Get(kBob, {1, 2});  // object 1 is gone, object 2 to come
  Create(kAnn, 1, 100);
  Put(kAnn, 2, 100);
  EXPECT_FALSE(got->has_value());  // object 1 comes again, too
  Seal(kAnn, 1);
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].outcome, Got::kPresent);
}

TEST_F(ObjectStoreTest, CreatingAFreedObjectThatIsStillReadRevivesIt) {
  PutPinned(kAnn, 1, 100);
  Free(1);
  auto created = Create(kBob, 1, 100);
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kExists);
  Release(kAnn, 1);
  EXPECT_TRUE(store->Contains(Id(1)));
}

TEST_F(ObjectStoreTest, DeathOfTheOwnerFreesItsObjects) {
  Put(kAnn, 1, 100, Owner(7));
  Put(kAnn, 2, 100, Owner(8));
  PutPinned(kAnn, 3, 100, Owner(7));
  auto got = Get(kBob, {4});
  Create(kAnn, 4, 100, Owner(7));
  store->OwnerGone(Owner(7));
  EXPECT_FALSE(store->Contains(Id(1)));
  EXPECT_TRUE(store->Contains(Id(2)));
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ((*got)->entries[0].reason, "its owner died");
  Release(kAnn, 3);
  Seal(kAnn, 4);
  Release(kAnn, 4);
  EXPECT_EQ(store->Stats().objects, 1u);
}

TEST_F(ObjectStoreTest, AnObjectCreatedForADeadOwnerIsNotKept) {
  store->OwnerGone(Owner(7));
  Put(kAnn, 1, 100, Owner(7));
  EXPECT_EQ(store->Stats().objects, 0u);
}

TEST_F(ObjectStoreTest, DeathOfAClientDropsItsPinsItsWritesAndItsWaits) {
  Put(kAnn, 1, 100);
  Get(kBob, {1});
  Get(kBob, {1});
  Create(kBob, 2, 100);
  auto waiting_get = Get(kBob, {2, 3});
  Put(kAnn, 4, 900 * kKiB);
  auto waiting_create = Create(kBob, 5, 900 * kKiB);
  Free(1);
  store->ClientGone(kBob);
  EXPECT_EQ(store->Stats().objects, 1u);
  EXPECT_EQ(store->Stats().waiting_creates, 0u);
  EXPECT_EQ(store->Stats().waiting_gets, 0u);
  Free(4);
  Put(kAnn, 2, 100);
  Put(kAnn, 3, 100);
  EXPECT_FALSE(waiting_get->has_value());
  EXPECT_FALSE(waiting_create->has_value());
}

TEST_F(ObjectStoreTest, APrimaryCopyIsNeverEvicted) {  // STORE-3
  Put(kAnn, 1, 700 * kKiB);
  auto second = Create(kAnn, 2, 700 * kKiB);
  EXPECT_FALSE(second->has_value());
  EXPECT_TRUE(store->Contains(Id(1)));
}

TEST_F(ObjectStoreTest, SecondaryCopiesMakeRoomOldestFirst) {
  for (uint32_t id : {1u, 2u, 3u}) {
    ASSERT_TRUE(store
                    ->Create(kAnn, {.id = Id(id), .size_bytes = 300 * kKiB, .secondary = true},
                             [](CreateReply) {})
                    .ok());
    Seal(kAnn, id);
    Release(kAnn, id);
  }
  Get(kBob, {1});  // in use: the second is the oldest now
  EXPECT_EQ(store->used_bytes(), 300 * kKiB);
  Put(kAnn, 4, 300 * kKiB);
  EXPECT_TRUE(store->Contains(Id(1)));
  EXPECT_FALSE(store->Contains(Id(2)));
  EXPECT_TRUE(store->Contains(Id(3)));
  EXPECT_EQ(store->Stats().evictions, 1u);
  // Not gone for good: another copy may come.
  EXPECT_FALSE(Get(kBob, {2})->has_value());
}

TEST_F(ObjectStoreTest, ASecondaryCopyThatIsMadeThePrimaryOneStays) {
  EXPECT_FALSE(store->MakePrimary(Id(1)));
  for (uint32_t id : {1u, 2u}) {
    ASSERT_TRUE(store
                    ->Create(kAnn, {.id = Id(id), .size_bytes = 300 * kKiB, .secondary = true},
                             [](CreateReply) {})
                    .ok());
    EXPECT_FALSE(store->MakePrimary(Id(id)));  // being written
    Seal(kAnn, id);
    Release(kAnn, id);
  }
  EXPECT_TRUE(store->PrimaryCopies().empty());
  EXPECT_TRUE(store->MakePrimary(Id(1)));
  EXPECT_TRUE(store->MakePrimary(Id(1)));
  EXPECT_EQ(store->PrimaryCopies(), std::vector<base::ObjectId>{Id(1)});
  Put(kAnn, 3, 700 * kKiB);
  EXPECT_TRUE(store->Contains(Id(1)));
  EXPECT_FALSE(store->Contains(Id(2)));
  Free(1);
  EXPECT_FALSE(store->MakePrimary(Id(1)));
  EXPECT_EQ(store->PrimaryCopies(), std::vector<base::ObjectId>{Id(3)});
}

TEST_F(ObjectStoreTest, AGetThatWaitsSeesThatASecondaryCopyWasEvicted) {
  ASSERT_TRUE(store
                  ->Create(kAnn, {.id = Id(1), .size_bytes = 600 * kKiB, .secondary = true},
                           [](CreateReply) {})
                  .ok());
  Seal(kAnn, 1);
  Release(kAnn, 1);
  auto got = Get(kBob, {1, 2});
  Put(kAnn, 2, 600 * kKiB);
  EXPECT_FALSE(got->has_value());
}

TEST_F(ObjectStoreTest, NothingIsEvictedInVain) {
  ASSERT_TRUE(store
                  ->Create(kAnn, {.id = Id(1), .size_bytes = 300 * kKiB, .secondary = true},
                           [](CreateReply) {})
                  .ok());
  Seal(kAnn, 1);
  Release(kAnn, 1);
  PutPinned(kAnn, 2, 300 * kKiB);
  Create(kAnn, 3, 900 * kKiB);
  EXPECT_TRUE(store->Contains(Id(1)));
}

TEST_F(ObjectStoreTest, AFullStoreServesCreationsInTheOrderTheyCame) {  // STORE-5
  Put(kAnn, 1, 1000 * kKiB);
  auto large = Create(kAnn, 2, 800 * kKiB);
  auto small = Create(kBob, 3, 100 * kKiB);
  EXPECT_FALSE(large->has_value());
  EXPECT_FALSE(small->has_value());  // would pass the large one
  EXPECT_EQ(store->Stats().waiting_create_bytes, 900 * kKiB);
  Free(1);
  EXPECT_TRUE(large->has_value());
  EXPECT_TRUE(small->has_value());
}

TEST_F(ObjectStoreTest, AnExistingObjectIsToldThoughTheStoreIsFull) {
  Put(kAnn, 1, 1000 * kKiB);
  Create(kAnn, 2, 800 * kKiB);
  EXPECT_EQ((*Create(kBob, 1, 1000 * kKiB))->outcome, Created::kExists);
}

TEST_F(ObjectStoreTest, AFullStoreGivesUpAfterTheTimeoutAndSaysWhoHoldsWhat) {
  store->NameClient(kAnn, "driver 4711");
  PutPinned(kAnn, 1, 900 * kKiB, Owner(0xab));
  auto created = Create(kBob, 2, 800 * kKiB);
  Advance(absl::Seconds(9));
  EXPECT_FALSE(created->has_value());
  EXPECT_EQ(store->NextDeadline(), clock.Now() + absl::Seconds(1));
  Create(kBob, 3, 700 * kKiB);
  Advance(absl::Seconds(1));
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kFull);
  const std::string& message = (*created)->message;
  EXPECT_THAT(message, HasSubstr("800.0 KiB"));
  EXPECT_THAT(message, HasSubstr("900.0 KiB pinned by clients"));
  EXPECT_THAT(message, HasSubstr("\"put\" owned by worker abff"));
  EXPECT_THAT(message, HasSubstr("900.0 KiB in 1 objects: driver 4711"));
  EXPECT_THAT(message, HasSubstr("1 creations wait for 700.0 KiB"));
  EXPECT_EQ(store->Stats().waiting_creates, 1u);
}

TEST_F(ObjectStoreTest, AnObjectLargerThanTheStoreIsRefusedAtOnce) {
  Put(kAnn, 1, 1000 * kKiB);
  auto created = Create(kAnn, 2, kCapacity + 1);
  ASSERT_TRUE(created->has_value());
  EXPECT_EQ((*created)->outcome, Created::kTooLarge);
  EXPECT_THAT((*created)->message, HasSubstr("1.0 MiB"));
  EXPECT_EQ((*Create(kAnn, 3, UINT64_MAX))->outcome, Created::kTooLarge);
}

TEST_F(ObjectStoreTest, ALongNoteIsCut) {
  ASSERT_TRUE(store
                  ->Create(kAnn, {.id = Id(1), .size_bytes = 64, .note = std::string(10'000, 'x')},
                           [](CreateReply) {})
                  .ok());
  EXPECT_LT(store->Breakdown().size(), 1000u);
}

TEST_F(ObjectStoreTest, CallbacksMayCallTheStore) {
  int created = 0;
  std::function<void(CreateReply)> create_next = [&](CreateReply reply) {
    EXPECT_EQ(reply.outcome, Created::kCreated);
    uint32_t id = static_cast<uint32_t>(++created);
    ASSERT_TRUE(store->Seal(kAnn, Id(id)).ok());
    if (created == 100) return store->ClientGone(kAnn);
    ASSERT_TRUE(store->Create(kAnn, {.id = Id(id + 1), .size_bytes = 64}, create_next).ok());
  };
  ASSERT_TRUE(store->Create(kAnn, {.id = Id(1), .size_bytes = 64}, create_next).ok());
  EXPECT_EQ(created, 100);
}

TEST_F(ObjectStoreTest, NoReplyReachesAClientThatIsGone) {
  Create(kAnn, 1, 100);
  store->Get(kAnn, {Id(1)}, absl::InfiniteDuration(), [&](GetReply) { store->ClientGone(kBob); });
  auto bobs = Get(kBob, {1});
  Seal(kAnn, 1);
  EXPECT_FALSE(bobs->has_value());
  EXPECT_EQ(store->Stats().objects, 1u);
}

TEST_F(ObjectStoreTest, ManyWaitersOfManyObjectsAreServed) {
  std::vector<uint32_t> ids(10'000);
  for (uint32_t i = 0; i < ids.size(); ++i) ids[i] = i;
  auto all = Get(kAnn, ids);
  std::vector<GetResult> each;
  for (uint32_t id : ids) each.push_back(Get(kBob, {id}));
  for (uint32_t id : ids) Put(kAnn, id, 64);
  EXPECT_TRUE(all->has_value());
  for (const GetResult& got : each) EXPECT_TRUE(got->has_value());
}

class FakePageReturner final : public PageReturner {
 public:
  void ReturnPages(Extent extent, absl::AnyInvocable<void()> done) override {
    returned.push_back(extent);
    finish = std::move(done);
  }
  std::vector<Extent> returned;
  absl::AnyInvocable<void()> finish;
};

TEST(ObjectStorePages, ReturnsFreeMemoryBeyondTheReserveOnceNothingIsPutAnyMore) {
  base::VirtualClock clock;
  FakePageReturner pages;
  ObjectStore store({.capacity_bytes = kCapacity,
                     .warm_reserve_bytes = 256 * kKiB,
                     .page_return_delay = absl::Seconds(5)},
                    &clock, nullptr, &pages);
  ASSERT_TRUE(
      store.Create(kAnn, {.id = Id(1), .size_bytes = 1000 * kKiB}, [](CreateReply) {}).ok());
  store.Tick();
  EXPECT_EQ(store.NextDeadline(), absl::InfiniteFuture());
  store.Abort(kAnn, Id(1));
  EXPECT_EQ(store.NextDeadline(), clock.Now() + absl::Seconds(5));
  clock.Advance(absl::Seconds(4));
  store.Tick();
  EXPECT_TRUE(pages.returned.empty());
  clock.Advance(absl::Seconds(1));
  store.Tick();
  ASSERT_EQ(pages.returned.size(), 1u);
  EXPECT_EQ(pages.returned[0], (Extent{256 * kKiB, 744 * kKiB}));
  // What is being returned is nobody's: a creation waits for it.
  bool created = false;
  ASSERT_TRUE(store
                  .Create(kAnn, {.id = Id(2), .size_bytes = 1000 * kKiB},
                          [&](CreateReply) { created = true; })
                  .ok());
  EXPECT_FALSE(created);
  pages.finish();
  EXPECT_TRUE(created);
  store.CheckInvariants();
}

TEST(ObjectStorePages, ReturnerMayOutliveTheStore) {
  base::VirtualClock clock;
  FakePageReturner pages;
  {
    ObjectStore store({.capacity_bytes = kCapacity, .warm_reserve_bytes = 0}, &clock, nullptr,
                      &pages);
    store.MarkWarm({0, kCapacity});
    clock.Advance(absl::Minutes(1));
    store.Tick();
  }
  pages.finish();
}

TEST(ObjectStoreOptions, ReserveCoversWhatIsTouchedAheadOfUse) {
  base::Config config;
  config.object_store_warm_reserve_bytes = 1;
  config.object_store_pretouch_bytes = 1000;
  config.min_spilling_size_bytes = -1;
  ObjectStoreOptions options = ObjectStoreOptions::FromConfig(config, 123);
  EXPECT_EQ(options.capacity_bytes, 123u);
  EXPECT_EQ(options.warm_reserve_bytes, 1000u);
  EXPECT_EQ(options.spill_batch_bytes, 1u);
}

}  // namespace
}  // namespace ray::store
