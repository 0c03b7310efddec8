#include "ray/gcs/storage.h"

#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/memory_storage.h"
#include "ray/gcs/redis_storage.h"
#include "ray/gcs/sqlite_storage.h"

namespace ray::gcs {

absl::StatusOr<std::unique_ptr<Storage>> OpenStorage(std::string_view name, absl::Duration lease) {
  constexpr std::string_view kSqlite = "sqlite:";
  constexpr std::string_view kRedis = "redis://";
  if (name == "memory") return std::make_unique<MemoryStorage>();
  if (name.starts_with(kSqlite) && name.size() > kSqlite.size()) {
    return SqliteStorage::Open(std::string(name.substr(kSqlite.size())));
  }
  if (name.starts_with(kRedis)) {
    MANTA_ASSIGN_OR_RETURN(RedisStorage::Options options,
                           RedisStorage::ParseUrl(name.substr(kRedis.size())));
    options.lease = lease;
    return RedisStorage::Open(std::move(options));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("storage '", absl::string_view(name.data(), name.size()),
                   "' is neither memory, sqlite:PATH nor redis://HOST:PORT/PREFIX"));
}

}  // namespace ray::gcs
