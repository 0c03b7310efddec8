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
  EXPECT_TRUE(table_.Begin(a_, object_).granted);
  EXPECT_TRUE(table_.Begin(b_, object_).granted);
  EXPECT_FALSE(table_.Begin(c_, object_).granted);
  EXPECT_TRUE(table_.Begin(c_, ObjectId::Random()).granted) << "another object";
  EXPECT_TRUE(table_.End(a_, object_, true));
  EXPECT_TRUE(table_.Begin(c_, object_).granted);
}

TEST_F(PushTableTest, WhoIsTurnedAwayIsToldWhoHasFetchedIt) {
  const NodeId d = NodeId::Random();
  table_.Begin(a_, object_);
  table_.Begin(b_, object_);
  EXPECT_THAT(table_.Begin(c_, object_).other_nodes, IsEmpty());
  table_.End(a_, object_, true);
  table_.End(b_, object_, false);  // gave up: it has no copy
  table_.Begin(c_, object_);
  table_.End(c_, object_, true);
  table_.Begin(a_, object_);  // has lost its copy
  table_.Begin(b_, object_);
  EXPECT_THAT(table_.Begin(d, object_).other_nodes, ElementsAre(c_, a_)) << "the latest first";
  EXPECT_THAT(table_.Begin(c_, object_).other_nodes, ElementsAre(a_)) << "not itself";
}

TEST_F(PushTableTest, RepeatedMessagesChangeNothing) {
  EXPECT_TRUE(table_.Begin(a_, object_).granted);
  EXPECT_FALSE(table_.Begin(a_, object_).granted);
  EXPECT_EQ(table_.grants(), 1u);
  EXPECT_TRUE(table_.End(a_, object_, true));
  EXPECT_FALSE(table_.End(a_, object_, true));
  EXPECT_FALSE(table_.End(b_, object_, true)) << "it had none";
  EXPECT_FALSE(table_.IsGranted(a_, object_));
}

TEST_F(PushTableTest, NodeThatDisconnectsGivesUpAllItsGrants) {
  const ObjectId other = ObjectId::Random();
  table_.Begin(a_, object_);
  table_.Begin(a_, other);
  table_.Begin(b_, object_);
  EXPECT_THAT(table_.Disconnected(a_), UnorderedElementsAre(object_, other));
  EXPECT_THAT(table_.Disconnected(a_), IsEmpty());
  EXPECT_EQ(table_.grants(), 1u);
  EXPECT_TRUE(table_.Begin(c_, object_).granted);
}

}  // namespace
}  // namespace ray::transfer
