#include "ray/raylet/external_spill_target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

#include "ray/base/temp_folder_testutil.h"
#include "ray/store/file_spill_target.h"
#include "tests/cpp/store/posted_functions.h"

namespace ray::raylet {
namespace {

using store::Extent;
using store::MappedPlace;
using store::SharedMemory;
using store::SpillFileId;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

// Speaks the protocol and keeps files in a folder: what python/ray/_spill_worker.py does by way of
// fsspec. Names with a 3 are refused as if the storage were full.
constexpr char kWorker[] = R"(
import ctypes, json, os, socket, struct, sys
ctypes.CDLL(None).prctl(1, 0)  # the thread that started it ends first
connection = socket.socket(fileno=3)
def receive(size):
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            os.rmdir(folder)
            sys.exit()
        data += chunk
    return data
while True:
    request = json.loads(receive(struct.unpack("<I", receive(4))[0]))
    answer = {"status": "ok", "message": ""}
    path = None if "name" not in request else folder + "/" + request["name"]
    if request["op"] == "open":
        folder, memory = request["uri"], os.open(request["memory"], os.O_RDWR)
        os.makedirs(folder)
    elif request["op"] == "write" and request["name"] == "spill-3":
        answer = {"status": "full", "message": "no space in the bucket"}
    elif request["op"] == "write" and request["name"] == "spill-4":
        sys.exit("crashed on purpose")
    elif request["op"] == "write" and request["name"] == "spill-6":
        answer = {"status": 6, "message": ["no", "text"]}
    elif request["op"] == "write":
        with open(path, "wb") as file:
            for offset, size in request["pieces"]:
                file.write(os.pread(memory, size, offset))
    elif request["op"] == "read":
        with open(path, "rb") as file:
            file.seek(request["offset"])
            os.pwrite(memory, file.read(request["into"][1]), request["into"][0])
    else:
        os.remove(path)
    text = json.dumps(answer).encode()
    connection.sendall(struct.pack("<I", len(text)) + text)
)";

class ExternalSpillTargetTest : public ::testing::Test {
 protected:
  ExternalSpillTargetTest() {
    memory_ = *SharedMemory::Create(8 * kMiB);
    std::ofstream(folder_ / "worker.py") << kWorker;
  }
  ~ExternalSpillTargetTest() override { target_.reset(); }
  void SetUp() override { Open({"python3", folder_ / "worker.py"}); }

  void Open(std::vector<std::string> command) {
    auto files = store::FileSpillTarget::Create(folder_ / "files", memory_.get(), loop_.Post());
    ASSERT_TRUE(files.ok());
    auto target = ExternalSpillTarget::Create({.command = std::move(command),
                                               .log_file = folder_ / "log",
                                               .uri = folder_ / "bucket",
                                               .timeout = absl::Seconds(20)},
                                              memory_.get(), *std::move(files), loop_.Post());
    ASSERT_TRUE(target.ok()) << target.status();
    target_ = *std::move(target);
  }

  void Fill(Extent extent, int value) {
    std::memset(memory_->At(extent.offset), value, extent.size);
  }
  absl::Status Write(uint64_t file, std::vector<Extent> pieces) {
    std::optional<absl::Status> result;
    target_->Write(SpillFileId{file}, std::move(pieces), [&](auto status) { result = status; });
    EXPECT_TRUE(loop_.RunUntil([&] { return result.has_value(); }));
    return *result;
  }
  absl::Status Read(uint64_t file, uint32_t index, Extent into) {
    std::optional<absl::Status> result;
    target_->Read(SpillFileId{file}, index, into, [&](auto status) { result = status; });
    EXPECT_TRUE(loop_.RunUntil([&] { return result.has_value(); }));
    return *result;
  }

