// Storage in the process's memory: for a cluster that ends with its head, and for tests.
// Threads: thread-compatible.   Errors: kNotFound only.   Never blocks.
#pragma once

#include <map>
#include <string>

#include "ray/gcs/storage.h"

namespace ray::gcs {

class MemoryStorage final : public Storage {
 public:
  absl::StatusOr<std::string> Get(std::string_view table, std::string_view key) override;
  absl::Status Scan(std::string_view table, std::string_view prefix, Visitor visit) override;
  absl::Status Write(const WriteBatch& batch) override;

 private:
  using Table = std::map<std::string, std::string, std::less<>>;
  std::map<std::string, Table, std::less<>> tables_;
};

}  // namespace ray::gcs
