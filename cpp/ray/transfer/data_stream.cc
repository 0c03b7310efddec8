#include "ray/transfer/data_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/store/parallel_copy.h"

namespace ray::transfer {

using base::NodeId;
using base::ObjectId;
using store::Extent;

namespace {

struct Request {
  uint8_t object_id[ObjectId::kSize] = {};
  uint32_t zero = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
};
static_assert(sizeof(Request) == 48);

enum class AnswerStatus : uint32_t { kBytes = 0, kNotGranted = 1, kPlace = 2 };

struct Answer {
  AnswerStatus status = AnswerStatus::kBytes;
  uint32_t zero = 0;
  uint64_t length = 0;
  uint64_t place = 0;
};
static_assert(sizeof(Answer) == 24);

// sendfile() has no MSG_NOSIGNAL.
void BlockSigpipe() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

// A socket on which sending and receiving blocks, and all is sent or received.
class BlockingSocket {
 public:
  // Uses the descriptor of the socket, which outlives this.
  explicit BlockingSocket(StreamSocket* socket)
      : fd_(socket->fd.get()),
        tls_(std::move(socket->tls)),
        ahead_(std::move(socket->already_read)) {
    fcntl(fd_, F_SETFL, fcntl(fd_, F_GETFL) & ~O_NONBLOCK);
  }

  bool encrypts() const { return tls_ != nullptr; }

  absl::Status Send(const void* bytes, size_t size, int flags = 0) {
    const char* at = static_cast<const char*>(bytes);
    while (size > 0) {
      const ssize_t sent =
          tls_ == nullptr ? send(fd_, at, size, flags | MSG_NOSIGNAL) : tls_->Write(at, size);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) return Error("sending");
      at += sent;
      size -= static_cast<size_t>(sent);
    }
    return absl::OkStatus();
  }

  absl::Status SendFromFile(int file, Extent extent) {
    if (encrypts()) return EncryptFromFile(file, extent);
    auto offset = static_cast<off_t>(extent.offset);
    uint64_t left = extent.size;
    while (left > 0) {
      const ssize_t sent = sendfile(fd_, file, &offset, left);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) return Error("sending");
      if (sent == 0) return EndsEarly();
      left -= static_cast<uint64_t>(sent);
    }
    return absl::OkStatus();
  }

  // What a handshake has read already comes first.
  absl::Status Receive(void* into, size_t size) {
    char* at = static_cast<char*>(into);
    const size_t from_ahead = std::min(size, ahead_.size());
    std::memcpy(at, ahead_.data(), from_ahead);
    ahead_.erase(0, from_ahead);
    at += from_ahead;
    size -= from_ahead;
    while (size > 0) {
      const ssize_t got = tls_ == nullptr ? recv(fd_, at, size, MSG_WAITALL) : tls_->Read(at, size);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Error("receiving");
      if (got == 0) return absl::UnavailableError("the other node closed the stream");
      at += got;
      size -= static_cast<size_t>(got);
    }
    return absl::OkStatus();
  }

 private:
  absl::Status EncryptFromFile(int file, Extent extent) {
    constexpr uint64_t kChunkBytes = 256 << 10;
    std::string chunk;
    while (extent.size > 0) {
      chunk.resize(std::min(extent.size, kChunkBytes));
      const ssize_t got =
          pread(file, chunk.data(), chunk.size(), static_cast<off_t>(extent.offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return absl::InternalError(absl::StrCat("reading what is sent: ", std::strerror(errno)));
      }
      if (got == 0) return EndsEarly();
      const auto size = static_cast<uint64_t>(got);
      MANTA_RETURN_IF_ERROR(Send(chunk.data(), size));
      extent = {extent.offset + size, extent.size - size};
    }
    return absl::OkStatus();
  }

  absl::Status Error(const char* what) const {
    const absl::Status why =
        tls_ == nullptr ? absl::UnavailableError(std::strerror(errno)) : tls_->error();
    return base::Annotate(why, what);
  }
  static absl::Status EndsEarly() {
    return absl::InternalError("the file of what is sent ends early");
  }

  int fd_;
  std::unique_ptr<net::TlsChannel> tls_;  // null: plain text
  std::string ahead_;
};

}  // namespace

// --- The source's end

struct DataServer::Stream {
  NodeId node;
  net::UniqueFd fd;
  std::atomic<bool> ended{false};
  std::thread thread;
};

