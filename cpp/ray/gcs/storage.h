// Where the GCS keeps what must survive its restart: named tables of byte strings.
//
// Owner: GcsServer.   Threads: loop-bound (the GCS's loop).   Blocks for as long as the backend's
// medium does.
// Errors: kNotFound from Get only; kInternal or kResourceExhausted when the medium fails (nothing
// was changed then).
//   STORAGE-1  a batch is written as a whole or not at all.
//   STORAGE-2  what Write() has accepted is read by every later call, and survives a SIGKILL of the
//              process if the backend survives the process at all.
//   STORAGE-3  one process at a time writes to a storage: Open waits for the other one and then
//            gives up with kUnavailable.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace ray::gcs {

// Changes that belong together, applied in order. Threads: thread-compatible.
class WriteBatch {
 public:
  struct Change {
    std::string table;
    std::string key;
    std::optional<std::string> value;  // nullopt deletes the key
  };

  void Put(std::string_view table, std::string_view key, std::string value) {
    changes_.push_back({std::string(table), std::string(key), std::move(value)});
  }
  // Harmless if the key is not there.
  void Delete(std::string_view table, std::string_view key) {
    changes_.push_back({std::string(table), std::string(key), std::nullopt});
  }
  const std::vector<Change>& changes() const { return changes_; }

 private:
  std::vector<Change> changes_;
};

class Storage {
 public:
  // Returns false to end the scan.
  using Visitor = absl::FunctionRef<bool(std::string_view key, std::string_view value)>;

  virtual ~Storage() = default;

  virtual absl::StatusOr<std::string> Get(std::string_view table, std::string_view key) = 0;
  // Keys that begin with `prefix`, in byte order. `visit` must not call the storage.
  virtual absl::Status Scan(std::string_view table, std::string_view prefix, Visitor visit) = 0;
  virtual absl::Status Write(const WriteBatch& batch) = 0;

  // Another process has taken a storage over that several can reach: nothing can be written any
  // more. Runs once, on any thread.
  using LostCallback = absl::AnyInvocable<void(const absl::Status& why)>;
  virtual void OnLost(LostCallback) {}

  absl::Status Put(std::string_view table, std::string_view key, std::string value) {
    WriteBatch batch;
    batch.Put(table, key, std::move(value));
    return Write(batch);
  }
  absl::Status Delete(std::string_view table, std::string_view key) {
    WriteBatch batch;
    batch.Delete(table, key);
    return Write(batch);
  }
};

// "memory", "sqlite:PATH" or "redis://HOST:PORT/PREFIX". `lease`: how long a holder that says
// nothing keeps what others can reach, too.
absl::StatusOr<std::unique_ptr<Storage>> OpenStorage(std::string_view name,
                                                     absl::Duration lease = absl::Seconds(5));

}  // namespace ray::gcs
