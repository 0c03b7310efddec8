// The zygote: a Python process that forks workers. Speaks newline-delimited JSON with it over a
// socket pair, which is descriptor 3 in the zygote:
//   raylet -> zygote  {"op":"fork","token":N,"env":{NAME:VALUE,...},"log_prefix":"worker-N",
//                     "runtime_env":"..."}
//   zygote -> raylet  {"event":"ready"}   {"event":"forked","token":N,"pid":P}
//                     {"event":"exited","pid":P,"token":N,"exit_code":C|null,"signal":S|null,
//                     "peak_memory_bytes":B}
// Its own output goes to <session_dir>/logs/zygote.out and .err.
//
// A zygote that dies is started again after a pause that grows while it keeps failing. It gets
// SIGKILL when the raylet dies, and its workers when it dies.
//
// Owner: WorkerService.   Threads: loop-bound; Start from the thread that lives longest, since the
// parent-death signal is bound to it.   Errors: a zygote that cannot start, or speaks nonsense, is
// logged and restarted.
//   ZYGOTE-1  on_lost runs once for each zygote that ended. What it owed will not come.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/net/endpoint.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/worker_pool.h"

namespace ray::raylet {

class Zygote {
 public:
  struct Options {
    std::vector<std::string> command;
    std::map<std::string, std::string>
        env;  // added to the raylet's own, for the zygote and so its workers
    std::string log_dir;
    absl::Duration restart_delay =
        absl::Milliseconds(100);  // doubles up to 5 s, until a zygote is ready
  };
  struct Events {
    std::function<void(StartupToken, pid_t)> on_forked;
    std::function<void(StartupToken, const ExitStatus&)> on_exited;
    std::function<void()> on_lost;
  };

  Zygote(net::EventLoop* loop, Options options, Events events);
  ~Zygote();  // kills it
  Zygote(const Zygote&) = delete;
  Zygote& operator=(const Zygote&) = delete;

  void Start();
  // Kept until a zygote is there. `env` is set in the worker only.
  // It sets `environment` (see python/ray/_runtime_env) up first, unless that is empty.
  void Fork(StartupToken token, const std::map<std::string, std::string>& env,
            std::string_view log_prefix, std::string_view environment = "");
  // SIGKILL, without a restart. Returns when the process is gone.
  void Stop();

 private:
  absl::Status Spawn();
  void OnEvents(uint32_t events);
  void OnLine(std::string_view line);
  void WriteSome();
  void Lost(std::string_view why);
  void RestartLater();

  net::EventLoop* const loop_;
  const Options options_;
  const Events events_;

  pid_t pid_ = 0;  // 0: not running
  net::UniqueFd socket_;
  std::string in_;
  std::string out_;
  bool stopped_ = false;
  absl::Duration next_delay_;
  std::optional<net::EventLoop::TimerId> restart_timer_;
};

// Words of a command line: separated by spaces, with '...' and "..." and \ as in a POSIX shell.
// kInvalidArgument for an open quote or an empty command.
absl::StatusOr<std::vector<std::string>> SplitCommand(std::string_view command);

}  // namespace ray::raylet
