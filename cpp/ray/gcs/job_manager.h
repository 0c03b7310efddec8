// Jobs: one a driver, numbered from 1 and never twice, each with its namespace.
//
// Owner: ControlPlane.   Threads: loop-bound.   Blocks as the storage does.
// Errors: kInvalidArgument for an id of a wrong length, kNotFound for a job that never was; else
// what the storage says, and nothing was changed then.
//   JOBS-1  adding the same driver again gives the same job.
//   JOBS-2  at most finished_jobs_max finished jobs are remembered, the latest ones; running ones
//           always are.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/base/ids.h"
#include "ray/gcs/storage.h"
#include "ray/gcs/v1/gcs.pb.h"
#include "ray/gcs/v1/storage.pb.h"

namespace ray::gcs {

class JobManager {
 public:
  struct Options {
    int64_t finished_jobs_max = 10000;
  };
  // The time of day, for the job table only.
  using WallClock = std::function<absl::Time()>;

  JobManager(Options options, WallClock wall_clock, Storage* storage)
      : options_(options), wall_clock_(std::move(wall_clock)), storage_(storage) {}

  absl::Status Load();

  absl::StatusOr<v1::AddJobReply> Add(const v1::AddJobRequest& request);
  // Harmless for a job that is finished already.
  absl::Status Finish(const base::JobId& job);
  absl::StatusOr<base::WorkerId> DriverOf(const base::JobId& job) const;
  v1::ListJobsReply List() const;

  // Known and not finished.
  bool IsRunning(const base::JobId& job) const;
  absl::StatusOr<std::string> NamespaceOf(const base::JobId& job) const;
  // Jobs whose driver runs on the node and has not finished.
  std::vector<base::JobId> RunningOn(const base::NodeId& node) const;

 private:
  v1::JobRecord NewRecord(uint32_t number, const v1::AddJobRequest& request) const;
  void ForgetOldest();

  const Options options_;
  const WallClock wall_clock_;
  Storage* const storage_;
  uint32_t last_number_ = 0;
  std::map<uint32_t, v1::JobRecord> jobs_;  // by number
  absl::flat_hash_map<std::string, uint32_t> by_driver_;
  int64_t finished_count_ = 0;
};

}  // namespace ray::gcs
