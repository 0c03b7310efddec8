// Spills objects to files of a local directory, with one I/O thread.
//
// A file is the concatenation of its pieces, each from a page on; their places and checksums are
// kept in memory, since the table of objects dies with the raylet too. For the same reason the
// files have no name: whatever ends the raylet, nothing stays behind. Clients open the files that
// they map by way of this process's descriptors (/proc), which needs the same user, as the store's
// socket does.
//
// As long as the files are few they are left in the system's page cache, from where they come back
// fast. What is more is written past it, where the disk can do that: a cache full of what is not on
// disk yet makes every writer of the machine wait, and takes the memory that is short already.
//
// Owner: the raylet. Threads: loop-bound, with a thread of its own that posts completions to the
// loop. Destruction waits for the operation in flight (at most one file) and drops the others.
//
// Errors: as SpillTarget says. Create fails where the directory cannot be made or written; the
// message says why.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "ray/store/io_thread.h"
#include "ray/store/shared_memory.h"
#include "ray/store/spill_target.h"

namespace ray::store {

class FileSpillTarget final : public SpillTarget {
 public:
  // Of the files at a time, what is left in the page cache.
  static uint64_t DefaultCachedBytes();
  // Makes the directory (mode 0700) unless it is there. `memory` outlives the target.
  static absl::StatusOr<std::unique_ptr<FileSpillTarget>> Create(
      std::string directory, const SharedMemory* memory, IoThread::Post post,
      uint64_t cached_bytes_max = DefaultCachedBytes());
  ~FileSpillTarget() override;

  void Write(SpillFileId file, std::vector<Extent> pieces, Done done) override;
  void Read(SpillFileId file, uint32_t index, Extent into, Done done) override;
  void Map(SpillFileId file, uint32_t index, MapDone done) override;
  void Make(SpillFileId file, uint64_t size_bytes, MapDone done) override;
  void Remove(SpillFileId file) override;

 private:
  class Files;
  FileSpillTarget(std::unique_ptr<Files> files, std::unique_ptr<IoThread> io);
  const std::unique_ptr<Files> files_;
  const std::unique_ptr<IoThread> io_;  // ends first
};

}  // namespace ray::store
