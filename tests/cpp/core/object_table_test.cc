#include "ray/core/object_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <utility>
#include <vector>

#include "ray/core/worker_address_testutil.h"

namespace ray::core {
namespace {

using base::NodeId;
using base::ObjectId;
using base::WorkerId;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class RecordedActions : public ObjectTable::Actions {
 public:
  std::vector<ObjectId> registering;
  absl::flat_hash_set<ObjectId> puts;  // nothing computes them again
  std::vector<std::pair<ObjectId, uint32_t>> released;
  std::vector<ObjectId> fetched;
  std::vector<ObjectId> freed;
  std::vector<ObjectId> gone;
  std::vector<ObjectId> recovered;
  std::vector<std::pair<ObjectId, NodeId>> kept;

  void RegisterBorrow(const ObjectId& id, const AddressPtr&) override { registering.push_back(id); }
  void ReleaseBorrow(const ObjectId& id, const AddressPtr&, uint32_t registrations) override {
    released.emplace_back(id, registrations);
  }
  void FetchFromOwner(const ObjectId& id, const AddressPtr&) override { fetched.push_back(id); }
  void Recover(const ObjectId& id) override { recovered.push_back(id); }
  bool CanRecover(const ObjectId& id) override { return !puts.contains(id); }
  void FreeStored(const ObjectId& id, const NodeId&) override { freed.push_back(id); }
  void KeepCopy(const ObjectId& id, const NodeId& node) override { kept.emplace_back(id, node); }
  void OwnedObjectGone(const ObjectId& id) override { gone.push_back(id); }
};

class ObjectTableTest : public ::testing::Test {
 protected:
  ObjectTableTest() { table_.set_self(self_); }
  ~ObjectTableTest() override { table_.CheckInvariants(); }

  // An owned object with one local handle.
  ObjectId Own() {
    ObjectId id = ObjectId::Random();
    table_.AddOwned(id);
    table_.AddLocal(id, nullptr);
    return id;
  }
  // A borrowed object with one local handle, registered with its owner.
  ObjectId Borrow() {
    ObjectId id = ObjectId::Random();
    table_.AddLocal(id, owner_);
    table_.RegisterUnregistered();
    table_.OnBorrowRegistered(id, true);
    actions_.registering.clear();
    return id;
  }
  bool Has(const ObjectId& id) { return table_.Find(id) != nullptr; }

