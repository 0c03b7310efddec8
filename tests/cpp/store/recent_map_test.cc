#include "ray/store/recent_map.h"

#include <string>

#include "gtest/gtest.h"

namespace ray::store {
namespace {

TEST(RecentMap, ForgetsTheOldestKeyAndSaysSo) {  // RECENT-1
  RecentMap<int, std::string> map(2);
  EXPECT_EQ(map.Add(1, "one"), std::nullopt);
  EXPECT_EQ(map.Add(2, "two"), std::nullopt);
  EXPECT_EQ(map.Add(3, "three"), 1);
  EXPECT_EQ(map.Find(1), nullptr);
  EXPECT_EQ(*map.Find(3), "three");
}

TEST(RecentMap, KeepsTheFirstValueAndPlaceOfAKey) {
  RecentMap<int, std::string> map(2);
  map.Add(1, "one");
  EXPECT_EQ(map.Add(1, "other"), std::nullopt);
  EXPECT_EQ(*map.Find(1), "one");
  map.Add(2, "two");
  EXPECT_EQ(map.Add(3, "three"), 1);
}

TEST(RecentMap, AKeyThatWasErasedAndAddedAgainIsYoung) {
  RecentMap<int, int> map(2);
  map.Add(1, 0);
  EXPECT_TRUE(map.Erase(1));
  EXPECT_FALSE(map.Erase(1));
  map.Add(1, 0);
  EXPECT_EQ(map.Add(2, 0), std::nullopt);  // pushes out the stale place only
  EXPECT_NE(map.Find(1), nullptr);
}

}  // namespace
}  // namespace ray::store
