#include "ray/raylet/zygote.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "ray/base/temp_folder_testutil.h"

namespace ray::raylet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SplitCommand, SplitsAsAShellWould) {
  EXPECT_THAT(*SplitCommand("python3 -m ray._zygote"), ElementsAre("python3", "-m", "ray._zygote"));
  EXPECT_THAT(*SplitCommand("  '/a b/python' \"-c x\"  y\\ z '' "),
              ElementsAre("/a b/python", "-c x", "y z", ""));
  EXPECT_THAT(*SplitCommand("'it'\"'\"'s'"), ElementsAre("it's"));
}

TEST(SplitCommand, RefusesOpenQuotesAndNothing) {
  EXPECT_FALSE(SplitCommand("a 'b").ok());
  EXPECT_FALSE(SplitCommand("  ").ok());
}

// The zygote is a shell script that speaks over descriptor 3.
class ZygoteTest : public ::testing::Test {
 protected:
  void StartScript(const std::string& script) {
    zygote_ = std::make_unique<Zygote>(
        &loop_,
        Zygote::Options{.command = {"/bin/sh", "-c", script},
                        .env = {{"RAY_SESSION_DIR", folder_.path()}},
                        .log_dir = folder_.path()},
        Zygote::Events{
            .on_forked = [this](StartupToken token,
                                pid_t pid) { forked_.emplace_back(token, pid); },
            .on_exited = [this](StartupToken token,
                                const ExitStatus& status) { exited_.emplace_back(token, status); },
            .on_lost = [this] { ++lost_; }});
    zygote_->Start();
  }
  template <typename Condition>
  void WaitFor(Condition condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (!condition() && absl::Now() < deadline) loop_.Poll(absl::Milliseconds(100));
    ASSERT_TRUE(condition()) << "not in time; stderr: " << Read("zygote.err");
  }
  std::string Read(const std::string& file) {
    std::ifstream in(folder_ / file);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }

  net::EventLoop loop_;
  const base::TempFolder folder_;
  std::vector<std::pair<StartupToken, pid_t>> forked_;
  std::vector<std::pair<StartupToken, ExitStatus>> exited_;
  int lost_ = 0;
  std::unique_ptr<Zygote> zygote_;
};

TEST_F(ZygoteTest, AsksForForksAndHearsOfTheirLife) {
  StartScript(R"(
    echo '{"event":"ready"}' >&3
    read request <&3
    echo "$request" >&2
    echo '{"event":"forked","token":7,"pid":4242}' >&3
    echo '{"event":"exited","token":7,"pid":4242,"exit_code":null,"signal":9,"peak_memory_bytes":5000}' >&3
    echo '{"event":"exited","token":8,"pid":4243,"exit_code":3,"signal":null}' >&3
    read more <&3)");
  zygote_->Fork(7, {{"RAY_X", "y"}}, "worker-7", "the environment");
  WaitFor([&] { return exited_.size() == 2; });
  EXPECT_THAT(forked_, ElementsAre(std::make_pair(7, 4242)));
  EXPECT_EQ(exited_[0].second.signal, 9);
  EXPECT_EQ(exited_[0].second.exit_code, std::nullopt);
  EXPECT_EQ(exited_[0].second.peak_memory_bytes, 5000u);
  EXPECT_EQ(exited_[1].second.exit_code, 3);
  EXPECT_EQ(exited_[1].second.peak_memory_bytes, 0u);
  EXPECT_EQ(Read("zygote.err"),
            "{\"env\":{\"RAY_X\":\"y\"},\"log_prefix\":\"worker-7\",\"op\":\"fork\","
            "\"runtime_env\":\"the environment\",\"token\":7}\n");
}

TEST_F(ZygoteTest, IsStartedAgainAfterItsDeathAndGetsWhatIsAskedThen) {
  StartScript(R"(
    if [ ! -e "$RAY_SESSION_DIR/once" ]; then touch "$RAY_SESSION_DIR/once"; exit 1; fi
    read request <&3
    echo '{"event":"forked","token":2,"pid":5}' >&3
    read more <&3)");
  zygote_->Fork(1, {}, "worker-1");
  WaitFor([&] { return lost_ == 1; });
  zygote_->Fork(2, {}, "worker-2");
  WaitFor([&] { return !forked_.empty(); });
  EXPECT_THAT(forked_, ElementsAre(std::make_pair(2, 5)));
}

TEST_F(ZygoteTest, SurvivesNonsense) {
  StartScript(R"(
    printf 'hello\n[]\n{}\n{"event":3}\n{"event":"forked","token":"x","pid":-1}\n\n{"event":' >&3
    printf '"forked","token":1,"pid":2}\n' >&3
    read more <&3)");
  WaitFor([&] { return !forked_.empty(); });
  EXPECT_THAT(forked_, ElementsAre(std::make_pair(1, 2)));
  EXPECT_EQ(lost_, 0);
}

TEST_F(ZygoteTest, SurvivesACommandThatDoesNotExist) {
  zygote_ = std::make_unique<Zygote>(
      &loop_, Zygote::Options{.command = {"/does/not/exist"}, .log_dir = folder_.path()},
      Zygote::Events{.on_lost = [this] { ++lost_; }});
  zygote_->Start();
  loop_.Poll(absl::Milliseconds(150));
  zygote_->Stop();
}

TEST_F(ZygoteTest, StopEndsTheProcessAndNothingStartsAgain) {
  StartScript(R"(echo "{\"event\":\"forked\",\"token\":1,\"pid\":$$}" >&3; read more <&3)");
  WaitFor([&] { return !forked_.empty(); });
  const pid_t pid = forked_[0].second;
  EXPECT_EQ(kill(pid, 0), 0);
  zygote_->Stop();
  EXPECT_EQ(kill(pid, 0), -1);
  loop_.Poll(absl::Milliseconds(200));
  EXPECT_EQ(lost_, 0);
}

TEST_F(ZygoteTest, InheritsNoOtherDescriptor) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  StartScript(R"(ls /proc/self/fd > "$RAY_SESSION_DIR/fds"
    echo '{"event":"forked","token":1,"pid":1}' >&3; read more <&3)");
  WaitFor([&] { return !forked_.empty(); });
  // 4 is the folder that ls reads.
  EXPECT_EQ(Read("fds"), "0\n1\n2\n3\n4\n");
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace ray::raylet
