#include "ray/raylet/spill_setup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ray::raylet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(ParseSpillSetup, ReadsOneFolderOrSeveral) {
  auto one = ParseSpillSetup(R"({"type": "filesystem", "params": {"directory_path": "/mnt/a"}})");
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_THAT(one->directories, ElementsAre("/mnt/a"));
  EXPECT_EQ(one->parallel_writes(), 1);
  auto two = ParseSpillSetup(
      R"({"type": "filesystem", "params": {"directory_path": ["/mnt/a", "/mnt/b"],
          "buffer_size": 1000000}})");
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_THAT(two->directories, ElementsAre("/mnt/a", "/mnt/b"));
  EXPECT_EQ(two->parallel_writes(), 2);
}

TEST(ParseSpillSetup, ReadsUrisWithOptions) {
  auto setup = ParseSpillSetup(
      R"({"type": "smart_open", "params": {"uri": "s3://bucket/path",
          "storage_options": {"anon": true}}})");
  ASSERT_TRUE(setup.ok()) << setup.status();
  EXPECT_THAT(setup->uris, ElementsAre("s3://bucket/path"));
  EXPECT_EQ(setup->uri_options_json, R"({"anon":true})");
  EXPECT_THAT(setup->directories, IsEmpty());
}

TEST(ParseSpillSetup, SaysNothingWithoutText) {
  auto setup = ParseSpillSetup("");
  ASSERT_TRUE(setup.ok());
  EXPECT_THAT(setup->directories, IsEmpty());
  EXPECT_THAT(setup->uris, IsEmpty());
  EXPECT_EQ(setup->parallel_writes(), 1);
}

TEST(ParseSpillSetup, RefusesWhatItCannotUseAndSaysWhatIsExpected) {
  for (const char* text : {
           "{",
           "[]",
           "{}",
           R"({"type": "tape", "params": {}})",
           R"({"type": "filesystem"})",
           R"({"type": "filesystem", "params": []})",
           R"({"type": "filesystem", "params": {"directory_path": []}})",
           R"({"type": "filesystem", "params": {"directory_path": ""}})",
           R"({"type": "filesystem", "params": {"directory_path": ["/a", 1]}})",
           R"({"type": "smart_open", "params": {"directory_path": "/a"}})",
           R"({"type": "smart_open", "params": {"uri": "s3://b", "storage_options": 1}})",
           R"({"type": 1, "params": {}})",
       }) {
    auto setup = ParseSpillSetup(text);
    EXPECT_EQ(setup.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(setup.status().message()), HasSubstr("directory_path")) << text;
  }
}

}  // namespace
}  // namespace ray::raylet
