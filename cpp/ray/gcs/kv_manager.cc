#include "ray/gcs/kv_manager.h"

#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/status_reply.h"

namespace ray::gcs {

wire::v1::KvReply KvManager::Handle(const Request& request) {
  Reply reply;
  absl::Status status = Run(request, &reply);
  *reply.mutable_status() = ToReply(status);
  return reply;
}

absl::Status KvManager::Run(const Request& request, Reply* reply) {
  const std::string table = absl::StrCat("kv/", request.kv_namespace());
  switch (request.op()) {
    case Request::GET:
      return Get(table, request, reply);
    case Request::PUT:
      return Put(table, request, reply);
    case Request::DELETE:
      return Delete(table, request, reply);
    case Request::EXISTS:
      return Exists(table, request, reply);
    case Request::KEYS:
      return Keys(table, request, reply);
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("key-value request with unknown operation ", request.op()));
  }
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

absl::Status KvManager::Put(std::string_view table, const Request& request, Reply* reply) {
  if (static_cast<int64_t>(request.value().size()) > options_.value_max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("a value of ", request.value().size(),
                                                   " bytes; kv_value_max_bytes allows ",
                                                   options_.value_max_bytes));
  }
  MANTA_RETURN_IF_ERROR(Exists(table, request, reply));
  if (reply->found() && !request.overwrite()) return absl::OkStatus();
  return storage_->Put(table, request.key(), request.value());
}

absl::Status KvManager::Delete(std::string_view table, const Request& request, Reply* reply) {
  WriteBatch batch;
  MANTA_RETURN_IF_ERROR(
      storage_->Scan(table, request.key(), [&](std::string_view key, std::string_view) {
        if (request.prefix() || key == request.key()) batch.Delete(table, key);
        return request.prefix();
      }));
  if (batch.changes().empty()) return absl::OkStatus();
  MANTA_RETURN_IF_ERROR(storage_->Write(batch));
  reply->set_count(batch.changes().size());
  return absl::OkStatus();
}

absl::Status KvManager::Keys(std::string_view table, const Request& request, Reply* reply) {
  return storage_->Scan(table, request.key(), [&](std::string_view key, std::string_view) {
    reply->add_keys(std::string(key));
    return true;
  });
}

}  // namespace ray::gcs
