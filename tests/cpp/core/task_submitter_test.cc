#include "ray/core/task_submitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>
#include <map>
#include <random>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "ray/core/worker_address_testutil.h"

namespace ray::core {
namespace {

using base::LeaseId;
using base::TaskId;
using base::WorkerId;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kMilli = 1'000'000;

struct Returned {
  LeaseId lease;
  bool broken;
};

class RecordedActions : public TaskSubmitter::Actions {
 public:
  std::vector<uint64_t> requested;
  std::vector<uint64_t> cancelled;
  std::vector<Returned> returned;
  absl::flat_hash_map<WorkerId, std::vector<TaskPtr>> pushed;
  absl::flat_hash_map<WorkerId, std::vector<TaskId>> recalled;

  void RequestLease(uint64_t id, const Task&, size_t) override { requested.push_back(id); }
  void CancelLease(uint64_t id) override { cancelled.push_back(id); }
  void ReturnLease(const LeaseId& lease, bool broken) override {
    returned.push_back({lease, broken});
  }
  void PushTask(const AddressPtr& worker, const TaskPtr& task) override {
    pushed[worker->worker_id].push_back(task);
  }
  void RecallTasks(const AddressPtr& worker, const std::vector<TaskId>& tasks) override {
    auto& of_worker = recalled[worker->worker_id];
    of_worker.insert(of_worker.end(), tasks.begin(), tasks.end());
  }
};

TemplatePtr MakeTemplate(const std::string& scheduling_class) {
  auto task_template = std::make_shared<TaskTemplate>();
  task_template->scheduling_class = scheduling_class;
  return task_template;
}

class TaskSubmitterTest : public ::testing::Test {
 protected:
  ~TaskSubmitterTest() override { submitter_.CheckInvariants(); }

  TaskPtr MakeTask(int retries = 3, const std::string& scheduling_class = "cpu") {
    auto task = std::make_shared<Task>();
    task->id = base::MakeTaskId(++made_, base::ActorId());
    task->task_template = MakeTemplate(scheduling_class);
    task->retries_left = retries;
    return task;
  }
  std::vector<TaskPtr> Submit(int count, int retries = 3) {
    std::vector<TaskPtr> tasks;
    for (int i = 0; i < count; ++i) {
      tasks.push_back(MakeTask(retries));
      submitter_.Submit(tasks.back(), now_);
      submitter_.CheckInvariants();
    }
    return tasks;
  }
  // Grants the oldest request that was not answered.
  WorkerId Grant(bool contended = false) {
    AddressPtr worker = MakeAddress();
    leases_[worker->worker_id] = LeaseId::Random();
    submitter_.OnLeaseGranted(actions_.requested.at(answered_++), leases_[worker->worker_id],
                              worker, contended, now_);
    submitter_.CheckInvariants();
    return worker->worker_id;
  }
  void Done(const WorkerId& worker, const TaskPtr& task, int64_t run_micros = 100'000,
            bool leaving = false) {
    submitter_.OnTaskDone(worker, task->id, static_cast<uint32_t>(run_micros), leaving, now_);
    submitter_.CheckInvariants();
  }
  // Teaches the class how long its tasks run, on a worker that is then idle.
  WorkerId Learn(int64_t run_micros) {
    TaskPtr task = Submit(1)[0];
    WorkerId worker = Grant();
    Done(worker, task, run_micros);
    actions_.pushed.clear();
    return worker;
  }
  std::vector<TaskPtr>& Pushed(const WorkerId& worker) { return actions_.pushed[worker]; }
  void Tick(int64_t nanos) {
    now_ += nanos;
    submitter_.Tick(now_);
    submitter_.CheckInvariants();
  }

