#include "ray/raylet/gcs_supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "ray/base/logging.h"
#include "ray/raylet/child_process.h"

namespace ray::raylet {
namespace {

constexpr char kReadyFlag[] = "--ready_fd=3";  // where StartChild puts the descriptor

void Reap(pid_t pid) {
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

GcsSupervisor::GcsSupervisor(net::EventLoop* loop, const base::Clock* clock, Options options)
    : loop_(loop),
      clock_(clock),
      options_(std::move(options)),
      pid_(options_.pid),
      pause_(options_.pause_min) {}

GcsSupervisor::~GcsSupervisor() {
  Stop();
  if (!is_child_) return;
  kill(pid_, SIGKILL);
  Reap(pid_);
}

void GcsSupervisor::Start() {
  ready_at_ = absl::InfinitePast();
  Watch(pid_);
}

void GcsSupervisor::Stop() {
  if (timer_.has_value()) loop_->Cancel(*timer_);
  timer_.reset();
  StopWatching();
}

void GcsSupervisor::Watch(pid_t pid) {
  // Readable once the process has ended, whether it was reaped or not.
  process_.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process_.valid()) {
    if (errno != ESRCH) {
      MANTA_LOG(kError, "cannot watch gcs_server (pid ", pid, "): ", std::strerror(errno));
      return;
    }
    timer_ = loop_->RunAfter(absl::ZeroDuration(), [this] { OnEnd(); });
    return;
  }
  loop_->Watch(process_.get(), EPOLLIN, [this](uint32_t) { OnEnd(); });
}

void GcsSupervisor::StopWatching() {
  for (net::UniqueFd* fd : {&process_, &ready_}) {
    if (fd->valid()) loop_->Unwatch(fd->get());
    fd->Reset(-1);
  }
  ready_line_.clear();
}

void GcsSupervisor::OnEnd() {
  timer_.reset();
  StopWatching();
  ended_at_ = clock_->Now();
  if (is_child_) Reap(pid_);
  const bool was_stable = ended_at_ - ready_at_ >= options_.stable_after;
  MANTA_LOG(kError, "gcs_server (pid ", pid_, ") is gone; it is started again",
            was_stable ? "" : absl::StrCat(" in ", absl::FormatDuration(pause_)));
  pid_ = 0;
  is_child_ = false;
  if (was_stable) {
    pause_ = options_.pause_min;
    return StartAgain();
  }
  timer_ = loop_->RunAfter(pause_, [this] { StartAgain(); });
  pause_ = std::min(pause_ * 2, options_.pause_max);
}

void GcsSupervisor::StartAgain() {
  timer_.reset();
  ready_at_ = absl::InfiniteFuture();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    MANTA_LOG(kError, "cannot start gcs_server: ", std::strerror(errno));
    timer_ = loop_->RunAfter(options_.pause_max, [this] { StartAgain(); });
    return;
  }
  net::UniqueFd reading(ends[0]);
  const net::UniqueFd writing(ends[1]);
  std::vector<std::string> command = options_.command;
  command.emplace_back(kReadyFlag);
  auto pid = StartChild({.command = std::move(command),
                         .env = {},
                         .stdout_file = options_.output_file,
                         .stderr_file = options_.output_file,
                         .fd3 = writing.get()});
  if (!pid.ok()) {
    MANTA_LOG(kError, "cannot start gcs_server: ", pid.status().message());
    timer_ = loop_->RunAfter(pause_, [this] { StartAgain(); });
    pause_ = std::min(pause_ * 2, options_.pause_max);
    return;
  }
  pid_ = *pid;
  is_child_ = true;
  ready_ = std::move(reading);
  loop_->Watch(ready_.get(), EPOLLIN, [this](uint32_t) { OnReadyLine(); });
  Watch(pid_);
}

void GcsSupervisor::OnReadyLine() {
  char bytes[4096];
  const ssize_t n = read(ready_.get(), bytes, sizeof bytes);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n > 0) ready_line_.append(bytes, static_cast<size_t>(n));
  if (n > 0 && !absl::EndsWith(ready_line_, "\n")) return;
  loop_->Unwatch(ready_.get());
  ready_.Reset(-1);
  absl::string_view line = absl::StripSuffix(ready_line_, "\n");
  if (!absl::StartsWith(line, "{\"endpoints\"")) {
    MANTA_LOG(kError, "gcs_server cannot start: ", line);
    return;  // its end is on the way
  }
  ready_at_ = clock_->Now();
  MANTA_LOG(kInfo, "gcs_server (pid ", pid_, ") serves again, ",
            absl::FormatDuration(ready_at_ - ended_at_), " after the end of the last one: ", line);
  if (options_.on_ready) options_.on_ready();
}

}  // namespace ray::raylet
