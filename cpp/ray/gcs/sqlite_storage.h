// Storage in one SQLite file, opened by one process at a time.
//
// The file is in WAL mode with synchronous=NORMAL: a commit hands its bytes to the kernel and
// returns without fsync. So whatever happens to the process, SIGKILL included, a committed change
// is there at the next start; only a crash of the whole machine can lose the last changes (the file
// stays consistent), and then the cluster's processes are gone too.
//
// Threads: thread-compatible.   Blocks: a write system call or two a commit (~20 us), an fsync now
// and then when SQLite folds the log into the file, but not in its first seconds.
// Errors: Open: kUnavailable when another process holds the file, kInvalidArgument when it is no
// database of ours. Write: kResourceExhausted on a full disk.  Anything else of SQLite is
// kInternal.
#pragma once

#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "ray/gcs/storage.h"

struct sqlite3;
struct sqlite3_stmt;

namespace ray::gcs {

class SqliteStorage final : public Storage {
 public:
  // Creates the file if it is not there; its folder must exist.
  static absl::StatusOr<std::unique_ptr<SqliteStorage>> Open(const std::string& path);

  absl::StatusOr<std::string> Get(std::string_view table, std::string_view key) override;
  absl::Status Scan(std::string_view table, std::string_view prefix, Visitor visit) override;
  absl::Status Write(const WriteBatch& batch) override;

 private:
  struct CloseDatabase {
    void operator()(sqlite3* database) const;
  };
  struct FinalizeStatement {
    void operator()(sqlite3_stmt* statement) const;
  };
  using Database = std::unique_ptr<sqlite3, CloseDatabase>;
  using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

  explicit SqliteStorage(Database database) : database_(std::move(database)) {}
  absl::Status Prepare();
  absl::Status Execute(const char* sql);
  absl::Status Apply(const WriteBatch::Change& change);
  absl::Status Failure(std::string_view what) const;
  static int OnCommit(void* storage, sqlite3* database, const char* name, int log_pages);

  const absl::Time opened_ = absl::Now();
  Database database_;  // closed after the statements below are finalized
  Statement get_;
  Statement scan_;
  Statement put_;
  Statement delete_;
};

}  // namespace ray::gcs
