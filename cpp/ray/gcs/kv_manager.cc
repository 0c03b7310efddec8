#include "ray/gcs/kv_manager.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/status_reply.h"

namespace ray::gcs {
namespace {

// Written by the processes of a job, before they put what they name: "<job> <namespace> <prefix>".
constexpr std::string_view kItemsTable = "kv/job_items";

}  // namespace

wire::v1::KvReply KvManager::Handle(const Request& request, const std::string& request_id) {
  Reply reply;
  const std::string* before = answered_->Find(request_id);
  if (before != nullptr && reply.ParseFromString(*before)) return reply;
  absl::Status status = Run(request, request_id, &reply);
  *reply.mutable_status() = ToReply(status);
  return reply;
}

absl::Status KvManager::Run(const Request& request, const std::string& request_id, Reply* reply) {
  const std::string table = absl::StrCat("kv/", request.kv_namespace());
  switch (request.op()) {
    case Request::GET:
      return Get(table, request, reply);
    case Request::PUT:
      return Put(table, request, request_id, reply);
    case Request::DELETE:
      return Delete(table, request, request_id, reply);
    case Request::EXISTS:
      return Exists(table, request, reply);
    case Request::KEYS:
      return Keys(table, request, reply);
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("key-value request with unknown operation ", request.op()));
  }
}

absl::StatusOr<std::set<base::JobId>> KvManager::JobsWithItems() {
  std::set<base::JobId> jobs;
  MANTA_RETURN_IF_ERROR(
      storage_->Scan(kItemsTable, "", [&](std::string_view key, std::string_view) {
        const absl::string_view hex(key.data(), std::min(key.find(' '), key.size()));
        absl::StatusOr<base::JobId> job = base::JobId::FromBinary(absl::HexStringToBytes(hex));
        if (job.ok()) jobs.insert(*job);
        return true;
      }));
  return jobs;
}

absl::Status KvManager::ForgetJob(const base::JobId& job) {
  const std::string own = absl::StrCat(job.Hex(), " ");
  WriteBatch batch;
  std::set<std::string> items;
  std::set<std::string> used_by_others;
  MANTA_RETURN_IF_ERROR(
      storage_->Scan(kItemsTable, "", [&](std::string_view key, std::string_view) {
        const bool is_own = key.starts_with(own);
        if (is_own) batch.Delete(kItemsTable, key);
        const size_t space = key.find(' ');
        if (space != std::string_view::npos) {
          (is_own ? items : used_by_others).emplace(key.substr(space + 1));
        }
        return true;
      }));
  items.insert(absl::StrCat("job:", job.Hex(), " "));
  for (const std::string& item : items) {
    if (used_by_others.contains(item)) continue;
    // "<namespace> <prefix of its keys>"
    const size_t space = item.find(' ');
    if (space == std::string::npos) continue;
    const std::string table = absl::StrCat("kv/", item.substr(0, space));
    MANTA_RETURN_IF_ERROR(
        storage_->Scan(table, item.substr(space + 1), [&](std::string_view key, std::string_view) {
          batch.Delete(table, key);
          return true;
        }));
  }
  return batch.changes().empty() ? absl::OkStatus() : storage_->Write(batch);
}

absl::Status KvManager::Get(std::string_view table, const Request& request, Reply* reply) {
  absl::StatusOr<std::string> value = storage_->Get(table, request.key());
  if (absl::IsNotFound(value.status())) return absl::OkStatus();
  MANTA_RETURN_IF_ERROR(value.status());
  reply->set_found(true);
  reply->set_value(*std::move(value));
  return absl::OkStatus();
}

absl::Status KvManager::Exists(std::string_view table, const Request& request, Reply* reply) {
  // A scan, unlike a get, does not copy the value.
  return storage_->Scan(table, request.key(), [&](std::string_view key, std::string_view) {
    reply->set_found(key == request.key());
    return false;
  });
}

absl::Status KvManager::Put(std::string_view table, const Request& request,
                            const std::string& request_id, Reply* reply) {
  if (static_cast<int64_t>(request.value().size()) > options_.value_max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("a value of ", request.value().size(),
                                                   " bytes; kv_value_max_bytes allows ",
                                                   options_.value_max_bytes));
  }
  MANTA_RETURN_IF_ERROR(Exists(table, request, reply));
  if (reply->found() && !request.overwrite()) return absl::OkStatus();
  WriteBatch batch;
  batch.Put(table, request.key(), request.value());
  return WriteAnswered(request_id, *reply, std::move(batch));
}

absl::Status KvManager::Delete(std::string_view table, const Request& request,
                               const std::string& request_id, Reply* reply) {
  WriteBatch batch;
  MANTA_RETURN_IF_ERROR(
      storage_->Scan(table, request.key(), [&](std::string_view key, std::string_view) {
        if (request.prefix() || key == request.key()) batch.Delete(table, key);
        return request.prefix();
      }));
  if (batch.changes().empty()) return absl::OkStatus();
  reply->set_count(batch.changes().size());
  return WriteAnswered(request_id, *reply, std::move(batch));
}

// With the reply, for when the request comes again.
absl::Status KvManager::WriteAnswered(const std::string& request_id, const Reply& reply,
                                      WriteBatch batch) {
  answered_->Remember(request_id, reply.SerializeAsString(), &batch);
  const absl::Status written = storage_->Write(batch);
  if (!written.ok()) answered_->Forget(request_id);
  return written;
}

absl::Status KvManager::Keys(std::string_view table, const Request& request, Reply* reply) {
  return storage_->Scan(table, request.key(), [&](std::string_view key, std::string_view) {
    reply->add_keys(std::string(key));
    return true;
  });
}

}  // namespace ray::gcs
