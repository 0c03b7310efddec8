#include "ray/core/sent_templates.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace ray::core {
namespace {

TEST(SentTemplates, AnnouncesEachOnce) {
  SentTemplates sent;
  const auto first = sent.Of(70);
  EXPECT_TRUE(first.is_new);
  EXPECT_EQ(sent.Of(71).number, 2u);
  EXPECT_EQ(sent.Of(70).number, first.number);
  EXPECT_FALSE(sent.Of(70).is_new);
}

// TEMPLATES-1, and that the peer, which remembers the latest template of each number, always means
// the same one.
TEST(SentTemplates, StaysBoundedAndAgreesWithThePeer) {
  std::mt19937 random(3);
  SentTemplates sent(8);
  std::map<uint32_t, uint64_t> at_the_peer;
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t uid = random() % 40;
    const auto number = sent.Of(uid);
    ASSERT_GE(number.number, 1u);
    ASSERT_LE(number.number, 8u);
    if (number.is_new) at_the_peer[number.number] = uid;
    ASSERT_EQ(at_the_peer[number.number], uid);
    ASSERT_LE(sent.size(), 8u);
  }
}

}  // namespace
}  // namespace ray::core