  RecordedActions actions_;
  ObjectTable table_{&actions_};
  const WorkerId self_ = WorkerId::Random();
  const AddressPtr owner_ = MakeAddress();
  const WorkerId borrower_ = WorkerId::Random();
};

TEST_F(ObjectTableTest, ValueThatIsYetToBeMadeIsAskedForOnce) {
  ObjectId id = Own();
  table_.Find(id)->released = true;  // as CoreWorker::Defer does
  EXPECT_THAT(actions_.recovered, IsEmpty());
  int ready = 0;
  table_.WhenReady(id, [&] { ++ready; });
  table_.WhenReady(id, [&] { ++ready; });
  EXPECT_THAT(actions_.recovered, ElementsAre(id));
  table_.SetInline(id, Buffer::Copy("value"));
  EXPECT_EQ(ready, 2);
  table_.RemoveLocal(id);
  EXPECT_THAT(actions_.gone, ElementsAre(id));
}

TEST_F(ObjectTableTest, EndOfWaitsIsHeardOnceByThoseWhoAskedForIt) {
  ObjectId id = Own();
  int only_ready = 0, ready_or_ended = 0;
  table_.WhenReady(id, [&] { ++only_ready; });
  table_.WhenReadyOrEnded(id, [&] { ++ready_or_ended; });
  table_.EndWaits();
  EXPECT_EQ(only_ready, 0);
  EXPECT_EQ(ready_or_ended, 1);
  table_.SetInline(id, Buffer::Copy("value"));
  EXPECT_EQ(only_ready, 1);
  EXPECT_EQ(ready_or_ended, 1);
}

TEST_F(ObjectTableTest, OwnedObjectGoesWithItsLastCount) {
  ObjectId id = Own();
  table_.AddLocal(id, nullptr);
  table_.Pin(id, nullptr);
  table_.RemoveLocal(id);
  table_.RemoveLocal(id);
  EXPECT_TRUE(Has(id));
  table_.Unpin(id);
  EXPECT_FALSE(Has(id));
  EXPECT_THAT(actions_.gone, ElementsAre(id));
  EXPECT_THAT(actions_.freed, IsEmpty());
}

TEST_F(ObjectTableTest, StoredCopyIsFreedWithTheObject) {
  ObjectId id = Own();
  table_.SetInStore(id, NodeId::Random(), 0);
  table_.RemoveLocal(id);
  EXPECT_THAT(actions_.freed, ElementsAre(id));
}

TEST_F(ObjectTableTest, EveryCopyIsFreedWithTheObject) {
  ObjectId id = Own();
  table_.SetInStore(id, NodeId::Random(), 8);
  NodeId copy = NodeId::Random();
  table_.AddCopy(id, copy);
  table_.AddCopy(id, copy);
  EXPECT_EQ(table_.Find(id)->Locations().size(), 2u);
  table_.RemoveLocal(id);
  EXPECT_THAT(actions_.freed, ElementsAre(id, id));
}

TEST_F(ObjectTableTest, AnotherCopyTakesThePlaceOfALostPrimary) {
  ObjectId id = Own();
  NodeId primary = NodeId::Random();
  NodeId copy = NodeId::Random();
  table_.SetInStore(id, primary, 8);
  table_.AddCopy(id, copy);
  EXPECT_THAT(table_.NodeGone(primary), IsEmpty());
  EXPECT_EQ(table_.Find(id)->node, copy);
  EXPECT_EQ(table_.Find(id)->state, ObjectState::kInStore);
}

TEST_F(ObjectTableTest, WithoutACopyTheValueIsPendingAgain) {
  ObjectId lost = Own();
  ObjectId elsewhere = Own();
  NodeId node = NodeId::Random();
  table_.SetInStore(lost, node, 8);
  table_.SetInStore(elsewhere, NodeId::Random(), 8);
  EXPECT_THAT(table_.NodeGone(node), ElementsAre(lost));
  int ready = 0;
  table_.WhenReady(lost, [&] { ++ready; });
  EXPECT_EQ(ready, 0);
  table_.SetInStore(lost, NodeId::Random(), 8);
  EXPECT_EQ(ready, 1);
}

TEST_F(ObjectTableTest, LineageKeepsTheEntryButNotItsBytes) {
  ObjectId id = Own();
  NodeId node = NodeId::Random();
  table_.SetInStore(id, node, 8);
  table_.PinLineage(id);
  table_.RemoveLocal(id);
  EXPECT_THAT(actions_.freed, ElementsAre(id));
  EXPECT_THAT(actions_.gone, IsEmpty());
  // A task that runs again asks for it: it is computed again, once.
  table_.Pin(id, nullptr);
  int ready = 0;
  table_.WhenReady(id, [&] { ++ready; });
  table_.WhenReady(id, [&] { ++ready; });
  EXPECT_THAT(actions_.recovered, ElementsAre(id));
  table_.SetInStore(id, node, 8);
  EXPECT_EQ(ready, 2);
  table_.Unpin(id);
  EXPECT_THAT(actions_.freed, ElementsAre(id, id));
  table_.UnpinLineage(id);
  EXPECT_THAT(actions_.gone, ElementsAre(id));
  EXPECT_FALSE(Has(id));
}

TEST_F(ObjectTableTest, LineageKeepsASmallValue) {
  ObjectId id = Own();
  table_.SetInline(id, Buffer::Copy("small"));
  table_.PinLineage(id);
  table_.RemoveLocal(id);
  EXPECT_EQ(table_.Find(id)->state, ObjectState::kInline);
  table_.UnpinLineage(id);
  EXPECT_FALSE(Has(id));
}

TEST_F(ObjectTableTest, LineageKeepsBytesThatNothingCouldComputeAgain) {
  ObjectId id = Own();
  actions_.puts.insert(id);
  table_.SetInStore(id, NodeId::Random(), 8);
  table_.PinLineage(id);
  table_.RemoveLocal(id);
  EXPECT_THAT(actions_.freed, IsEmpty());
  // A task that runs again finds it; after that only the lineage holds it, as before.
  table_.Pin(id, nullptr);
  EXPECT_EQ(table_.Find(id)->state, ObjectState::kInStore);
  table_.Unpin(id);
  EXPECT_THAT(actions_.freed, IsEmpty());
  table_.UnpinLineage(id);
  EXPECT_THAT(actions_.freed, ElementsAre(id));
  EXPECT_FALSE(Has(id));
}

TEST_F(ObjectTableTest, OfBytesThatNothingCouldComputeAgainTheOldestGoFirst) {
  table_.set_kept_bytes_max(20);
  std::vector<ObjectId> ids;
  for (int i = 0; i < 4; ++i) {
    ids.push_back(Own());
    actions_.puts.insert(ids.back());
    table_.SetInStore(ids.back(), NodeId::Random(), 8);
    table_.PinLineage(ids.back());
    table_.RemoveLocal(ids.back());
    if (i == 1) table_.AddLocal(ids[1], nullptr);  // whoever refers to it again keeps it
  }
  EXPECT_THAT(actions_.freed, ElementsAre(ids[0]));
  table_.RemoveLocal(ids[1]);  // the youngest now
  EXPECT_THAT(actions_.freed, ElementsAre(ids[0], ids[2]));
  int ready = 0;
  table_.WhenReady(ids[0], [&] { ++ready; });
  EXPECT_THAT(actions_.recovered, ElementsAre(ids[0]));  // and ends in an error
  table_.SetInline(ids[0], Buffer::Copy("lost"));
  EXPECT_EQ(ready, 1);
  for (const ObjectId& id : ids) table_.UnpinLineage(id);
}

TEST_F(ObjectTableTest, BytesThatOnlyTheLineageHoldsLetGoOfWhatTheyContain) {
  ObjectId inner = Own();
  ObjectId outer = Own();
  table_.SetContains(outer, {{inner, nullptr}}, {});
  table_.SetInStore(outer, NodeId::Random(), 8);
  table_.RemoveLocal(inner);
  table_.PinLineage(outer);
  table_.RemoveLocal(outer);
  EXPECT_FALSE(Has(inner));
  EXPECT_TRUE(Has(outer));
  table_.UnpinLineage(outer);
}

TEST_F(ObjectTableTest, ReferenceOwnedByThisProcessComesHomeAsOwned) {
  ObjectId id = ObjectId::Random();
  table_.AddLocal(id, MakeAddress(self_));
  EXPECT_TRUE(table_.Find(id)->owned);
  table_.RegisterUnregistered();
  EXPECT_THAT(actions_.registering, IsEmpty());
}

TEST_F(ObjectTableTest, FirstValueWins) {
  ObjectId id = Own();
  BufferPtr value = Buffer::Copy("first");
  table_.SetInline(id, value);
  table_.SetInline(id, Buffer::Copy("second"));
  table_.SetInStore(id, NodeId::Random(), 0);
  EXPECT_EQ(table_.Find(id)->value, value);
  EXPECT_EQ(table_.Find(id)->state, ObjectState::kInline);
  EXPECT_EQ(table_.ready_count(), 1u);
}

TEST_F(ObjectTableTest, WaitersRunOnceWhenTheValueComesOrAtOnce) {
  ObjectId id = Own();
  int ran = 0;
  table_.WhenReady(id, [&] { ++ran; });
  table_.WhenReady(id, [&] { ++ran; });
  EXPECT_EQ(ran, 0);
  table_.SetInline(id, Buffer::Copy("x"));
  EXPECT_EQ(ran, 2);
  table_.WhenReady(id, [&] { ++ran; });
  EXPECT_EQ(ran, 3);
  EXPECT_THAT(actions_.fetched, IsEmpty());
}

TEST_F(ObjectTableTest, WaiterMayDropTheObjectItWaitedFor) {
  ObjectId id = Own();
  table_.WhenReady(id, [&] { table_.RemoveLocal(id); });
  table_.SetInline(id, Buffer::Copy("x"));
  EXPECT_FALSE(Has(id));
}

TEST_F(ObjectTableTest, BorrowedValueIsFetchedOnce) {
  ObjectId id = Borrow();
  int ran = 0;
  table_.WhenReady(id, [&] { ++ran; });
  table_.WhenReady(id, [&] { ++ran; });
  EXPECT_THAT(actions_.fetched, ElementsAre(id));
  table_.SetInStore(id, NodeId::Random(), 0);
  EXPECT_EQ(ran, 2);
  table_.RemoveLocal(id);
  EXPECT_THAT(actions_.freed, IsEmpty());  // the copy is its owner's to free
}

// --- the owner's side

TEST_F(ObjectTableTest, BorrowersKeepAnOwnedObjectByCount) {  // REF-3
  ObjectId id = Own();
  table_.AddBorrower(id, borrower_, 1);
  table_.AddBorrower(id, borrower_, 2);
  table_.RemoveLocal(id);
  table_.RemoveBorrower(id, borrower_, 2);
  EXPECT_TRUE(Has(id));
  table_.RemoveBorrower(id, borrower_, 1);
  EXPECT_FALSE(Has(id));
}

TEST_F(ObjectTableTest, LateReleaseOfOneRegistrationLeavesTheNewerOne) {  // REF-3
  ObjectId id = Own();
  table_.AddBorrower(id, borrower_, 1);
  table_.AddBorrower(id, borrower_, 1);  // a second reference was sent while ...
  table_.RemoveLocal(id);
  table_.RemoveBorrower(id, borrower_, 1);  // ... the release of the first was under way
  EXPECT_TRUE(Has(id));
}

TEST_F(ObjectTableTest, BorrowerThatIsGoneLosesAllItsRegistrations) {  // REF-4
  ObjectId only = Own();
  ObjectId shared = Own();
  const WorkerId other = WorkerId::Random();
  table_.AddBorrower(only, borrower_, 3);
  table_.AddBorrower(shared, borrower_, 1);
  table_.AddBorrower(shared, other, 1);
  table_.RemoveLocal(only);
  table_.RemoveLocal(shared);
  table_.BorrowerGone(borrower_);
  EXPECT_FALSE(Has(only));
  EXPECT_TRUE(Has(shared));
  table_.BorrowerGone(other);
  EXPECT_FALSE(Has(shared));
}

TEST_F(ObjectTableTest,
       BorrowerGoneReleasesAChainOfObjects) {  // REF-4: removing one entry removes others
  std::vector<ObjectId> chain{Own()};
  for (int i = 0; i < 5; ++i) {
    chain.push_back(Own());
    table_.SetContains(chain.back(), {{chain[chain.size() - 2], nullptr}}, {});
  }
  for (const ObjectId& id : chain) table_.AddBorrower(id, borrower_, 1);
  for (const ObjectId& id : chain) table_.RemoveLocal(id);
  table_.BorrowerGone(borrower_);
  EXPECT_EQ(table_.size(), 0u);
}

TEST_F(ObjectTableTest, MessagesOfUnknownObjectsAndBorrowersAreIgnored) {
  ObjectId unknown = ObjectId::Random();
  table_.AddBorrower(unknown, borrower_, 1);
  table_.RemoveBorrower(unknown, borrower_, 1);
  table_.RemoveLocal(unknown);
  table_.Unpin(unknown);
  table_.SetInline(unknown, Buffer::Copy("x"));
  ObjectId id = Own();
  table_.RemoveBorrower(id, borrower_, 1);
  EXPECT_TRUE(Has(id));
  EXPECT_EQ(table_.size(), 1u);
}

// --- what contains what

TEST_F(ObjectTableTest, ContainedObjectsLiveAsLongAsTheirContainer) {  // REF-1
  ObjectId inner = Own();
  ObjectId outer = Own();
  table_.SetContains(outer, {{inner, nullptr}}, {});
  table_.RemoveLocal(inner);
  EXPECT_TRUE(Has(inner));
  table_.RemoveLocal(outer);
  EXPECT_THAT(actions_.gone, UnorderedElementsAre(inner, outer));
}

TEST_F(ObjectTableTest, LongChainsGoWithoutRecursion) {
  ObjectId inner = Own();
  for (int i = 0; i < 200'000; ++i) {
    ObjectId outer = ObjectId::Random();
    table_.AddOwned(outer);
    table_.AddLocal(outer, nullptr);
    table_.SetContains(outer, {{inner, nullptr}}, {});
    table_.RemoveLocal(inner);
    inner = outer;
  }
  table_.RemoveLocal(inner);
  EXPECT_EQ(table_.size(), 0u);
}

TEST_F(ObjectTableTest, ObjectContainedTwiceIsCountedTwice) {
  ObjectId inner = Own();
  ObjectId a = Own();
  ObjectId b = Own();
  table_.SetContains(a, {{inner, nullptr}}, {});
  table_.SetContains(b, {{inner, nullptr}, {inner, nullptr}}, {});
  table_.RemoveLocal(inner);
  table_.RemoveLocal(a);
  EXPECT_TRUE(Has(inner));
  table_.RemoveLocal(b);
  EXPECT_FALSE(Has(inner));
}

// --- the borrower's side

TEST_F(ObjectTableTest, BorrowIsRegisteredOnceAndReleasedWithItsCount) {  // REF-2, REF-3
  ObjectId id = ObjectId::Random();
  table_.AddLocal(id, owner_);
  EXPECT_THAT(actions_.registering, IsEmpty());  // protected by its sender until asked
  table_.RegisterUnregistered();
  table_.RegisterUnregistered();
  EXPECT_THAT(actions_.registering, ElementsAre(id));
  EXPECT_TRUE(table_.registrations_under_way());
  table_.OnBorrowRegistered(id, true);
  EXPECT_FALSE(table_.registrations_under_way());
  table_.RemoveLocal(id);
  EXPECT_THAT(actions_.released, ElementsAre(Pair(id, 1)));
}

TEST_F(ObjectTableTest, UnregisteredBorrowGoesWithoutAWord) {
  ObjectId id = ObjectId::Random();
  table_.AddLocal(id, owner_);
  table_.RemoveLocal(id);
  table_.RegisterUnregistered();
  EXPECT_THAT(actions_.registering, IsEmpty());
  EXPECT_THAT(actions_.released, IsEmpty());
}

TEST_F(ObjectTableTest, BorrowDroppedWhileItsRegistrationIsUnderWayIsReleasedAfterwards) {
  ObjectId id = ObjectId::Random();
  table_.AddLocal(id, owner_);
  table_.RegisterUnregistered();
  table_.RemoveLocal(id);
  EXPECT_TRUE(Has(id));
  EXPECT_THAT(actions_.released, IsEmpty());
  table_.OnBorrowRegistered(id, true);
  EXPECT_FALSE(Has(id));
  EXPECT_THAT(actions_.released, ElementsAre(Pair(id, 1)));
}

TEST_F(ObjectTableTest, BorrowThatTheOwnerDoesNotKnowIsNotReleased) {
  ObjectId id = ObjectId::Random();
  table_.AddLocal(id, owner_);
  table_.RegisterUnregistered();
  table_.OnBorrowRegistered(id, false);
  table_.RemoveLocal(id);
  EXPECT_THAT(actions_.released, IsEmpty());
}

TEST_F(ObjectTableTest, ReleaseWaitsUntilOtherBorrowsAreRegistered) {  // REF-2
  // `outer` is borrowed and protects `inner`, which this process took out of it.
  ObjectId outer = Borrow();
  ObjectId inner = ObjectId::Random();
  table_.AddLocal(inner, MakeAddress());
  table_.RemoveLocal(outer);
  EXPECT_THAT(actions_.registering, ElementsAre(inner));
  EXPECT_THAT(actions_.released, IsEmpty());
  table_.OnBorrowRegistered(inner, true);
  EXPECT_THAT(actions_.released, ElementsAre(Pair(outer, 1)));
  table_.RemoveLocal(inner);
}

TEST_F(ObjectTableTest, RegistrationMadeInOurNameCountsAsOne) {  // REF-1
  ObjectId outer = Own();
  ObjectId inner = ObjectId::Random();
  table_.SetContains(outer, {{inner, owner_}}, owner_->worker_id);
  table_.RegisterUnregistered();
  EXPECT_THAT(actions_.registering, IsEmpty());
  table_.RemoveLocal(outer);
  EXPECT_THAT(actions_.released, ElementsAre(Pair(inner, 1)));
}

TEST_F(ObjectTableTest, RegistrationBySomebodyWhoIsNotTheOwnerDoesNotCount) {  // REF-1
  ObjectId outer = Own();
  ObjectId inner = ObjectId::Random();
  table_.SetContains(outer, {{inner, owner_}}, WorkerId::Random());
  table_.RegisterUnregistered();
  EXPECT_THAT(actions_.registering, ElementsAre(inner));
  table_.OnBorrowRegistered(inner, true);
  table_.RemoveLocal(outer);
}

TEST_F(ObjectTableTest, RegistrationsInOurNameAddUpWithOurOwn) {  // REF-3
  ObjectId inner = Borrow();
  ObjectId outer = Own();
  table_.SetContains(outer, {{inner, owner_}}, owner_->worker_id);
  table_.RemoveLocal(inner);
  EXPECT_THAT(actions_.released, IsEmpty());
  table_.RemoveLocal(outer);
  EXPECT_THAT(actions_.released, ElementsAre(Pair(inner, 2)));
}

TEST_F(ObjectTableTest, RegistrationThatComesWithAValueNobodyWantsIsGivenBack) {
  ObjectId outer = Own();
  table_.RemoveLocal(outer);  // dropped before the task's reply
  ObjectId inner = ObjectId::Random();
  ObjectId foreign = ObjectId::Random();
  table_.SetContains(outer, {{inner, owner_}, {foreign, MakeAddress()}}, owner_->worker_id);
  EXPECT_FALSE(Has(inner));
  EXPECT_THAT(actions_.released, ElementsAre(Pair(inner, 1)));
}

TEST_F(ObjectTableTest, AnswerForABorrowDoesNotResurrectIt) {
  ObjectId a = ObjectId::Random();
  ObjectId b = ObjectId::Random();
  table_.AddLocal(a, owner_);
  table_.AddLocal(b, owner_);
  table_.RegisterUnregistered();
  table_.RemoveLocal(a);
  table_.OnBorrowRegistered(a, true);
  EXPECT_FALSE(Has(a));
  EXPECT_THAT(actions_.released, IsEmpty());  // REF-2: b's answer is still awaited
  table_.OnBorrowRegistered(b, true);
  EXPECT_THAT(actions_.released, ElementsAre(Pair(a, 1)));
  table_.RemoveLocal(b);
}

// --- primary copies

TEST_F(ObjectTableTest, ACopyThatIsLeftOfALostObjectIsKept) {
  const NodeId first = NodeId::Random(), second = NodeId::Random(), third = NodeId::Random();
  const ObjectId id = Own();
  table_.SetInStore(id, first, 100);
  table_.AddCopy(id, second);
  table_.AddCopy(id, third);
  EXPECT_TRUE(table_.DropCopies(id, {third}));
  EXPECT_THAT(actions_.kept, IsEmpty());  // the primary one is there
  EXPECT_THAT(table_.NodeGone(first), IsEmpty());
  EXPECT_THAT(actions_.kept, ElementsAre(Pair(id, second)));
}

TEST_F(ObjectTableTest, OnlyTheOwnerHasACopyKept) {
  const NodeId first = NodeId::Random(), second = NodeId::Random();
  const ObjectId id = Borrow();
  table_.SetInStore(id, first, 100);
  table_.AddCopy(id, second);
  EXPECT_TRUE(table_.DropCopies(id, {first}));
  EXPECT_THAT(actions_.kept, IsEmpty());
}

TEST_F(ObjectTableTest, ThePrimaryCopyMoves) {
  const NodeId first = NodeId::Random(), second = NodeId::Random(), third = NodeId::Random();
  const ObjectId id = Own();
  EXPECT_FALSE(table_.MovePrimary(id, second));  // not in the store
  table_.SetInStore(id, first, 100);
  table_.AddCopy(id, third);
  EXPECT_TRUE(table_.MovePrimary(id, second));
  EXPECT_TRUE(table_.MovePrimary(id, second));
  EXPECT_EQ(table_.Find(id)->node, second);
  EXPECT_THAT(table_.Find(id)->Locations(), UnorderedElementsAre(first, second, third));
  table_.NodeGone(first);
  EXPECT_THAT(table_.Find(id)->Locations(), ElementsAre(second, third));
  EXPECT_THAT(actions_.kept, IsEmpty());  // who moved it has made it the primary one
  EXPECT_FALSE(table_.MovePrimary(ObjectId::Random(), second));
}

// --- one owner and one borrower in a random order of events: what the borrower counts on is what
// the owner counts.

// Delivers the borrower's words to the owner's table, each in order, when the test says so.
class Wire : public ObjectTable::Actions {
 public:
  struct Word {
    bool registers;
    ObjectId id;
    uint32_t count;
  };
  std::deque<Word> to_owner;

