#include "ray/raylet/zygote.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/logging.h"
#include "ray/raylet/child_process.h"

namespace ray::raylet {
namespace {

using Json = nlohmann::json;

constexpr absl::Duration kRestartDelayMax = absl::Seconds(5);
constexpr size_t kLineMaxBytes = 1 << 16;

// nullopt: absent, null or no integer.
std::optional<int64_t> IntegerIn(const Json& object, const char* name) {
  auto it = object.find(name);
  if (it == object.end() || !it->is_number_integer()) return std::nullopt;
  return it->get<int64_t>();
}

ExitStatus ExitStatusIn(const Json& event) {
  ExitStatus status;
  if (auto code = IntegerIn(event, "exit_code")) status.exit_code = static_cast<int>(*code);
  if (auto signal = IntegerIn(event, "signal")) status.signal = static_cast<int>(*signal);
  status.peak_memory_bytes = static_cast<uint64_t>(
      std::max<int64_t>(IntegerIn(event, "peak_memory_bytes").value_or(0), 0));
  return status;
}

}  // namespace

Zygote::Zygote(net::EventLoop* loop, Options options, Events events)
    : loop_(loop),
      options_(std::move(options)),
      events_(std::move(events)),
      next_delay_(options_.restart_delay) {}

Zygote::~Zygote() { Stop(); }

void Zygote::Start() {
  const absl::Status started = Spawn();
  if (started.ok()) return;
  MANTA_LOG(kError, "the zygote could not be started: ", started.message());
  RestartLater();
}

absl::Status Zygote::Spawn() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::InternalError(absl::StrCat("socketpair: ", std::strerror(errno)));
  }
  net::UniqueFd ours(ends[0]);
  const net::UniqueFd theirs(ends[1]);
  auto pid = StartChild({.command = options_.command,
                         .env = options_.env,
                         .stdout_file = absl::StrCat(options_.log_dir, "/zygote.out"),
                         .stderr_file = absl::StrCat(options_.log_dir, "/zygote.err"),
                         .fd3 = theirs.get()});
  if (!pid.ok()) return pid.status();
  pid_ = *pid;
  socket_ = std::move(ours);
  loop_->Watch(socket_.get(), EPOLLIN, [this](uint32_t events) { OnEvents(events); });
  WriteSome();
  return absl::OkStatus();
}

void Zygote::Fork(StartupToken token, const std::map<std::string, std::string>& env,
                  std::string_view log_prefix, std::string_view environment) {
  const Json request = {{"op", "fork"},
                        {"token", token},
                        {"env", env},
                        {"log_prefix", log_prefix},
                        {"runtime_env", environment}};
  out_ += request.dump(-1, ' ', false, Json::error_handler_t::replace);
  out_ += '\n';
  WriteSome();
}

void Zygote::WriteSome() {
  if (!socket_.valid()) return;
  while (!out_.empty()) {
    const ssize_t n = send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      out_.erase(0, static_cast<size_t>(n));
    } else if (errno != EINTR) {
      break;  // full; or broken, which reading will find
    }
  }
  loop_->Modify(socket_.get(), EPOLLIN | (out_.empty() ? 0u : EPOLLOUT));
}

void Zygote::OnEvents(uint32_t events) {
  if ((events & EPOLLOUT) != 0) WriteSome();
  char bytes[4096];
  ssize_t n = 0;
  while ((n = recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
    in_.append(bytes, static_cast<size_t>(n));
  }
  const bool ended = n == 0 || (errno != EAGAIN && errno != EINTR);

  size_t begin = 0;
  for (size_t end; (end = in_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = in_.substr(begin, end - begin);
    OnLine(line);
    if (stopped_) return;
  }
  in_.erase(0, begin);
  if (ended) {
    Lost("it ended");
  } else if (in_.size() > kLineMaxBytes) {
    Lost("it sent a line without an end");
  }
}

void Zygote::OnLine(std::string_view line) {
  Json message = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!message.is_object()) message = Json::object();
  const Json event = message.value("event", Json());
  // Neither is ever 0.
  const int64_t token = IntegerIn(message, "token").value_or(0);
  const int64_t pid = IntegerIn(message, "pid").value_or(0);
  if (event == "ready") {
    next_delay_ = options_.restart_delay;
  } else if (event == "forked" && token > 0 && pid > 0) {
    events_.on_forked(static_cast<StartupToken>(token), static_cast<pid_t>(pid));
  } else if (event == "exited" && token > 0) {
    events_.on_exited(static_cast<StartupToken>(token), ExitStatusIn(message));
  } else {
    MANTA_LOG(kWarning, "the zygote sent a line that means nothing: ",
              absl::string_view(line.data(), std::min<size_t>(line.size(), 200)));
  }
}

void Zygote::Lost(std::string_view why) {
  MANTA_LOG(kWarning, "the zygote (pid ", pid_,
            ") is lost: ", absl::string_view(why.data(), why.size()), ". See zygote.err in ",
            options_.log_dir);
  Stop();
  stopped_ = false;
  RestartLater();
  events_.on_lost();
}

void Zygote::RestartLater() {
  restart_timer_ = loop_->RunAfter(next_delay_, [this] {
    restart_timer_.reset();
    Start();
  });
  next_delay_ = std::min(next_delay_ * 2, kRestartDelayMax);
}

void Zygote::Stop() {
  stopped_ = true;
  if (restart_timer_.has_value()) loop_->Cancel(*restart_timer_);
  restart_timer_.reset();
  if (socket_.valid()) loop_->Unwatch(socket_.get());
  socket_.Reset(-1);
  in_.clear();
  out_.clear();
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
}

absl::StatusOr<std::vector<std::string>> SplitCommand(std::string_view command) {
  std::vector<std::string> words;
  bool in_word = false;
  char quote = 0;
  for (size_t i = 0; i < command.size(); ++i) {
    const char c = command[i];
    if (quote == 0 && (c == ' ' || c == '\t')) {
      in_word = false;
      continue;
    }
    if (!in_word) {
      words.emplace_back();
      in_word = true;
    }
    if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (quote != 0 && c == quote) {
      quote = 0;
    } else if (quote != '\'' && c == '\\' && i + 1 < command.size()) {
      words.back() += command[++i];
    } else {
      words.back() += c;
    }
  }
  if (quote != 0) return absl::InvalidArgumentError("a quote that is not closed");
  if (words.empty() || words.front().empty()) return absl::InvalidArgumentError("no command");
  return words;
}

}  // namespace ray::raylet
