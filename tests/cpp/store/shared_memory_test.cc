#include "ray/store/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ray::store {
namespace {

constexpr uint64_t kMiB = 1 << 20;

net::UniqueFd Duplicate(const SharedMemory& memory) { return net::UniqueFd(dup(memory.fd())); }

uint64_t PresentBytes(const SharedMemory& memory) {
  struct stat file;
  EXPECT_EQ(fstat(memory.fd(), &file), 0);
  return static_cast<uint64_t>(file.st_blocks) * 512;
}

// What the kernel counts as shared memory of this process.
uint64_t ResidentSharedBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssShmem:")) return std::stoull(line.substr(9)) * 1024;
  }
  return 0;
}

TEST(SharedMemory, IsOneMemoryInTwoMappings) {
  auto raylet = SharedMemory::Create(4 * kMiB);
  ASSERT_TRUE(raylet.ok()) << raylet.status();
  auto client = SharedMemory::Map(Duplicate(**raylet), 4 * kMiB);
  ASSERT_TRUE(client.ok()) << client.status();
  std::strcpy(reinterpret_cast<char*>((*client)->At(kMiB)), "written by the client");
  EXPECT_STREQ(reinterpret_cast<char*>((*raylet)->At(kMiB)), "written by the client");
}

TEST(SharedMemory, HasNoNameAndCannotShrink) {
  auto memory = SharedMemory::Create(kMiB);
  ASSERT_TRUE(memory.ok());
  EXPECT_NE(ftruncate((*memory)->fd(), 4096), 0);
  char link[256] = {};
  std::string path = "/proc/self/fd/" + std::to_string((*memory)->fd());
  ASSERT_GT(readlink(path.c_str(), link, sizeof(link) - 1), 0);
  EXPECT_THAT(link, testing::HasSubstr("(deleted)"));
}

