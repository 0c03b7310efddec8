// The cluster's key-value table: namespaces of byte strings, straight in the storage.
//
// Owner: ControlPlane.   Threads: loop-bound.   Blocks as the storage does.
// Errors: in the reply's status. kInvalidArgument: no operation, or a value over the limit; else
// what the storage says. A key that is not there is no error: `found` says so.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "ray/gcs/storage.h"
#include "ray/wire/v1/wire.pb.h"

namespace ray::gcs {

class KvManager {
 public:
  struct Options {
    int64_t value_max_bytes = 512 << 20;
  };

  KvManager(Options options, Storage* storage) : options_(options), storage_(storage) {}

  wire::v1::KvReply Handle(const wire::v1::KvRequest& request);

 private:
  using Request = wire::v1::KvRequest;
  using Reply = wire::v1::KvReply;

  absl::Status Run(const Request& request, Reply* reply);
  absl::Status Get(std::string_view table, const Request& request, Reply* reply);
  absl::Status Put(std::string_view table, const Request& request, Reply* reply);
  absl::Status Delete(std::string_view table, const Request& request, Reply* reply);
  absl::Status Exists(std::string_view table, const Request& request, Reply* reply);
  absl::Status Keys(std::string_view table, const Request& request, Reply* reply);

  const Options options_;
  Storage* const storage_;
};

}  // namespace ray::gcs