namespace {

// Far more than a puller has under way.
constexpr size_t kUnacknowledgedMax = 64;

// Until the peer breaks off, or errs.
absl::Status ServeRequests(BlockingSocket socket, const NodeId& node, bool shared,
                           const store::SharedMemory& memory, const GrantTable& grants) {
  std::deque<std::shared_ptr<const GrantTable::Grant>> unacknowledged;
  while (true) {
    Request request;
    MANTA_RETURN_IF_ERROR(socket.Receive(&request, sizeof request));
    if (request.length == 0) {
      if (unacknowledged.empty()) {
        return absl::InvalidArgumentError("it acknowledged what it was not sent");
      }
      unacknowledged.pop_front();
      continue;
    }
    const auto grant = grants.Find(node, ObjectId::FromTrusted(request.object_id));
    const bool granted = grant != nullptr && grant->Allows({request.offset, request.length}) &&
                         unacknowledged.size() < kUnacknowledgedMax;
    if (!granted) {
      const Answer refusal{.status = AnswerStatus::kNotGranted};
      socket.Send(&refusal, sizeof refusal).IgnoreError();
      return absl::PermissionDeniedError("it asked for bytes that it may not have");
    }
    // It stays as it is until the peer has the bytes, whatever becomes of the grant.
    unacknowledged.push_back(grant);
    if (shared && !grant->file.valid()) {
      const Answer answer{.status = AnswerStatus::kPlace,
                          .length = request.length,
                          .place = grant->extent.offset + request.offset};
      MANTA_RETURN_IF_ERROR(socket.Send(&answer, sizeof answer));
      continue;
    }
    const Answer answer{.length = request.length};
    MANTA_RETURN_IF_ERROR(socket.Send(&answer, sizeof answer, MSG_MORE));
    const Extent extent{grant->extent.offset + request.offset, request.length};
    if (socket.encrypts() && !grant->file.valid()) {
      memory.PrepareWrite(extent);  // maps its pages in bulk; changes nothing
      MANTA_RETURN_IF_ERROR(socket.Send(memory.At(extent.offset), extent.size));
    } else {
      const int file = grant->file.valid() ? grant->file.get() : memory.fd();
      MANTA_RETURN_IF_ERROR(socket.SendFromFile(file, extent));
    }
  }
}

}  // namespace

DataServer::DataServer(const store::SharedMemory* memory, const GrantTable* grants)
    : memory_(memory), grants_(grants) {}

DataServer::~DataServer() {
  for (const auto& stream : streams_) shutdown(stream->fd.get(), SHUT_RDWR);
  for (const auto& stream : streams_) stream->thread.join();
}

void DataServer::Serve(StreamSocket socket, const NodeId& node, bool shared) {
  ForgetEnded();
  BlockingSocket peer(&socket);
  auto stream = std::make_unique<Stream>();
  stream->node = node;
  stream->fd = std::move(socket.fd);
  stream->thread = std::thread([this, node, shared, stream = stream.get(),
                                peer = std::move(peer)]() mutable {
    BlockSigpipe();
    const absl::Status why = ServeRequests(std::move(peer), node, shared, *memory_, *grants_);
    if (!absl::IsUnavailable(why)) {
      MANTA_LOG(kWarning, "a stream for objects of node ", node.Hex(), " ends: ", why.message());
    }
    shutdown(stream->fd.get(), SHUT_RDWR);
    stream->ended = true;
  });
  streams_.push_back(std::move(stream));
}

void DataServer::NodeGone(const NodeId& node) {
  for (const auto& stream : streams_) {
    if (stream->node == node) shutdown(stream->fd.get(), SHUT_RDWR);
  }
  ForgetEnded();
}

size_t DataServer::streams() const {
  return static_cast<size_t>(std::count_if(streams_.begin(), streams_.end(),
                                           [](const auto& stream) { return !stream->ended; }));
}

void DataServer::ForgetEnded() {
  std::erase_if(streams_, [](const auto& stream) {
    if (!stream->ended) return false;
    stream->thread.join();
    return true;
  });
}

// --- The puller's end

struct DataFetcher::Job {
  ObjectId id;
  Extent part;
  Destination to;
  Done done;
};

// What the streams to one node share.
struct DataFetcher::Peer {
  absl::Mutex mutex;
  std::deque<Job> jobs ABSL_GUARDED_BY(mutex);
  bool ended ABSL_GUARDED_BY(mutex) = false;
  // Of the loop.
  std::vector<std::unique_ptr<Stream>> streams;
  size_t dialing = 0;
  bool dial_only = false;  // it could not be reached on this machine
};

class DataFetcher::Stream {
 public:
  // On the loop. `opened`: it got as far as asking for bytes.
  using OnEnd = absl::AnyInvocable<void(absl::Status, bool opened)>;

