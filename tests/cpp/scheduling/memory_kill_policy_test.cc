#include "ray/scheduling/memory_kill_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace ray::scheduling {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'000'000);

RunningWork Task(std::string name, std::string owner, int age_seconds, bool retriable = true) {
  return {.worker = base::WorkerId::Random(),
          .owner = std::move(owner),
          .name = std::move(name),
          .since = kNow - absl::Seconds(age_seconds),
          .retriable = retriable};
}

RunningWork Actor(std::string name, std::string owner, int age_seconds, bool restartable) {
  RunningWork actor = Task(std::move(name), std::move(owner), age_seconds, restartable);
  actor.is_actor = true;
  return actor;
}

// The names in the order in which they are ended, one after the other.
std::vector<std::string> Order(std::vector<RunningWork> works) {
  std::vector<std::string> order;
  while (auto victim = ChooseMemoryVictim(works, kNow)) {
    order.push_back(works[victim->index].name);
    works.erase(works.begin() + static_cast<ptrdiff_t>(victim->index));
  }
  return order;
}

TEST(MemoryKillPolicy, NothingIsEndedWhereNothingRuns) {
  EXPECT_FALSE(ChooseMemoryVictim({}, kNow).has_value());
}

TEST(MemoryKillPolicy, LastStartedFirst) {
  EXPECT_THAT(Order({Task("old", "a", 30), Task("young", "a", 1), Task("middle", "a", 10)}),
              ElementsAre("young", "middle", "old"));
}

TEST(MemoryKillPolicy, WhatCannotRunAgainIsEndedAfterWhatCanAndActorsLast) {
  EXPECT_THAT(Order({Actor("state", "a", 1, /*restartable=*/false), Task("once", "a", 2, false),
                     Task("again", "a", 100), Actor("phoenix", "a", 50, /*restartable=*/true)}),
              ElementsAre("phoenix", "again", "once", "state"));
}

TEST(MemoryKillPolicy, TheLastOfAnOwnerIsSparedWhileAnotherHasSeveral) {
  // The small owner's task is the youngest of all, yet it is ended last but one.
  EXPECT_THAT(Order({Task("small", "small", 1), Task("large1", "large", 30),
                     Task("large2", "large", 20), Task("large3", "large", 10)}),
              ElementsAre("large3", "large2", "small", "large1"));
}

TEST(MemoryKillPolicy, GroupsAreOfOneKindOnly) {
  // Ten actors that cannot be restarted do not make the owner's one retriable task expendable.
  std::vector<RunningWork> works = {Task("only", "a", 1), Task("b1", "b", 30), Task("b2", "b", 20)};
  for (int i = 0; i < 10; ++i) works.push_back(Actor("state", "a", 60, false));
  EXPECT_EQ(Order(works).front(), "b2");
}

TEST(MemoryKillPolicy, TellsWhy) {
  const std::vector<RunningWork> works = {Task("f", "a", 30), Task("g", "a", 10),
                                          Task("h", "b", 1)};
  EXPECT_EQ(ChooseMemoryVictim(works, kNow)->because,
            "it is a task that may run again, its owner has 2 of the kind here and no other owner "
            "has more, and it started last of them, 10s ago");
  EXPECT_THAT(ChooseMemoryVictim({Actor("A", "a", 1, false)}, kNow)->because,
              HasSubstr("only actors that may not be restarted were left"));
}

// Whatever runs, in whatever order it is listed: the choice is the same, and while some owner has
// several retriable ones no owner loses its last one.
TEST(MemoryKillPolicy, RandomizedChoicesAreFairAndDoNotDependOnTheOrder) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<RunningWork> works;
    for (int i = 0; i < 12; ++i) {
      works.push_back(Task(std::to_string(i), std::string(1, static_cast<char>('a' + random() % 4)),
                           static_cast<int>(random() % 5)));
    }
    const std::vector<std::string> order = Order(works);
    std::shuffle(works.begin(), works.end(), random);
    ASSERT_EQ(Order(works), order) << "round " << round;
    std::map<std::string, int> left;
    std::map<std::string, std::string> owner;
    for (const RunningWork& work : works) {
      ++left[work.owner];
      owner[work.name] = work.owner;
    }
    for (const std::string& name : order) {
      int most = 0;
      for (const auto& [who, count] : left) most = std::max(most, count);
      ASSERT_EQ(left[owner[name]]--, most) << "round " << round;
    }
  }
}

}  // namespace
}  // namespace ray::scheduling
