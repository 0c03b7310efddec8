// The cluster's key-value table: namespaces of byte strings, straight in the storage.
//
// Owner: ControlPlane.   Threads: loop-bound.   Blocks as the storage does.
// Errors: in the reply's status. kInvalidArgument: no operation, or a value over the limit; else
// what the storage says. A key that is not there is no error: `found` says so.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "ray/base/ids.h"
#include "ray/gcs/answered_requests.h"
#include "ray/gcs/storage.h"
#include "ray/wire/v1/cluster.pb.h"

namespace ray::gcs {

class KvManager {
 public:
  struct Options {
    int64_t value_max_bytes = 512 << 20;
  };

  KvManager(Options options, Storage* storage, AnsweredRequests* answered)
      : options_(options), storage_(storage), answered_(answered) {}

  // A change with an id that was carried out before is answered as then. "": it has none.
  wire::v1::KvReply Handle(const wire::v1::KvRequest& request, const std::string& request_id = "");

  // Jobs that have said what they use.
  absl::StatusOr<std::set<base::JobId>> JobsWithItems();
  // The job and all its actors are gone: deletes its own keys, and those that only it used.
  absl::Status ForgetJob(const base::JobId& job);

 private:
  using Request = wire::v1::KvRequest;
  using Reply = wire::v1::KvReply;

  absl::Status Run(const Request& request, const std::string& request_id, Reply* reply);
  absl::Status Get(std::string_view table, const Request& request, Reply* reply);
  absl::Status Put(std::string_view table, const Request& request, const std::string& request_id,
                   Reply* reply);
  absl::Status Delete(std::string_view table, const Request& request, const std::string& request_id,
                      Reply* reply);
  absl::Status WriteAnswered(const std::string& request_id, const Reply& reply, WriteBatch batch);
  absl::Status Exists(std::string_view table, const Request& request, Reply* reply);
  absl::Status Keys(std::string_view table, const Request& request, Reply* reply);

  const Options options_;
  Storage* const storage_;
  AnsweredRequests* const answered_;
};

}  // namespace ray::gcs
