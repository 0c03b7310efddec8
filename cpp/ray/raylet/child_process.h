// Starts a child process that dies with this one.
// Threads: call it from a thread that lives as long as the process: the parent-death signal is
// bound to the thread.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ray::raylet {

struct ChildProcess {
  std::vector<std::string> command;        // not empty; the program is looked up in PATH
  std::map<std::string, std::string> env;  // added to ours
  std::string stdout_file;                 // appended to
  std::string stderr_file;
  int fd3 = -1;  // becomes descriptor 3; no other of ours is passed on
};

// Blocks until the child runs the program or has failed to: kInternal then, with the reason.
absl::StatusOr<pid_t> StartChild(const ChildProcess& child);

}  // namespace ray::raylet
