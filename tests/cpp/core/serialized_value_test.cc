#include "ray/core/serialized_value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

namespace ray::core {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(SerializedValue, SurvivesTheWire) {
  const std::string big(1000, 'b');
  const std::string_view buffers[] = {"a", big, ""};
  const BufferPtr bytes = Serialize({ValueKind::kRawBytes, "pickle", buffers});
  EXPECT_EQ(bytes->size(), SerializedSize({ValueKind::kRawBytes, "pickle", buffers}));
  auto value = ParseValue(bytes->view());
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(value->kind, ValueKind::kRawBytes);
  EXPECT_EQ(value->pickle, "pickle");
  EXPECT_THAT(value->buffers, ElementsAre("a", big, ""));
}

TEST(SerializedValue, BuffersAreAligned) {
  const std::string_view buffers[] = {"1", "22", "333"};
  const BufferPtr bytes = Serialize({ValueKind::kPickle, "odd", buffers});
  auto value = ParseValue(bytes->view());
  ASSERT_TRUE(value.ok());
  for (std::string_view buffer : value->buffers) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % Buffer::kAlignment, 0u);
  }
}

TEST(SerializedValue, EmptyPartsAreFine) {
  const std::string_view buffers[] = {std::string_view()};
  const BufferPtr bytes = Serialize({ValueKind::kPickle, std::string_view(), buffers});
  auto value = ParseValue(bytes->view());
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(value->pickle, "");
  EXPECT_THAT(value->buffers, ElementsAre(""));
}

TEST(SerializedValue, GoldenBytes) {
  const BufferPtr bytes = Serialize({ValueKind::kError, "pi", {}});
  const char golden[] = {'M', 'O', 'B', 'J', 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 'p', 'i'};
  EXPECT_EQ(bytes->view(), std::string_view(golden, sizeof golden));
}

TEST(SerializedValue, APickleMayHaveMoreThan4GiB) {
  // Nearly all of it is never touched.
  constexpr size_t kSize = (size_t{5} << 30) + 7;
  void* block = mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(block, MAP_FAILED);
  auto* whole = static_cast<uint8_t*>(block);
  const size_t head = SerializedSize({});
  const std::string_view pickle(reinterpret_cast<const char*>(whole) + head, kSize - head);
  const auto left = WriteHeaderAndPickle({ValueKind::kRawBytes, pickle, {}}, whole);
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].first, whole + head);
  EXPECT_EQ(left[0].second.size(), pickle.size());
  auto value = ParseValue({reinterpret_cast<const char*>(whole), kSize});
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(value->pickle.data(), pickle.data());
  EXPECT_EQ(value->pickle.size(), pickle.size());
  munmap(block, kSize);
}

TEST(SerializedValue, RefusesWhatIsNoValue) {
  EXPECT_FALSE(ParseValue("").ok());
  EXPECT_FALSE(ParseValue("not a value at all").ok());
  std::string bytes(Serialize({ValueKind::kPickle, "pickle", {}})->view());
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(ParseValue(bytes.substr(0, n)).ok()) << n;
  bytes[4] = 77;  // kind
  EXPECT_FALSE(ParseValue(bytes).ok());
}

TEST(SerializedValue, RefusesABufferOutsideOfTheBytes) {
  const std::string_view buffers[] = {"buffer"};
  const BufferPtr whole = Serialize({ValueKind::kPickle, "p", buffers});
  EXPECT_FALSE(ParseValue(whole->view().substr(0, whole->size() - 1)).ok());
  std::string huge(whole->view());
  const uint64_t offset = ~uint64_t{0};  // offset + size would wrap around
  std::memcpy(huge.data() + 16, &offset, sizeof offset);
  EXPECT_FALSE(ParseValue(huge).ok());
}

TEST(SystemError, SurvivesTheWire) {
  const SystemError error{"ACTOR_DIED", "it died", {{"actor_id", "ab"}, {"pid", "7"}}, "pickled"};
  const BufferPtr bytes = SerializeSystemError(error);
  auto value = ParseValue(bytes->view());
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(value->kind, ValueKind::kSystemError);
  EXPECT_TRUE(IsError(value->kind));
  auto parsed = ParseSystemError(value->pickle);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->code, "ACTOR_DIED");
  EXPECT_EQ(parsed->message, "it died");
  EXPECT_EQ(parsed->creation_error, "pickled");
  EXPECT_THAT(parsed->details, ElementsAre(Pair("actor_id", "ab"), Pair("pid", "7")));
  for (size_t n = 0; n < value->pickle.size(); ++n) {
    EXPECT_FALSE(ParseSystemError(value->pickle.substr(0, n)).ok()) << n;
  }
}

TEST(DependencyError, SurvivesTheWire) {
  const BufferPtr bytes = SerializeDependencyError({"f", "the cause"});
  auto value = ParseValue(bytes->view());
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(value->kind, ValueKind::kDependencyError);
  auto parsed = ParseDependencyError(value->pickle);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->task_name, "f");
  EXPECT_EQ(parsed->cause, "the cause");
  EXPECT_FALSE(ParseDependencyError(value->pickle.substr(1)).ok());
}

}  // namespace
}  // namespace ray::core