  const TaskSubmitter::Options options_;
  RecordedActions actions_;
  TaskSubmitter submitter_{options_, &actions_};
  int64_t now_ = 1000 * kMilli;
  uint64_t made_ = 0;
  size_t answered_ = 0;
  absl::flat_hash_map<WorkerId, LeaseId> leases_;
};

TEST_F(TaskSubmitterTest, AsksForALeaseAndRunsTheTaskThere) {
  TaskPtr task = Submit(1)[0];
  EXPECT_THAT(actions_.requested, SizeIs(1));
  EXPECT_EQ(submitter_.WorkerRunning(task->id), std::nullopt);
  WorkerId worker = Grant();
  EXPECT_THAT(Pushed(worker), ElementsAre(task));
  EXPECT_EQ((*submitter_.WorkerRunning(task->id))->worker_id, worker);
  Done(worker, task);
  EXPECT_EQ(submitter_.WorkerRunning(task->id), std::nullopt);
}

TEST_F(TaskSubmitterTest, AWorkerThatLeavesGetsNothingMoreAndItsLeaseEnds) {
  WorkerId worker = Learn(100);
  std::vector<TaskPtr> tasks = Submit(3);
  ASSERT_THAT(Pushed(worker), SizeIs(3));
  Done(worker, tasks[0], 100, /*leaving=*/true);
  EXPECT_THAT(actions_.returned, IsEmpty()) << "two are still under way";
  submitter_.OnTasksRecalled(worker, {tasks[1]->id, tasks[2]->id}, now_);
  submitter_.CheckInvariants();
  ASSERT_THAT(actions_.returned, SizeIs(1));
  EXPECT_TRUE(actions_.returned[0].broken);
  EXPECT_THAT(Pushed(worker), SizeIs(3));
  EXPECT_THAT(Pushed(Grant()), ElementsAre(tasks[1], tasks[2]));
}

TEST_F(TaskSubmitterTest, AsksForAsManyLeasesAsTasksWaitUpToTheLimit) {
  Submit(5);
  EXPECT_THAT(actions_.requested, SizeIs(5));
  Submit(100);
  EXPECT_THAT(actions_.requested, SizeIs(options_.lease_requests_max));
}

TEST_F(TaskSubmitterTest, ClassesDoNotShareLeases) {
  submitter_.Submit(MakeTask(3, "cpu"), now_);
  WorkerId worker = Grant();
  Done(worker, Pushed(worker)[0]);
  submitter_.Submit(MakeTask(3, "gpu"), now_);
  EXPECT_THAT(Pushed(worker), SizeIs(1));
  EXPECT_THAT(actions_.requested, SizeIs(2));
}

TEST_F(TaskSubmitterTest, RunsOneTaskAtATimeUntilRunTimesAreKnown) {
  auto tasks = Submit(3);
  WorkerId worker = Grant();
  EXPECT_THAT(Pushed(worker), ElementsAre(tasks[0]));
}

TEST_F(TaskSubmitterTest, ShortTasksFillThePipelineUpToItsTarget) {
  WorkerId worker = Learn(100);  // 20 of them make 2 ms
  Submit(50);
  EXPECT_THAT(Pushed(worker), SizeIs(20));
}

TEST_F(TaskSubmitterTest, PipelineIsBoundedForTasksOfNoLength) {
  WorkerId worker = Learn(0);
  Submit(1000);
  EXPECT_THAT(Pushed(worker), SizeIs(options_.depth_max));
}

TEST_F(TaskSubmitterTest, LongTasksRunOneAtATime) {
  WorkerId worker = Learn(50'000);
  Submit(3);
  EXPECT_THAT(Pushed(worker), SizeIs(1));
}

TEST_F(TaskSubmitterTest, DepthFollowsTheRunTimes) {
  WorkerId worker = Learn(100);
  for (int i = 0; i < 30; ++i) {
    TaskPtr task = Submit(1)[0];
    Done(worker, task, 50'000);
  }
  actions_.pushed.clear();
  Submit(5);
  EXPECT_THAT(Pushed(worker), SizeIs(1));
}

TEST_F(TaskSubmitterTest, LeastLoadedWorkerGetsTheNextTask) {
  WorkerId first = Learn(100);
  Submit(21);
  WorkerId second = Grant();
  EXPECT_THAT(Pushed(second), SizeIs(1));
  Submit(3);
  EXPECT_THAT(Pushed(first), SizeIs(20));
  EXPECT_THAT(Pushed(second), SizeIs(4));
}

TEST_F(TaskSubmitterTest, TaskWithoutRetriesIsNeverBehindAnother) {  // SUBMIT-2
  WorkerId worker = Learn(100);
  auto once = Submit(2, /*retries=*/0);
  EXPECT_THAT(Pushed(worker), ElementsAre(once[0]));
  auto again = Submit(1);  // nor is one that may be retried put behind it
  EXPECT_THAT(Pushed(worker), SizeIs(1));
  Done(worker, once[0], 100);
  EXPECT_THAT(Pushed(worker), ElementsAre(once[0], once[1]));
}

TEST_F(TaskSubmitterTest, TasksStartInTheOrderTheyWereSubmitted) {
  WorkerId worker = Learn(100);
  auto tasks = Submit(10);
  EXPECT_EQ(Pushed(worker), tasks);
}

TEST_F(TaskSubmitterTest, RequestsAreCancelledWhenNothingWaits) {
  WorkerId worker = Learn(100);
  auto tasks = Submit(21);  // one more than the pipeline takes
  ASSERT_THAT(actions_.requested, SizeIs(2));
  Done(worker, tasks[0], 100);
  EXPECT_THAT(actions_.cancelled, ElementsAre(actions_.requested[1]));
}

TEST_F(TaskSubmitterTest, CancelledRequestIsMadeAgainIfTasksWait) {
  Submit(1);
  EXPECT_THAT(submitter_.OnLeaseRefused(actions_.requested[0], true), IsEmpty());
  EXPECT_THAT(actions_.requested, SizeIs(2));
}

TEST_F(TaskSubmitterTest, RefusalHandsTheTasksBack) {
  auto tasks = Submit(3);
  EXPECT_EQ(submitter_.OnLeaseRefused(actions_.requested[0], false), tasks);
  EXPECT_EQ(submitter_.queued(), 0u);
  EXPECT_THAT(actions_.cancelled, SizeIs(2));
}

TEST_F(TaskSubmitterTest, RemovedTaskDoesNotRun) {
  auto tasks = Submit(2);
  EXPECT_TRUE(submitter_.RemoveQueued(tasks[0]->id));
  EXPECT_FALSE(submitter_.RemoveQueued(tasks[0]->id));
  WorkerId worker = Grant();
  EXPECT_THAT(Pushed(worker), ElementsAre(tasks[1]));
  EXPECT_FALSE(submitter_.RemoveQueued(tasks[1]->id));  // it runs
}

TEST_F(TaskSubmitterTest, IdleLeaseLingersForTheNextTaskThenGoesBack) {
  WorkerId worker = Learn(100);
  EXPECT_TRUE(submitter_.active());
  Tick(options_.linger_nanos / 2);
  TaskPtr task = Submit(1)[0];
  EXPECT_THAT(Pushed(worker), ElementsAre(task));
  EXPECT_THAT(actions_.requested, SizeIs(1));
  Done(worker, task);
  Tick(options_.linger_nanos - 1);
  EXPECT_THAT(actions_.returned, IsEmpty());
  Tick(1);
  ASSERT_THAT(actions_.returned, SizeIs(1));
  EXPECT_EQ(actions_.returned[0].lease, leases_[worker]);
  EXPECT_FALSE(actions_.returned[0].broken);
  EXPECT_FALSE(submitter_.active());
}

TEST_F(TaskSubmitterTest, ReclaimEndsIdleLeasesAtOnce) {  // SUBMIT-3
  Learn(100);
  submitter_.OnReclaim(now_);
  EXPECT_THAT(actions_.returned, SizeIs(1));
}

TEST_F(TaskSubmitterTest, ReclaimEndsABusyLeaseAtATaskBoundaryOnceItsSliceIsOver) {  // SUBMIT-3
  auto tasks = Submit(4);
  WorkerId worker = Grant();
  submitter_.OnReclaim(now_);
  EXPECT_THAT(actions_.returned, IsEmpty());
  Done(worker, tasks[0]);
  EXPECT_THAT(Pushed(worker), ElementsAre(tasks[0], tasks[1]));  // within its slice
  now_ += options_.slice_nanos + 1;
  Done(worker, tasks[1]);
  EXPECT_THAT(Pushed(worker), SizeIs(2));
  EXPECT_THAT(actions_.returned, SizeIs(1));
  EXPECT_EQ(submitter_.queued(), 2u);
}

TEST_F(TaskSubmitterTest, LeaseThatOthersWaitForIsKeptOnlyForACallersNextTask) {  // SUBMIT-3
  auto tasks = Submit(1);
  WorkerId worker = Grant(/*contended=*/true);
  EXPECT_EQ(submitter_.tick_nanos(), options_.contended_linger_nanos);
  Done(worker, tasks[0]);
  Tick(options_.contended_linger_nanos - 1);
  EXPECT_THAT(actions_.returned, IsEmpty());
  TaskPtr next = Submit(1)[0];
  EXPECT_THAT(Pushed(worker), ElementsAre(tasks[0], next));
  Done(worker, next);
  Tick(options_.contended_linger_nanos);
  EXPECT_THAT(actions_.returned, SizeIs(1));
  EXPECT_EQ(submitter_.tick_nanos(), options_.stall_nanos);
}

TEST_F(TaskSubmitterTest, LeaseThatOthersWaitForEndsOnceItsSliceIsOver) {  // SUBMIT-3
  auto tasks = Submit(2);
  WorkerId worker = Grant(/*contended=*/true);
  now_ += options_.slice_nanos + 1;
  Done(worker, tasks[0]);
  EXPECT_THAT(Pushed(worker), SizeIs(1));
  EXPECT_THAT(actions_.returned, SizeIs(1));
  EXPECT_EQ(submitter_.queued(), 1u);
}

TEST_F(TaskSubmitterTest, RemovalOfAGroupEndsItsIdleLeasesAtOnce) {
  const auto group = base::NewPlacementGroupId(base::JobIdFromInt(1));
  auto task_of_group = [&] {
    TaskPtr task = MakeTask(3, "in the group");
    auto in_group = std::make_shared<TaskTemplate>(*task->task_template);
    in_group->group = group;
    task->task_template = in_group;
    return task;
  };
  Learn(100'000);
  const TaskPtr first = task_of_group();
  submitter_.Submit(first, now_);
  const WorkerId idle = Grant();
  const TaskPtr second = task_of_group();
  submitter_.Submit(second, now_);
  const TaskPtr third = task_of_group();
  submitter_.Submit(third, now_);
  const WorkerId busy = Grant();
  Done(idle, first);  // it takes the third
  Done(idle, third);
  submitter_.OnGroupRemoved(group, now_);
  submitter_.CheckInvariants();
  ASSERT_THAT(actions_.returned, SizeIs(1));
  EXPECT_EQ(actions_.returned[0].lease, leases_[idle]);
  EXPECT_FALSE(actions_.returned[0].broken);
  // Nor does one linger that ends, or is granted, later.
  Done(busy, second);
  Grant();
  EXPECT_THAT(actions_.returned, SizeIs(3));
  EXPECT_TRUE(submitter_.active()) << "what is idle elsewhere lingers";
}

TEST_F(TaskSubmitterTest, LeaseEmptiedByARecallGoesBackAfterAReclaim) {  // SUBMIT-3
  TaskPtr task = Submit(1)[0];
  WorkerId worker = Grant();
  submitter_.OnReclaim(now_);
  now_ += options_.slice_nanos + 1;
  submitter_.OnTasksRecalled(worker, {task->id}, now_);
  EXPECT_THAT(actions_.returned, SizeIs(1));
  EXPECT_EQ(submitter_.queued(), 1u);
}

TEST_F(TaskSubmitterTest, WhatWaitsBehindATaskThatRunsLongIsTakenBack) {
  WorkerId worker = Learn(500);
  auto tasks = Submit(4);
  ASSERT_EQ(Pushed(worker), tasks);
  Tick(options_.stall_nanos);
  EXPECT_THAT(actions_.recalled, IsEmpty());
  Tick(1);
  EXPECT_THAT(actions_.recalled[worker], ElementsAre(tasks[1]->id, tasks[2]->id, tasks[3]->id));
  Tick(options_.stall_nanos);
  EXPECT_THAT(actions_.recalled[worker], SizeIs(3));  // asked once
}

TEST_F(TaskSubmitterTest, RecalledTasksRunElsewhereInTheirOrder) {
  WorkerId worker = Learn(500);
  auto tasks = Submit(4);
  submitter_.OnTasksRecalled(worker, {tasks[1]->id, tasks[2]->id, tasks[3]->id}, now_);
  submitter_.CheckInvariants();
  EXPECT_EQ(submitter_.queued(), 3u);
  EXPECT_THAT(Pushed(worker), SizeIs(4));  // the stalled worker does not get them back
  WorkerId other = Grant();
  EXPECT_THAT(Pushed(other), ElementsAre(tasks[1], tasks[2], tasks[3]));
}

TEST_F(TaskSubmitterTest, WorkerTakesTasksAgainOnceItsLongTaskIsDone) {
  WorkerId worker = Learn(500);
  auto tasks = Submit(2);
  submitter_.OnTasksRecalled(worker, {tasks[1]->id}, now_);
  ASSERT_EQ(submitter_.queued(), 1u);
  Done(worker, tasks[0], 500);
  EXPECT_EQ(submitter_.queued(), 0u);
}

TEST_F(TaskSubmitterTest, LostWorkerHandsItsTasksBackOldestFirst) {
  WorkerId worker = Learn(500);
  auto tasks = Submit(5);  // 4 fill the pipeline
  EXPECT_EQ(submitter_.OnWorkerLost(worker, now_), std::vector(tasks.begin(), tasks.begin() + 4));
  submitter_.CheckInvariants();
  ASSERT_THAT(actions_.returned, SizeIs(1));
  EXPECT_TRUE(actions_.returned[0].broken);
  EXPECT_EQ(submitter_.queued(), 1u);
  EXPECT_THAT(submitter_.OnWorkerLost(worker, now_), IsEmpty());
}

TEST_F(TaskSubmitterTest, LateAnswersAreIgnored) {
  TaskPtr task = Submit(1)[0];
  WorkerId worker = Grant();
  Done(worker, task);
  Done(worker, task);
  Done(WorkerId::Random(), task);
  submitter_.OnTasksRecalled(WorkerId::Random(), {task->id}, now_);
  submitter_.OnTasksRecalled(worker, {task->id}, now_);
  EXPECT_EQ(submitter_.queued(), 0u);
  EXPECT_THAT(submitter_.OnLeaseRefused(12345, false), IsEmpty());
}

TEST_F(TaskSubmitterTest, GrantThatNobodyAskedForGoesBack) {
  submitter_.OnLeaseGranted(99, LeaseId::Random(), MakeAddress(), false, now_);
  EXPECT_THAT(actions_.returned, SizeIs(1));
  EXPECT_FALSE(submitter_.active());
}

TEST_F(TaskSubmitterTest, SecondLeaseOfTheSameWorkerIsRefusedAndAskedForAnew) {
  Submit(2);
  AddressPtr worker = MakeAddress();
  LeaseId second = LeaseId::Random();
  submitter_.OnLeaseGranted(actions_.requested[0], LeaseId::Random(), worker, false, now_);
  submitter_.OnLeaseGranted(actions_.requested[1], second, worker, false, now_);
  submitter_.CheckInvariants();
  ASSERT_THAT(actions_.returned, SizeIs(1));
  EXPECT_EQ(actions_.returned[0].lease, second);
  EXPECT_THAT(actions_.requested, SizeIs(3));
}

// --- random events: every task ends exactly once, whatever raylet and workers do.

class RandomCluster : public TaskSubmitter::Actions {
 public:
  explicit RandomCluster(uint64_t seed) : random_(seed) {}

  void Step() {
    now_ += static_cast<int64_t>(random_() % (8 * kMilli));
    switch (random_() % 12) {
      case 0:
      case 1:
      case 2:
        return Submit();
      case 3:
      case 4:
        return AnswerRequest();
      case 5:
      case 6:
      case 7:
        return FinishTask();
      case 8:
        return RecallSome();
      case 9:
        if (random_() % 5 == 0) LoseWorker();
        return;
      case 10:
        if (random_() % 5 == 0) submitter_.OnReclaim(now_);
        return;
      case 11:
        return submitter_.Tick(now_);
    }
  }
  void Check() {
    submitter_.CheckInvariants();
    size_t in_flight = 0;
    for (const auto& [id, worker] : workers_) in_flight += worker.queue.size();
    EXPECT_EQ(in_flight + submitter_.queued() + ended_.size(), submitted_);  // SUBMIT-1
  }
  // Lets everything run out; the cluster does its part, so that whatever does not end was
  // forgotten.
  void Finish() {
    for (int i = 0; i < 10'000 && ended_.size() < submitted_; ++i) {
      now_ += kMilli;
      while (!requests_.empty()) AnswerRequest();
      FinishTask();
      submitter_.Tick(now_);
      Check();
    }
    EXPECT_EQ(ended_.size(), submitted_);
    now_ += TaskSubmitter::Options().linger_nanos;
    while (!requests_.empty()) AnswerRequest();
    now_ += TaskSubmitter::Options().linger_nanos;
    submitter_.Tick(now_);
    EXPECT_FALSE(submitter_.active());  // no lease is kept for good
    EXPECT_TRUE(workers_.empty());
  }

  void RequestLease(uint64_t id, const Task&, size_t) override { requests_[id] = false; }
  void CancelLease(uint64_t id) override { requests_.at(id) = true; }
  void ReturnLease(const LeaseId& lease, bool broken) override {
    auto it = workers_.find(by_lease_.at(lease));
    ASSERT_TRUE(it != workers_.end());
    EXPECT_TRUE(broken || it->second.queue.empty());
    workers_.erase(it);
  }
  void PushTask(const AddressPtr& worker, const TaskPtr& task) override {
    workers_.at(worker->worker_id).queue.push_back(task);
  }
  void RecallTasks(const AddressPtr& worker, const std::vector<TaskId>& tasks) override {
    EXPECT_FALSE(tasks.empty());
    EXPECT_LT(tasks.size(), workers_.at(worker->worker_id).queue.size());
  }

 private:
  struct Worker {
    std::vector<TaskPtr> queue;  // oldest first; the first runs
  };

  void Submit() {
    auto task = std::make_shared<Task>();
    task->id = base::MakeTaskId(++submitted_, base::ActorId());
    task->task_template = MakeTemplate(random_() % 3 == 0 ? "gpu" : "cpu");
    task->retries_left = random_() % 3 == 0 ? 0 : 2;
    submitter_.Submit(task, now_);
  }
  void End(const TaskPtr& task) {
    EXPECT_TRUE(ended_.emplace(task->id, true).second) << "ended twice";
  }
  void AnswerRequest() {
    if (requests_.empty()) return;
    auto [id, cancelled] = *requests_.begin();
    requests_.erase(requests_.begin());
    if (cancelled && random_() % 2 == 0) {
      for (const TaskPtr& task : submitter_.OnLeaseRefused(id, true)) End(task);
      return;
    }
    if (random_() % 40 == 0) {
      for (const TaskPtr& task : submitter_.OnLeaseRefused(id, false)) End(task);
      return;
    }
    AddressPtr worker = MakeAddress();
    LeaseId lease = LeaseId::Random();
    by_lease_[lease] = worker->worker_id;
    workers_[worker->worker_id] = {};
    submitter_.OnLeaseGranted(id, lease, worker, random_() % 4 == 0, now_);
  }
  std::map<WorkerId, Worker>::iterator AnyWorker() {
    auto it = workers_.begin();
    if (it != workers_.end()) std::advance(it, random_() % workers_.size());
    return it;
  }
  void FinishTask() {
    auto it = AnyWorker();
    if (it == workers_.end() || it->second.queue.empty()) return;
    const WorkerId worker = it->first;
    TaskPtr task = it->second.queue.front();
    it->second.queue.erase(it->second.queue.begin());
    End(task);
    const auto micros = static_cast<uint32_t>(random_() % 10 == 0 ? 20'000 : random_() % 500);
    submitter_.OnTaskDone(worker, task->id, micros, /*leaving=*/false, now_);
  }
  // Everything behind the running task, because that one blocks or a recall was asked for.
  void RecallSome() {
    auto it = AnyWorker();
    if (it == workers_.end() || it->second.queue.size() < 2) return;
    Worker& worker = it->second;
    std::vector<TaskId> handed_back;
    for (size_t i = 1; i < worker.queue.size(); ++i) handed_back.push_back(worker.queue[i]->id);
    worker.queue.resize(1);
    submitter_.OnTasksRecalled(WorkerId(it->first), handed_back, now_);
  }
  void LoseWorker() {
    auto it = AnyWorker();
    if (it == workers_.end()) return;
    const WorkerId worker = it->first;
    const std::vector<TaskPtr> expected = it->second.queue;
    std::vector<TaskPtr> lost = submitter_.OnWorkerLost(worker, now_);
    EXPECT_EQ(lost, expected);
    for (const TaskPtr& task : lost) {
      if (task->TakeRetry()) {
        submitter_.Submit(task, now_);
      } else {
        End(task);
      }
    }
  }

  std::mt19937_64 random_;
  TaskSubmitter submitter_{TaskSubmitter::Options(), this};
  int64_t now_ = 1000 * kMilli;
  std::map<uint64_t, bool> requests_;   // not answered yet: cancelled?
  std::map<WorkerId, Worker> workers_;  // leased
  absl::flat_hash_map<LeaseId, WorkerId> by_lease_;
  absl::flat_hash_map<TaskId, bool> ended_;
  uint64_t submitted_ = 0;
};

TEST(TaskSubmitterRandom, EveryTaskEndsOnceAndEveryLeaseGoesBack) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    RandomCluster cluster(seed);
    for (int step = 0; step < 400 && !::testing::Test::HasFailure(); ++step) {
      cluster.Step();
      cluster.Check();
    }
    cluster.Finish();
    if (::testing::Test::HasFailure()) break;
  }
}

TEST_F(TaskSubmitterTest, KnowsWhetherItRunsSomethingOnANode) {
  TaskPtr task = Submit(1)[0];
  const WorkerId worker = Grant();
  const base::NodeId node = (*submitter_.WorkerRunning(task->id))->node_id;
  EXPECT_TRUE(submitter_.RunsSomethingOn(node));
  EXPECT_FALSE(submitter_.RunsSomethingOn(base::NodeId::Random()));
  Done(worker, task);
  EXPECT_FALSE(submitter_.RunsSomethingOn(node));
}

TEST_F(TaskSubmitterTest, ForgetsClassesThatAreNotInUse) {
  TaskPtr waits = MakeTask(3, "waits");
  submitter_.Submit(waits, now_);
  ++answered_;
  for (int i = 0; i < 10'000; ++i) {
    TaskPtr task = MakeTask(3, std::to_string(i));
    submitter_.Submit(task, now_);
    Done(Grant(), task);
    Tick(1000 * kMilli);  // the lease has lingered
    ASSERT_LE(submitter_.classes(), TaskSubmitter::kClassesKept);
  }
  EXPECT_TRUE(submitter_.RemoveQueued(waits->id));
}

}  // namespace
}  // namespace ray::core
