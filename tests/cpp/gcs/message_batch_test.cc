#include "ray/gcs/message_batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ray/gcs/v1/gcs.pb.h"

namespace ray::gcs {
namespace {

using ::testing::ElementsAre;

v1::NodeMessage Numbered(uint64_t number, size_t bytes = 0) {
  v1::NodeMessage message;
  message.set_sequence(number);
  message.mutable_leaving()->set_reason(std::string(bytes, 'x'));
  return message;
}

std::vector<uint64_t> NumbersOf(const v1::NodeMessage& batch) {
  std::vector<uint64_t> numbers{batch.sequence()};
  for (const v1::NodeMessage& next : batch.more()) numbers.push_back(next.sequence());
  return numbers;
}

TEST(MessageBatch, IsEmptyAtFirst) {
  EXPECT_FALSE(MessageBatch<v1::NodeMessage>().Take().has_value());
}

TEST(MessageBatch, KeepsTheOrder) {
  MessageBatch<v1::NodeMessage> batch;
  for (uint64_t number : {3, 1, 2}) batch.Add(Numbered(number));
  EXPECT_EQ(batch.size(), 3u);
  EXPECT_THAT(NumbersOf(*batch.Take()), ElementsAre(3, 1, 2));
  EXPECT_EQ(batch.size(), 0u);
  EXPECT_FALSE(batch.Take().has_value());
}

TEST(MessageBatch, LargeMessagesTravelInSeveral) {
  MessageBatch<v1::NodeMessage> batch;
  for (uint64_t number = 1; number <= 4; ++number) batch.Add(Numbered(number, 40 << 10));
  EXPECT_THAT(NumbersOf(*batch.Take()), ElementsAre(1, 2));
  EXPECT_THAT(NumbersOf(*batch.Take()), ElementsAre(3, 4));
  EXPECT_FALSE(batch.Take().has_value());
}

}  // namespace
}  // namespace ray::gcs
