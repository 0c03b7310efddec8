#include "ray/raylet/child_process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "ray/net/endpoint.h"

extern char** environ;

namespace ray::raylet {
namespace {

std::vector<std::string> MergedEnvironment(const std::map<std::string, std::string>& added) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const size_t equals = text.find('=');
    if (!added.contains(std::string(text.substr(0, equals)))) merged.emplace_back(text);
  }
  for (const auto& [name, value] : added) merged.push_back(absl::StrCat(name, "=", value));
  return merged;
}

std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

void Redirect(const char* file, int fd) {
  const int opened = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (opened >= 0) dup2(opened, fd);
}

constexpr int kPassedFd = 3;

[[noreturn]] void FailChild(int error_fd) {
  const int error = errno;
  [[maybe_unused]] const ssize_t n = write(error_fd, &error, sizeof error);
  _exit(127);
}

// In the child: between fork and exec only calls that are safe while other threads' locks stay
// locked for ever.
[[noreturn]] void Become(char** argv, char** env, const ChildProcess& child, int error_fd,
                         pid_t parent) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) FailChild(error_fd);
  if (getppid() != parent) _exit(127);  // it died before the signal was set
  const int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null_fd >= 0) dup2(null_fd, STDIN_FILENO);
  Redirect(child.stdout_file.c_str(), STDOUT_FILENO);
  Redirect(child.stderr_file.c_str(), STDERR_FILENO);
  // A descriptor of ours that is not close-on-exec (it was given to this process that way) is not
  // for the child.
  close_range(kPassedFd + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  // dup2 would leave the close-on-exec flag set where it is number 3 already.
  if (child.fd3 == kPassedFd) {
    fcntl(kPassedFd, F_SETFD, 0);
  } else if (dup2(child.fd3, kPassedFd) < 0) {
    FailChild(error_fd);
  }
  environ = env;
  execvp(argv[0], argv);
  FailChild(error_fd);
}

}  // namespace

absl::StatusOr<pid_t> StartChild(const ChildProcess& child) {
  std::vector<std::string> words = child.command;
  std::vector<std::string> environment = MergedEnvironment(child.env);
  std::vector<char*> argv = Pointers(words);
  std::vector<char*> env = Pointers(environment);

  // exec closes the writing end; what comes out before that is the errno of a failure. Both ends
  // are moved away from descriptor 3, which the child overwrites.
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return absl::InternalError(absl::StrCat("pipe: ", std::strerror(errno)));
  }
  net::UniqueFd reading(fcntl(ends[0], F_DUPFD_CLOEXEC, 10));
  net::UniqueFd writing(fcntl(ends[1], F_DUPFD_CLOEXEC, 10));
  close(ends[0]);
  close(ends[1]);

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::InternalError(absl::StrCat("fork: ", std::strerror(errno)));
  if (pid == 0) Become(argv.data(), env.data(), child, writing.get(), parent);

  writing.Reset(-1);
  int error = 0;
  ssize_t n;
  do {
    n = read(reading.get(), &error, sizeof error);
  } while (n < 0 && errno == EINTR);
  if (n == 0) return pid;
  waitpid(pid, nullptr, 0);
  return absl::InternalError(
      absl::StrCat("cannot run ", child.command.front(), ": ", std::strerror(error)));
}

}  // namespace ray::raylet
