#include "ray/core/unread_items.h"

#include <gtest/gtest.h>

#include <limits>

namespace ray::core {
namespace {

using base::TaskId;
using base::WorkerId;

TEST(UnreadItemsTest, CountsOverAllCallsAlsoEndedOnes) {
  UnreadItems items;
  const TaskId first = TaskId::Random(), second = TaskId::Random();
  const WorkerId reader = WorkerId::Random();
  items.Sent(first, reader, 1);
  items.Sent(first, reader, 2);
  items.Sent(second, reader, 1);
  EXPECT_EQ(items.count(), 3u);
  items.Ended(first);
  EXPECT_EQ(items.count(), 3u);
  items.Read(first, reader, 1);
  EXPECT_EQ(items.count(), 2u);
  items.Read(first, reader, 2);
  EXPECT_EQ(items.calls(), 1u) << "UNREAD-1";
  items.Read(second, reader, 1);
  EXPECT_EQ(items.count(), 0u);
  EXPECT_EQ(items.calls(), 1u) << "it runs";
  items.Ended(second);
  EXPECT_EQ(items.calls(), 0u);
}

TEST(UnreadItemsTest, ARetryCountsOnce) {
  UnreadItems items;
  const TaskId call = TaskId::Random();
  const WorkerId reader = WorkerId::Random();
  items.Sent(call, reader, 2);
  items.Ended(call);
  items.Sent(call, reader, 1);
  EXPECT_EQ(items.count(), 2u);
  items.Read(call, reader, 2);
  EXPECT_EQ(items.calls(), 1u) << "it runs again";
}

TEST(UnreadItemsTest, WhatNobodyWillReadDoesNotCount) {
  UnreadItems items;
  const TaskId closed = TaskId::Random(), left = TaskId::Random();
  const WorkerId reader = WorkerId::Random();
  items.Sent(closed, WorkerId::Random(), 1);
  items.Sent(left, reader, 3);
  items.Read(left, WorkerId::Random(), 3);
  EXPECT_EQ(items.count(), 4u) << "only the reader can say what it read";
  items.ReaderGone(reader);
  EXPECT_EQ(items.count(), 1u);
  const WorkerId other = WorkerId::Random();
  items.Sent(left, other, 1);
  items.Read(left, other, std::numeric_limits<uint64_t>::max());
  items.Ended(left);
  EXPECT_EQ(items.calls(), 1u);
}

}  // namespace
}  // namespace ray::core
