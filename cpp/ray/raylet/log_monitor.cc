#include "ray/raylet/log_monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"

namespace ray::raylet {
namespace {

constexpr std::string_view kMarkerBegin = "\x1etask:";
constexpr char kMarkerEnd = '\x1e';

struct FileName {
  pid_t pid;
  bool is_stderr;
};

// "worker-ANYTHING-PID.out" or ".err".
std::optional<FileName> ParseFileName(std::string_view name) {
  if (!name.starts_with("worker-")) return std::nullopt;
  const bool is_stderr = name.ends_with(".err");
  if (!is_stderr && !name.ends_with(".out")) return std::nullopt;
  const std::string_view stem = name.substr(0, name.size() - 4);
  const std::string_view digits = stem.substr(stem.rfind('-') + 1);
  int64_t pid = 0;
  if (!absl::SimpleAtoi(absl::string_view(digits.data(), digits.size()), &pid) || pid <= 0) {
    return std::nullopt;
  }
  return FileName{static_cast<pid_t>(pid), is_stderr};
}

std::optional<std::string_view> ParseMarker(std::string_view line) {
  if (!line.starts_with(kMarkerBegin)) return std::nullopt;
  line.remove_prefix(kMarkerBegin.size());
  return line.substr(0, line.find(kMarkerEnd));
}

}  // namespace

struct LogMonitor::File {
  std::string path;
  uint64_t offset = 0;   // read so far
  std::string partial;   // of a line without an end yet
  bool is_cut = false;   // the rest of this line is left out
  bool has_more = true;  // may have bytes behind the offset
  LogBatch batch;        // lines that are not given out yet
};

absl::StatusOr<std::unique_ptr<LogMonitor>> LogMonitor::Create(net::EventLoop* loop,
                                                               Options options, Sink sink) {
  net::UniqueFd inotify(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify.valid() ||
      inotify_add_watch(inotify.get(), options.directory.c_str(), IN_CREATE | IN_MODIFY) < 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot watch ", options.directory, ": ", std::strerror(errno)));
  }
  return std::unique_ptr<LogMonitor>(
      new LogMonitor(loop, std::move(options), std::move(sink), std::move(inotify)));
}

LogMonitor::LogMonitor(net::EventLoop* loop, Options options, Sink sink, net::UniqueFd inotify)
    : loop_(loop),
      options_(std::move(options)),
      sink_(std::move(sink)),
      inotify_(std::move(inotify)) {
  loop_->Watch(inotify_.get(), EPOLLIN, [this](uint32_t) { OnReadable(); });
}

LogMonitor::~LogMonitor() {
  if (timer_.has_value()) loop_->Cancel(*timer_);
  loop_->Unwatch(inotify_.get());
}

// Does not look again before the round, so that a worker that prints much wakes the raylet once a
// round.
void LogMonitor::OnReadable() {
  loop_->Modify(inotify_.get(), 0);
  if (timer_.has_value()) return;
  timer_ = loop_->RunAfter(options_.delay, [this] {
    timer_.reset();
    RunRound();
  });
}

void LogMonitor::RunRound() {
  TakeEvents();
  bool has_more = false;
  for (auto& [key, file] : files_) {
    if (!file.has_more) continue;
    file.has_more = ReadSome(&file);
    GiveOut(&file);
    has_more = has_more || file.has_more;
  }
  if (has_more) {
    OnReadable();
  } else {
    loop_->Modify(inotify_.get(), EPOLLIN);
  }
}

void LogMonitor::TakeEvents() {
  alignas(inotify_event) char bytes[16 << 10];
  ssize_t n;
  while ((n = read(inotify_.get(), bytes, sizeof bytes)) > 0) {
    for (const char* at = bytes; at < bytes + n;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      if (event->len > 0) OnFileEvent(event->name);
      if ((event->mask & IN_Q_OVERFLOW) != 0) {
        for (auto& [key, file] : files_) file.has_more = true;
      }
      at += sizeof(inotify_event) + event->len;
    }
  }
}

void LogMonitor::OnFileEvent(std::string_view name) {
  const std::optional<FileName> parsed = ParseFileName(name);
  if (!parsed.has_value()) return;
  if (files_.size() >= forget_at_) ForgetFilesOfTheDead();
  File& file = files_[{parsed->pid, std::string(name)}];
  file.has_more = true;
  if (!file.path.empty()) return;
  file.path = absl::StrCat(options_.directory, "/", absl::string_view(name.data(), name.size()));
  file.batch.pid = parsed->pid;
  file.batch.is_stderr = parsed->is_stderr;
}

void LogMonitor::ForgetFilesOfTheDead() {
  std::erase_if(files_, [](const auto& entry) {
    return !entry.second.has_more && kill(entry.first.first, 0) != 0 && errno == ESRCH;
  });
  forget_at_ = std::max(kFilesKept, 2 * files_.size());
}

void LogMonitor::ReadAll() {
  TakeEvents();
  for (auto& [key, file] : files_) {
    while (file.has_more) file.has_more = ReadSome(&file);
    GiveOut(&file);
  }
}

void LogMonitor::WorkerEnded(pid_t pid) {
  TakeEvents();
  for (auto it = files_.lower_bound({pid, ""}); it != files_.end() && it->first.first == pid;
       it = files_.erase(it)) {
    File& file = it->second;
    while (ReadSome(&file)) {
    }
    if (!file.partial.empty()) TakeLine(&file, file.partial);
    GiveOut(&file);
  }
}

// Reads one portion. Whether there is more.
bool LogMonitor::ReadSome(File* file) {
  const net::UniqueFd fd(open(file->path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (!fd.valid() || fstat(fd.get(), &status) != 0) return false;
  const auto size = static_cast<uint64_t>(status.st_size);
  if (size < file->offset) file->offset = 0;  // somebody truncated it
  SkipBacklog(file, size);
  std::string bytes(std::min<uint64_t>(size - file->offset, options_.round_max_bytes), '\0');
  const ssize_t n = pread(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(file->offset));
  if (n <= 0) return false;
  bytes.resize(static_cast<size_t>(n));
  file->offset += bytes.size();
  TakeBytes(file, bytes);
  return file->offset < size;
}

void LogMonitor::SkipBacklog(File* file, uint64_t size) {
  const uint64_t backlog = size - file->offset;
  if (backlog <= options_.backlog_max_bytes) return;
  const uint64_t skipped = backlog - options_.round_max_bytes;
  file->offset += skipped;
  file->partial.clear();
  file->is_cut = true;
  TakeLine(file, absl::StrCat("[", skipped,
                              " bytes of output are left out here: more was written than can be "
                              "forwarded. All of it is in ",
                              file->path, "]"));
}

void LogMonitor::TakeBytes(File* file, std::string_view bytes) {
  for (size_t end; (end = bytes.find('\n')) != std::string_view::npos;
       bytes.remove_prefix(end + 1)) {
    if (!file->is_cut) {
      file->partial.append(bytes.substr(0, end));
      TakeLine(file, file->partial);
    }
    file->partial.clear();
    file->is_cut = false;
  }
  if (!file->is_cut) file->partial.append(bytes);
  if (file->partial.size() < options_.line_max_bytes) return;
  TakeLine(file, file->partial);
  file->partial.clear();
  file->is_cut = true;
}

void LogMonitor::TakeLine(File* file, std::string_view line) {
  if (const std::optional<std::string_view> name = ParseMarker(line); name.has_value()) {
    GiveOut(file);
    file->batch.name = *name;
    return;
  }
  file->batch.lines.emplace_back(line.substr(0, options_.line_max_bytes));
  if (file->batch.lines.size() >= kLogLinesMax) GiveOut(file);
}

void LogMonitor::GiveOut(File* file) {
  if (file->batch.lines.empty()) return;
  sink_(file->batch);
  file->batch.lines.clear();
}

std::string TailOfFile(const std::string& path, size_t bytes_max) {
  const net::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (!fd.valid() || fstat(fd.get(), &status) != 0) return "";
  const auto size = static_cast<uint64_t>(status.st_size);
  const uint64_t offset = size - std::min<uint64_t>(size, bytes_max);
  std::string tail(size - offset, '\0');
  const ssize_t n = pread(fd.get(), tail.data(), tail.size(), static_cast<off_t>(offset));
  if (n <= 0) return "";
  tail.resize(static_cast<size_t>(n));
  if (offset > 0) tail.erase(0, tail.find('\n') + 1);
  return tail;
}

std::string WithoutMarkers(std::string_view text) {
  std::string kept;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    const size_t taken = std::min(line.size() + 1, text.size());
    if (!ParseMarker(line).has_value()) kept += text.substr(0, taken);
    text.remove_prefix(taken);
  }
  return kept;
}

}  // namespace ray::raylet
