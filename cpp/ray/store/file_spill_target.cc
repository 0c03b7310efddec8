#include "ray/store/file_spill_target.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ray/base/check.h"
#include "ray/base/status_macros.h"
#include "ray/net/endpoint.h"
#include "ray/store/checksum.h"
#include "ray/store/store_report.h"

namespace ray::store {
namespace {

absl::Status SystemError(absl::string_view what) {
  bool is_full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
  return absl::Status(
      is_full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kUnavailable,
      absl::StrCat(what, ": ", std::strerror(errno)));
}

// Writes or reads all of `size` bytes; `call` is pwrite or pread. kDataLoss: the file ends before.
template <typename Call>
absl::Status MoveAll(Call call, int fd, std::byte* bytes, uint64_t size, uint64_t file_offset) {
  for (uint64_t done = 0; done < size;) {
    ssize_t moved = call(fd, bytes + done, size - done, static_cast<off_t>(file_offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return SystemError("input/output");
    if (moved == 0) return absl::DataLossError("the spill file is truncated");
    done += static_cast<uint64_t>(moved);
  }
  return absl::OkStatus();
}

// The same, with the checksum of the bytes; in steps, so that it finds them in the cache.
template <typename Call>
absl::StatusOr<Checksum> MoveAndSum(Call call, int fd, std::byte* bytes, uint64_t size,
                                    uint64_t file_offset) {
  Checksum checksum;
  for (uint64_t at = 0; at < size; at += Checksum::kStepBytes) {
    uint64_t step = std::min(size - at, Checksum::kStepBytes);
    MANTA_RETURN_IF_ERROR(MoveAll(call, fd, bytes + at, step, file_offset + at));
    checksum.Extend(bytes + at, step);
  }
  return checksum;
}

absl::Status ChangedError() { return absl::DataLossError("the spill file was changed"); }

// What is smaller is better read ahead by the system, with what is stored beside it.
constexpr uint64_t kDirectReadBytesMin = 1 << 20;

uint64_t RoundUpToPage(uint64_t bytes) {
  static const auto kPageBytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

// A file that is written and read past the page cache, if its file system can do that, by way of a
// buffer.
class DirectFile {
 public:
  // `fd` is the caller's, and as before once this ends.
  explicit DirectFile(int fd)
      : fd_(fd),
        flags_(fcntl(fd, F_GETFL)),
        buffer_(static_cast<std::byte*>(std::aligned_alloc(kAlignment, kBufferBytes))) {
    MANTA_CHECK(buffer_ != nullptr);
    is_direct_ = fcntl(fd_, F_SETFL, flags_ | O_DIRECT) == 0;
  }
  ~DirectFile() {
    UseCache();
    std::free(buffer_);
  }
  DirectFile(const DirectFile&) = delete;
  DirectFile& operator=(const DirectFile&) = delete;

  // Writes from the next page on; the first time, from the beginning.
  absl::StatusOr<Checksum> Append(const std::byte* bytes, uint64_t size) {
    Checksum checksum;
    for (uint64_t at = 0; at < size; at += Checksum::kStepBytes) {
      const uint64_t step = std::min(size - at, Checksum::kStepBytes);
      checksum.Extend(bytes + at, step);
      MANTA_RETURN_IF_ERROR(Put(bytes + at, step));
    }
    const uint64_t filled = RoundUpToPage(filled_);
    std::memset(buffer_ + filled_, 0, filled - filled_);
    filled_ = filled;
    return checksum;
  }
  absl::Status Finish() { return Flush(); }

  // What Append wrote from `offset` on.
  absl::StatusOr<Checksum> Read(uint64_t offset, std::byte* into, uint64_t size) {
    Checksum checksum;
    for (uint64_t at = 0; at < size; at += kBufferBytes) {
      const uint64_t part = std::min(size - at, kBufferBytes);
      MANTA_RETURN_IF_ERROR(MoveBuffer(pread, RoundUpToPage(part), offset + at));
      for (uint64_t done = 0; done < part; done += Checksum::kStepBytes) {
        const uint64_t step = std::min(part - done, Checksum::kStepBytes);
        checksum.Extend(buffer_ + done, step);
        std::memcpy(into + at + done, buffer_ + done, step);
      }
    }
    return checksum;
  }

 private:
  static constexpr uint64_t kBufferBytes = 4 << 20;
  static_assert(kBufferBytes % Checksum::kStepBytes == 0);
  static constexpr uint64_t kAlignment = 4096;

  absl::Status Put(const std::byte* bytes, uint64_t size) {
    while (size > 0) {
      if (filled_ == kBufferBytes) MANTA_RETURN_IF_ERROR(Flush());
      const uint64_t part = std::min(size, kBufferBytes - filled_);
      std::memcpy(buffer_ + filled_, bytes, part);
      filled_ += part;
      bytes += part;
      size -= part;
    }
    return absl::OkStatus();
  }

  absl::Status Flush() {
    const absl::Status status = MoveBuffer(pwrite, filled_, offset_);
    offset_ += filled_;
    filled_ = 0;
    return status;
  }

  template <typename Call>
  absl::Status MoveBuffer(Call call, uint64_t size, uint64_t offset) {
    absl::Status status = MoveAll(call, fd_, buffer_, size, offset);
    // The flag was accepted, and yet the file system wants it otherwise, or a page is cut short.
    if (!absl::IsUnavailable(status) || !is_direct_) return status;
    UseCache();
    return MoveAll(call, fd_, buffer_, size, offset);
  }

  void UseCache() {
    if (std::exchange(is_direct_, false)) fcntl(fd_, F_SETFL, flags_);
  }

  const int fd_;
  const int flags_;
  std::byte* const buffer_;
  uint64_t filled_ = 0;  // of the buffer, which stands at offset_ of the file, when it is written
  uint64_t offset_ = 0;
  bool is_direct_ = false;
};

}  // namespace

uint64_t FileSpillTarget::DefaultCachedBytes() {
  // Well below where the system begins to hold writers up, a tenth of the available memory.
  constexpr uint64_t kMax = 1 << 30;
  const auto memory_bytes =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return std::min(kMax, memory_bytes / 20);
}

// The files. Used on the I/O thread alone, after CheckDirectory.
class FileSpillTarget::Files {
 public:
  Files(std::string directory, const SharedMemory* memory, uint64_t cached_bytes_max)
      : directory_(std::move(directory)), memory_(memory), cached_bytes_max_(cached_bytes_max) {}

  // Whether files can be made.
  absl::Status CheckDirectory() const { return Explain(NewFile().status()); }

  absl::Status Write(SpillFileId file, const std::vector<Extent>& pieces) {
    absl::StatusOr<File> written = WriteFile(pieces);
    if (!written.ok()) return Explain(written.status());
    cached_bytes_ += written->cached_bytes;
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

  void Remove(SpillFileId id) {
    auto file = files_.extract(id);
    if (!file.empty()) cached_bytes_ -= file.mapped().cached_bytes;
  }

 private:
  struct Piece {
    uint64_t offset;  // in the file
    uint64_t size;
    Checksum checksum;
  };
  struct File {
    net::UniqueFd fd;
    std::vector<Piece> pieces;
    uint64_t cached_bytes = 0;  // left in the page cache when it was written
  };

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
    uint64_t size = 0;
    for (const Extent& piece : pieces) size += RoundUpToPage(piece.size);
    if (cached_bytes_ + size <= cached_bytes_max_) {
      file.cached_bytes = size;
      MANTA_RETURN_IF_ERROR(WriteCached(pieces, &file));
    } else {
      MANTA_RETURN_IF_ERROR(WriteDirectly(pieces, &file));
    }
    for (const Extent& piece : pieces) memory_->Unuse(piece);
    return file;
  }

  absl::Status WriteCached(const std::vector<Extent>& pieces, File* file) const {
    uint64_t offset = 0;
    for (const Extent& piece : pieces) {
      std::byte* bytes = memory_->At(piece.offset);
      MANTA_ASSIGN_OR_RETURN(Checksum checksum,
                             MoveAndSum(pwrite, file->fd.get(), bytes, piece.size, offset));
      file->pieces.push_back({offset, piece.size, checksum});
      offset += RoundUpToPage(piece.size);
    }
    return absl::OkStatus();
  }

  absl::Status WriteDirectly(const std::vector<Extent>& pieces, File* file) const {
    DirectFile direct(file->fd.get());
    uint64_t offset = 0;
    for (const Extent& piece : pieces) {
      MANTA_ASSIGN_OR_RETURN(Checksum checksum,
                             direct.Append(memory_->At(piece.offset), piece.size));
      file->pieces.push_back({offset, piece.size, checksum});
      offset += RoundUpToPage(piece.size);
    }
    return direct.Finish();
  }

  static absl::Status CheckPiece(const File& file, const Piece& piece) {
    auto buffer = std::make_unique_for_overwrite<std::byte[]>(Checksum::kStepBytes);
    Checksum checksum;
    for (uint64_t done = 0; done < piece.size;) {
      uint64_t step = std::min(piece.size - done, Checksum::kStepBytes);
      MANTA_RETURN_IF_ERROR(MoveAll(pread, file.fd.get(), buffer.get(), step, piece.offset + done));
      checksum.Extend(buffer.get(), step);
      done += step;
    }
    return checksum == piece.checksum ? absl::OkStatus() : ChangedError();
  }

  static absl::StatusOr<Checksum> ReadCached(const File& file, const Piece& piece,
                                             std::byte* into) {
    // What of it has left the cache, the disk brings all at once, not the next few pages only.
    posix_fadvise(file.fd.get(), static_cast<off_t>(piece.offset), static_cast<off_t>(piece.size),
                  POSIX_FADV_WILLNEED);
    return MoveAndSum(pread, file.fd.get(), into, piece.size, piece.offset);
  }

  static absl::StatusOr<Checksum> ReadDirectly(const File& file, const Piece& piece,
                                               std::byte* into) {
    return DirectFile(file.fd.get()).Read(piece.offset, into, piece.size);
  }

  absl::Status ReadPiece(const File& file, uint32_t index, Extent into) const {
    const Piece& piece = file.pieces.at(index);
    MANTA_CHECK(into.size == piece.size);
    std::byte* bytes = memory_->At(into.offset);
    const bool is_cached = file.cached_bytes > 0 || piece.size < kDirectReadBytesMin;
    const auto read = is_cached ? ReadCached : ReadDirectly;
    MANTA_ASSIGN_OR_RETURN(const Checksum checksum, read(file, piece, bytes));
    memory_->Unuse(into);
    return checksum == piece.checksum ? absl::OkStatus() : ChangedError();
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
  const uint64_t cached_bytes_max_;
  uint64_t cached_bytes_ = 0;  // of all files
  absl::flat_hash_map<SpillFileId, File> files_;
};

absl::StatusOr<std::unique_ptr<FileSpillTarget>> FileSpillTarget::Create(
    std::string directory, const SharedMemory* memory, IoThread::Post post,
    uint64_t cached_bytes_max) {
  std::error_code error;
  bool made = std::filesystem::create_directories(directory, error);
  if (error || (made && chmod(directory.c_str(), 0700) != 0)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the spill directory ", directory,
                     " cannot be made: ", error ? error.message() : std::strerror(errno)));
  }
  auto files = std::make_unique<Files>(std::move(directory), memory, cached_bytes_max);
  MANTA_RETURN_IF_ERROR(files->CheckDirectory());
  auto io = std::make_unique<IoThread>(std::move(post));
  MANTA_RETURN_IF_ERROR(io->Start());
  return std::unique_ptr<FileSpillTarget>(new FileSpillTarget(std::move(files), std::move(io)));
}

FileSpillTarget::FileSpillTarget(std::unique_ptr<Files> files, std::unique_ptr<IoThread> io)
    : files_(std::move(files)), io_(std::move(io)) {}
FileSpillTarget::~FileSpillTarget() = default;

void FileSpillTarget::Write(SpillFileId file, std::vector<Extent> pieces, Done done) {
  io_->Run<absl::Status>([files = files_.get(), file,
                          pieces = std::move(pieces)] { return files->Write(file, pieces); },
                         std::move(done));
}

void FileSpillTarget::Read(SpillFileId file, uint32_t index, Extent into, Done done) {
  io_->Run<absl::Status>(
      [files = files_.get(), file, index, into] { return files->Read(file, index, into); },
      std::move(done));
}

void FileSpillTarget::Map(SpillFileId file, uint32_t index, MapDone done) {
  io_->Run<absl::StatusOr<MappedPlace>>(
      [files = files_.get(), file, index] { return files->Map(file, index); }, std::move(done));
}

void FileSpillTarget::Make(SpillFileId file, uint64_t size_bytes, MapDone done) {
  io_->Run<absl::StatusOr<MappedPlace>>(
      [files = files_.get(), file, size_bytes] { return files->Make(file, size_bytes); },
      std::move(done));
}

void FileSpillTarget::Remove(SpillFileId file) {
  io_->Run([files = files_.get(), file] { files->Remove(file); });
}

}  // namespace ray::store
