#include "ray/gcs/job_manager.h"

#include <gtest/gtest.h>

#include "ray/gcs/gcs_testutil.h"

namespace ray::gcs {
namespace {

using base::JobId;
using base::NodeId;
using base::WorkerId;

class JobManagerTest : public testing::Test {
 protected:
  std::unique_ptr<JobManager> Open(int64_t finished_jobs_max = 3) {
    auto jobs = std::make_unique<JobManager>(
        JobManager::Options{finished_jobs_max}, [this] { return now_; }, &storage_);
    EXPECT_TRUE(jobs->Load().ok());
    return jobs;
  }
  v1::AddJobRequest RequestOf(const WorkerId& driver, const std::string& job_namespace = "") {
    v1::AddJobRequest request;
    request.set_driver_worker_id(driver.BinaryString());
    request.set_node_id(node_.BinaryString());
    request.set_entrypoint("python a.py");
    request.set_driver_pid(7);
    request.set_job_namespace(job_namespace);
    return request;
  }

  absl::Time now_ = absl::FromUnixMillis(1000);
  NodeId node_ = NodeId::Random();
  FailingStorage storage_;
};

TEST_F(JobManagerTest, NumbersJobsFromOne) {
  auto jobs = Open();
  EXPECT_EQ(base::BytesToHex(jobs->Add(RequestOf(WorkerId::Random()))->job_id()), "01000000");
  EXPECT_EQ(base::BytesToHex(jobs->Add(RequestOf(WorkerId::Random()))->job_id()), "02000000");
}

TEST_F(JobManagerTest, GivesTheSameDriverTheSameJob) {
  auto jobs = Open();
  const WorkerId driver = WorkerId::Random();
  const v1::AddJobReply first = *jobs->Add(RequestOf(driver));
  const v1::AddJobReply second = *jobs->Add(RequestOf(driver));
  EXPECT_EQ(first.job_id(), second.job_id());
  EXPECT_EQ(first.job_namespace(), second.job_namespace());
}

TEST_F(JobManagerTest, ChoosesADistinctNamespaceForAnAnonymousJob) {
  auto jobs = Open();
  const std::string one = jobs->Add(RequestOf(WorkerId::Random()))->job_namespace();
  const std::string two = jobs->Add(RequestOf(WorkerId::Random()))->job_namespace();
  EXPECT_EQ(one.size(), 36);
  EXPECT_NE(one, two);
  EXPECT_EQ(jobs->Add(RequestOf(WorkerId::Random(), "prod"))->job_namespace(), "prod");
  EXPECT_EQ(*jobs->NamespaceOf(base::JobIdFromInt(1)), one);
  EXPECT_TRUE(absl::IsNotFound(jobs->NamespaceOf(base::JobIdFromInt(9)).status()));
}

TEST_F(JobManagerTest, FinishesOnceAndRemembersWhen) {
  auto jobs = Open();
  const WorkerId driver = WorkerId::Random();
  ASSERT_TRUE(jobs->Add(RequestOf(driver)).ok());
  now_ = absl::FromUnixMillis(2000);
  EXPECT_TRUE(jobs->Finish(base::JobIdFromInt(1)).ok());
  EXPECT_EQ(*jobs->DriverOf(base::JobIdFromInt(1)), driver);
  now_ = absl::FromUnixMillis(3000);
  EXPECT_TRUE(jobs->Finish(base::JobIdFromInt(1)).ok());
  const v1::JobState job = jobs->List().jobs(0);
  EXPECT_TRUE(job.finished());
  EXPECT_EQ(job.start_time_ms(), 1000);
  EXPECT_EQ(job.end_time_ms(), 2000);
  EXPECT_EQ(job.driver_pid(), 7);
  EXPECT_TRUE(absl::IsNotFound(jobs->Finish(base::JobIdFromInt(9))));
  EXPECT_TRUE(absl::IsNotFound(jobs->DriverOf(base::JobIdFromInt(9)).status()));
}

TEST_F(JobManagerTest, KnowsWhatRunsOnANode) {
  auto jobs = Open();
  ASSERT_TRUE(jobs->Add(RequestOf(WorkerId::Random())).ok());
  ASSERT_TRUE(jobs->Add(RequestOf(WorkerId::Random())).ok());
  ASSERT_TRUE(jobs->Finish(base::JobIdFromInt(1)).ok());
  EXPECT_EQ(jobs->RunningOn(node_), std::vector<JobId>{base::JobIdFromInt(2)});
  EXPECT_TRUE(jobs->RunningOn(NodeId::Random()).empty());
}

TEST_F(JobManagerTest, ContinuesFromTheStorage) {
  const WorkerId driver = WorkerId::Random();
  const v1::AddJobReply before = *Open()->Add(RequestOf(driver));
  auto jobs = Open();
  EXPECT_EQ(jobs->Add(RequestOf(driver))->job_namespace(), before.job_namespace());
  EXPECT_EQ(base::BytesToHex(jobs->Add(RequestOf(WorkerId::Random()))->job_id()), "02000000");
}

TEST_F(JobManagerTest, ForgetsTheOldestFinishedJobsButNoNumber) {
  auto jobs = Open(2);
  for (uint32_t number = 1; number <= 5; ++number) {
    ASSERT_TRUE(jobs->Add(RequestOf(WorkerId::Random())).ok());
    if (number == 1) continue;  // runs on
    ASSERT_TRUE(jobs->Finish(base::JobIdFromInt(number)).ok());
  }
  for (int round = 0; round < 2; ++round) {
    const v1::ListJobsReply list = jobs->List();
    ASSERT_EQ(list.jobs_size(), 3);
    EXPECT_EQ(base::BytesToHex(list.jobs(0).job_id()), "01000000");  // it still runs
    EXPECT_EQ(base::BytesToHex(list.jobs(1).job_id()), "04000000");
    jobs = Open(2);
  }
  EXPECT_EQ(base::BytesToHex(jobs->Add(RequestOf(WorkerId::Random()))->job_id()), "06000000");
}

TEST_F(JobManagerTest, RefusesMalformedIdsAndChangesNothing) {
  auto jobs = Open();
  v1::AddJobRequest request = RequestOf(WorkerId::Random());
  request.set_driver_worker_id("short");
  EXPECT_TRUE(absl::IsInvalidArgument(jobs->Add(request).status()));
  request = RequestOf(WorkerId::Random());
  request.set_node_id("");
  EXPECT_TRUE(absl::IsInvalidArgument(jobs->Add(request).status()));
  EXPECT_EQ(jobs->List().jobs_size(), 0);
}

TEST_F(JobManagerTest, ChangesNothingWhenTheStorageFails) {
  auto jobs = Open();
  storage_.broken = true;
  EXPECT_TRUE(absl::IsResourceExhausted(jobs->Add(RequestOf(WorkerId::Random())).status()));
  EXPECT_EQ(jobs->List().jobs_size(), 0);
  storage_.broken = false;
  ASSERT_TRUE(jobs->Add(RequestOf(WorkerId::Random())).ok());
  storage_.broken = true;
  EXPECT_FALSE(jobs->Finish(base::JobIdFromInt(1)).ok());
  EXPECT_FALSE(jobs->List().jobs(0).finished());
}

}  // namespace
}  // namespace ray::gcs
