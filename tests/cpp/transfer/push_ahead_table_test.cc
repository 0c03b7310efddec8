#include "ray/transfer/push_ahead_table.h"

#include <gtest/gtest.h>

namespace ray::transfer {
namespace {

using base::NodeId;
using base::ObjectId;

class PushAheadTableTest : public testing::Test {
 protected:
  const NodeId a_ = NodeId::Random();
  const NodeId b_ = NodeId::Random();
  PushAheadTable table_{{.object_bytes_max = 100, .node_bytes_max = 250}};
};

TEST_F(PushAheadTableTest, SendsWhatIsSmall) {
  EXPECT_FALSE(table_.Begin(a_, ObjectId::Random(), 101));
  EXPECT_FALSE(table_.Begin(a_, ObjectId::Random(), 0));
  EXPECT_TRUE(table_.Begin(a_, ObjectId::Random(), 100));
  EXPECT_EQ(table_.bytes_on_their_way(), 100u);
}

TEST_F(PushAheadTableTest, BoundsWhatIsOnItsWayToANode) {
  EXPECT_TRUE(table_.Begin(a_, ObjectId::Random(), 100));
  EXPECT_TRUE(table_.Begin(a_, ObjectId::Random(), 100));
  const ObjectId late = ObjectId::Random();
  EXPECT_FALSE(table_.Begin(a_, late, 100)) << "AHEAD-1";
  EXPECT_TRUE(table_.Begin(b_, late, 100)) << "each node has its own";
  table_.End(a_, 100);
  EXPECT_TRUE(table_.Begin(a_, late, 100)) << "what was not sent may be later";
  table_.End(a_, 100);
  table_.End(a_, 100);
  table_.End(b_, 100);
  EXPECT_EQ(table_.bytes_on_their_way(), 0u);
}

TEST_F(PushAheadTableTest, SendsAnObjectToANodeOnce) {
  const ObjectId id = ObjectId::Random();
  EXPECT_TRUE(table_.Begin(a_, id, 10));
  EXPECT_FALSE(table_.Begin(a_, id, 10)) << "AHEAD-2";
  table_.End(a_, 10);
  EXPECT_FALSE(table_.Begin(a_, id, 10)) << "it may have been dropped there since: for room";
  EXPECT_TRUE(table_.Begin(b_, id, 10));
}

TEST_F(PushAheadTableTest, SendsNothingWhereThatIsSo) {
  PushAheadTable off{{.object_bytes_max = 0, .node_bytes_max = 0}};
  EXPECT_FALSE(off.Begin(a_, ObjectId::Random(), 1));
}

}  // namespace
}  // namespace ray::transfer
