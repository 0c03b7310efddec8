// What a call passes through, each part run kCalls times: check_cost.py counts the instructions.
//
// Under callgrind each path is dumped on its own, with its name; without it the program only shows
// that the paths run. No ids are random here and no clock is read, so that a count repeats.
#include <valgrind/callgrind.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ray/base/check.h"
#include "ray/base/ids.h"
#include "ray/core/actor_submitter.h"
#include "ray/core/object_table.h"
#include "ray/core/release_queue.h"
#include "ray/core/sent_templates.h"
#include "ray/core/serialized_value.h"
#include "ray/core/task_frames.h"
#include "ray/core/task_receiver.h"
#include "ray/core/task_submitter.h"
#include "ray/core/worker_address_testutil.h"
#include "ray/net/connection.h"
#include "ray/net/connection_testutil.h"
#include "ray/net/event_loop_testutil.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::core {
namespace {

using base::ActorId;
using base::ObjectId;
using base::TaskId;
using base::WorkerId;

constexpr int kBatch = 100;
constexpr int kBatches = 10;
constexpr char kArguments[] =
    "a hundred bytes of pickled arguments, more or less, as a small call has";

// Ids of one kind, one after another.
class TaskIds {
 public:
  explicit TaskIds(const ActorId& actor) : actor_(actor) {}
  TaskId Next() { return base::MakeTaskId(++made_, actor_); }

 private:
  const ActorId actor_;
  uint64_t made_ = 0;
};

template <typename Id>
Id Repeated(char byte) {
  auto id = Id::FromBinary(std::string(Id::kSize, byte));
  MANTA_CHECK(id.ok());
  return *id;
}

ActorId SomeActor() { return Repeated<ActorId>('a'); }

// One call of Run makes kBatch calls through the path.
class Path {
 public:
  virtual ~Path() = default;
  virtual void Run() = 0;
};

class PushTaskFrames : public Path {
 public:
  void Run() override {
    for (int i = 0; i < kBatch; ++i) {
      PushTaskFrame task;
      task.task_id = ids_.Next();
      task.template_id = 7;
      task.args = kArguments;
      metadata_.clear();
      payload_.clear();
      PackPushTask(task, &metadata_, &payload_);
      MANTA_CHECK(ParsePushTask(metadata_, payload_[0]).ok());
    }
  }

 private:
  TaskIds ids_{SomeActor()};
  std::string metadata_;
  std::vector<std::string_view> payload_;
};

class TaskReplyFrames : public Path {
 public:
  void Run() override {
    for (int i = 0; i < kBatch; ++i) {
      TaskReplyFrame reply;
      reply.returns.resize(1);
      reply.returns[0].value = kArguments;
      metadata_.clear();
      payload_.clear();
      PackTaskReply(reply, &metadata_, &payload_);
      MANTA_CHECK(ParseTaskReply(metadata_, payload_[0]).ok());
    }
  }

 private:
  std::string metadata_;
  std::vector<std::string_view> payload_;
};

// A value is made for the arguments and one for the result; each is read once.
class Values : public Path {
 public:
  void Run() override {
    for (int i = 0; i < kBatch; ++i) {
      const BufferPtr value = Serialize({ValueKind::kPickle, kArguments, {}});
      MANTA_CHECK(ParseValue(value->view()).ok());
    }
  }
};

class TemplateNumbers : public Path {
 public:
  void Run() override {
    for (int i = 0; i < kBatch; ++i) MANTA_CHECK(sent_.Of(1 + i % 3).number != 0);
  }

 private:
  SentTemplates sent_;
};

// The result of a call at its owner: pending, waited for, set, read, dropped.
class Results : public Path, ObjectTable::Actions {
 public:
  void Run() override {
    for (int i = 0; i < kBatch; ++i) {
      objects_[i] = base::ReturnObjectId(ids_.Next(), 1);
      table_.AddOwned(objects_[i]).local = 1;
    }
    for (const ObjectId& object : objects_) {
      table_.WhenReady(object, [this] { ++ready_; });
      table_.SetInline(object, value_);
      MANTA_CHECK(table_.Find(object)->value == value_);
    }
    for (const ObjectId& object : objects_) table_.RemoveLocal(object);
    MANTA_CHECK(table_.size() == 0);
  }
  void RegisterBorrow(const ObjectId&, const AddressPtr&) override {}
  void ReleaseBorrow(const ObjectId&, const AddressPtr&, uint32_t) override {}
  void FetchFromOwner(const ObjectId&, const AddressPtr&) override {}
  void Recover(const ObjectId&) override {}
  bool CanRecover(const ObjectId&) override { return true; }
  void FreeStored(const ObjectId&, const base::NodeId&) override {}
  void KeepCopy(const ObjectId&, const base::NodeId&) override {}
  void OwnedObjectGone(const ObjectId&) override { ++gone_; }

