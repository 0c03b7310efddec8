#include "ray/store/file_spill_target.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "ray/base/check.h"
#include "ray/base/status_macros.h"
#include "ray/net/endpoint.h"
#include "ray/store/store_report.h"

namespace ray::store {
namespace {

// Of one system call: short enough for the thread to stop soon, and below the kernel's limit.
constexpr uint64_t kStepBytes = 64 << 20;

absl::Status SystemError(absl::string_view what) {
  bool is_full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
  return absl::Status(
      is_full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kUnavailable,
      absl::StrCat(what, ": ", std::strerror(errno)));
}

// Writes or reads all of `size` bytes; `step` is pwrite or pread. kDataLoss: the file ends before.
template <typename Step>
absl::Status InSteps(Step step, int fd, std::byte* bytes, uint64_t size, uint64_t file_offset) {
  for (uint64_t done = 0; done < size;) {
    ssize_t moved = step(fd, bytes + done, std::min(size - done, kStepBytes),
                         static_cast<off_t>(file_offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return SystemError("input/output");
    if (moved == 0) return absl::DataLossError("the spill file is truncated");
    done += static_cast<uint64_t>(moved);
  }
  return absl::OkStatus();
}

absl::Status ChangedError() { return absl::DataLossError("the spill file was changed"); }

// Of the bytes in steps of kChecksumStepBytes, in order. Stable within the process, which is as
// long as anybody can ask for the file.
constexpr uint64_t kChecksumStepBytes = 1 << 20;
uint64_t ExtendChecksum(uint64_t checksum, const std::byte* step, uint64_t size) {
  return absl::HashOf(checksum, absl::string_view(reinterpret_cast<const char*>(step), size));
}
uint64_t Checksum(const std::byte* bytes, uint64_t size) {
  uint64_t checksum = 0;
  for (uint64_t at = 0; at < size; at += kChecksumStepBytes) {
    checksum = ExtendChecksum(checksum, bytes + at, std::min(size - at, kChecksumStepBytes));
  }
  return checksum;
}

uint64_t RoundUpToPage(uint64_t bytes) {
  static const auto kPageBytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

}  // namespace

class FileSpillTarget::Worker {
 public:
  Worker(std::string directory, const SharedMemory* memory, Post post)
      : directory_(std::move(directory)), memory_(memory), post_(std::move(post)) {}

  ~Worker() {
    if (!thread_.joinable()) return;  // Start() failed
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      work_came_.Signal();
    }
    thread_.join();
  }

  // Makes sure of what later operations need: a directory that can be written, and a thread.
  absl::Status Start() {
    MANTA_RETURN_IF_ERROR(Explain(NewFile().status()));
    try {
      thread_ = std::thread([this] { Run(); });
    } catch (const std::system_error& error) {
      return absl::UnavailableError(absl::StrCat("no thread for spilling: ", error.what()));
    }
    return absl::OkStatus();
  }

  void Enqueue(absl::AnyInvocable<void()> operation) {
    absl::MutexLock lock(&mutex_);
    operations_.push_back(std::move(operation));
    work_came_.Signal();
  }

  // The following run on the worker's thread.
  absl::Status Write(SpillFileId file, const std::vector<Extent>& pieces) {
    absl::StatusOr<File> written = WriteFile(pieces);
    if (!written.ok()) return Explain(written.status());
    files_[file] = std::move(*written);
    return absl::OkStatus();
  }

  absl::Status Read(SpillFileId file, uint32_t index, Extent into) {
    return Explain(ReadPiece(files_.at(file), index, into));
  }

  absl::StatusOr<MappedPlace> Map(SpillFileId id, uint32_t index) {
    const File& file = files_.at(id);
    if (absl::Status status = CheckPiece(file, file.pieces.at(index)); !status.ok()) {
      return Explain(status);
    }
    return MappedPlace{.path = PathOf(file.fd), .offset = file.pieces[index].offset};
  }

  absl::StatusOr<MappedPlace> Make(SpillFileId file, uint64_t size_bytes) {
    absl::StatusOr<net::UniqueFd> fd = NewFile();
    absl::Status status = fd.ok() ? Reserve(fd->get(), size_bytes) : fd.status();
    if (!status.ok()) return Explain(status);
    std::string path = PathOf(*fd);
    files_[file].fd = *std::move(fd);
    return MappedPlace{.path = std::move(path)};
  }

  void Remove(SpillFileId file) { files_.erase(file); }

  // `done` is dropped on the loop if the target is gone by then.
  template <typename Result>
  void Complete(absl::AnyInvocable<void(Result)> done, Result result) {
    post_([alive = std::weak_ptr<bool>(alive_), done = std::move(done),
           result = std::move(result)]() mutable {
      if (!alive.expired()) done(std::move(result));
    });
  }

 private:
  struct Piece {
    uint64_t offset;  // in the file
    uint64_t size;
    uint64_t checksum;
  };
  struct File {
    net::UniqueFd fd;
    std::vector<Piece> pieces;
  };

  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !operations_.empty();
  }

  void Run() {
    while (true) {
      absl::AnyInvocable<void()> operation;
      {
        absl::MutexLock lock(&mutex_);
        while (!HasWork()) work_came_.Wait(&mutex_);
        if (stopping_) return;
        operation = std::move(operations_.front());
        operations_.pop_front();
      }
      operation();
    }
  }

  // A file that has no name any more.
  absl::StatusOr<net::UniqueFd> NewFile() const {
    std::string path = absl::StrCat(directory_, "/spill-XXXXXX");
    net::UniqueFd fd(mkostemp(path.data(), O_CLOEXEC));
    if (!fd.valid()) return SystemError("a new file");
    unlink(path.c_str());
    return fd;
  }

  // Gives the file blocks of the disk, so that writing to a mapping of it cannot fail.
  static absl::Status Reserve(int fd, uint64_t size_bytes) {
    int error = 0;
    do {
      error = posix_fallocate(fd, 0, static_cast<off_t>(size_bytes));
    } while (error == EINTR);
    errno = error;
    return error == 0 ? absl::OkStatus()
                      : SystemError(absl::StrCat("reserving ", FormatBytes(size_bytes)));
  }

  // A path by which other processes can open it.
  static std::string PathOf(const net::UniqueFd& fd) {
    return absl::StrCat("/proc/", getpid(), "/fd/", fd.get());
  }

  absl::StatusOr<File> WriteFile(const std::vector<Extent>& pieces) const {
    File file;
    MANTA_ASSIGN_OR_RETURN(file.fd, NewFile());
    uint64_t offset = 0;
    for (const Extent& piece : pieces) {
      std::byte* bytes = memory_->At(piece.offset);
      file.pieces.push_back({offset, piece.size, Checksum(bytes, piece.size)});
      MANTA_RETURN_IF_ERROR(InSteps(pwrite, file.fd.get(), bytes, piece.size, offset));
      memory_->Unuse(piece);
      offset += RoundUpToPage(piece.size);
    }
    return file;
  }

  static absl::Status CheckPiece(const File& file, const Piece& piece) {
    auto buffer = std::make_unique_for_overwrite<std::byte[]>(kChecksumStepBytes);
    uint64_t checksum = 0;
    for (uint64_t done = 0; done < piece.size;) {
      uint64_t step = std::min(piece.size - done, kChecksumStepBytes);
      MANTA_RETURN_IF_ERROR(InSteps(pread, file.fd.get(), buffer.get(), step, piece.offset + done));
      checksum = ExtendChecksum(checksum, buffer.get(), step);
      done += step;
    }
    return checksum == piece.checksum ? absl::OkStatus() : ChangedError();
  }

  absl::Status ReadPiece(const File& file, uint32_t index, Extent into) const {
    const Piece& piece = file.pieces.at(index);
    MANTA_CHECK(into.size == piece.size);
    std::byte* bytes = memory_->At(into.offset);
    MANTA_RETURN_IF_ERROR(InSteps(pread, file.fd.get(), bytes, piece.size, piece.offset));
    bool intact = Checksum(bytes, piece.size) == piece.checksum;
    memory_->Unuse(into);
    return intact ? absl::OkStatus() : ChangedError();
  }

  absl::Status Explain(const absl::Status& status) const {
    struct statvfs disk;
    if (!absl::IsResourceExhausted(status) || statvfs(directory_.c_str(), &disk) != 0) {
      return base::Annotate(status, absl::StrCat("spill directory ", directory_));
    }
    return base::Annotate(status,
                          absl::StrCat("spill directory ", directory_, " (",
                                       FormatBytes(disk.f_bavail * disk.f_frsize), " of ",
                                       FormatBytes(disk.f_blocks * disk.f_frsize), " are free)"));
  }

  const std::string directory_;
  const SharedMemory* const memory_;
  const Post post_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  absl::flat_hash_map<SpillFileId, File> files_;  // of the worker's thread alone

  absl::Mutex mutex_;
  // Rather than Mutex::Await, of which ThreadSanitizer cannot see the order it makes.
  absl::CondVar work_came_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Bounded by the store: one write, and the reads and removals of objects it holds.
  std::deque<absl::AnyInvocable<void()>> operations_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // set by Start()
};

absl::StatusOr<std::unique_ptr<FileSpillTarget>> FileSpillTarget::Create(std::string directory,
                                                                         const SharedMemory* memory,
                                                                         Post post) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error || chmod(directory.c_str(), 0700) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the spill directory ", directory,
                     " cannot be made: ", error ? error.message() : std::strerror(errno)));
  }
  auto worker = std::make_unique<Worker>(std::move(directory), memory, std::move(post));
  MANTA_RETURN_IF_ERROR(worker->Start());
  return std::unique_ptr<FileSpillTarget>(new FileSpillTarget(std::move(worker)));
}

