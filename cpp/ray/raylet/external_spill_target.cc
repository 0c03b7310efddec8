#include "ray/raylet/external_spill_target.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/net/endpoint.h"
#include "ray/raylet/child_process.h"
#include "ray/store/checksum.h"

namespace ray::raylet {

using store::Checksum;
using store::Extent;
using store::SpillFileId;

namespace {

using Json = nlohmann::json;

constexpr uint32_t kAnswerBytesMax = 1 << 20;

// Waits until the socket is ready; kDeadlineExceeded: it was not in time.
absl::Status Await(int fd, short events, absl::Time deadline) {
  while (true) {
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
    pollfd waited{.fd = fd, .events = events, .revents = 0};
    const int ready = poll(&waited, 1, static_cast<int>(std::max<int64_t>(left, 0)));
    if (ready > 0) return absl::OkStatus();
    if (ready == 0) return absl::DeadlineExceededError("it does not answer");
    if (errno != EINTR) return absl::UnavailableError(std::strerror(errno));
  }
}

absl::Status SendAll(int fd, std::string_view bytes, absl::Time deadline) {
  while (!bytes.empty()) {
    MANTA_RETURN_IF_ERROR(Await(fd, POLLOUT, deadline));
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (sent < 0) return absl::UnavailableError("it has ended");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return absl::OkStatus();
}

absl::Status ReceiveAll(int fd, char* bytes, size_t size, absl::Time deadline) {
  while (size > 0) {
    MANTA_RETURN_IF_ERROR(Await(fd, POLLIN, deadline));
    const ssize_t received = recv(fd, bytes, size, MSG_DONTWAIT);
    if (received < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (received <= 0) return absl::UnavailableError("it has ended");
    bytes += received;
    size -= static_cast<size_t>(received);
  }
  return absl::OkStatus();
}

// "" if it is absent or no text.
std::string TextIn(const Json& answer, const char* name) {
  auto it = answer.find(name);
  return it != answer.end() && it->is_string() ? it->get<std::string>() : "";
}

absl::Status StatusOf(const Json& answer) {
  const std::string status = TextIn(answer, "status");
  const std::string message = TextIn(answer, "message");
  if (status == "ok") return absl::OkStatus();
  if (status == "full") return absl::ResourceExhaustedError(message);
  if (status == "lost") return absl::DataLossError(message);
  return absl::UnavailableError(message);
}

}  // namespace

// The process and what it stores. Used on the I/O thread alone; blocks.
class ExternalSpillTarget::Storage {
 public:
  Storage(Options options, const store::SharedMemory* memory)
      : options_(std::move(options)), memory_(memory) {}
  ~Storage() { End(kEndTimeout); }

  absl::Status Write(SpillFileId file, const std::vector<Extent>& pieces) {
    File stored;
    Json places = Json::array();
    uint64_t offset = 0;
    for (const Extent& piece : pieces) {
      stored.pieces.push_back({offset, Checksum::Of(memory_->At(piece.offset), piece.size)});
      places.push_back({piece.offset, piece.size});
      offset += piece.size;
    }
    MANTA_RETURN_IF_ERROR(
        Ask({{"op", "write"}, {"name", NameOf(file)}, {"pieces", std::move(places)}}));
    for (const Extent& piece : pieces) memory_->Unuse(piece);
    files_[file] = std::move(stored);
    return absl::OkStatus();
  }

  absl::Status Read(SpillFileId file, uint32_t index, Extent into) {
    const Piece& piece = files_.at(file).pieces.at(index);
    MANTA_RETURN_IF_ERROR(Ask({{"op", "read"},
                               {"name", NameOf(file)},
                               {"offset", piece.offset},
                               {"into", {into.offset, into.size}}}));
    const bool intact = Checksum::Of(memory_->At(into.offset), into.size) == piece.checksum;
    memory_->Unuse(into);
    return intact ? absl::OkStatus() : Explain(absl::DataLossError("a stored file was changed"));
  }

  void Remove(SpillFileId file) {
    if (files_.erase(file) == 0) return;
    const absl::Status status = Ask({{"op", "remove"}, {"name", NameOf(file)}});
    if (!status.ok()) MANTA_LOG(kWarning, "a spilled file stays behind: ", status.message());
  }

 private:
  struct Piece {
    uint64_t offset;  // in the file
    Checksum checksum;
  };
  struct File {
    std::vector<Piece> pieces;
  };

  static std::string NameOf(SpillFileId file) {
    return absl::StrCat("spill-", static_cast<uint64_t>(file));
  }

  absl::Status Explain(const absl::Status& status) const {
    return base::Annotate(status, absl::StrCat("external storage ", options_.uri));
  }

  absl::Status Ask(const Json& request) {
    absl::Status status = process_ > 0 ? absl::OkStatus() : Start();
    if (status.ok()) status = Exchange(request);
    return Explain(status);
  }

  absl::Status Start() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
      return absl::UnavailableError(absl::StrCat("socketpair: ", std::strerror(errno)));
    }
    net::UniqueFd ours(ends[0]);
    net::UniqueFd theirs(ends[1]);
    MANTA_ASSIGN_OR_RETURN(process_, StartChild({.command = options_.command,
                                                 .stdout_file = options_.log_file,
                                                 .stderr_file = options_.log_file,
                                                 .fd3 = theirs.get()}));
    socket_ = std::move(ours);
    Json options = Json::parse(options_.options_json, nullptr, /*allow_exceptions=*/false);
    const absl::Status opened =
        Exchange({{"op", "open"},
                  {"memory", absl::StrCat("/proc/", getpid(), "/fd/", memory_->fd())},
                  {"size", memory_->capacity_bytes()},
                  {"uri", options_.uri},
                  {"options", options.is_object() ? options : Json::object()}});
    if (!opened.ok()) End(kEndTimeout);
    return opened;
  }

