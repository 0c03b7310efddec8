#include "ray/core/release_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

namespace ray::core {
namespace {

using base::ObjectId;
using Kind = ReleaseQueue::Kind;
using ::testing::ElementsAre;
using ::testing::Pair;

ObjectId Numbered(uint64_t thread, uint32_t number) {
  return base::ReturnObjectId(base::MakeTaskId(thread, base::ActorId()), number);
}

TEST(ReleaseQueue, ItemsComeOutInTheOrderTheyWentIn) {  // RELQ-3
  ReleaseQueue queue;
  queue.Push(Kind::kReference, Numbered(0, 1));
  queue.Push(Kind::kStorePin, Numbered(0, 2));
  queue.Push(Kind::kReference, Numbered(0, 3));
  std::vector<std::pair<Kind, uint32_t>> items;
  queue.Drain([&](Kind kind, const ObjectId& id) { items.emplace_back(kind, base::IndexOf(id)); });
  EXPECT_THAT(items, ElementsAre(Pair(Kind::kReference, 1u), Pair(Kind::kStorePin, 2u),
                                 Pair(Kind::kReference, 3u)));
  EXPECT_TRUE(queue.empty());
}

TEST(ReleaseQueue, OnlyTheFirstPushAsksForADrain) {
  ReleaseQueue queue;
  EXPECT_TRUE(queue.Push(Kind::kReference, Numbered(0, 1)));
  EXPECT_FALSE(queue.Push(Kind::kReference, Numbered(0, 2)));
  queue.Drain([](Kind, const ObjectId&) {});
  EXPECT_TRUE(queue.Push(Kind::kReference, Numbered(0, 3)));
}

TEST(ReleaseQueue, WhatIsPushedInADrainWaitsForTheNext) {
  ReleaseQueue queue;
  queue.Push(Kind::kReference, Numbered(0, 1));
  int drained = 0;
  auto visit = [&](Kind, const ObjectId&) {
    if (++drained == 1) queue.Push(Kind::kReference, Numbered(0, 2));
  };
  queue.Drain(visit);
  EXPECT_EQ(drained, 1);
  queue.Drain(visit);
  EXPECT_EQ(drained, 2);
}

TEST(ReleaseQueue, ThreadsPushWhileOneDrains) {  // RELQ-1, RELQ-2, RELQ-3
  constexpr uint64_t kThreads = 4;
  constexpr uint32_t kItems = 20'000;
  ReleaseQueue queue;
  std::atomic<int> asked{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint32_t i = 1; i <= kItems; ++i) {
        if (queue.Push(Kind::kReference, Numbered(t, i))) asked.fetch_add(1);
      }
    });
  }
  std::vector<uint32_t> last(kThreads, 0);
  uint64_t total = 0;
  int drains = 0;
  while (total < kThreads * kItems) {
    if (queue.empty()) continue;
    ++drains;
    queue.Drain([&](Kind, const ObjectId& id) {
      uint64_t thread;
      std::memcpy(&thread, id.data(), sizeof thread);
      ASSERT_EQ(base::IndexOf(id), last[thread] + 1);
      last[thread] = base::IndexOf(id);
      ++total;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(asked.load(),
            drains);  // every drained list began with exactly one push that asked for it
}

}  // namespace
}  // namespace ray::core
