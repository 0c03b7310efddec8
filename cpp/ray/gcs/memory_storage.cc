#include "ray/gcs/memory_storage.h"

namespace ray::gcs {

absl::StatusOr<std::string> MemoryStorage::Get(std::string_view table, std::string_view key) {
  auto found = tables_.find(table);
  if (found == tables_.end()) return absl::NotFoundError("no such table");
  auto entry = found->second.find(key);
  if (entry == found->second.end()) return absl::NotFoundError("no such key");
  return entry->second;
}

absl::Status MemoryStorage::Scan(std::string_view table, std::string_view prefix, Visitor visit) {
  auto found = tables_.find(table);
  if (found == tables_.end()) return absl::OkStatus();
  const Table& entries = found->second;
  for (auto entry = entries.lower_bound(prefix); entry != entries.end(); ++entry) {
    if (!std::string_view(entry->first).starts_with(prefix)) break;
    if (!visit(entry->first, entry->second)) break;
  }
  return absl::OkStatus();
}

absl::Status MemoryStorage::Write(const WriteBatch& batch) {
  for (const WriteBatch::Change& change : batch.changes()) {
    if (change.value.has_value()) {
      tables_[change.table].insert_or_assign(change.key, *change.value);
    } else if (auto table = tables_.find(change.table); table != tables_.end()) {
      table->second.erase(change.key);
      if (table->second.empty()) tables_.erase(table);
    }
  }
  return absl::OkStatus();
}

}  // namespace ray::gcs