  void RegisterBorrow(const ObjectId& id, const AddressPtr&) override {
    to_owner.push_back({true, id, 1});
  }
  void ReleaseBorrow(const ObjectId& id, const AddressPtr&, uint32_t registrations) override {
    for (const Word& word : to_owner) EXPECT_FALSE(word.registers);  // REF-2: all were answered
    to_owner.push_back({false, id, registrations});
  }
  void FetchFromOwner(const ObjectId&, const AddressPtr&) override {}
  void Recover(const ObjectId&) override {}
  bool CanRecover(const ObjectId&) override { return true; }
  void FreeStored(const ObjectId&, const NodeId&) override {}
  void KeepCopy(const ObjectId&, const NodeId&) override {}
  void OwnedObjectGone(const ObjectId&) override {}
};

class BorrowProtocol {
 public:
  explicit BorrowProtocol(uint64_t seed) : random_(seed) {
    owner_.set_self(owner_address_->worker_id);
    borrower_.set_self(borrower_address_->worker_id);
  }

  void Step() {
    switch (random_() % 6) {
      case 0:
        return CreateAndHandOver();
      case 1:
        return DropOwnersHandle();
      case 2:
        return DropBorrowersHandle();
      case 3:
        return Deliver();
      case 4:
        return EndTask();
      case 5:
        return ReturnAgain();
    }
  }
  void Check() {
    owner_.CheckInvariants();
    borrower_.CheckInvariants();
    for (const ObjectId& id : held_) EXPECT_NE(owner_.Find(id), nullptr);  // never lost
  }
  void Finish() {
    while (!owned_.empty()) DropOwnersHandle();
    while (!held_.empty()) DropBorrowersHandle();
    EndTaskWhenPossible();
    Check();
    EXPECT_EQ(owner_.size(), 0u);  // nothing leaks
    EXPECT_EQ(borrower_.size(), 0u);
  }

