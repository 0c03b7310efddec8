// gcs_server: the cluster's control plane. One a cluster, on the head node.
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "ray/base/check.h"
#include "ray/base/config.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/gcs_server.h"
#include "ray/gcs/storage.h"
#include "ray/net/event_loop.h"

ABSL_FLAG(std::string, listen, "tcp:127.0.0.1:6379",
          "Where to listen: unix:PATH or tcp:HOST:PORT (port 0: any free one); several, separated by commas. "
          "An address that other machines can reach needs --token_file.");
ABSL_FLAG(std::string, storage, "memory",
          "Where the state lives: memory (lost with this process) or sqlite:PATH (a restart continues from it).");
ABSL_FLAG(std::string, token_file, "",
          "File with the cluster's token, which every caller must send. Empty: no token is asked for.");
ABSL_FLAG(std::string, log_file, "", "File to log to; it is rotated. Empty: standard error.");
ABSL_FLAG(std::string, log_level, "",
          "debug, info, warning or error. Empty: the log_level of the configuration.");
ABSL_FLAG(int, ready_fd, -1,
          "Descriptor that gets one line of JSON, {\"endpoints\": [...]} once requests are served or "
          "{\"error\": \"...\"}, and is closed then.");
ABSL_FLAG(int, lifeline_fd, -1,
          "Descriptor of a pipe or socket: when its other end closes, the process exits. So a local cluster ends with "
          "its driver, however that dies.");
ABSL_FLAG(std::string, config, "",
          "Settings of the cluster, name=value, separated by commas. They win over the environment's RAY_<name>, and "
          "travel to every node.");

namespace ray::gcs {
namespace {

absl::StatusOr<base::Config> ReadConfig() {
  base::Config config;
  MANTA_RETURN_IF_ERROR(config.LoadEnvironment());
  const std::string settings = absl::GetFlag(FLAGS_config);
  for (absl::string_view setting : absl::StrSplit(settings, ',', absl::SkipWhitespace())) {
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

void StartLogging(const base::Config& config) {
  const std::string level = absl::GetFlag(FLAGS_log_level);
  base::InitLogging({.process_name = "gcs_server",
                     .file = absl::GetFlag(FLAGS_log_file),
                     .level = level.empty() ? config.log_level : level,
                     .rotate_bytes = static_cast<size_t>(config.log_rotate_bytes)});
}

absl::StatusOr<std::unique_ptr<GcsServer>> StartServer(net::EventLoop* loop) {
  MANTA_ASSIGN_OR_RETURN(base::Config config, ReadConfig());
  StartLogging(config);
  GcsServer::Options options;
  options.config = config;
  options.listen = absl::StrSplit(absl::GetFlag(FLAGS_listen), ',', absl::SkipWhitespace());
  MANTA_ASSIGN_OR_RETURN(options.token, ReadToken(absl::GetFlag(FLAGS_token_file)));
  MANTA_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage,
                         OpenStorage(absl::GetFlag(FLAGS_storage)));
  return GcsServer::Start(loop, std::move(options), std::move(storage));
}

// To whoever started us and waits. It may be gone by now; its lifeline tells us that.
void SayReady(const nlohmann::json& message) {
  const int fd = absl::GetFlag(FLAGS_ready_fd);
  if (fd < 0) return;
  const std::string line =
      message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (write(fd, line.data(), line.size()) < 0) MANTA_LOG(kWarning, "nobody reads --ready_fd");
  close(fd);
}

// Signals come in through the loop. Blocked before any thread starts, so that no thread takes them.
int BlockAndWatchSignals() {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  MANTA_CHECK(sigprocmask(SIG_BLOCK, &ends, nullptr) == 0);
  std::signal(SIGPIPE, SIG_IGN);
  const int fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
  MANTA_CHECK(fd >= 0);
  return fd;
}

void StopWhenLifelineBreaks(net::EventLoop* loop, int fd) {
  loop->Watch(fd, EPOLLIN | EPOLLHUP, [loop, fd](uint32_t) {
    char ignored[64];
    if (read(fd, ignored, sizeof ignored) > 0) return;
    MANTA_LOG(kInfo, "the lifeline broke: exiting");
    loop->Stop();
  });
}

int Main() {
  net::EventLoop loop;
  loop.Watch(BlockAndWatchSignals(), EPOLLIN, [&loop](uint32_t) {
    MANTA_LOG(kInfo, "told to end by a signal: exiting");
    loop.Stop();
  });
  if (int fd = absl::GetFlag(FLAGS_lifeline_fd); fd >= 0) StopWhenLifelineBreaks(&loop, fd);

  absl::StatusOr<std::unique_ptr<GcsServer>> server = StartServer(&loop);
  if (!server.ok()) {
    std::cerr << "gcs_server: " << server.status().message() << std::endl;
    SayReady({{"error", std::string(server.status().message())}});
    return 1;
  }
  SayReady({{"endpoints", (*server)->endpoints()}});
  MANTA_LOG(kInfo, "serving");
  loop.Run();
  return 0;
}

}  // namespace
}  // namespace ray::gcs

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "The control plane of a cluster: nodes, jobs, actors and the key-value table.\n"
      "Ends in good order on SIGTERM.");
  absl::ParseCommandLine(argc, argv);
  return ray::gcs::Main();
}
