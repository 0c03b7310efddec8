#include "ray/store/shared_memory.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace ray::store {
namespace {

const uint64_t kPageBytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));

uint64_t RoundDown(uint64_t value, uint64_t unit) { return value - value % unit; }
uint64_t RoundUp(uint64_t value, uint64_t unit) { return RoundDown(value + unit - 1, unit); }

// The pages that have a byte of `extent`.
Extent PagesAround(Extent extent) {
  uint64_t begin = RoundDown(extent.offset, kPageBytes);
  return {begin, RoundUp(extent.end(), kPageBytes) - begin};
}

// The pages that lie in `extent` whole; may be none.
Extent PagesInside(Extent extent) {
  uint64_t begin = RoundUp(extent.offset, kPageBytes);
  uint64_t end = RoundDown(extent.end(), kPageBytes);
  return {begin, end > begin ? end - begin : 0};
}

// A write fault a page that changes nothing: for kernels without MADV_POPULATE_WRITE (before 5.14).
void FaultPages(std::byte* begin, uint64_t size) {
  for (uint64_t at = 0; at < size; at += kPageBytes) {
    __atomic_fetch_or(reinterpret_cast<unsigned char*>(begin + at), 0, __ATOMIC_RELAXED);
  }
}

// False: the system has no memory for these pages.
bool Populate(std::byte* begin, uint64_t size) {
  while (madvise(begin, size, MADV_POPULATE_WRITE) != 0) {
    if (errno == EINVAL) {
      FaultPages(begin, size);
      return true;
    }
    if (errno != EINTR && errno != EAGAIN) return false;
  }
  return true;
}

absl::Status SystemError(absl::StatusCode code, absl::string_view what) {
  return absl::Status(
      code, absl::StrCat("shared memory of the object store: ", what, ": ", std::strerror(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Create(uint64_t capacity_bytes) {
  MANTA_CHECK(capacity_bytes > 0);
  capacity_bytes = RoundUp(capacity_bytes, kPageBytes);
  net::UniqueFd fd(memfd_create("manta_object_store", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return SystemError(absl::StatusCode::kResourceExhausted, "memfd_create");
  if (ftruncate(fd.get(), static_cast<off_t>(capacity_bytes)) != 0 ||
      fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return SystemError(absl::StatusCode::kResourceExhausted,
                       absl::StrCat("a size of ", capacity_bytes, " bytes"));
  }
  return MapWhole(std::move(fd), capacity_bytes);
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Map(net::UniqueFd fd,
                                                                uint64_t capacity_bytes) {
  struct stat file;
  if (capacity_bytes == 0 || fstat(fd.get(), &file) != 0 ||
      static_cast<uint64_t>(file.st_size) != capacity_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the descriptor received from the raylet is not the object store's memory of ",
                     capacity_bytes, " bytes"));
  }
  int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return absl::InvalidArgumentError(
        "the memory received from the raylet is not sealed against shrinking");
  }
  return MapWhole(std::move(fd), capacity_bytes);
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::MapWhole(net::UniqueFd fd,
                                                                     uint64_t capacity_bytes) {
  void* base = mmap(nullptr, capacity_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                    fd.get(), 0);
  if (base == MAP_FAILED) {
    return SystemError(absl::StatusCode::kResourceExhausted,
                       absl::StrCat("mapping ", capacity_bytes, " bytes"));
  }
  // A core dump of one process must not hold the objects of all.
  madvise(base, capacity_bytes, MADV_DONTDUMP);
  return std::unique_ptr<SharedMemory>(
      new SharedMemory(std::move(fd), static_cast<std::byte*>(base), capacity_bytes));
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::MapFile(const std::string& path,
                                                                    Extent extent, Access access) {
  bool writes = access == Access::kWrite;
  net::UniqueFd fd(open(path.c_str(), (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  if (!fd.valid()) {
    return SystemError(absl::StatusCode::kUnavailable, absl::StrCat("opening ", path));
  }
  struct stat file;
  // Beyond its end, an access would end the process.
  if (fstat(fd.get(), &file) != 0 || extent.end() < extent.offset ||
      static_cast<uint64_t>(file.st_size) < extent.end()) {
    return absl::UnavailableError(absl::StrCat("the file of an object, ", path, ", is too short"));
  }
  void* base = mmap(nullptr, extent.size, writes ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                    fd.get(), static_cast<off_t>(extent.offset));
  if (base == MAP_FAILED) {
    return SystemError(absl::StatusCode::kUnavailable,
                       absl::StrCat("mapping ", extent.size, " bytes of ", path));
  }
  madvise(base, extent.size, MADV_DONTDUMP);
  return std::unique_ptr<SharedMemory>(
      new SharedMemory(net::UniqueFd(), static_cast<std::byte*>(base), extent.size));
}

SharedMemory::SharedMemory(net::UniqueFd fd, std::byte* base, uint64_t capacity_bytes)
    : fd_(std::move(fd)),
      base_(base),
      capacity_bytes_(capacity_bytes),
      prepared_(std::make_unique<std::atomic<bool>[]>(capacity_bytes / kChunkBytes + 1)) {}

SharedMemory::~SharedMemory() { munmap(base_, capacity_bytes_); }

void SharedMemory::PrepareWrite(Extent extent) const {
  MANTA_CHECK(Contains(extent));
  for (uint64_t at = extent.offset; at < extent.end();) {
    uint64_t chunk = at / kChunkBytes;
    Extent part{at, std::min(extent.end(), (chunk + 1) * kChunkBytes) - at};
    at = part.end();
    if (prepared_[chunk].load(std::memory_order_relaxed)) continue;
    Extent pages = PagesAround(part);
    bool done = Populate(base_ + pages.offset, pages.size);
    if (done && part.size == kChunkBytes) prepared_[chunk].store(true, std::memory_order_relaxed);
  }
}

void SharedMemory::Touch(Extent extent) const {
  MANTA_CHECK(Contains(extent));
  Extent pages = PagesAround(extent);
  Populate(base_ + pages.offset, pages.size);
  Unuse(pages);
}

void SharedMemory::ReturnPages(Extent extent) const {
  MANTA_CHECK(Contains(extent));
  Extent pages = PagesInside(extent);
  if (pages.size == 0) return;
  fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(pages.offset),
            static_cast<off_t>(pages.size));
}

void SharedMemory::Unuse(Extent extent) const {
  MANTA_CHECK(Contains(extent));
  Extent pages = PagesInside(extent);
  // On a shared mapping this drops only this process's page table entries.
  if (pages.size > 0) madvise(base_ + pages.offset, pages.size, MADV_DONTNEED);
}

}  // namespace ray::store
