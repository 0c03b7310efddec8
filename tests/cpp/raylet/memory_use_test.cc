#include "ray/raylet/memory_use.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "ray/base/temp_folder_testutil.h"

namespace ray::raylet {
namespace {

constexpr uint64_t kMiB = 1 << 20;

class MemoryUseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Write("proc/meminfo",
          "MemTotal:       1024000 kB\nMemFree:          10 kB\nMemAvailable:    256000 kB\n");
  }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path full = root_ / path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  void WriteGroup(const std::string& folder, const std::string& limit, uint64_t used,
                  uint64_t inactive_file) {
    Write(folder + "/memory.max", limit + "\n");
    Write(folder + "/memory.current", absl::StrCat(used, "\n"));
    Write(folder + "/memory.stat",
          absl::StrCat("anon 5\ninactive_file_other 7\ninactive_file ", inactive_file, "\n"));
  }

  const base::TempFolder root_;
};

TEST_F(MemoryUseTest, OfTheMachineIsWhatIsNotAvailable) {
  const auto use = MemoryReader(root_.path()).Read();
  ASSERT_TRUE(use.has_value());
  EXPECT_EQ(use->used_bytes, 768000u * 1024);
  EXPECT_EQ(use->limit_bytes, 1024000u * 1024);
  EXPECT_DOUBLE_EQ(use->Fraction(), 0.75);
  EXPECT_EQ(use->of, "the machine");
}

TEST_F(MemoryUseTest, OfAGroupIsLessPagesOfFilesThatCanGo) {
  Write("proc/self/cgroup", "0::/\n");
  WriteGroup("sys/fs/cgroup", absl::StrCat(100 * kMiB), 95 * kMiB, 5 * kMiB);
  const auto use = MemoryReader(root_.path()).Read();
  EXPECT_EQ(use->used_bytes, 90 * kMiB);
  EXPECT_EQ(use->limit_bytes, 100 * kMiB);
  EXPECT_EQ(use->of, "the control group /");
}

TEST_F(MemoryUseTest, TheFullestCounts) {
  Write("proc/self/cgroup", "0::/slice/job\n");
  WriteGroup("sys/fs/cgroup/slice", absl::StrCat(200 * kMiB), 199 * kMiB, 0);
  WriteGroup("sys/fs/cgroup/slice/job", absl::StrCat(100 * kMiB), 80 * kMiB, 0);
  EXPECT_EQ(MemoryReader(root_.path()).Read()->of, "the control group /slice");
  WriteGroup("sys/fs/cgroup/slice", "max", 199 * kMiB, 0);
  EXPECT_EQ(MemoryReader(root_.path()).Read()->of, "the control group /slice/job");
  WriteGroup("sys/fs/cgroup/slice/job", absl::StrCat(1000 * kMiB), 80 * kMiB, 0);
  EXPECT_EQ(MemoryReader(root_.path()).Read()->of, "the machine");
}

TEST_F(MemoryUseTest, ReadsVersion1AndFindsTheRootOfAContainer) {
  // The path is that of the host, and not there.
  Write("proc/self/cgroup", "11:cpu,cpuacct:/x\n5:memory:/kubepods/pod1\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", absl::StrCat(100 * kMiB));
  Write("sys/fs/cgroup/memory/memory.usage_in_bytes", absl::StrCat(95 * kMiB));
  Write("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 1048576\n");
  const auto use = MemoryReader(root_.path()).Read();
  EXPECT_EQ(use->used_bytes, 94 * kMiB);
  EXPECT_EQ(use->limit_bytes, 100 * kMiB);
}

TEST_F(MemoryUseTest, WithoutALimitOfVersion1TheMachineCounts) {
  Write("proc/self/cgroup", "5:memory:/\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("sys/fs/cgroup/memory/memory.usage_in_bytes", absl::StrCat(95 * kMiB));
  EXPECT_EQ(MemoryReader(root_.path()).Read()->of, "the machine");
}

TEST_F(MemoryUseTest, NonsenseIsLeftOutOfAccount) {
  Write("proc/self/cgroup", "\n::\n0:\n0::relative\nmemory\n5:memory:\n");
  Write("proc/meminfo", "MemTotal: many kB\n");
  EXPECT_FALSE(MemoryReader(root_.path()).Read().has_value());
  EXPECT_FALSE(MemoryReader(root_ / "nowhere/").Read().has_value());
}

TEST(ProcessMemory, TellsWhatAProcessHolds) {
  const auto before = ReadProcessMemory(getpid());
  ASSERT_TRUE(before.has_value());
  std::string block(64 * kMiB, 'x');
  const auto after = ReadProcessMemory(getpid());
  EXPECT_GE(after->own_bytes, before->own_bytes + 60 * kMiB);
  EXPECT_GE(after->resident_bytes, after->own_bytes);
  EXPECT_EQ(block.back(), 'x');
  EXPECT_FALSE(ReadProcessMemory(0).has_value());
}

TEST(ProcessMemory, LargestFirst) {
  const auto largest = LargestProcesses(5);
  ASSERT_FALSE(largest.empty());
  EXPECT_LE(largest.size(), 5u);
  for (size_t i = 1; i < largest.size(); ++i) {
    EXPECT_GE(largest[i - 1].own_bytes, largest[i].own_bytes);
  }
  EXPECT_FALSE(largest.front().command.empty());
}

}  // namespace
}  // namespace ray::raylet