 private:
  ObjectTable table_{this};
  TaskIds ids_{SomeActor()};
  std::vector<ObjectId> objects_ = std::vector<ObjectId>(kBatch);
  const BufferPtr value_ = Serialize({ValueKind::kPickle, kArguments, {}});
  int ready_ = 0;
  int gone_ = 0;
};

class EndsOfReferences : public Path {
 public:
  void Run() override {
    for (int i = 0; i < kBatch; ++i) queue_.Push(ReleaseQueue::Kind::kReference, object_);
    int drained = 0;
    queue_.Drain([&](ReleaseQueue::Kind, const ObjectId&) { ++drained; });
    MANTA_CHECK(drained == kBatch);
  }

 private:
  ReleaseQueue queue_;
  const ObjectId object_ = Repeated<ObjectId>('o');
};

TaskPtr MakeTask(const TaskId& id, const TemplatePtr& task_template, const ActorId& actor) {
  auto task = std::make_shared<Task>();
  task->id = id;
  task->task_template = task_template;
  task->actor_id = actor;
  task->retries_left = 3;
  return task;
}

class TaskSubmission : public Path, TaskSubmitter::Actions {
 public:
  TaskSubmission() {
    task_template_->scheduling_class = "CPU: 1";
    task_template_->max_retries = 3;
    submitter_.Submit(MakeTask(ids_.Next(), task_template_, ActorId()), kNow);
    submitter_.OnLeaseGranted(request_, Repeated<base::LeaseId>('l'), worker_, false, kNow);
    FinishPushed();  // from now on the class is known to be short
  }
  void Run() override {
    for (int i = 0; i < kBatch; ++i) {
      submitter_.Submit(MakeTask(ids_.Next(), task_template_, ActorId()), kNow);
    }
    FinishPushed();
  }
  void RequestLease(uint64_t request, const Task&, size_t) override { request_ = request; }
  void CancelLease(uint64_t) override {}
  void ReturnLease(const base::LeaseId&, bool) override {}
  void PushTask(const AddressPtr&, const TaskPtr& task) override { pushed_.push_back(task); }
  void RecallTasks(const AddressPtr&, const std::vector<TaskId>&) override {}

 private:
  static constexpr int64_t kNow = 1'000'000'000;
  void FinishPushed() {
    for (size_t i = 0; i < pushed_.size(); ++i) {  // each end may push more
      submitter_.OnTaskDone(worker_->worker_id, TaskPtr(pushed_[i])->id, 1, false, kNow);
    }
    pushed_.clear();
    MANTA_CHECK(submitter_.queued() == 0);
  }

  TaskSubmitter submitter_{TaskSubmitter::Options(), this};
  TaskIds ids_{ActorId()};
  std::shared_ptr<TaskTemplate> task_template_ = std::make_shared<TaskTemplate>();
  const AddressPtr worker_ = MakeAddress(Repeated<WorkerId>('w'));
  uint64_t request_ = 0;
  std::vector<TaskPtr> pushed_;
};

class ActorSubmission : public Path, ActorSubmitter::Actions {
 public:
  ActorSubmission() {
    submitter_.AddActor(SomeActor(), -1);
    wire::v1::ActorInfo info;
    info.set_actor_id(SomeActor().BinaryString());
    info.set_state(wire::v1::ALIVE);
    info.set_revision(1);
    MakeAddress(Repeated<WorkerId>('w'))->ToProto(info.mutable_address());
    submitter_.OnActorInfo(info);
  }
  void Run() override {
    for (int i = 0; i < kBatch; ++i) {
      submitter_.Submit(MakeTask(ids_.Next(), task_template_, SomeActor()));
    }
    for (const TaskPtr& task : pushed_) submitter_.OnTaskDone(task);
    MANTA_CHECK(pushed_.size() == kBatch);
    pushed_.clear();
  }
  void PushCall(const AddressPtr&, const TaskPtr& task) override { pushed_.push_back(task); }
  void Fail(const TaskPtr&, const SystemError&) override {}
  void Subscribe(const ActorId&) override {}
  void AskLater(const ActorId&) override {}
  void ActorDead(const ActorId&) override {}
  bool IsConnected(const WorkerId&) override { return true; }

