#include "ray/store/file_spill_target.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cpp/store/posted_functions.h"

namespace ray::store {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// Both ways of writing: through the page cache, and past it.
class FileSpillTargetTest : public testing::TestWithParam<uint64_t> {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "/spill_test_" + std::to_string(getpid());
    memory_ = std::move(*SharedMemory::Create(16 * kMiB));
    auto target =
        FileSpillTarget::Create(directory_ + "/spill", memory_.get(), loop_.Post(), GetParam());
    ASSERT_TRUE(target.ok()) << target.status();
    target_ = std::move(*target);
  }
  void TearDown() override {
    target_.reset();
    std::filesystem::remove_all(directory_);
  }

  void Fill(Extent extent, int value) {
    std::memset(memory_->At(extent.offset), value, extent.size);
  }
  bool IsFilled(Extent extent, int value) {
    for (uint64_t at = extent.offset; at < extent.end(); ++at) {
      if (std::to_integer<int>(*memory_->At(at)) != value) return false;
    }
    return true;
  }

  absl::Status Write(SpillFileId file, std::vector<Extent> pieces) {
    std::optional<absl::Status> result;
    target_->Write(file, std::move(pieces), [&](absl::Status status) { result = status; });
    EXPECT_TRUE(loop_.RunUntil([&] { return result.has_value(); }));
    return *result;
  }
  absl::StatusOr<MappedPlace> Make(SpillFileId file, uint64_t size_bytes) {
    std::optional<absl::StatusOr<MappedPlace>> result;
    target_->Make(file, size_bytes,
                  [&](absl::StatusOr<MappedPlace> place) { result = std::move(place); });
    EXPECT_TRUE(loop_.RunUntil([&] { return result.has_value(); }));
    return *result;
  }
  absl::Status Read(SpillFileId file, uint32_t index, Extent into) {
    std::optional<absl::Status> result;
    target_->Read(file, index, into, [&](absl::Status status) { result = status; });
    EXPECT_TRUE(loop_.RunUntil([&] { return result.has_value(); }));
    return *result;
  }

  // The open files of this process below the directory, which have no name there.
  std::vector<std::string> OpenFiles() {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      std::string link = std::filesystem::read_symlink(entry.path(), gone).string();
      if (link.find("/spill/spill-") != std::string::npos) files.push_back(entry.path());
    }
    return files;
  }
  int OpenOnlyFile() {
    std::vector<std::string> files = OpenFiles();
    EXPECT_EQ(files.size(), 1u);
    return open(files.at(0).c_str(), O_RDWR | O_CLOEXEC);
  }

  PostedFunctions loop_;
  std::string directory_;
  std::unique_ptr<SharedMemory> memory_;
  std::unique_ptr<FileSpillTarget> target_;
};

TEST_P(FileSpillTargetTest, ReadsBackEachPieceOfAFile) {
  Fill({0, 1000}, 1);
  Fill({4096, 3 * kMiB}, 2);
  Fill({5 * kMiB, 64}, 3);
  ASSERT_TRUE(Write(SpillFileId{1}, {{0, 1000}, {4096, 3 * kMiB}, {5 * kMiB, 64}}).ok());
  Fill({0, 16 * kMiB}, 0);
  EXPECT_TRUE(Read(SpillFileId{1}, 1, {8 * kMiB, 3 * kMiB}).ok());
  EXPECT_TRUE(IsFilled({8 * kMiB, 3 * kMiB}, 2));
  EXPECT_TRUE(Read(SpillFileId{1}, 0, {64, 1000}).ok());
  EXPECT_TRUE(IsFilled({64, 1000}, 1));
  EXPECT_TRUE(Read(SpillFileId{1}, 2, {kMiB, 64}).ok());
  EXPECT_TRUE(IsFilled({kMiB, 64}, 3));
  EXPECT_TRUE(IsFilled({kMiB + 64, 64}, 0));
}

TEST_P(FileSpillTargetTest, ReadsBackWhatIsLargerThanItsBuffers) {
  for (int i = 0; i < 3; ++i) Fill({static_cast<uint64_t>(i) * 5 * kMiB, 5 * kMiB}, i + 1);
  ASSERT_TRUE(Write(SpillFileId{1}, {{64, 9 * kMiB + 64}, {10 * kMiB, 5 * kMiB - 1}}).ok());
  Fill({0, 16 * kMiB}, 0);
  EXPECT_TRUE(Read(SpillFileId{1}, 0, {128, 9 * kMiB + 64}).ok());
  EXPECT_TRUE(IsFilled({128, 5 * kMiB - 64}, 1));
  EXPECT_TRUE(IsFilled({64 + 5 * kMiB, 4 * kMiB + 128}, 2));
  EXPECT_TRUE(Read(SpillFileId{1}, 1, {0, 5 * kMiB - 1}).ok());
  EXPECT_TRUE(IsFilled({0, 5 * kMiB - 1}, 3));
}

TEST_P(FileSpillTargetTest, LeavesNoNameOnDisk) {
  ASSERT_TRUE(Write(SpillFileId{1}, {{0, kMiB}}).ok());
  EXPECT_TRUE(std::filesystem::is_empty(directory_ + "/spill"));
  EXPECT_EQ(OpenFiles().size(), 1u);
}