FileSpillTarget::FileSpillTarget(std::unique_ptr<Worker> worker) : worker_(std::move(worker)) {}
FileSpillTarget::~FileSpillTarget() = default;

void FileSpillTarget::Write(SpillFileId file, std::vector<Extent> pieces, Done done) {
  worker_->Enqueue(
      [worker = worker_.get(), file, pieces = std::move(pieces), done = std::move(done)]() mutable {
        worker->Complete(std::move(done), worker->Write(file, pieces));
      });
}

void FileSpillTarget::Read(SpillFileId file, uint32_t index, Extent into, Done done) {
  worker_->Enqueue([worker = worker_.get(), file, index, into, done = std::move(done)]() mutable {
    worker->Complete(std::move(done), worker->Read(file, index, into));
  });
}

void FileSpillTarget::Map(SpillFileId file, uint32_t index, MapDone done) {
  worker_->Enqueue([worker = worker_.get(), file, index, done = std::move(done)]() mutable {
    worker->Complete(std::move(done), worker->Map(file, index));
  });
}

void FileSpillTarget::Make(SpillFileId file, uint64_t size_bytes, MapDone done) {
  worker_->Enqueue([worker = worker_.get(), file, size_bytes, done = std::move(done)]() mutable {
    worker->Complete(std::move(done), worker->Make(file, size_bytes));
  });
}

void FileSpillTarget::Remove(SpillFileId file) {
  worker_->Enqueue([worker = worker_.get(), file] { worker->Remove(file); });
}

}  // namespace ray::store