  Stream(OpenHere open, Peer* peer, const store::SharedMemory* memory, Post post, OnEnd on_end)
      : peer_(peer), memory_(memory), post_(std::move(post)) {
    thread_ = std::thread([this, open = std::move(open), on_end = std::move(on_end)]() mutable {
      absl::Status why = Open(open());
      const bool opened = why.ok();
      if (opened) why = Run();
      for (Job& job : sent_) Report(std::move(job), why);
      sent_.clear();
      post_([on_end = std::move(on_end), why, opened]() mutable { on_end(why, opened); });
    });
  }
  ~Stream() { thread_.join(); }

  // Its thread ends soon.
  void BreakOff() {
    absl::MutexLock lock(&mutex_);
    broken_off_ = true;
    if (socket_.fd.valid()) shutdown(socket_.fd.get(), SHUT_RDWR);
  }

 private:
  // One is received while the source turns to the next.
  static constexpr size_t kAhead = 2;

  absl::Status Open(absl::StatusOr<StreamSocket> socket) {
    MANTA_RETURN_IF_ERROR(socket.status());
    absl::MutexLock lock(&mutex_);
    if (broken_off_) return absl::CancelledError("the stream is no longer needed");
    socket_ = *std::move(socket);
    source_.emplace(&socket_);
    return absl::OkStatus();
  }

  absl::Status Run() {
    while (true) {
      while (sent_.size() < kAhead) {
        std::optional<Job> job = TakeJob(/*wait=*/sent_.empty());
        if (!job.has_value()) break;
        MANTA_RETURN_IF_ERROR(SendRequest(*std::move(job)));
      }
      if (sent_.empty()) return absl::CancelledError("the stream is no longer needed");
      MANTA_RETURN_IF_ERROR(ReceiveAnswer(sent_.front()));
      const Request acknowledgement;
      MANTA_RETURN_IF_ERROR(source_->Send(&acknowledgement, sizeof acknowledgement));
      Job done = std::move(sent_.front());
      sent_.pop_front();
      Report(std::move(done), absl::OkStatus());
    }
  }

  // Nullopt: there is none; with `wait`, there will be none.
  std::optional<Job> TakeJob(bool wait) {
    absl::MutexLock lock(&peer_->mutex);
    const auto has_news = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_->mutex) {
      return peer_->ended || !peer_->jobs.empty();
    };
    if (wait) peer_->mutex.Await(absl::Condition(&has_news));
    if (peer_->ended || peer_->jobs.empty()) return std::nullopt;
    Job job = std::move(peer_->jobs.front());
    peer_->jobs.pop_front();
    return job;
  }

  absl::Status SendRequest(Job job) {
    Request request;
    std::memcpy(request.object_id, job.id.data(), ObjectId::kSize);
    request.offset = job.part.offset;
    request.length = job.part.size;
    sent_.push_back(std::move(job));
    return source_->Send(&request, sizeof request);
  }

  absl::Status ReceiveAnswer(const Job& job) {
    Answer answer;
    MANTA_RETURN_IF_ERROR(source_->Receive(&answer, sizeof answer));
    if (answer.length == job.part.size) {
      const store::SharedMemory& into = job.to.file == nullptr ? *memory_ : *job.to.file;
      absl::Status status;
      if (answer.status == AnswerStatus::kBytes) {
        into.PrepareWrite({job.to.offset, job.part.size});
        status = source_->Receive(into.At(job.to.offset), job.part.size);
      } else if (answer.status == AnswerStatus::kPlace) {
        status = CopyFrom(answer.place, into, job);
      } else {
        return NotGranted();
      }
      // Pages of a large file are not to count as this process's.
      if (job.to.file != nullptr) into.Unuse({job.to.offset, job.part.size});
      return status;
    }
    return NotGranted();
  }

  static absl::Status NotGranted() {
    return absl::PermissionDeniedError("it does not grant the object (any more)");
  }

  absl::Status CopyFrom(uint64_t place, const store::SharedMemory& into, const Job& job) {
    const store::SharedMemory* source = socket_.source_memory.get();
    const Extent extent{place, job.part.size};
    if (source == nullptr || !source->Contains(extent)) {
      return absl::InvalidArgumentError("it names a place outside its memory");
    }
    source->PrepareWrite(extent);  // maps its pages in bulk; changes nothing
    store::CopyInto(into, job.to.offset, source->At(place), job.part.size, {.threads = 1});
    return absl::OkStatus();
  }

  void Report(Job job, const absl::Status& status) {
    post_([job = std::move(job), status]() mutable { job.done(status); });
  }

  Peer* const peer_;  // owns the stream
  const store::SharedMemory* const memory_;
  const Post post_;
  // Of the thread, once it is opened; BreakOff looks at the descriptor.
  absl::Mutex mutex_;
  bool broken_off_ ABSL_GUARDED_BY(mutex_) = false;
  StreamSocket socket_;
  std::optional<BlockingSocket> source_;
  std::deque<Job> sent_;
  std::thread thread_;
};

