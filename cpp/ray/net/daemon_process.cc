#include "ray/net/daemon_process.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"

namespace ray::net {

absl::StatusOr<base::Config> ReadConfig(std::string_view settings) {
  base::Config config;
  MANTA_RETURN_IF_ERROR(config.LoadEnvironment());
  const absl::string_view text(settings.data(), settings.size());
  for (absl::string_view setting : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(setting, absl::MaxSplits('=', 1));
    MANTA_RETURN_IF_ERROR(base::Annotate(config.Set(parts.first, parts.second), "--config"));
  }
  return config;
}

absl::StatusOr<std::string> ReadToken(const std::string& path) {
  if (path.empty()) return "";
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  std::string token(absl::StripAsciiWhitespace(text.str()));
  if (!file || token.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--token_file ", path, " holds no token"));
  }
  return token;
}

void SayReady(int fd, std::string_view line) {
  if (fd < 0) return;
  const std::string bytes = absl::StrCat(absl::string_view(line.data(), line.size()), "\n");
  if (write(fd, bytes.data(), bytes.size()) < 0) MANTA_LOG(kWarning, "nobody reads --ready_fd");
  close(fd);
}

void EndOnSignals(EventLoop* loop, std::function<void()> end) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  // Threads inherit the mask: none of them takes the signals.
  MANTA_CHECK(sigprocmask(SIG_BLOCK, &ends, nullptr) == 0);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error of the write
  const int fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
  MANTA_CHECK(fd >= 0);
  loop->Watch(fd, EPOLLIN, [fd, end = std::move(end)](uint32_t) {
    signalfd_siginfo info;
    if (read(fd, &info, sizeof info) != sizeof info) return;
    MANTA_LOG(kInfo, "told to end by signal ", info.ssi_signo);
    end();
  });
}

void EndWithLifeline(EventLoop* loop, int fd, std::function<void()> end) {
  if (fd < 0) return;
  loop->Watch(fd, EPOLLIN, [loop, fd, end = std::move(end)](uint32_t) {
    char ignored[64];
    if (read(fd, ignored, sizeof ignored) > 0) return;
    MANTA_LOG(kInfo, "the lifeline broke: whoever started this process is gone");
    loop->Unwatch(fd);
    end();
  });
}

}  // namespace ray::net