TEST_P(FileSpillTargetTest, RemoveClosesTheFileAfterReadsAskedForBefore) {
  ASSERT_TRUE(Write(SpillFileId{1}, {{0, kMiB}}).ok());
  ASSERT_TRUE(Write(SpillFileId{2}, {{0, 64}}).ok());
  std::optional<absl::Status> read;
  target_->Read(SpillFileId{1}, 0, {0, kMiB}, [&](absl::Status status) { read = status; });
  target_->Remove(SpillFileId{1});
  EXPECT_TRUE(Read(SpillFileId{2}, 0, {0, 64}).ok());  // the thread has passed the removal
  ASSERT_TRUE(read.has_value());
  EXPECT_TRUE(read->ok());
  EXPECT_EQ(OpenFiles().size(), 1u);
}

TEST_P(FileSpillTargetTest, TellsOfATruncatedFile) {
  ASSERT_TRUE(Write(SpillFileId{1}, {{0, kMiB}}).ok());
  int fd = OpenOnlyFile();
  ASSERT_EQ(ftruncate(fd, 1000), 0);
  close(fd);
  absl::Status status = Read(SpillFileId{1}, 0, {0, kMiB});
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("truncated"));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(directory_));
}

TEST_P(FileSpillTargetTest, TellsOfAChangedByte) {
  Fill({0, kMiB}, 7);
  ASSERT_TRUE(Write(SpillFileId{1}, {{0, kMiB}}).ok());
  int fd = OpenOnlyFile();
  ASSERT_EQ(pwrite(fd, "x", 1, 777'777), 1);
  close(fd);
  EXPECT_EQ(Read(SpillFileId{1}, 0, {0, kMiB}).code(), absl::StatusCode::kDataLoss);
}

TEST_P(FileSpillTargetTest, ReportsStorageThatIsFullAndKeepsNothing) {
  // A limit on the size of files stands for a full disk.
  signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small{64 << 10, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  absl::Status status = Write(SpillFileId{1}, {{0, 4 * kMiB}});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_DFL);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_TRUE(OpenFiles().empty());
}

TEST_P(FileSpillTargetTest, MakesAFileThatOthersMapAndThatHasNoNameOnDisk) {
  absl::StatusOr<MappedPlace> place = Make(SpillFileId{1}, 5 * kMiB);
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_TRUE(std::filesystem::is_empty(directory_ + "/spill"));
  auto writer =
      SharedMemory::MapFile(place->path, {place->offset, 5 * kMiB}, SharedMemory::Access::kWrite);
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::memset((*writer)->At(0), 7, 5 * kMiB);
  auto reader =
      SharedMemory::MapFile(place->path, {place->offset, 5 * kMiB}, SharedMemory::Access::kRead);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(std::to_integer<int>(*(*reader)->At(5 * kMiB - 1)), 7);
  target_->Remove(SpillFileId{1});
  ASSERT_TRUE(Write(SpillFileId{2}, {{0, 64}}).ok());  // the thread has passed the removal
  EXPECT_EQ(std::to_integer<int>(*(*reader)->At(4 * kMiB)), 7);  // the mapping keeps it
  EXPECT_FALSE(SharedMemory::MapFile(place->path, {0, 5 * kMiB}, SharedMemory::Access::kRead).ok());
}

TEST_P(FileSpillTargetTest, AFileThatTheStorageCannotHoldLeavesNothingAndNamesTheFigures) {
  struct statvfs disk;
  ASSERT_EQ(statvfs(directory_.c_str(), &disk), 0);
  absl::StatusOr<MappedPlace> place =
      Make(SpillFileId{1}, (disk.f_blocks + disk.f_bfree) * disk.f_frsize);
  EXPECT_EQ(place.status().code(), absl::StatusCode::kResourceExhausted) << place.status();
  EXPECT_THAT(std::string(place.status().message()), testing::HasSubstr("are free"));
  EXPECT_TRUE(OpenFiles().empty());
}

TEST_P(FileSpillTargetTest, ReportsADirectoryThatIsGone) {
  std::filesystem::remove_all(directory_);
  EXPECT_EQ(Write(SpillFileId{1}, {{0, 64}}).code(), absl::StatusCode::kUnavailable);
}

TEST_P(FileSpillTargetTest, CreateRefusesADirectoryThatCannotBeMade) {
  auto target = FileSpillTarget::Create("/proc/no_such_place", memory_.get(), loop_.Post());
  EXPECT_FALSE(target.ok());
  EXPECT_THAT(std::string(target.status().message()), testing::HasSubstr("/proc/no_such_place"));
}

TEST_P(FileSpillTargetTest, DirectoryIsPrivate) {
  struct stat directory;
  ASSERT_EQ(stat((directory_ + "/spill").c_str(), &directory), 0);
  EXPECT_EQ(directory.st_mode & 0777, 0700u);
}

TEST_P(FileSpillTargetTest, CompletesNothingAfterDestruction) {
  bool alive = true;
  for (uint64_t i = 0; i < 20; ++i) {
    target_->Write(SpillFileId{i + 1}, {{0, kMiB}}, [&](absl::Status) { EXPECT_TRUE(alive); });
  }
  target_.reset();
  alive = false;
  loop_.RunAll();
  EXPECT_TRUE(OpenFiles().empty());
}

INSTANTIATE_TEST_SUITE_P(Ways, FileSpillTargetTest, testing::Values(uint64_t{1} << 40, 0),
                         [](const auto& info) { return info.param > 0 ? "Cached" : "Direct"; });

}  // namespace
}  // namespace ray::store
