// The gcs_server program as a process: how it says that it is ready, and the ways in which it ends.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "absl/cleanup/cleanup.h"
#include "ray/base/clock.h"
#include "ray/base/temp_folder_testutil.h"
#include "ray/gcs/gcs_client.h"

extern char** environ;

namespace ray::gcs {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(10);

// What comes out of fd until its end, or what came in time.
std::string ReadAll(int fd) {
  std::string text;
  const absl::Time end = base::RealClock::Get()->Now() + kPatience;
  while (true) {
    pollfd waiting{fd, POLLIN, 0};
    const absl::Duration left = end - base::RealClock::Get()->Now();
    if (poll(&waiting, 1, static_cast<int>(absl::ToInt64Milliseconds(left))) <= 0) return text;
    char buffer[4096];
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n <= 0) return text;
    text.append(buffer, static_cast<size_t>(n));
  }
}

class Process {
 public:
  // Gives the program a --ready_fd and a --lifeline_fd.
  explicit Process(std::vector<std::string> arguments) {
    int ready[2];
    int lifeline[2];
    EXPECT_EQ(pipe2(ready, O_CLOEXEC) + pipe2(lifeline, O_CLOEXEC), 0);
    const char* build = std::getenv("MANTA_BUILD_DIR");
    EXPECT_NE(build, nullptr) << "run by ctest";
    const std::string program =
        std::string(build != nullptr ? build : ".") + "/cpp/ray/gcs/gcs_server";
    arguments.insert(arguments.begin(), {program, "--ready_fd=3", "--lifeline_fd=4"});
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    const absl::Cleanup destroy = [&] { posix_spawn_file_actions_destroy(&actions); };
    // By way of high numbers, as one of the pipes may sit where the other must go.
    constexpr int kReadyAside = 100;
    constexpr int kLifelineAside = 101;
    posix_spawn_file_actions_adddup2(&actions, ready[1], kReadyAside);
    posix_spawn_file_actions_adddup2(&actions, lifeline[0], kLifelineAside);
    posix_spawn_file_actions_adddup2(&actions, kReadyAside, 3);
    posix_spawn_file_actions_adddup2(&actions, kLifelineAside, 4);
    posix_spawn_file_actions_addclose(&actions, kReadyAside);
    posix_spawn_file_actions_addclose(&actions, kLifelineAside);
    EXPECT_EQ(posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), environ), 0);
    close(ready[1]);
    close(lifeline[0]);
    lifeline_ = lifeline[1];
    ready_line_ = ReadAll(ready[0]);
    close(ready[0]);
  }
  ~Process() {
    BreakLifeline();
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }

  const std::string& ready_line() const { return ready_line_; }
  // Never to -1, which is every process there is.
  void Signal(int signal) {
    ASSERT_GT(pid_, 0) << "it did not start";
    kill(pid_, signal);
  }
  void BreakLifeline() {
    if (lifeline_ >= 0) close(std::exchange(lifeline_, -1));
  }
  // The wait status, or nothing if it has not ended in time.
  std::optional<int> WaitForEnd() {
    const absl::Time end = base::RealClock::Get()->Now() + kPatience;
    while (base::RealClock::Get()->Now() < end) {
      int how = 0;
      if (waitpid(pid_, &how, WNOHANG) == pid_) {
        pid_ = -1;
        return how;
      }
      absl::SleepFor(absl::Milliseconds(1));
    }
    return std::nullopt;
  }

 private:
  pid_t pid_ = -1;
  int lifeline_ = -1;
  std::string ready_line_;
};

class GcsServerMainTest : public testing::Test {
 protected:
  std::vector<std::string> Arguments(std::vector<std::string> more = {}) const {
    more.push_back("--listen=unix:" + socket_);
    more.push_back("--log_file=" + folder_ / "gcs.log");
    return more;
  }
  absl::StatusOr<wire::v1::KvReply> Kv(wire::v1::KvRequest::Op op, const std::string& token = "") {
    net::EventLoop loop;
    GcsClient client(&loop, {.address = "unix:" + socket_, .token = token}, {});
    wire::v1::KvRequest request;
    request.set_op(op);
    request.set_key("k");
    request.set_value("v");
    std::optional<absl::StatusOr<wire::v1::KvReply>> result;
    client.Kv(request, [&](absl::StatusOr<wire::v1::KvReply> reply) { result = reply; });
    while (!result.has_value()) loop.Poll(absl::InfiniteDuration());
    return *std::move(result);
  }

