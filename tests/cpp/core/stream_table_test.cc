#include "ray/core/stream_table.h"

#include <gtest/gtest.h>

#include <limits>

#include "ray/core/serialized_value.h"

namespace ray::core {
namespace {

using base::NodeId;
using base::ObjectId;
using base::TaskId;
using base::WorkerId;
using Step = StreamTable::Step;

class NoActions : public ObjectTable::Actions {
 public:
  void RegisterBorrow(const ObjectId&, const AddressPtr&) override {}
  void ReleaseBorrow(const ObjectId&, const AddressPtr&, uint32_t) override {}
  void FetchFromOwner(const ObjectId&, const AddressPtr&) override {}
  void Recover(const ObjectId&) override {}
  bool CanRecover(const ObjectId&) override { return true; }
  void FreeStored(const ObjectId&, const NodeId&) override {}
  void KeepCopy(const ObjectId&, const NodeId&) override {}
  void OwnedObjectGone(const ObjectId&) override {}
};

class StreamTableTest : public ::testing::Test {
 protected:
  StreamTableTest() { streams_.Open(task_, true); }
  ~StreamTableTest() override { objects_.CheckInvariants(); }

  bool Send(uint64_t index) {
    bool wanted = streams_.OnItem(task_, index).wanted;
    if (wanted) objects_.SetInline(StreamItemId(task_, index), Value("item"));
    return wanted;
  }
  static BufferPtr Value(std::string_view text) { return Buffer::Copy(text); }

  bool IsReady(const ObjectId& id) { return objects_.Find(id)->state != ObjectState::kPending; }
  // Reads one item and drops its reference.
  Step Read() {
    ObjectId id = streams_.Peek(task_);
    Step step = streams_.Advance(task_, id);
    objects_.RemoveLocal(id);
    return step;
  }

  const TaskId task_ = base::MakeTaskId(5, base::NilActorOf(base::JobIdFromInt(1)));
  NoActions actions_;
  ObjectTable objects_{&actions_};
  StreamTable streams_{&objects_};
};

TEST_F(StreamTableTest, ItemsAreReadInOrderAndThenTheEnd) {
  EXPECT_TRUE(Send(0));
  EXPECT_TRUE(Send(1));
  EXPECT_EQ(streams_.ConsumedOf(task_), 0u);
  EXPECT_EQ(Read(), Step::kItem);
  EXPECT_EQ(streams_.ConsumedOf(task_), 1u);
  streams_.End(task_, nullptr);
  EXPECT_EQ(Read(), Step::kItem);
  EXPECT_EQ(Read(), Step::kEnd);
  EXPECT_EQ(Read(), Step::kEnd);
  EXPECT_EQ(objects_.size(), 0u);
}

TEST_F(StreamTableTest, APeekedItemBecomesReadyWithItsValue) {
  ObjectId next = streams_.Peek(task_);
  EXPECT_FALSE(IsReady(next));
  EXPECT_EQ(streams_.Advance(task_, next), Step::kNotYet);
  EXPECT_TRUE(Send(0));
  EXPECT_TRUE(IsReady(next));
  EXPECT_EQ(streams_.Advance(task_, next), Step::kItem);
  EXPECT_EQ(objects_.Find(next)->local, 1u);  // the reader's own
  objects_.RemoveLocal(next);
}

TEST_F(StreamTableTest, APeekedItemBecomesReadyAtTheEnd) {
  ObjectId next = streams_.Peek(task_);
  streams_.End(task_, nullptr);
  EXPECT_TRUE(IsReady(next));
  EXPECT_EQ(streams_.Advance(task_, next), Step::kEnd);
  objects_.RemoveLocal(next);
  ObjectId after = streams_.Peek(task_);
  EXPECT_TRUE(IsReady(after));
  objects_.RemoveLocal(after);
}

TEST_F(StreamTableTest, AnErrorIsOneMoreItem) {
  EXPECT_TRUE(Send(0));
  BufferPtr error = Value("error");
  streams_.End(task_, error);
  EXPECT_EQ(Read(), Step::kItem);
  ObjectId failed = streams_.Peek(task_);
  EXPECT_EQ(objects_.Find(failed)->value, error);
  EXPECT_EQ(streams_.Advance(task_, failed), Step::kItem);
  objects_.RemoveLocal(failed);
  EXPECT_EQ(Read(), Step::kEnd);
}

TEST_F(StreamTableTest, ARetriedTasksItemsAreNotTakenTwice) {
  EXPECT_TRUE(Send(0));
  EXPECT_TRUE(Send(1));
  EXPECT_EQ(Read(), Step::kItem);
  EXPECT_FALSE(Send(0));
  EXPECT_FALSE(Send(1));
  EXPECT_EQ(streams_.OnItem(task_, 0).consumed, 1u);
  EXPECT_TRUE(Send(2));
  streams_.Close(task_);
}

TEST_F(StreamTableTest, AnItemOutOfOrderIsNotTaken) { EXPECT_FALSE(Send(1)); }

TEST_F(StreamTableTest, TwoReadersDoNotTakeTheSameItem) {
  EXPECT_TRUE(Send(0));
  ObjectId one = streams_.Peek(task_);
  ObjectId other = streams_.Peek(task_);
  EXPECT_EQ(one, other);
  EXPECT_EQ(streams_.Advance(task_, one), Step::kItem);
  EXPECT_EQ(streams_.Advance(task_, other), Step::kNotYet);
  objects_.RemoveLocal(one);
  objects_.RemoveLocal(other);
}

TEST_F(StreamTableTest, WhatWasNotReadGoesWithTheReader) {
  EXPECT_TRUE(Send(0));
  EXPECT_TRUE(Send(1));
  EXPECT_EQ(Read(), Step::kItem);
  streams_.Close(task_);
  EXPECT_EQ(objects_.size(), 0u);
  EXPECT_FALSE(Send(2));
  EXPECT_EQ(streams_.ConsumedOf(task_), std::numeric_limits<uint64_t>::max());
  streams_.End(task_, nullptr);
  EXPECT_EQ(streams_.size(), 0u);
}

TEST_F(StreamTableTest, WithoutAReaderItemsAreHeldUntilTheEnd) {
  streams_.Open(task_, false);
  EXPECT_TRUE(Send(0));
  EXPECT_TRUE(Send(1));
  EXPECT_EQ(objects_.size(), 2u);
  EXPECT_EQ(streams_.ConsumedOf(task_), std::numeric_limits<uint64_t>::max());
  streams_.End(task_, nullptr);
  EXPECT_EQ(objects_.size(), 0u);
  EXPECT_EQ(streams_.size(), 0u);
}

}  // namespace
}  // namespace ray::core