  // A failure of the process itself ends it: what it would say next is not known.
  absl::Status Exchange(const Json& request) {
    const absl::Time deadline = absl::Now() + options_.timeout;
    absl::StatusOr<Json> answer =
        SendAndReceive(request.dump(-1, ' ', false, Json::error_handler_t::replace), deadline);
    if (answer.ok()) return StatusOf(*answer);
    End(absl::ZeroDuration());
    return base::Annotate(
        answer.status(),
        absl::StrCat("the process that reaches it (log: ", options_.log_file, ")"));
  }

  absl::StatusOr<Json> SendAndReceive(const std::string& request, absl::Time deadline) {
    const auto length = static_cast<uint32_t>(request.size());
    char header[sizeof length];
    std::memcpy(header, &length, sizeof length);
    MANTA_RETURN_IF_ERROR(SendAll(socket_.get(), {header, sizeof header}, deadline));
    MANTA_RETURN_IF_ERROR(SendAll(socket_.get(), request, deadline));
    uint32_t answer_length = 0;
    MANTA_RETURN_IF_ERROR(ReceiveAll(socket_.get(), header, sizeof header, deadline));
    std::memcpy(&answer_length, header, sizeof header);
    if (answer_length > kAnswerBytesMax) return absl::InternalError("it answered nonsense");
    std::string text(answer_length, '\0');
    MANTA_RETURN_IF_ERROR(ReceiveAll(socket_.get(), text.data(), text.size(), deadline));
    Json answer = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!answer.is_object()) return absl::InternalError("it answered nonsense");
    return answer;
  }

  // The process ends by itself when it sees the socket closed, after it has removed its files.
  void End(absl::Duration grace) {
    if (process_ <= 0) return;
    socket_.Reset(-1);
    const absl::Time deadline = absl::Now() + grace;
    while (waitpid(process_, nullptr, WNOHANG) == 0) {
      if (absl::Now() >= deadline) {
        kill(process_, SIGKILL);
        waitpid(process_, nullptr, 0);
        break;
      }
      absl::SleepFor(absl::Milliseconds(5));
    }
    process_ = -1;
  }

  const Options options_;
  const store::SharedMemory* const memory_;
  pid_t process_ = -1;
  net::UniqueFd socket_;
  absl::flat_hash_map<SpillFileId, File> files_;
};

absl::StatusOr<std::unique_ptr<ExternalSpillTarget>> ExternalSpillTarget::Create(
    Options options, const store::SharedMemory* memory, std::unique_ptr<store::SpillTarget> files,
    store::IoThread::Post post) {
  auto storage = std::make_unique<Storage>(std::move(options), memory);
  auto io = std::make_unique<store::IoThread>(std::move(post));
  MANTA_RETURN_IF_ERROR(io->Start());
  return std::unique_ptr<ExternalSpillTarget>(
      new ExternalSpillTarget(std::move(storage), std::move(files), std::move(io)));
}

ExternalSpillTarget::ExternalSpillTarget(std::unique_ptr<Storage> storage,
                                         std::unique_ptr<store::SpillTarget> files,
                                         std::unique_ptr<store::IoThread> io)
    : storage_(std::move(storage)), files_(std::move(files)), io_(std::move(io)) {}
ExternalSpillTarget::~ExternalSpillTarget() = default;

void ExternalSpillTarget::Write(SpillFileId file, std::vector<Extent> pieces, Done done) {
  io_->Run<absl::Status>([storage = storage_.get(), file,
                          pieces = std::move(pieces)] { return storage->Write(file, pieces); },
                         std::move(done));
}

void ExternalSpillTarget::Read(SpillFileId file, uint32_t index, Extent into, Done done) {
  io_->Run<absl::Status>(
      [storage = storage_.get(), file, index, into] { return storage->Read(file, index, into); },
      std::move(done));
}

void ExternalSpillTarget::Map(SpillFileId, uint32_t, MapDone done) {
  io_->Run<absl::StatusOr<store::MappedPlace>>(
      []() -> absl::StatusOr<store::MappedPlace> {
        return absl::UnimplementedError("it is in external storage, which cannot be mapped");
      },
      std::move(done));
}

void ExternalSpillTarget::Make(SpillFileId file, uint64_t size_bytes, MapDone done) {
  made_.insert(file);
  files_->Make(
      file, size_bytes,
      [this, file, done = std::move(done)](absl::StatusOr<store::MappedPlace> place) mutable {
        if (!place.ok()) made_.erase(file);
        done(std::move(place));
      });
}

void ExternalSpillTarget::Remove(SpillFileId file) {
  if (made_.erase(file) > 0) return files_->Remove(file);
  io_->Run([storage = storage_.get(), file] { storage->Remove(file); });
}

}  // namespace ray::raylet
