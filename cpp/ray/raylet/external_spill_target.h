// Spills to storage that a Python process reaches: whatever fsspec knows by a URL (s3://, gs://,
// file://, memory://).
//
// The process (python/ray/_spill_worker.py) maps the store's memory, so that bytes take no detour
// by way of a pipe, and answers one request at a time. It is started with the first request. It
// removes what it has stored when this process ends, however that ends.
//
// Owner: the raylet. Threads: loop-bound, with a thread of its own that talks to the process.
// Destruction waits for the operation in flight and for the process to end (kEndTimeout at most).
//
// Errors: as SpillTarget says. kFailedPrecondition: the process cannot start, or misses what the
// URL needs; it is started anew with the next request. Map: kUnimplemented.
//
// The protocol, on a socket pair: a frame is its length (4 bytes, little endian) and a JSON object.
//   {"op": "open", "memory": PATH, "size": N, "uri": URI, "options": {...}}  first, once
//   {"op": "write", "name": NAME, "pieces": [[OFFSET, SIZE], ...]}
//   {"op": "read", "name": NAME, "offset": N, "into": [OFFSET, SIZE]}
//   {"op": "remove", "name": NAME}
// and each is answered by {"status": "ok" | "full" | "lost" | "failed", "message": TEXT}.
// The process gives up the signal by which it would die with the thread that started it
// (StartChild).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/store/io_thread.h"
#include "ray/store/shared_memory.h"
#include "ray/store/spill_target.h"

namespace ray::raylet {

class ExternalSpillTarget final : public store::SpillTarget {
 public:
  struct Options {
    std::vector<std::string> command;            // of the process; not empty
    std::string log_file;                        // for what it prints
    std::string uri;                             // of a folder that is this node's alone
    std::string options_json = "{}";             // for fsspec.filesystem
    absl::Duration timeout = absl::Minutes(10);  // of one operation
  };
  static constexpr absl::Duration kEndTimeout = absl::Seconds(10);

  // `memory` outlives the target. `files` makes the files of single objects, which clients map:
  // those are local whatever the URL.
  static absl::StatusOr<std::unique_ptr<ExternalSpillTarget>> Create(
      Options options, const store::SharedMemory* memory, std::unique_ptr<store::SpillTarget> files,
      store::IoThread::Post post);
  ~ExternalSpillTarget() override;

  void Write(store::SpillFileId file, std::vector<store::Extent> pieces, Done done) override;
  void Read(store::SpillFileId file, uint32_t index, store::Extent into, Done done) override;
  void Map(store::SpillFileId file, uint32_t index, MapDone done) override;
  void Make(store::SpillFileId file, uint64_t size_bytes, MapDone done) override;
  void Remove(store::SpillFileId file) override;

 private:
  class Storage;
  ExternalSpillTarget(std::unique_ptr<Storage> storage, std::unique_ptr<store::SpillTarget> files,
                      std::unique_ptr<store::IoThread> io);

  const std::unique_ptr<Storage> storage_;  // of the thread alone
  const std::unique_ptr<store::SpillTarget> files_;
  absl::flat_hash_set<store::SpillFileId> made_;  // what files_ holds
  const std::unique_ptr<store::IoThread> io_;     // ends first
};

}  // namespace ray::raylet
