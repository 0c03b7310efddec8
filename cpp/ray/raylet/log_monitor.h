// Follows the output files of workers, <directory>/worker-*-<pid>.out and .err, and gives out each
// line once it is whole. A line "\x1etask:NAME\x1e" is not given out: it says that the following
// lines of its file are NAME's.
//
// Bounded: a line is cut at line_max_bytes; of a file that grows faster than it is read, what
// exceeds backlog_max_bytes is skipped, and said so in a line. Children of a worker may write to
// its files after it has ended; such files are forgotten again once there are many.
//
// Owner: LogService.   Threads: loop-bound; reads files in the loop, round_max_bytes at a time.
// Errors: Create: kUnavailable when the kernel has no more inotify instances to give. A file that
// cannot be read is left out.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/net/endpoint.h"
#include "ray/net/event_loop.h"

namespace ray::raylet {

// Lines of one file, in order, of one task or actor.
struct LogBatch {
  pid_t pid = 0;
  bool is_stderr = false;
  std::string name;  // "": no task has said its name yet
  std::vector<std::string> lines;
};

class LogMonitor {
 public:
  static constexpr size_t kLogLinesMax = 1000;  // in one batch
  static constexpr size_t kFilesKept = 1000;    // of workers that may have ended

  struct Options {
    std::string directory;
    absl::Duration delay =
        absl::Milliseconds(10);  // from a write to its reading, so that many are read together
    size_t line_max_bytes = 64 << 10;
    size_t round_max_bytes = 1 << 20;
    size_t backlog_max_bytes = 16 << 20;
  };
  using Sink = std::function<void(LogBatch)>;

  static absl::StatusOr<std::unique_ptr<LogMonitor>> Create(net::EventLoop* loop, Options options,
                                                            Sink sink);
  ~LogMonitor();
  LogMonitor(const LogMonitor&) = delete;
  LogMonitor& operator=(const LogMonitor&) = delete;

  // Gives out every line that is written now.
  void ReadAll();
  // The process has ended: gives out the rest, an unfinished last line too, and forgets its files.
  void WorkerEnded(pid_t pid);
  size_t files() const { return files_.size(); }

 private:
  struct File;
  using Key = std::pair<pid_t, std::string>;  // with the file's name

  LogMonitor(net::EventLoop* loop, Options options, Sink sink, net::UniqueFd inotify);
  void OnReadable();
  void RunRound();
  void TakeEvents();
  void OnFileEvent(std::string_view name);
  void ForgetFilesOfTheDead();

  bool ReadSome(File* file);
  void SkipBacklog(File* file, uint64_t size);
  void TakeBytes(File* file, std::string_view bytes);
  void TakeLine(File* file, std::string_view line);
  void GiveOut(File* file);

  net::EventLoop* const loop_;
  const Options options_;
  const Sink sink_;
  net::UniqueFd inotify_;
  std::optional<net::EventLoop::TimerId> timer_;
  std::map<Key, File> files_;
  size_t forget_at_ = kFilesKept;  // so many files
};

// The last lines of a text file, at most `bytes_max` of it, without a line that is cut at the
// front. "" if it cannot be read. Blocks for a read.
std::string TailOfFile(const std::string& path, size_t bytes_max);
// The text without the lines that only say which task wrote what follows.
std::string WithoutMarkers(std::string_view text);

}  // namespace ray::raylet
