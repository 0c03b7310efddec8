#include "ray/raylet/log_monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "ray/base/temp_folder_testutil.h"

namespace ray::raylet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class LogMonitorTest : public ::testing::Test {
 protected:
  LogMonitorTest() { Open({.directory = folder_.path()}); }

  void Open(const LogMonitor::Options& options) {
    auto monitor = LogMonitor::Create(&loop_, options, [this](const LogBatch& batch) {
      batches_.push_back(batch);
      lines_.insert(lines_.end(), batch.lines.begin(), batch.lines.end());
    });
    ASSERT_TRUE(monitor.ok()) << monitor.status();
    monitor_ = *std::move(monitor);
  }
  void Write(const std::string& file, const std::string& text) {
    std::ofstream(folder_ / file, std::ios::app) << text;
  }

  net::EventLoop loop_;
  const base::TempFolder folder_;
  std::vector<LogBatch> batches_;
  std::vector<std::string> lines_;
  std::unique_ptr<LogMonitor> monitor_;
};

TEST_F(LogMonitorTest, GivesOutLinesSoonAfterTheyAreWritten) {
  Write("worker-3-123.err", "one\ntwo\n");
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (lines_.empty() && absl::Now() < deadline) loop_.Poll(absl::Milliseconds(100));
  ASSERT_THAT(batches_, SizeIs(1));
  EXPECT_EQ(batches_[0].pid, 123);
  EXPECT_TRUE(batches_[0].is_stderr);
  EXPECT_THAT(lines_, ElementsAre("one", "two"));
}

TEST_F(LogMonitorTest, KeepsAnUnfinishedLineUntilItIsWhole) {
  Write("worker-3-123.out", "half");
  monitor_->ReadAll();
  EXPECT_THAT(lines_, IsEmpty());
  Write("worker-3-123.out", " whole\n\nx");
  monitor_->ReadAll();
  EXPECT_THAT(lines_, ElementsAre("half whole", ""));
}

TEST_F(LogMonitorTest, GivesOutTheRestOfAWorkerThatEnded) {
  Write("worker-3-123.out", "last words");
  Write("worker-4-124.out", "alive");
  monitor_->WorkerEnded(123);
  EXPECT_THAT(lines_, ElementsAre("last words"));
}

TEST_F(LogMonitorTest, MarkersNameTheLinesThatFollow) {
  Write("worker-3-123.out", "a\n\x1etask:f\x1e\nb\nc\n\x1etask:Counter.add\x1e\nd\n");
  monitor_->ReadAll();
  ASSERT_THAT(batches_, SizeIs(3));
  EXPECT_EQ(batches_[0].name, "");
  EXPECT_EQ(batches_[1].name, "f");
  EXPECT_THAT(batches_[1].lines, ElementsAre("b", "c"));
  EXPECT_EQ(batches_[2].name, "Counter.add");
  Write("worker-3-123.out", "e\n");
  monitor_->ReadAll();
  EXPECT_EQ(batches_.back().name, "Counter.add");
}

TEST_F(LogMonitorTest, LooksAtWorkersFilesOnly) {
  Write("raylet.log", "x\n");
  Write("worker-x.out", "x\n");
  Write("worker-3-123.txt", "x\n");
  Write("zygote-1-2.out", "x\n");
  monitor_->ReadAll();
  EXPECT_THAT(lines_, IsEmpty());
}

TEST_F(LogMonitorTest, CutsLongLinesAndSplitsLongBatches) {
  Open({.directory = folder_.path(), .line_max_bytes = 10});
  Write("worker-3-123.out", "0123456789abcdef");
  monitor_->ReadAll();
  Write("worker-3-123.out", "ghi\nnext\n");
  monitor_->ReadAll();
  ASSERT_THAT(lines_, SizeIs(2));
  EXPECT_EQ(lines_[0], "0123456789");
  EXPECT_EQ(lines_[1], "next");
  for (int i = 0; i < 3; ++i) Write("worker-3-123.out", std::string(800, '\n'));
  monitor_->ReadAll();
  EXPECT_EQ(batches_.back().lines.size(), 400u);
  for (const LogBatch& batch : batches_) {
    EXPECT_LE(batch.lines.size(), LogMonitor::kLogLinesMax);
  }
}

TEST_F(LogMonitorTest, SkipsWhatComesFasterThanItCanBeForwarded) {
  Open({.directory = folder_.path(), .round_max_bytes = 100, .backlog_max_bytes = 1000});
  std::string text;
  for (int i = 0; i < 1000; ++i) text += std::to_string(i) + "\n";
  Write("worker-3-123.out", text);
  monitor_->ReadAll();
  EXPECT_THAT(lines_.at(0), HasSubstr("bytes of output are left out"));
  EXPECT_EQ(lines_.back(), "999");
  EXPECT_LT(lines_.size(), 30u);
}

TEST_F(LogMonitorTest, TailHasWholeLastLinesOnly) {
  Write("worker-3-123.err", "first line\nsecond\nthird\n");
  EXPECT_EQ(TailOfFile(folder_ / "worker-3-123.err", 15), "second\nthird\n");
  EXPECT_EQ(TailOfFile(folder_ / "worker-3-123.err", 100), "first line\nsecond\nthird\n");
  EXPECT_EQ(TailOfFile(folder_ / "none", 100), "");
  EXPECT_EQ(WithoutMarkers("one\n\x1etask:f\x1e\ntwo"), "one\ntwo");
}

TEST_F(LogMonitorTest, ForgetsFilesThatChildrenOfEndedWorkersWriteTo) {
  Write("worker-1-" + std::to_string(getpid()) + ".out", "alive\n");
  constexpr int kNoProcess = 1 << 23;  // above any pid
  for (int i = 0; i < 3000; ++i) {
    Write("worker-2-" + std::to_string(kNoProcess + i) + ".out", "x\n");
    if (i % 100 == 0) monitor_->ReadAll();
    ASSERT_LE(monitor_->files(), 2 * LogMonitor::kFilesKept);
  }
  lines_.clear();
  Write("worker-1-" + std::to_string(getpid()) + ".out", "still alive\n");
  monitor_->ReadAll();
  EXPECT_THAT(lines_, ::testing::Contains("still alive"));
  EXPECT_THAT(lines_, ::testing::Not(::testing::Contains("alive")));
}

}  // namespace
}  // namespace ray::raylet
