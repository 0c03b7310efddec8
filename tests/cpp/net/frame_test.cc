#include "ray/net/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "ray/base/clock.h"

namespace ray::net {
namespace {

constexpr uint64_t kBodyMax = 1 << 20;

std::string Bytes(const FrameHeader& header, std::string_view body = {}) {
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += body;
  return bytes;
}

// One PUSH_TASK (61) reply with correlation id 0x0102, metadata "meta" and payload "payload!".
const unsigned char kGolden[] = {12,  0,   0,   0,   4,   0,   0,   0,   61,  0,   1,   0,
                                 'M', 'N', 'T', '1', 2,   1,   0,   0,   0,   0,   0,   0,
                                 'm', 'e', 't', 'a', 'p', 'a', 'y', 'l', 'o', 'a', 'd', '!'};
const std::string_view kGoldenBytes(reinterpret_cast<const char*>(kGolden), sizeof kGolden);

TEST(ParseFrame, ReadsTheGoldenBytes) {
  auto parse = ParseFrame(kGoldenBytes, kBodyMax);
  ASSERT_TRUE(parse.ok());
  EXPECT_TRUE(parse->complete);
  EXPECT_EQ(parse->total_size, kGoldenBytes.size());
  EXPECT_EQ(parse->frame.type, 61);
  EXPECT_TRUE(parse->frame.is_reply);
  EXPECT_EQ(parse->frame.correlation_id, 0x0102u);
  EXPECT_EQ(parse->frame.metadata, "meta");
  EXPECT_EQ(parse->frame.payload, "payload!");
}

TEST(ParseFrame, AsksForMoreUntilTheFrameIsWhole) {
  for (size_t size = 0; size < kGoldenBytes.size(); ++size) {
    auto parse = ParseFrame(kGoldenBytes.substr(0, size), kBodyMax);
    ASSERT_TRUE(parse.ok()) << size;
    EXPECT_FALSE(parse->complete) << size;
    EXPECT_EQ(parse->total_size, size < sizeof(FrameHeader) ? 0 : kGoldenBytes.size());
  }
}

TEST(ParseFrame, LeavesTheNextFrameAlone) {
  std::string two(kGoldenBytes);
  two += kGoldenBytes;
  auto parse = ParseFrame(two, kBodyMax);
  ASSERT_TRUE(parse.ok());
  EXPECT_EQ(parse->total_size, kGoldenBytes.size());
  EXPECT_EQ(parse->frame.payload, "payload!");
}

TEST(ParseFrame, RefusesAnotherProtocol) {
  FrameHeader header;
  header.magic = 0x20545448;
  EXPECT_EQ(ParseFrame(Bytes(header), kBodyMax).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ParseFrame, RefusesUnknownFlags) {
  FrameHeader header;
  header.flags = kReplyFlag | 2;
  EXPECT_EQ(ParseFrame(Bytes(header), kBodyMax).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ParseFrame, RefusesMetadataBeyondTheBody) {
  FrameHeader header;
  header.body_size = 3;
  header.metadata_size = 4;
  EXPECT_EQ(ParseFrame(Bytes(header, "abc"), kBodyMax).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ParseFrame, RefusesABodyOverTheLimitAsSoonAsTheHeaderIsThere) {
  FrameHeader header;
  header.body_size = kBodyMax + 1;
  EXPECT_EQ(ParseFrame(Bytes(header), kBodyMax).status().code(),
            absl::StatusCode::kInvalidArgument);
  header.body_size = kBodyMax;
  EXPECT_TRUE(ParseFrame(Bytes(header), kBodyMax).ok());
}

TEST(ParseFrame, SurvivesAnyBytes) {
  std::mt19937_64 random(20240601);
  const int64_t end = base::MonotonicNanos() + 300'000'000;
  for (int round = 0; round < 200'000 && base::MonotonicNanos() < end; ++round) {
    std::string bytes(kGoldenBytes);
    for (auto flips = random() % 4; flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    bytes.resize(random() % (bytes.size() + 1));
    bytes.shrink_to_fit();  // reads beyond the end are then seen by the address sanitizer
    auto parse = ParseFrame(bytes, kBodyMax);
    if (!parse.ok() || !parse->complete) continue;
    EXPECT_LE(parse->total_size, bytes.size());
    EXPECT_EQ(sizeof(FrameHeader) + parse->frame.metadata.size() + parse->frame.payload.size(),
              parse->total_size);
    EXPECT_GE(parse->frame.metadata.data(), bytes.data());
    EXPECT_LE(parse->frame.payload.data() + parse->frame.payload.size(),
              bytes.data() + bytes.size());
  }
}

}  // namespace
}  // namespace ray::net