  const base::TempFolder folder_;
  const std::string socket_ = folder_ / "gcs.sock";
};

TEST_F(GcsServerMainTest, SaysWhereItListensAndEndsCleanlyOnSigterm) {
  Process server(Arguments({"--listen=tcp:127.0.0.1:0"}));
  EXPECT_EQ(server.ready_line(), "{\"endpoints\":[\"unix:" + socket_ + "\"]}\n");
  EXPECT_TRUE(Kv(wire::v1::KvRequest::PUT).ok());
  server.Signal(SIGTERM);
  EXPECT_EQ(server.WaitForEnd(), 0);
  EXPECT_FALSE(std::filesystem::exists(socket_));
}

TEST_F(GcsServerMainTest, ListensOnSeveralEndpoints) {
  Process server({"--listen=tcp:127.0.0.1:0,unix:" + socket_});
  EXPECT_THAT(server.ready_line(), HasSubstr("[\"tcp:127.0.0.1:"));
  EXPECT_THAT(server.ready_line(), HasSubstr(socket_));
}

TEST_F(GcsServerMainTest, EndsWhenItsLifelineBreaks) {
  Process server(Arguments());
  ASSERT_TRUE(Kv(wire::v1::KvRequest::PUT).ok());
  server.BreakLifeline();
  EXPECT_EQ(server.WaitForEnd(), 0);
  EXPECT_FALSE(std::filesystem::exists(socket_));
}

TEST_F(GcsServerMainTest, ContinuesFromItsFileAfterSigkill) {
  const std::string storage = "--storage=sqlite:" + folder_ / "gcs.db";
  {
    Process server(Arguments({storage}));
    ASSERT_TRUE(Kv(wire::v1::KvRequest::PUT).ok());
    server.Signal(SIGKILL);
    ASSERT_TRUE(server.WaitForEnd().has_value());
  }
  Process server(Arguments({storage}));
  EXPECT_EQ(Kv(wire::v1::KvRequest::GET)->value(), "v");
}

TEST_F(GcsServerMainTest, KeepsThePortThatWasChosenOnce) {
  const std::vector<std::string> arguments = {"--storage=sqlite:" + folder_ / "gcs.db",
                                              "--listen=tcp:127.0.0.1:0,unix:" + socket_};
  std::string before;
  {
    Process server(arguments);
    before = server.ready_line();
    server.Signal(SIGKILL);
    ASSERT_TRUE(server.WaitForEnd().has_value());
  }
  Process server(arguments);
  EXPECT_EQ(server.ready_line(), before);
}

TEST_F(GcsServerMainTest, AsksForTheTokenOfItsFile) {
  std::ofstream(folder_ / "token") << "secret\n";
  Process server(Arguments({"--token_file=" + folder_ / "token"}));
  EXPECT_TRUE(Kv(wire::v1::KvRequest::GET, "secret").ok());
  EXPECT_TRUE(absl::IsUnauthenticated(Kv(wire::v1::KvRequest::GET).status()));
}

TEST_F(GcsServerMainTest, AppliesItsConfiguration) {
  Process server(Arguments({"--config=kv_value_max_bytes=0,log_level=debug"}));
  EXPECT_EQ(Kv(wire::v1::KvRequest::PUT)->status().code(),
            static_cast<int>(absl::StatusCode::kInvalidArgument));
}

TEST_F(GcsServerMainTest, SaysWhyItCannotStart) {
  for (const char* wrong : {"--config=no_such_flag=1", "--storage=redis",
                            "--token_file=/nonexistent", "--listen=tcp:0.0.0.0:0"}) {
    Process server({wrong, "--listen=unix:" + socket_, wrong});
    EXPECT_THAT(server.ready_line(), testing::StartsWith("{\"error\":")) << wrong;
    const std::optional<int> end = server.WaitForEnd();
    ASSERT_TRUE(end.has_value()) << wrong;
    EXPECT_TRUE(WIFEXITED(*end) && WEXITSTATUS(*end) == 1) << wrong;
  }
}

}  // namespace
}  // namespace ray::gcs