  store::PostedFunctions loop_;
  const base::TempFolder folder_;
  std::unique_ptr<SharedMemory> memory_;
  std::unique_ptr<ExternalSpillTarget> target_;
};

TEST_F(ExternalSpillTargetTest, StoresPiecesAndReadsThemBack) {
  EXPECT_FALSE(std::filesystem::exists(folder_ / "bucket"));  // started when it is needed
  Fill({0, 1000}, 1);
  Fill({4096, 2 * kMiB}, 2);
  ASSERT_TRUE(Write(1, {{0, 1000}, {4096, 2 * kMiB}}).ok());
  EXPECT_EQ(std::filesystem::file_size(folder_ / "bucket/spill-1"), 1000 + 2 * kMiB);
  Fill({0, 8 * kMiB}, 0);
  EXPECT_TRUE(Read(1, 1, {4 * kMiB, 2 * kMiB}).ok());
  EXPECT_EQ(std::to_integer<int>(*memory_->At(6 * kMiB - 1)), 2);
  EXPECT_EQ(std::to_integer<int>(*memory_->At(6 * kMiB)), 0);
}

TEST_F(ExternalSpillTargetTest, TellsOfWhatTheStorageChangedOrRefuses) {
  Fill({0, 1000}, 1);
  ASSERT_TRUE(Write(1, {{0, 1000}}).ok());
  std::ofstream(folder_ / "bucket/spill-1") << std::string(1000, 'x');
  EXPECT_EQ(Read(1, 0, {0, 1000}).code(), absl::StatusCode::kDataLoss);
  absl::Status full = Write(3, {{0, 64}});
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("no space in the bucket"));
}

TEST_F(ExternalSpillTargetTest, StartsTheProcessAnewAfterItEnded) {
  absl::Status crashed = Write(4, {{0, 64}});
  EXPECT_EQ(crashed.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(crashed.message()), HasSubstr("it has ended"));
  std::filesystem::remove_all(folder_ / "bucket");
  EXPECT_TRUE(Write(1, {{0, 64}}).ok());
}

TEST_F(ExternalSpillTargetTest, AnAnswerThatMeansNothingIsAFailure) {
  EXPECT_EQ(Write(6, {{0, 64}}).code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(Write(1, {{0, 64}}).ok());
}

TEST_F(ExternalSpillTargetTest, SaysWhyTheProcessCannotStart) {
  Open({folder_ / "no_such_program"});
  absl::Status status = Write(1, {{0, 64}});
  EXPECT_THAT(std::string(status.message()), HasSubstr("no_such_program"));
}

TEST_F(ExternalSpillTargetTest, FilesOfSingleObjectsAreLocalAndTheStorageIsNotMapped) {
  std::optional<absl::StatusOr<MappedPlace>> made;
  target_->Make(SpillFileId{9}, kMiB, [&](auto place) { made = std::move(place); });
  EXPECT_TRUE(loop_.RunUntil([&] { return made.has_value(); }));
  ASSERT_TRUE(made->ok());
  EXPECT_TRUE(SharedMemory::MapFile((*made)->path, {0, kMiB}, SharedMemory::Access::kWrite).ok());
  target_->Remove(SpillFileId{9});
  ASSERT_TRUE(Write(1, {{0, 64}}).ok());
  std::optional<absl::StatusOr<MappedPlace>> mapped;
  target_->Map(SpillFileId{1}, 0, [&](auto place) { mapped = std::move(place); });
  EXPECT_TRUE(loop_.RunUntil([&] { return mapped.has_value(); }));
  EXPECT_TRUE(absl::IsUnimplemented(mapped->status()));
}

TEST_F(ExternalSpillTargetTest, RemovesFilesAndTheProcessEndsWithTheTarget) {
  ASSERT_TRUE(Write(1, {{0, 64}}).ok());
  target_->Remove(SpillFileId{1});
  ASSERT_TRUE(Write(2, {{0, 64}}).ok());
  EXPECT_FALSE(std::filesystem::exists(folder_ / "bucket/spill-1"));
  target_->Remove(SpillFileId{2});
  ASSERT_TRUE(Write(5, {{0, 64}}).ok());
  std::filesystem::remove(folder_ / "bucket/spill-5");
  target_.reset();
  EXPECT_FALSE(std::filesystem::exists(folder_ / "bucket"));
}

}  // namespace
}  // namespace ray::raylet
