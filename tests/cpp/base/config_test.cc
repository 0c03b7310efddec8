#include "ray/base/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

namespace ray::base {
namespace {

using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

// Sets an environment variable for one test.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~ScopedVariable() { unsetenv(name_); }

 private:
  const char* const name_;
};

TEST(Config, SetReadsEachType) {
  Config config;
  EXPECT_TRUE(config.Set("lease_linger_ms", "7").ok());
  EXPECT_TRUE(config.Set("object_spilling_threshold", "0.5").ok());
  EXPECT_TRUE(config.Set("log_level", "debug").ok());
  EXPECT_EQ(config.lease_linger_ms, 7);
  EXPECT_EQ(config.object_spilling_threshold, 0.5);
  EXPECT_EQ(config.log_level, "debug");
}

TEST(Config, SetNamesAnUnknownFlag) {
  Config config;
  absl::Status status = config.Set("no_such_flag", "1");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no_such_flag"));
}

TEST(Config, RefusedValueChangesNothing) {
  Config config;
  absl::Status status = config.Set("lease_linger_ms", "soon");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("soon"));
  EXPECT_EQ(config.lease_linger_ms, Config().lease_linger_ms);
}

TEST(Config, ValuesThatCannotWorkAreRefused) {
  Config config;
  for (const char* value : {"2147483648", "0", "-1"}) {
    const absl::Status status = config.Set("wire_frame_max_bytes", value);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << value;
    EXPECT_THAT(std::string(status.message()), HasSubstr("from 1048576 to 2147483647"));
  }
  EXPECT_TRUE(config.NonDefault().empty());
  EXPECT_TRUE(config.Set("wire_frame_max_bytes", "2147483647").ok());
}

TEST(Config, NonDefaultIsTextThatSetReads) {
  Config config;
  EXPECT_TRUE(config.NonDefault().empty());
  ASSERT_TRUE(config.Set("put_copy_threads", "5").ok());
  ASSERT_TRUE(config.Set("object_store_memory_fraction", "0.25").ok());
  EXPECT_THAT(config.NonDefault(),
              UnorderedElementsAre(Pair("put_copy_threads", "5"),
                                   Pair("object_store_memory_fraction", "0.25")));
  Config copy;
  for (const auto& [name, value] : config.NonDefault()) EXPECT_TRUE(copy.Set(name, value).ok());
  EXPECT_EQ(copy.NonDefault(), config.NonDefault());
}

TEST(Config, LoadsTheEnvironment) {
  ScopedVariable linger("RAY_lease_linger_ms", "42");
  Config config;
  EXPECT_TRUE(config.LoadEnvironment().ok());
  EXPECT_EQ(config.lease_linger_ms, 42);
}

TEST(Config, BadVariableIsNamed) {
  ScopedVariable linger("RAY_lease_linger_ms", "many");
  Config config;
  absl::Status status = config.LoadEnvironment();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("RAY_lease_linger_ms"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("many"));
}

TEST(Config, EveryFlagIsDescribedOnceAndAcceptsItsDefault) {
  std::set<std::string> names;
  Config config;
  Config::ForEachFlag([&](std::string_view name, std::string_view value, std::string_view meaning) {
    EXPECT_TRUE(names.emplace(name).second) << name;
    EXPECT_FALSE(meaning.empty()) << name;
    EXPECT_TRUE(config.Set(name, value).ok()) << name;
  });
  EXPECT_GT(names.size(), 10u);
  EXPECT_TRUE(config.NonDefault().empty());
}

}  // namespace
}  // namespace ray::base
