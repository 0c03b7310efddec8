// What the daemons (raylet, gcs_server) share as processes: settings, the cluster's token, and the
// ways in which whoever started them hears of them and ends them.
//
// Threads: call these from main, before other threads start.   Errors: kInvalidArgument names the
// setting or file.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "ray/base/config.h"
#include "ray/net/event_loop.h"

namespace ray::net {

// The environment's RAY_<name>, then `settings` ("name=value,name=value"), which win.
absl::StatusOr<base::Config> ReadConfig(std::string_view settings);

// The content of the file without the white space around it; "" for no path.
absl::StatusOr<std::string> ReadToken(const std::string& path);

// Writes one line to the descriptor (--ready_fd) and closes it. Nothing for a negative one. The
// reader may be gone.
void SayReady(int fd, std::string_view line);

// From here on SIGTERM and SIGINT run `end` in the loop instead of ending the process, and SIGPIPE
// is ignored.
void EndOnSignals(EventLoop* loop, std::function<void()> end);

// Runs `end` in the loop once the other end of the pipe or socket (--lifeline_fd) closes, so that a
// local cluster ends with its driver, however that dies. Nothing for a negative one.
void EndWithLifeline(EventLoop* loop, int fd, std::function<void()> end);

}  // namespace ray::net