 private:
  ActorSubmitter submitter_{this};
  TaskIds ids_{SomeActor()};
  const TemplatePtr task_template_ = std::make_shared<TaskTemplate>();
  std::vector<TaskPtr> pushed_;
};

class Reception : public Path {
 public:
  void Run() override {
    for (int i = 0; i < kBatch; ++i) {
      auto call = std::make_shared<IncomingCall>();
      call->task_id = ids_.Next();
      call->task_template = task_template_;
      MANTA_CHECK(receiver_.Enqueue(std::move(call)));
    }
    while (IncomingCallPtr call = receiver_.PopRunnable()) receiver_.Finish(*call);
    MANTA_CHECK(receiver_.queued() == 0);
  }

 private:
  TaskReceiver receiver_;
  TaskIds ids_{SomeActor()};
  const ReceivedTemplatePtr task_template_ = std::make_shared<ReceivedTemplate>();
};

// Requests of a batch gather in one connection and arrive at another, which answers each.
class Calls : public Path {
 public:
  Calls() {
    auto [near, far] = net::MakeSocketPair();
    // By size and end of the batch alone: a timer would make counts depend on the clock.
    net::Connection::Options options;
    options.coalesce_max_bytes = 1 << 20;
    options.coalesce_max_delay = absl::Hours(1);
    caller_ = net::Connection::Create(&loop_, std::move(near), options);
    callee_ = net::Connection::Create(&loop_, std::move(far), options);
    caller_->Start({});
    callee_->Start({.on_frame =
                        [](const std::shared_ptr<net::Connection>& self, const net::Frame& frame) {
                          const std::string_view value[] = {frame.payload};
                          self->SendRaw(frame.type, net::kReplyFlag, frame.correlation_id,
                                        frame.metadata, value, net::Connection::Flush::kDefer);
                        },
                    .on_close = {}});
  }
  void Run() override {
    answered_ = 0;
    const std::string_view payload[] = {kArguments};
    for (int i = 0; i < kBatch; ++i) {
      const uint64_t id = caller_->NextCorrelationId();
      caller_->ExpectReply(id, [this](absl::StatusOr<net::Frame> reply) {
        MANTA_CHECK(reply.ok());
        ++answered_;
      });
      caller_->SendRaw(wire::v1::PUSH_TASK, 0, id, "metadata", payload,
                       net::Connection::Flush::kDefer);
    }
    caller_->FlushNow();
    while (!callee_->has_buffered()) loop_.Poll(absl::ZeroDuration());
    callee_->FlushNow();
    while (answered_ < kBatch) loop_.Poll(absl::ZeroDuration());
  }

 private:
  net::EventLoop loop_;
  std::shared_ptr<net::Connection> caller_;
  std::shared_ptr<net::Connection> callee_;
  int answered_ = 0;
};

void Measure(const char* name, Path* path) {
  path->Run();  // containers grow to their size
  path->Run();
  CALLGRIND_TOGGLE_COLLECT;
  for (int i = 0; i < kBatches; ++i) path->Run();
  CALLGRIND_TOGGLE_COLLECT;
  CALLGRIND_DUMP_STATS_AT(name);
  std::printf("%s %d\n", name, kBatch * kBatches);
}

template <typename T>
void Measure(const char* name) {
  auto path = std::make_unique<T>();
  Measure(name, path.get());
}

}  // namespace
}  // namespace ray::core

int main() {
  using namespace ray::core;  // NOLINT: the paths above
  Measure<Values>("value: serialize and parse");
  Measure<TemplateNumbers>("template number");
  Measure<PushTaskFrames>("PUSH_TASK: pack and parse");
  Measure<TaskReplyFrames>("reply: pack and parse");
  Measure<Calls>("connection: request and reply");
  Measure<Results>("object table: result added, set, dropped");
  Measure<EndsOfReferences>("release queue: push and drain");
  Measure<TaskSubmission>("task submitter: submitted and done");
  Measure<ActorSubmission>("actor submitter: submitted and done");
  Measure<Reception>("task receiver: queued, run, finished");
}
