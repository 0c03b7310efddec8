#include "ray/gcs/sqlite_storage.h"

#include <sqlite3.h>

#include "absl/time/clock.h"
#include "ray/base/status_macros.h"

namespace ray::gcs {
namespace {

// A process that is just being replaced may hold the file for a moment longer.
constexpr int kLockWaitMillis = 2000;

// Pages. The log is folded in, and synced, after 16 MB of changes; reading that much takes 10 ms.
constexpr int kFoldAfter = 4000;
// A process that replaces another one serves first: a sync may take long on a busy disk, and the
// log that it finds may be full.
constexpr absl::Duration kServeFirst = absl::Seconds(10);
constexpr int kFoldAtOnceAfter = 4 * kFoldAfter;

// EXCLUSIVE locking keeps a second gcs_server out and spares the shared-memory file of the log's
// index. A file that is just being made need not be synced.
constexpr char kSettings[] =
    "PRAGMA locking_mode=EXCLUSIVE;"
    "PRAGMA synchronous=OFF;"
    "PRAGMA journal_mode=WAL;"
    "PRAGMA cache_size=-512;"  // KiB; everything hot lives in the managers
    "CREATE TABLE IF NOT EXISTS kv("
    "  \"table\" BLOB NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,"
    "  PRIMARY KEY (\"table\", key)) WITHOUT ROWID;"  // one tree to change, not two
    "PRAGMA synchronous=NORMAL;";
constexpr char kGet[] = "SELECT value FROM kv WHERE \"table\" = ?1 AND key = ?2";
constexpr char kScan[] =
    "SELECT key, value FROM kv WHERE \"table\" = ?1 AND key >= ?2 ORDER BY key";
constexpr char kPut[] =
    "INSERT INTO kv VALUES (?1, ?2, ?3)"
    " ON CONFLICT (\"table\", key) DO UPDATE SET value = excluded.value";
constexpr char kDelete[] = "DELETE FROM kv WHERE \"table\" = ?1 AND key = ?2";

// The bytes outlive the statement's run: the callers' arguments do. A null pointer would bind NULL,
// hence "".
int Bind(sqlite3_stmt* statement, int index, std::string_view bytes) {
  return sqlite3_bind_blob64(statement, index, bytes.empty() ? "" : bytes.data(), bytes.size(),
                             SQLITE_STATIC);
}

std::string_view Column(sqlite3_stmt* statement, int index) {
  const void* data = sqlite3_column_blob(statement, index);
  return {static_cast<const char*>(data),
          static_cast<size_t>(sqlite3_column_bytes(statement, index))};
}

// Ends a statement's run when the scope ends, so that it holds no lock and no foreign bytes.
class Run {
 public:
  explicit Run(sqlite3_stmt* statement) : statement_(statement) {}
  ~Run() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  int Step() { return sqlite3_step(statement_); }

