#include "ray/transfer/push_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ray::transfer {
namespace {

using base::NodeId;
using base::ObjectId;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class PushTableTest : public testing::Test {
 protected:
  void TearDown() override { table_.CheckInvariants(); }

  const ObjectId object_ = ObjectId::Random();
  const NodeId a_ = NodeId::Random();
  const NodeId b_ = NodeId::Random();
  const NodeId c_ = NodeId::Random();
  PushTable table_{2};
};

TEST_F(PushTableTest, OnlySoManyNodesFetchOneObjectAtATime) {
  EXPECT_TRUE(table_.Begin(a_, object_, PushKind::kSmall).granted);
  EXPECT_TRUE(table_.Begin(b_, object_, PushKind::kSmall).granted);
  EXPECT_FALSE(table_.Begin(c_, object_, PushKind::kSmall).granted);
  EXPECT_TRUE(table_.Begin(c_, ObjectId::Random(), PushKind::kSmall).granted) << "another object";
  EXPECT_TRUE(table_.End(a_, object_, true));
  EXPECT_TRUE(table_.Begin(c_, object_, PushKind::kSmall).granted);
}

TEST_F(PushTableTest, LargeObjectGoesToOneNodeAtATime) {
  EXPECT_TRUE(table_.Begin(a_, object_, PushKind::kLarge).granted);
  EXPECT_FALSE(table_.Begin(b_, object_, PushKind::kLarge).granted);
  EXPECT_TRUE(table_.Begin(b_, ObjectId::Random(), PushKind::kLarge).granted) << "another object";
  EXPECT_TRUE(table_.Begin(c_, object_, PushKind::kResumed).granted) << "it holds memory";
  EXPECT_TRUE(table_.End(c_, object_, true));
  EXPECT_TRUE(table_.End(a_, object_, true));
  EXPECT_TRUE(table_.Begin(b_, object_, PushKind::kLarge).granted);
}

TEST_F(PushTableTest, WhoIsTurnedAwayIsToldWhoHasItOrIsAboutTo) {
  const NodeId d = NodeId::Random();
  EXPECT_THAT(table_.Begin(a_, object_, PushKind::kLarge).other_nodes, IsEmpty());
  EXPECT_THAT(table_.Begin(b_, object_, PushKind::kLarge).other_nodes, ElementsAre(a_));
  EXPECT_THAT(table_.Begin(c_, object_, PushKind::kLarge).other_nodes, ElementsAre(b_, a_))
      << "b has gone to a, and c may go to b";
  EXPECT_THAT(table_.Begin(b_, object_, PushKind::kLarge).other_nodes, ElementsAre(c_, a_))
      << "not itself";
  table_.End(a_, object_, true);
  table_.Begin(b_, object_, PushKind::kLarge);
  EXPECT_THAT(table_.Begin(d, object_, PushKind::kLarge).other_nodes, ElementsAre(c_, b_, a_));
  table_.End(b_, object_, false);  // gave up: it has no copy
  table_.Begin(c_, object_, PushKind::kLarge);
  EXPECT_THAT(table_.Begin(d, object_, PushKind::kLarge).other_nodes, ElementsAre(c_, a_));
}

TEST_F(PushTableTest, WhoFetchesItIsToldHoweverManyAsk) {
  table_.Begin(a_, object_, PushKind::kLarge);
  for (int i = 0; i < 100; ++i) table_.Begin(NodeId::Random(), object_, PushKind::kLarge);
  const auto others = table_.Begin(b_, object_, PushKind::kLarge).other_nodes;
  EXPECT_LE(others.size(), 10u);
  EXPECT_EQ(others.back(), a_);
}

TEST_F(PushTableTest, RepeatedMessagesChangeNothing) {
  EXPECT_TRUE(table_.Begin(a_, object_, PushKind::kSmall).granted);
  EXPECT_FALSE(table_.Begin(a_, object_, PushKind::kSmall).granted);
  EXPECT_EQ(table_.grants(), 1u);
  EXPECT_TRUE(table_.End(a_, object_, true));
  EXPECT_FALSE(table_.End(a_, object_, true));
  EXPECT_FALSE(table_.End(b_, object_, true)) << "it had none";
  EXPECT_FALSE(table_.IsGranted(a_, object_));
}

TEST_F(PushTableTest, NodeThatDisconnectsGivesUpAllItsGrants) {
  const ObjectId other = ObjectId::Random();
  table_.Begin(a_, object_, PushKind::kSmall);
  table_.Begin(a_, other, PushKind::kSmall);
  table_.Begin(b_, object_, PushKind::kSmall);
  EXPECT_THAT(table_.Disconnected(a_), UnorderedElementsAre(object_, other));
  EXPECT_THAT(table_.Disconnected(a_), IsEmpty());
  EXPECT_EQ(table_.grants(), 1u);
  EXPECT_TRUE(table_.Begin(c_, object_, PushKind::kSmall).granted);
}

}  // namespace
}  // namespace ray::transfer
