#include "ray/core/unread_items.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <vector>

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

TEST(UnreadItemsTest, TheCountIsAlwaysTheSumOverTheCalls) {  // UNREAD-2
  struct Call {
    TaskId id;
    WorkerId reader;
    uint64_t sent = 0, read = 0;
    bool known = false, ended = false;
  };
  const std::vector<WorkerId> readers = {WorkerId::Random(), WorkerId::Random()};
  std::vector<Call> calls(6);
  for (size_t i = 0; i < calls.size(); ++i) {
    calls[i].id = TaskId::Random();
    calls[i].reader = readers[i % readers.size()];
  }
  UnreadItems items;
  std::mt19937_64 random(1);
  const auto forget_if_done = [](Call& call) {
    if (call.ended && call.read >= call.sent) call = {.id = call.id, .reader = call.reader};
  };
  for (int step = 0; step < 10'000; ++step) {
    Call& call = calls[random() % calls.size()];
    const uint64_t total = random() % 50;
    switch (random() % 8) {
      default:
        items.Sent(call.id, call.reader, total);
        call.known = true;
        call.ended = false;
        call.sent = std::max(call.sent, total);
        break;
      case 4:
      case 5:
        items.Read(call.id, call.reader, total);
        if (call.known) call.read = std::max(call.read, total);
        forget_if_done(call);
        break;
      case 6:
        items.Ended(call.id);
        if (call.known) call.ended = true;
        forget_if_done(call);
        break;
      case 7:
        items.ReaderGone(call.reader);
        for (Call& other : calls) {
          if (other.reader == call.reader) other = {.id = other.id, .reader = other.reader};
        }
    }
    uint64_t unread = 0;
    size_t known = 0;
    for (const Call& one : calls) {
      unread += one.sent > one.read ? one.sent - one.read : 0;
      known += one.known ? 1 : 0;
    }
    ASSERT_EQ(items.count(), unread) << step;
    ASSERT_EQ(items.calls(), known) << step;
  }
}

}  // namespace
}  // namespace ray::core