 private:
  sqlite3_stmt* const statement_;
};

absl::StatusCode CodeOf(int sqlite_error) {
  switch (sqlite_error) {
    case SQLITE_FULL:
    case SQLITE_TOOBIG:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CANTOPEN:
      return absl::StatusCode::kUnavailable;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return absl::StatusCode::kInvalidArgument;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

void SqliteStorage::CloseDatabase::operator()(sqlite3* database) const { sqlite3_close(database); }
void SqliteStorage::FinalizeStatement::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

absl::StatusOr<std::unique_ptr<SqliteStorage>> SqliteStorage::Open(const std::string& path) {
  sqlite3* opened = nullptr;
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  int error = sqlite3_open_v2(path.c_str(), &opened, flags, nullptr);
  std::unique_ptr<SqliteStorage> storage(new SqliteStorage(Database(opened)));
  absl::Status status = error == SQLITE_OK ? storage->Prepare() : storage->Failure("cannot open");
  MANTA_RETURN_IF_ERROR(base::Annotate(status, absl::StrCat("GCS storage ", path)));
  return storage;
}

absl::Status SqliteStorage::Prepare() {
  sqlite3_busy_timeout(database_.get(), kLockWaitMillis);
  // Who opens the file next reads the log as well as after a SIGKILL; folding it in takes an fsync.
  sqlite3_db_config(database_.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_wal_hook(database_.get(), &SqliteStorage::OnCommit, this);
  MANTA_RETURN_IF_ERROR(Execute(kSettings));
  struct {
    const char* sql;
    Statement* statement;
  } const statements[] = {{kGet, &get_}, {kScan, &scan_}, {kPut, &put_}, {kDelete, &delete_}};
  for (auto [sql, statement] : statements) {
    sqlite3_stmt* prepared = nullptr;
    int error =
        sqlite3_prepare_v3(database_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &prepared, nullptr);
    if (error != SQLITE_OK) return Failure("cannot prepare a statement");
    statement->reset(prepared);
  }
  return absl::OkStatus();
}

int SqliteStorage::OnCommit(void* storage, sqlite3* database, const char* name, int log_pages) {
  const absl::Duration age = absl::Now() - static_cast<SqliteStorage*>(storage)->opened_;
  const int fold_after = age < kServeFirst ? kFoldAtOnceAfter : kFoldAfter;
  if (log_pages >= fold_after) {
    // What goes wrong here costs nothing: the log stays as it is, and the next commit tries again.
    sqlite3_wal_checkpoint_v2(database, name, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  }
  return SQLITE_OK;
}

absl::Status SqliteStorage::Failure(std::string_view what) const {
  int error = sqlite3_errcode(database_.get()) & 0xff;
  return absl::Status(CodeOf(error), absl::StrCat(absl::string_view(what.data(), what.size()), ": ",
                                                  sqlite3_errmsg(database_.get())));
}

absl::Status SqliteStorage::Execute(const char* sql) {
  if (sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return Failure("cannot execute");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> SqliteStorage::Get(std::string_view table, std::string_view key) {
  Run run(get_.get());
  Bind(get_.get(), 1, table);
  Bind(get_.get(), 2, key);
  switch (run.Step()) {
    case SQLITE_ROW:
      return std::string(Column(get_.get(), 0));
    case SQLITE_DONE:
      return absl::NotFoundError("no such key");
    default:
      return Failure("cannot read");
  }
}

absl::Status SqliteStorage::Scan(std::string_view table, std::string_view prefix, Visitor visit) {
  Run run(scan_.get());
  Bind(scan_.get(), 1, table);
  Bind(scan_.get(), 2, prefix);
  int result = run.Step();
  for (; result == SQLITE_ROW; result = run.Step()) {
    std::string_view key = Column(scan_.get(), 0);
    // In byte order the keys with the prefix come first and stand together.
    if (!key.starts_with(prefix) || !visit(key, Column(scan_.get(), 1))) return absl::OkStatus();
  }
  return result == SQLITE_DONE ? absl::OkStatus() : Failure("cannot scan");
}

absl::Status SqliteStorage::Apply(const WriteBatch::Change& change) {
  sqlite3_stmt* statement = change.value.has_value() ? put_.get() : delete_.get();
  Run run(statement);
  Bind(statement, 1, change.table);
  Bind(statement, 2, change.key);
  if (change.value.has_value()) Bind(statement, 3, *change.value);
  return run.Step() == SQLITE_DONE ? absl::OkStatus() : Failure("cannot write");
}

absl::Status SqliteStorage::Write(const WriteBatch& batch) {
  MANTA_RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
  absl::Status status;
  for (const WriteBatch::Change& change : batch.changes()) {
    status = Apply(change);
    if (!status.ok()) break;
  }
  if (status.ok()) status = Execute("COMMIT");
  if (status.ok()) return status;
  // SQLite may have rolled back by itself (disk full); a second rollback is an error that says
  // nothing new.
  sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
  return status;
}

}  // namespace ray::gcs
