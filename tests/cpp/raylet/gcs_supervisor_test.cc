#include "ray/raylet/gcs_supervisor.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <optional>

#include "ray/base/temp_folder_testutil.h"

namespace ray::raylet {
namespace {

// The servers are shell scripts; each adds a line to a file when it starts.
class GcsSupervisorTest : public testing::Test {
 protected:
  GcsSupervisorTest() {
    first_ = fork();
    if (first_ == 0) {
      execl("/bin/sleep", "sleep", "100", nullptr);
      _exit(127);
    }
  }
  ~GcsSupervisorTest() override {
    supervisor_.reset();
    kill(first_, SIGKILL);
    waitpid(first_, nullptr, 0);
  }

  void Start(const std::string& script) {
    const std::string all = "echo x >> " + folder_ / "starts; " + script;
    supervisor_.emplace(&loop_, base::RealClock::Get(),
                        GcsSupervisor::Options{.pid = first_,
                                               .command = {"/bin/sh", "-c", all},
                                               .output_file = folder_ / "out",
                                               .stable_after = absl::ZeroDuration(),
                                               .pause_min = absl::Milliseconds(20),
                                               .pause_max = absl::Milliseconds(40),
                                               .on_ready = [this] { ++ready_; }});
    supervisor_->Start();
  }
  void Poll(const std::function<bool()>& condition, absl::Duration limit = absl::Seconds(20)) {
    const absl::Time deadline = absl::Now() + limit;
    while (!condition() && absl::Now() < deadline) loop_.Poll(absl::Milliseconds(10));
  }
  int Starts() const {
    std::ifstream file(folder_ / "starts");
    int lines = 0;
    for (std::string line; std::getline(file, line);) ++lines;
    return lines;
  }

  static constexpr char kServe[] = "echo '{\"endpoints\": []}' >&3; exec 3>&-; exec sleep 100";

  net::EventLoop loop_;
  const base::TempFolder folder_;
  pid_t first_ = 0;
  std::optional<GcsSupervisor> supervisor_;
  int ready_ = 0;
};

TEST_F(GcsSupervisorTest, LeavesALivingOneAlone) {
  Start(kServe);
  Poll([] { return false; }, absl::Milliseconds(50));
  EXPECT_EQ(Starts(), 0);
  EXPECT_EQ(supervisor_->pid(), first_);
  supervisor_.reset();
  EXPECT_EQ(kill(first_, 0), 0);
}

TEST_F(GcsSupervisorTest, ReplacesOneAfterTheOther) {
  Start(kServe);
  kill(first_, SIGKILL);
  for (int round = 1; round <= 3; ++round) {
    Poll([&] { return ready_ == round; });
    ASSERT_EQ(ready_, round);
    ASSERT_NE(supervisor_->pid(), first_);
    if (round < 3) kill(supervisor_->pid(), SIGKILL);
  }
  EXPECT_EQ(Starts(), 3);
  // The last one ends with the supervisor.
  const pid_t last = supervisor_->pid();
  supervisor_.reset();
  EXPECT_NE(kill(last, 0), 0);
}

TEST_F(GcsSupervisorTest, NoticesOneThatIsGoneAlready) {
  kill(first_, SIGKILL);
  waitpid(first_, nullptr, 0);
  Start(kServe);
  Poll([&] { return ready_ == 1; });
  EXPECT_EQ(ready_, 1);
}

TEST_F(GcsSupervisorTest, PausesBetweenStartsThatFail) {
  const absl::Time begin = absl::Now();
  Start("echo '{\"error\": \"no\"}' >&3; exit 1");
  kill(first_, SIGKILL);
  Poll([&] { return Starts() >= 4; });
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(20 + 40 + 40));
  EXPECT_EQ(ready_, 0);
}

}  // namespace
}  // namespace ray::raylet