 private:
  // The owner calls a task at the borrower with a new object inside its argument: pinned until the
  // reply.
  void CreateAndHandOver() {
    ObjectId id = ObjectId::Random();
    owner_.AddOwned(id);
    owner_.AddLocal(id, nullptr);
    owned_.push_back(id);
    owner_.Pin(id, nullptr);
    pinned_.push_back(id);
    borrower_.AddLocal(id, owner_address_);
    held_.push_back(id);
  }
  // The reply of the running task goes only when every borrow is registered (REF-2).
  void EndTask() {
    borrower_.RegisterUnregistered();
    if (!borrower_.registrations_under_way()) Unpin();
  }
  void EndTaskWhenPossible() {
    borrower_.RegisterUnregistered();
    while (!wire_.to_owner.empty()) Deliver();
    Unpin();
    while (!wire_.to_owner.empty()) Deliver();
  }
  void Unpin() {
    for (const ObjectId& id : std::exchange(pinned_, {})) owner_.Unpin(id);
  }
  // The owner runs a task of the borrower that returns one of the owner's objects inside a value.
  void ReturnAgain() {
    if (owned_.empty()) return;
    ObjectId inner = owned_[random_() % owned_.size()];
    owner_.AddBorrower(inner, borrower_address_->worker_id, 1);
    ObjectId result = ObjectId::Random();
    if (random_() % 3 == 0) {  // dropped before the reply came
      borrower_.SetContains(result, {{inner, owner_address_}}, owner_address_->worker_id);
      return;
    }
    borrower_.AddOwned(result);
    borrower_.AddLocal(result, nullptr);
    borrower_.SetContains(result, {{inner, owner_address_}}, owner_address_->worker_id);
    borrower_.AddLocal(inner, owner_address_);
    held_.push_back(inner);
    borrower_.RemoveLocal(result);
  }
  void DropOwnersHandle() {
    if (!owned_.empty()) owner_.RemoveLocal(Take(owned_));
  }
  void DropBorrowersHandle() {
    if (!held_.empty()) borrower_.RemoveLocal(Take(held_));
  }
  void Deliver() {
    if (wire_.to_owner.empty()) return;
    Wire::Word word = wire_.to_owner.front();
    wire_.to_owner.pop_front();
    const WorkerId& borrower = borrower_address_->worker_id;
    if (!word.registers) return owner_.RemoveBorrower(word.id, borrower, word.count);
    bool known = owner_.Find(word.id) != nullptr;
    owner_.AddBorrower(word.id, borrower, 1);
    borrower_.OnBorrowRegistered(word.id, known);
  }
  ObjectId Take(std::vector<ObjectId>& from) {
    std::swap(from[random_() % from.size()], from.back());
    ObjectId id = from.back();
    from.pop_back();
    return id;
  }

  std::mt19937_64 random_;
  const AddressPtr owner_address_ = MakeAddress();
  const AddressPtr borrower_address_ = MakeAddress();
  RecordedActions owner_actions_;
  Wire wire_;
  ObjectTable owner_{&owner_actions_};
  ObjectTable borrower_{&wire_};
  std::vector<ObjectId> owned_;   // one entry a handle of the owner
  std::vector<ObjectId> held_;    // one entry a handle of the borrower
  std::vector<ObjectId> pinned_;  // by the task under way
};

TEST(ObjectTableProtocol, RandomEventsNeitherLoseNorLeakAnObject) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(seed);
    BorrowProtocol protocol(seed);
    for (int step = 0; step < 200 && !::testing::Test::HasFailure(); ++step) {
      protocol.Step();
      protocol.Check();
    }
    protocol.Finish();
    if (::testing::Test::HasFailure()) break;
  }
}

}  // namespace
}  // namespace ray::core
