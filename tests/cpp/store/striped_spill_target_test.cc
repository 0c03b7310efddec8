#include "ray/store/striped_spill_target.h"

#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cpp/store/fake_spill_target.h"

namespace ray::store {
namespace {

class StripedSpillTargetTest : public testing::Test {
 protected:
  void SetUp() override {
    std::vector<std::unique_ptr<SpillTarget>> targets;
    for (FakeSpillTarget*& disk : disks_) {
      auto made = std::make_unique<FakeSpillTarget>(&memory_);
      disk = made.get();
      targets.push_back(std::move(made));
    }
    target_ = std::make_unique<StripedSpillTarget>(std::move(targets));
  }

  void FinishAll() {
    while (disks_[0]->FinishOne() || disks_[1]->FinishOne()) {
    }
  }
  absl::Status Write(uint64_t file) {
    std::optional<absl::Status> result;
    target_->Write(SpillFileId{file}, {{0, 8}}, [&](absl::Status status) { result = status; });
    FinishAll();
    return result.value_or(absl::InternalError("no answer"));
  }

  std::string memory_ = std::string(64, 'm');
  FakeSpillTarget* disks_[2];
  std::unique_ptr<StripedSpillTarget> target_;
};

TEST_F(StripedSpillTargetTest, UsesTheTargetsInTurn) {
  for (uint64_t file = 1; file <= 4; ++file) EXPECT_TRUE(Write(file).ok());
  EXPECT_EQ(disks_[0]->files.size(), 2u);
  EXPECT_EQ(disks_[1]->files.size(), 2u);
}

TEST_F(StripedSpillTargetTest, ReadsMapsAndRemovesWhereTheFileIs) {
  EXPECT_TRUE(Write(1).ok());
  memory_.replace(0, 8, "bbbbbbbb");
  EXPECT_TRUE(Write(2).ok());
  target_->Read(SpillFileId{2}, 0, {16, 8}, [](absl::Status) {});
  std::optional<absl::StatusOr<MappedPlace>> mapped;
  target_->Map(SpillFileId{1}, 0, [&](auto place) { mapped = std::move(place); });
  FinishAll();
  EXPECT_EQ(memory_.substr(16, 8), "bbbbbbbb");
  EXPECT_EQ(disks_[1]->reads, 1);
  EXPECT_EQ(disks_[0]->maps, 1);
  ASSERT_TRUE(mapped->ok());
  target_->Remove(SpillFileId{1});
  target_->Remove(SpillFileId{2});
  FinishAll();
  EXPECT_TRUE(disks_[0]->files.empty());
  EXPECT_TRUE(disks_[1]->files.empty());
}

TEST_F(StripedSpillTargetTest, AFileThatOneDiskCannotTakeGoesToTheNext) {
  disks_[0]->next_error = absl::ResourceExhaustedError("full");
  EXPECT_TRUE(Write(1).ok());
  EXPECT_EQ(disks_[1]->files.size(), 1u);
  disks_[1]->next_error = absl::ResourceExhaustedError("full");
  std::optional<absl::StatusOr<MappedPlace>> made;
  target_->Make(SpillFileId{2}, 100, [&](auto place) { made = std::move(place); });
  FinishAll();
  ASSERT_TRUE(made->ok());
  EXPECT_EQ(disks_[0]->files.size(), 1u);
}

TEST_F(StripedSpillTargetTest, FailsWithTheFirstErrorWhenAllFail) {
  disks_[0]->next_error = absl::ResourceExhaustedError("the first is full");
  disks_[1]->next_error = absl::UnavailableError("the second is gone");
  absl::Status status = Write(1);
  EXPECT_EQ(status, absl::ResourceExhaustedError("the first is full"));
  EXPECT_EQ(disks_[0]->writes + disks_[1]->writes, 2);
}

}  // namespace
}  // namespace ray::store