TEST(SharedMemory, RefusesADescriptorOfAnotherSizeOrThatMayShrink) {
  auto memory = SharedMemory::Create(kMiB);
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(SharedMemory::Map(Duplicate(**memory), 2 * kMiB).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SharedMemory::Map(net::UniqueFd(), kMiB).status().code(),
            absl::StatusCode::kInvalidArgument);
  net::UniqueFd unsealed(memfd_create("unsealed", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(unsealed.get(), kMiB), 0);
  EXPECT_EQ(SharedMemory::Map(std::move(unsealed), kMiB).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SharedMemory, ContainsRefusesExtentsThatOverflow) {
  auto memory = SharedMemory::Create(kMiB);
  ASSERT_TRUE(memory.ok());
  EXPECT_TRUE((*memory)->Contains({0, kMiB}));
  EXPECT_TRUE((*memory)->Contains({kMiB, 0}));
  EXPECT_FALSE((*memory)->Contains({1, kMiB}));
  EXPECT_FALSE((*memory)->Contains({UINT64_MAX, 2}));
  EXPECT_FALSE((*memory)->Contains({2, UINT64_MAX}));
}

TEST(SharedMemory, TouchMakesPagesPresentWithoutCountingForThisProcess) {
  auto memory = SharedMemory::Create(64 * kMiB);
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(PresentBytes(**memory), 0u);
  uint64_t before = ResidentSharedBytes();
  (*memory)->Touch({kMiB, 32 * kMiB});
  EXPECT_EQ(PresentBytes(**memory), 32 * kMiB);
  EXPECT_LT(ResidentSharedBytes(), before + kMiB);
}

TEST(SharedMemory, TouchNeverChangesBytesThatAreWrittenMeanwhile) {
  auto memory = SharedMemory::Create(kMiB);
  ASSERT_TRUE(memory.ok());
  std::atomic<bool> stop = false;
  std::thread toucher([&] {
    while (!stop) (*memory)->Touch({0, kMiB});
  });
  for (int round = 0; round < 50; ++round) {
    std::memset((*memory)->At(0), round, kMiB);
    for (uint64_t at = 0; at < kMiB; at += 512) {
      ASSERT_EQ(std::to_integer<int>(*(*memory)->At(at)), round);
    }
  }
  stop = true;
  toucher.join();
}

TEST(SharedMemory, PrepareWriteMapsPagesIntoThisProcess) {
  auto memory = SharedMemory::Create(64 * kMiB);
  ASSERT_TRUE(memory.ok());
  uint64_t before = ResidentSharedBytes();
  (*memory)->PrepareWrite({3 * kMiB + 100, 17 * kMiB});
  EXPECT_GE(ResidentSharedBytes(), before + 17 * kMiB);
  (*memory)->PrepareWrite({0, 64 * kMiB});
  EXPECT_GE(ResidentSharedBytes(), before + 64 * kMiB);
}

TEST(SharedMemory, ReturnPagesFreesWholePagesInsideAndKeepsTheirNeighbours) {
  auto memory = SharedMemory::Create(16 * kMiB);
  ASSERT_TRUE(memory.ok());
  std::memset((*memory)->At(0), 7, 16 * kMiB);
  (*memory)->ReturnPages({100, 8 * kMiB});
  EXPECT_EQ(PresentBytes(**memory), 16 * kMiB - (8 * kMiB - 4096));
  EXPECT_EQ(std::to_integer<int>(*(*memory)->At(4095)), 7);
  EXPECT_EQ(std::to_integer<int>(*(*memory)->At(4096)), 0);
  EXPECT_EQ(std::to_integer<int>(*(*memory)->At(8 * kMiB)), 7);
  (*memory)->ReturnPages({9 * kMiB + 1, 4096});  // holds no whole page
  EXPECT_EQ(std::to_integer<int>(*(*memory)->At(9 * kMiB + 2000)), 7);
}

TEST(SharedMemory, UnuseKeepsTheContents) {
  auto memory = SharedMemory::Create(16 * kMiB);
  ASSERT_TRUE(memory.ok());
  uint64_t before = ResidentSharedBytes();
  std::memset((*memory)->At(0), 9, 16 * kMiB);
  (*memory)->Unuse({0, 16 * kMiB});
  EXPECT_LT(ResidentSharedBytes(), before + kMiB);
  EXPECT_EQ(std::to_integer<int>(*(*memory)->At(5 * kMiB)), 9);
}

TEST(SharedMemory, MapsAnExtentOfAFileThatIsLongEnough) {
  std::string path = testing::TempDir() + "/mapped_" + std::to_string(getpid());
  {
    std::ofstream file(path);
    file << std::string(4096, 'a') << std::string(4096, 'b');
  }
  using Access = SharedMemory::Access;
  auto writer = SharedMemory::MapFile(path, {4096, 4096}, Access::kWrite);
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_EQ((*writer)->capacity_bytes(), 4096u);
  std::memset((*writer)->At(0), 'c', 10);
  auto reader = SharedMemory::MapFile(path, {4096, 100}, Access::kRead);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(std::memcmp((*reader)->At(0), "ccccccccccbb", 12), 0);
  for (Extent beyond : {Extent{0, 8193}, Extent{8192, 1}, Extent{4096, UINT64_MAX}}) {
    EXPECT_EQ(SharedMemory::MapFile(path, beyond, Access::kRead).status().code(),
              absl::StatusCode::kUnavailable);
  }
  unlink(path.c_str());
  EXPECT_EQ(SharedMemory::MapFile(path, {0, 4096}, Access::kRead).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(SharedMemory, UnmapsWhenDestroyed) {
  auto count_mappings = [] {
    std::ifstream maps("/proc/self/maps");
    int count = 0;
    for (std::string line; std::getline(maps, line);) {
      count += line.find("manta_object_store") != std::string::npos;
    }
    return count;
  };
  int before = count_mappings();
  {
    auto memory = SharedMemory::Create(kMiB);
    ASSERT_TRUE(memory.ok());
    EXPECT_EQ(count_mappings(), before + 1);
  }
  EXPECT_EQ(count_mappings(), before);
}

}  // namespace
}  // namespace ray::store
