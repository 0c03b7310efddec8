// Decides which objects are written to disk and when, and keeps account of the files.
//
// Objects are written oldest first, small ones together, and no more files at a time than the
// target has threads for: the next choice is better made later. Over the threshold, files are
// written ahead of need, whole ones only; when somebody waits for memory, with what there is. A
// written object stays in memory as droppable until its memory is needed.
//
// Owner: ObjectStore. Threads: loop-bound.
// Errors: a failed write leaves its objects in memory and is tried again after kRetryDelay;
// trouble() says why spilling makes no progress. A failed read is reported to the listener.
//
//   SPILL-1  an object's bytes are written to disk with success at most once.
//   SPILL-2  a written file exists exactly as long as the table has an object in it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/store/object_store.h"
#include "ray/store/object_table.h"
#include "ray/store/spill_target.h"

namespace ray::store {

class Spiller {
 public:
  static constexpr absl::Duration kRetryDelay = absl::Seconds(1);

  class Listener {
   public:
    virtual ~Listener() = default;
    // A write ended: there may be memory now.
    virtual void OnWritten() = 0;
    // The object is readable, or (not ok) lost: still kRestoring or kChecking.
    virtual void OnRead(const base::ObjectId& id, absl::Status status) = 0;
    // Clients cannot map the object's file; it is kOnDisk again.
    virtual void OnNotMapped(const base::ObjectId& id, const absl::Status& why) = 0;
  };

  // All pointers outlive the spiller; `target` may be null: nothing is ever written then.
  Spiller(const ObjectStoreOptions& options, const base::Clock* clock, SpillTarget* target,
          ObjectTable* table, Listener* listener);

  // Starts writes if the store is over its threshold, or somebody waits for memory, and there is
  // something to write.
  void Run(bool memory_wanted);

  // Reads an object that is kOnDisk into `block`.
  void Restore(Object& object, Extent block);

  // Lets clients map an object that is kOnDisk: there is no memory for it.
  void Map(Object& object);

  // Makes a file for an object that the store's memory cannot hold, within the quota. `done` may
  // run inside the call.
  struct OwnFile {
    SpillPlace place;  // Forget it, or put an object into the table that does
    MappedPlace mapped;
  };
  using OwnFileDone = absl::AnyInvocable<void(absl::StatusOr<OwnFile>)>;
  void MakeFile(uint64_t size_bytes, OwnFileDone done);

  // The table no longer holds the object that was at `place`.
  void Forget(SpillPlace place);

  // Empty: nothing hinders writing.
  const std::string& trouble() const { return trouble_; }
  // When Run should be called again although nothing has happened.
  absl::Time NextDeadline() const;

  bool enabled() const { return target_ != nullptr; }
  bool writing() const { return writes_ > 0; }
  uint64_t disk_bytes() const { return disk_bytes_; }
  uint64_t written_bytes_total() const { return written_bytes_total_; }
  uint64_t read_bytes_total() const { return read_bytes_total_; }
  uint64_t failures() const { return failures_; }

  void CheckInvariants() const;

 private:
  struct File {
    uint64_t bytes = 0;
    uint64_t objects = 0;  // of the table
  };
  struct Batch {
    SpillFileId file{};
    std::vector<base::ObjectId> objects;
    std::vector<Extent> pieces;
    uint64_t bytes = 0;
  };

  bool OverThreshold() const;
  // Why the quota forbids that many bytes more; empty: it does not.
  std::string QuotaTrouble(uint64_t more_bytes) const;
  // Objects for one file, within the quota.
  Batch Choose();
  void Write(Batch batch);
  void OnWritten(const Batch& batch, const absl::Status& status);
  void OnRead(const base::ObjectId& id, absl::Status status);
  void OnMapped(const base::ObjectId& id, absl::StatusOr<MappedPlace> mapped);
  void OnLost(const base::ObjectId& id, absl::Status why);

  const ObjectStoreOptions options_;
  const uint64_t batch_bytes_;  // of a file, unless one object is larger
  const base::Clock* const clock_;
  SpillTarget* const target_;
  ObjectTable* const table_;
  Listener* const listener_;

  absl::flat_hash_map<SpillFileId, File> files_;
  uint64_t last_file_ = 0;
  int writes_ = 0;  // under way
  absl::Time retry_at_ = absl::InfinitePast();
  std::string trouble_;
  uint64_t disk_bytes_ = 0;
  uint64_t written_bytes_total_ = 0;
  uint64_t read_bytes_total_ = 0;
  uint64_t failures_ = 0;
  // Completions hold it weakly: the target outlives this.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace ray::store
