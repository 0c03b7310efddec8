#include "ray/gcs/job_manager.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/id_field.h"

namespace ray::gcs {
namespace {

constexpr std::string_view kTable = "jobs";
constexpr std::string_view kMetaTable = "meta";
constexpr std::string_view kLastNumber = "job";

// The namespace of a driver that named none: nobody else's.
std::string RandomNamespace() {
  uint8_t bytes[16];
  base::FillUniqueBytes(bytes, sizeof bytes);
  std::string hex = base::BytesToHex({reinterpret_cast<const char*>(bytes), sizeof bytes});
  for (size_t dash : {20, 16, 12, 8}) hex.insert(dash, 1, '-');
  return hex;
}

v1::AddJobReply ReplyFor(const v1::JobRecord& record) {
  v1::AddJobReply reply;
  reply.set_job_id(record.state().job_id());
  reply.set_job_namespace(record.state().job_namespace());
  return reply;
}

}  // namespace

absl::Status JobManager::Load() {
  absl::StatusOr<std::string> last = storage_->Get(kMetaTable, kLastNumber);
  if (last.ok() && !absl::SimpleAtoi(*last, &last_number_)) {
    return absl::DataLossError(absl::StrCat("the last job number reads '", *last, "'"));
  }
  if (!last.ok() && !absl::IsNotFound(last.status())) return last.status();

  absl::Status damage;
  MANTA_RETURN_IF_ERROR(
      storage_->Scan(kTable, "", [&](std::string_view key, std::string_view value) {
        v1::JobRecord record;
        auto job = ParseId<base::JobId>(key, "key of a job");
        if (!job.ok() || !record.ParseFromArray(value.data(), static_cast<int>(value.size())) ||
            record.state().driver_worker_id().size() != base::WorkerId::kSize) {
          damage = absl::DataLossError(absl::StrCat("unreadable job ", base::BytesToHex(key)));
          return false;
        }
        uint32_t number = base::JobIdToInt(*job);
        by_driver_[record.state().driver_worker_id()] = number;
        finished_count_ += record.state().finished() ? 1 : 0;
        jobs_[number] = std::move(record);
        return true;
      }));
  return damage;
}

absl::StatusOr<v1::AddJobReply> JobManager::Add(const v1::AddJobRequest& request) {
  MANTA_RETURN_IF_ERROR(
      ParseId<base::WorkerId>(request.driver_worker_id(), "driver_worker_id").status());
  MANTA_RETURN_IF_ERROR(ParseId<base::NodeId>(request.node_id(), "node_id").status());

  auto known = by_driver_.find(request.driver_worker_id());
  if (known != by_driver_.end()) return ReplyFor(jobs_[known->second]);

  const uint32_t number = last_number_ + 1;
  v1::JobRecord record = NewRecord(number, request);
  WriteBatch batch;
  batch.Put(kMetaTable, kLastNumber, absl::StrCat(number));
  batch.Put(kTable, record.state().job_id(), record.SerializeAsString());
  MANTA_RETURN_IF_ERROR(storage_->Write(batch));
  last_number_ = number;
  by_driver_[request.driver_worker_id()] = number;
  return ReplyFor(jobs_[number] = std::move(record));
}

v1::JobRecord JobManager::NewRecord(uint32_t number, const v1::AddJobRequest& request) const {
  v1::JobRecord record;
  record.set_node_id(request.node_id());
  v1::JobState& state = *record.mutable_state();
  state.set_job_id(base::JobIdFromInt(number).BinaryString());
  state.set_entrypoint(request.entrypoint());
  state.set_job_namespace(request.job_namespace().empty() ? RandomNamespace()
                                                          : request.job_namespace());
  state.set_start_time_ms(absl::ToUnixMillis(wall_clock_()));
  state.set_driver_worker_id(request.driver_worker_id());
  state.set_driver_pid(request.driver_pid());
  return record;
}

absl::StatusOr<base::WorkerId> JobManager::DriverOf(const base::JobId& job) const {
  auto found = jobs_.find(base::JobIdToInt(job));
  if (found == jobs_.end()) return absl::NotFoundError(absl::StrCat("no job ", job.Hex()));
  return base::WorkerId::FromTrusted(found->second.state().driver_worker_id().data());
}

absl::Status JobManager::Finish(const base::JobId& job) {
  auto found = jobs_.find(base::JobIdToInt(job));
  if (found == jobs_.end()) return absl::NotFoundError(absl::StrCat("no job ", job.Hex()));
  if (found->second.state().finished()) return absl::OkStatus();

  v1::JobRecord record = found->second;
  record.mutable_state()->set_finished(true);
  record.mutable_state()->set_end_time_ms(absl::ToUnixMillis(wall_clock_()));
  MANTA_RETURN_IF_ERROR(storage_->Put(kTable, job.Binary(), record.SerializeAsString()));
  found->second = std::move(record);
  if (++finished_count_ > options_.finished_jobs_max) ForgetOldest();
  return absl::OkStatus();
}

void JobManager::ForgetOldest() {
  auto oldest = jobs_.begin();
  while (!oldest->second.state().finished()) ++oldest;
  absl::Status status = storage_->Delete(kTable, oldest->second.state().job_id());
  if (!status.ok()) {
    MANTA_LOG(kWarning, "a finished job stays in the storage: ", status.ToString());
    return;
  }
  by_driver_.erase(oldest->second.state().driver_worker_id());
  jobs_.erase(oldest);
  --finished_count_;
}

v1::ListJobsReply JobManager::List() const {
  v1::ListJobsReply reply;
  for (const auto& [number, record] : jobs_) *reply.add_jobs() = record.state();
  return reply;
}

bool JobManager::IsRunning(const base::JobId& job) const {
  auto found = jobs_.find(base::JobIdToInt(job));
  return found != jobs_.end() && !found->second.state().finished();
}

absl::StatusOr<std::string> JobManager::NamespaceOf(const base::JobId& job) const {
  auto found = jobs_.find(base::JobIdToInt(job));
  if (found == jobs_.end()) return absl::NotFoundError(absl::StrCat("no job ", job.Hex()));
  return found->second.state().job_namespace();
}

std::vector<base::JobId> JobManager::RunningOn(const base::NodeId& node) const {
  std::vector<base::JobId> jobs;
  for (const auto& [number, record] : jobs_) {
    if (!record.state().finished() && record.node_id() == node.Binary()) {
      jobs.push_back(base::JobIdFromInt(number));
    }
  }
  return jobs;
}

}  // namespace ray::gcs
