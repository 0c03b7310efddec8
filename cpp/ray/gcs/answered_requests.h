// The replies to requests that must not take effect twice, for those that come again: the GCS may
// have been killed after the effect and before the answer. Whoever handles such a request stores
// its reply together with the effect.
//
// Owner: ControlPlane.   Threads: loop-bound.   Blocks: Load() as the storage does.
// Errors: kDataLoss from Load.
//   ANSWERED-1  of the latest `remembered_max` requests each is found; many more are made in the
//               time in which a raylet repeats one only if nothing but these is done.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "ray/gcs/storage.h"

namespace ray::gcs {

class AnsweredRequests {
 public:
  AnsweredRequests(size_t remembered_max, Storage* storage)
      : remembered_max_(remembered_max), storage_(storage) {}

  absl::Status Load();

  // Null: it is new. "" always is.
  const std::string* Find(const std::string& request_id) const;
  // Adds to the batch what must be written with the effect. Nothing for "".
  void Remember(const std::string& request_id, std::string reply, WriteBatch* batch);
  // The batch could not be written: the request had no effect. Nothing for "".
  void Forget(const std::string& request_id);

 private:
  void ForgetOldest(WriteBatch* batch);

  struct Answer {
    uint64_t number;
    std::string reply;
  };

  const size_t remembered_max_;
  Storage* const storage_;
  uint64_t last_number_ = 0;
  absl::flat_hash_map<std::string, Answer> answers_;
  std::map<uint64_t, std::string> by_number_;
};

}  // namespace ray::gcs
