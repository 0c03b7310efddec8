#include "ray/transfer/offer_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace ray::transfer {
namespace {

using base::NodeId;
using base::ObjectId;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class OfferTableTest : public testing::Test {
 protected:
  void AskMore(const NodeId& node, uint64_t known_bytes) {
    table_.AskMore(node, id_, known_bytes,
                   [this](uint64_t available) { answers_.push_back(available); });
  }

  const ObjectId id_ = ObjectId::Random();
  const NodeId a_ = NodeId::Random();
  const NodeId b_ = NodeId::Random();
  OfferTable table_;
  std::vector<uint64_t> answers_;
};

TEST_F(OfferTableTest, WhoAskedHearsOnceThereIsMore) {
  const auto available = table_.Begin(id_, 100);
  AskMore(a_, 0);
  EXPECT_THAT(answers_, ElementsAre(100)) << "at once: there is more already";
  AskMore(a_, 100);
  AskMore(b_, 300);
  table_.Grow(id_, 200);
  EXPECT_THAT(answers_, ElementsAre(100, 200));
  EXPECT_EQ(*available, 200u);
  table_.Grow(id_, 150);
  EXPECT_EQ(*available, 200u);
  table_.Grow(id_, UINT64_MAX);
  EXPECT_THAT(answers_, ElementsAre(100, 200, UINT64_MAX));
}

TEST_F(OfferTableTest, CopyThatIsGivenUpHasNoMore) {
  table_.Begin(id_, 100);
  AskMore(a_, 100);
  table_.GiveUp(id_);
  AskMore(b_, 50);
  EXPECT_THAT(answers_, ElementsAre(0, 0));
}

TEST_F(OfferTableTest, NodeThatReadsNoLongerHearsNothing) {
  table_.Begin(id_, 100);
  AskMore(a_, 100);
  AskMore(a_, 150);  // asks anew
  AskMore(b_, 150);
  table_.Forget(b_, id_);
  table_.Grow(id_, 200);
  EXPECT_THAT(answers_, ElementsAre(200));
}

TEST_F(OfferTableTest, WhatIsNotOfferedHasNoMore) {
  AskMore(a_, 0);
  EXPECT_THAT(answers_, ElementsAre(0));
  table_.Grow(id_, 1);
  table_.GiveUp(id_);
  table_.Forget(a_, id_);
  EXPECT_EQ(table_.offers(), 0u);
}

TEST_F(OfferTableTest, MemoryIsLeftAloneUntilTheLastReaderEnds) {
  std::vector<std::string> done;
  table_.AfterReaders(id_, [&] { done.push_back("nobody reads"); });
  EXPECT_THAT(done, ElementsAre("nobody reads"));
  done.clear();
  table_.Begin(id_, 100);
  table_.Begin(id_, 200);
  table_.AfterReaders(id_, [&] { done.push_back("abort"); });
  table_.AfterReaders(id_, [&] { done.push_back("reserve"); });
  table_.End(id_);
  EXPECT_THAT(done, IsEmpty());
  table_.End(id_);
  EXPECT_THAT(done, ElementsAre("abort", "reserve"));
  EXPECT_EQ(table_.offers(), 0u);
}

}  // namespace
}  // namespace ray::transfer