DataFetcher::DataFetcher(const store::SharedMemory* memory, Options options)
    : memory_(memory), options_(std::move(options)) {}

DataFetcher::~DataFetcher() {
  for (auto& [node, peer] : peers_) leaving_.push_back(std::move(peer));
  for (const auto& peer : leaving_) {
    End(peer.get());
    for (const auto& stream : peer->streams) stream->BreakOff();
  }
  for (const auto& peer : leaving_) peer->streams.clear();
}

void DataFetcher::Fetch(const NodeId& node, const ObjectId& id, Extent part, Destination to,
                        Done done) {
  std::shared_ptr<Peer>& peer = peers_[node];
  if (peer == nullptr) peer = std::make_shared<Peer>();
  {
    absl::MutexLock lock(&peer->mutex);
    peer->jobs.push_back({.id = id, .part = part, .to = std::move(to), .done = std::move(done)});
  }
  OpenStreams(node, peer);
}

void DataFetcher::OpenStreams(const NodeId& node, const std::shared_ptr<Peer>& peer) {
  while (peer->streams.size() + peer->dialing < options_.streams) {
    if (options_.open_here != nullptr && !peer->dial_only) {
      if (OpenHere open = options_.open_here(node); open != nullptr) {
        AddStream(node, peer, std::move(open));
        continue;
      }
    }
    ++peer->dialing;
    options_.dial(node, [this, alive = std::weak_ptr<bool>(alive_), node,
                         peer](absl::StatusOr<StreamSocket> socket) {
      if (!alive.expired()) OnDialed(node, peer, std::move(socket));
    });
  }
}

void DataFetcher::OnDialed(const NodeId& node, const std::shared_ptr<Peer>& peer,
                           absl::StatusOr<StreamSocket> socket) {
  --peer->dialing;
  if (!socket.ok()) return FailAllWithoutStreams(node, peer, socket.status());
  if (auto it = peers_.find(node); it == peers_.end() || it->second != peer) return;  // died
  AddStream(node, peer, [socket = std::move(socket)]() mutable -> absl::StatusOr<StreamSocket> {
    return std::move(socket);
  });
}

void DataFetcher::AddStream(const NodeId& node, const std::shared_ptr<Peer>& peer, OpenHere open) {
  auto self = std::make_shared<Stream*>(nullptr);
  peer->streams.push_back(std::make_unique<Stream>(
      std::move(open), peer.get(), memory_, options_.post,
      // Not the peer itself: whoever drops the last callback would join the thread, perhaps in it.
      [this, alive = std::weak_ptr<bool>(alive_), node, weak = std::weak_ptr<Peer>(peer), self](
          absl::Status why, bool opened) {
        if (alive.expired()) return;
        OnStreamEnded(node, weak.lock(), *self, why, opened);
      }));
  *self = peer->streams.back().get();
}

void DataFetcher::OnStreamEnded(const NodeId& node, const std::shared_ptr<Peer>& peer,
                                Stream* stream, const absl::Status& why, bool opened) {
  std::erase_if(peer->streams, [stream](const auto& one) { return one.get() == stream; });
  if (auto it = peers_.find(node); it == peers_.end() || it->second != peer) {
    if (peer->streams.empty()) std::erase(leaving_, peer);
    return;
  }
  if (opened) return FailAllWithoutStreams(node, peer, why);
  peer->dial_only = true;
  OpenStreams(node, peer);
}

void DataFetcher::FailAllWithoutStreams(const NodeId& node, const std::shared_ptr<Peer>& peer,
                                        const absl::Status& why) {
  if (!peer->streams.empty() || peer->dialing > 0) return;
  if (auto it = peers_.find(node); it != peers_.end() && it->second == peer) peers_.erase(it);
  for (Job& job : End(peer.get())) job.done(why);
}

std::deque<DataFetcher::Job> DataFetcher::End(Peer* peer) {
  absl::MutexLock lock(&peer->mutex);
  peer->ended = true;
  return std::exchange(peer->jobs, {});
}

void DataFetcher::NodeGone(const NodeId& node) {
  auto entry = peers_.extract(node);
  if (entry.empty()) return;
  const std::shared_ptr<Peer> peer = std::move(entry.mapped());
  for (const auto& stream : peer->streams) stream->BreakOff();
  if (!peer->streams.empty()) leaving_.push_back(peer);
  for (Job& job : End(peer.get())) job.done(absl::UnavailableError("its node died"));
}

}  // namespace ray::transfer
