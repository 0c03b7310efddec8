#include "ray/raylet/spill_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ray::raylet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

SpillSetup Folder(const std::string& folder) {
  return *ParseSpillSetup("{\"type\": \"filesystem\", \"params\": {\"directory_path\": \"" +
                          folder + "\"}}");
}

TEST(SpillRecord, GivesANodeWhatItDoesNotSay) {
  base::Config of_head;
  of_head.spill_disk_quota_bytes = 1000;
  of_head.object_spilling_threshold = 0.5;
  of_head.object_pull_retry_ms = 7;
  const std::string record = SpillRecord(Folder("/mnt/head"), of_head);
  SpillSetup setup;
  setup.worker_command = {"own"};
  base::Config config;
  ASSERT_TRUE(TakeOver(record, &setup, &config).ok());
  EXPECT_THAT(setup.directories, ElementsAre("/mnt/head"));
  EXPECT_THAT(setup.worker_command, ElementsAre("own"));
  EXPECT_TRUE(setup.taken_over);
  EXPECT_EQ(config.spill_disk_quota_bytes, 1000);
  EXPECT_EQ(config.object_spilling_threshold, 0.5);
  EXPECT_EQ(config.object_pull_retry_ms, base::Config().object_pull_retry_ms) << "not of spilling";
}

TEST(SpillRecord, WhatANodeSaysItselfWins) {
  base::Config of_head;
  of_head.spill_disk_quota_bytes = 1000;
  of_head.min_spilling_size_bytes = 5;
  SpillSetup setup = Folder("/mnt/own");
  base::Config config;
  config.spill_disk_quota_bytes = 2000;
  ASSERT_TRUE(TakeOver(SpillRecord(Folder("/mnt/head"), of_head), &setup, &config).ok());
  EXPECT_THAT(setup.directories, ElementsAre("/mnt/own"));
  EXPECT_FALSE(setup.taken_over);
  EXPECT_EQ(config.spill_disk_quota_bytes, 2000);
  EXPECT_EQ(config.min_spilling_size_bytes, 5);
}

TEST(SpillRecord, OfAHeadWithoutSettingsChangesNothing) {
  SpillSetup setup;
  base::Config config;
  ASSERT_TRUE(TakeOver(SpillRecord({}, {}), &setup, &config).ok());
  EXPECT_TRUE(SaysNothing(WriteSpillRecord({}, {})));
  EXPECT_FALSE(SaysNothing(WriteSpillRecord(Folder("/mnt/head"), {})));
  EXPECT_THAT(setup.directories, IsEmpty());
  EXPECT_THAT(config.NonDefault(), IsEmpty());
}

TEST(SpillRecord, WhatIsNoRecordIsRefusedAndChangesNothing) {
  for (const char* record : {"", "[]", "{\"object_spilling_config\": \"{\"}",
                             "{\"spill_disk_quota_bytes\": \"much\"}"}) {
    SpillSetup setup;
    base::Config config;
    EXPECT_EQ(TakeOver(record, &setup, &config).code(), absl::StatusCode::kInvalidArgument)
        << record;
    EXPECT_FALSE(setup.taken_over);
    EXPECT_THAT(config.NonDefault(), IsEmpty());
  }
}

}  // namespace
}  // namespace ray::raylet
