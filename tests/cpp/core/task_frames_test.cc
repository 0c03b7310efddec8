#include "ray/core/task_frames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "absl/functional/function_ref.h"
#include "absl/strings/escaping.h"
#include "ray/base/clock.h"
#include "ray/core/serialized_value.h"

namespace ray::core {
namespace {

using base::ObjectId;
using base::TaskId;

struct Packed {
  std::string metadata;
  std::string payload;
};

template <typename Frame>
Packed Pack(void (*pack)(const Frame&, std::string*, std::vector<std::string_view>*),
            const Frame& frame) {
  Packed packed;
  std::vector<std::string_view> segments;
  pack(frame, &packed.metadata, &segments);
  for (std::string_view segment : segments) packed.payload += segment;
  return packed;
}

PushTaskFrame SampleTask() {
  PushTaskFrame task;
  task.task_id = base::MakeTaskId(5, base::NilActorOf(base::JobIdFromInt(1)));
  task.template_id = 7;
  task.attempt = 2;
  task.args = "arguments";
  RefArgument inline_ref;
  inline_ref.position = 1;
  inline_ref.object_id = base::ReturnObjectId(task.task_id, 1);
  inline_ref.value = "value";
  RefArgument stored;
  stored.kind = RefArgument::Kind::kInStore;
  stored.keyword = "key";
  stored.object_id = base::ReturnObjectId(task.task_id, 2);
  stored.owner_address = "address";
  RefArgument by_owner = stored;
  by_owner.kind = RefArgument::Kind::kByOwner;
  by_owner.position = 3;
  by_owner.keyword.clear();
  task.refs = {inline_ref, stored, by_owner};
  return task;
}

TaskReplyFrame SampleReply() {
  TaskReplyFrame reply;
  reply.status = TaskStatus::kRetryableError;
  reply.run_micros = 123;
  reply.returns.resize(2);
  reply.returns[0].value = "result";
  reply.returns[0].contained = {{ObjectId::Random(), "owner one"}, {ObjectId::Random(), ""}};
  reply.returns[1].kind = ReturnValue::Kind::kInStore;
  return reply;
}

TEST(PushTask, SurvivesTheWire) {
  const PushTaskFrame task = SampleTask();
  const Packed packed = Pack(PackPushTask, task);
  auto parsed = ParsePushTask(packed.metadata, packed.payload);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->task_id, task.task_id);
  EXPECT_EQ(parsed->template_id, 7u);
  EXPECT_EQ(parsed->attempt, 2u);
  EXPECT_EQ(parsed->args, "arguments");
  EXPECT_TRUE(parsed->args_object.IsNil());
  ASSERT_EQ(parsed->refs.size(), 3u);
  EXPECT_EQ(parsed->refs[0].value, "value");
  EXPECT_EQ(parsed->refs[0].position, 1);
  for (size_t i = 0; i < task.refs.size(); ++i) {
    EXPECT_EQ(parsed->refs[i].kind, task.refs[i].kind);
    EXPECT_EQ(parsed->refs[i].position, task.refs[i].position);
    EXPECT_EQ(parsed->refs[i].keyword, task.refs[i].keyword);
    EXPECT_EQ(parsed->refs[i].object_id, task.refs[i].object_id);
    EXPECT_EQ(parsed->refs[i].owner_address, task.refs[i].owner_address);
  }
}

TEST(PushTask, ArgumentsMayLieInTheStore) {
  PushTaskFrame task;
  task.args_object = ObjectId::Random();
  const Packed packed = Pack(PackPushTask, task);
  auto parsed = ParsePushTask(packed.metadata, packed.payload);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->args_object, task.args_object);
}

TEST(PushTask, MayComeOutOfTurn) {
  for (const bool out_of_turn : {false, true}) {
    PushTaskFrame task = SampleTask();
    task.out_of_turn = out_of_turn;
    const Packed packed = Pack(PackPushTask, task);
    auto parsed = ParsePushTask(packed.metadata, packed.payload);
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(parsed->out_of_turn, out_of_turn);
  }
}

TEST(PushTask, GoldenBytes) {
  PushTaskFrame task = SampleTask();
  task.refs.resize(1);
  const std::string task_hex = "0500000000000000ffffffffffffffffffffffff01000000";
  EXPECT_EQ(absl::BytesToHexString(Pack(PackPushTask, task).metadata),
            task_hex +
                "07000000"  // template
                "02000000"  // attempt
                "09000000"  // bytes of arguments
                "01000000"  // references
                "00"        // flags
                "01"
                "01000000"
                "00000000"                 // inline, position 1, no keyword
                + task_hex + "01000000" +  // its object
                "05000000");               // bytes of its value
  EXPECT_EQ(Pack(PackPushTask, task).payload, "argumentsvalue");
}

TEST(StreamItem, SurvivesTheWireAndIsRefusedWhenCutShort) {
  StreamItemFrame item;
  item.task_id = SampleTask().task_id;
  item.index = 1234567890123;
  item.item = SampleReply().returns[0];
  const Packed packed = Pack(PackStreamItem, item);
  auto parsed = ParseStreamItem(packed.metadata, packed.payload);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->task_id, item.task_id);
  EXPECT_EQ(parsed->index, item.index);
  EXPECT_EQ(parsed->item.value, "result");
  ASSERT_EQ(parsed->item.contained.size(), 2u);
  EXPECT_EQ(parsed->item.contained[0].owner_address, "owner one");
  for (size_t size = 0; size < packed.metadata.size(); ++size) {
    EXPECT_FALSE(ParseStreamItem(packed.metadata.substr(0, size), packed.payload).ok());
  }
  EXPECT_FALSE(ParseStreamItem(packed.metadata, packed.payload + "more").ok());
}

TEST(TaskReply, SurvivesTheWire) {
  const TaskReplyFrame reply = SampleReply();
  const Packed packed = Pack(PackTaskReply, reply);
  auto parsed = ParseTaskReply(packed.metadata, packed.payload);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->status, TaskStatus::kRetryableError);
  EXPECT_EQ(parsed->run_micros, 123u);
  EXPECT_FALSE(parsed->leaving);
  ASSERT_EQ(parsed->returns.size(), 2u);
  EXPECT_EQ(parsed->returns[0].value, "result");
  ASSERT_EQ(parsed->returns[0].contained.size(), 2u);
  EXPECT_EQ(parsed->returns[0].contained[0].object_id, reply.returns[0].contained[0].object_id);
  EXPECT_EQ(parsed->returns[0].contained[0].owner_address, "owner one");
  EXPECT_EQ(parsed->returns[1].kind, ReturnValue::Kind::kInStore);
}

TEST(TaskReply, TellsThatTheWorkerLeaves) {
  TaskReplyFrame reply;
  reply.status = TaskStatus::kError;
  reply.leaving = true;
  const Packed packed = Pack(PackTaskReply, reply);
  auto parsed = ParseTaskReply(packed.metadata, packed.payload);
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(parsed->leaving);
  EXPECT_EQ(parsed->status, TaskStatus::kError);
}

TEST(TaskReply, GoldenBytes) {
  TaskReplyFrame reply;
  reply.run_micros = 0x0102;
  reply.returns.resize(1);
  reply.returns[0].value = "ok";
  EXPECT_EQ(absl::BytesToHexString(Pack(PackTaskReply, reply).metadata),
            "00"
            "01000000"
            "02010000"  // ok, one return, microseconds
            "01"
            "02000000"
            "00000000");  // inline, two bytes, nothing contained
}

TEST(TaskFrames, EveryTruncationIsRefused) {
  const Packed task = Pack(PackPushTask, SampleTask());
  const Packed reply = Pack(PackTaskReply, SampleReply());
  auto expect_refused = [](const Packed& whole, auto parse) {
    const std::string_view metadata = whole.metadata;
    const std::string_view payload = whole.payload;
    for (size_t n = 0; n < metadata.size(); ++n) {
      EXPECT_FALSE(parse(metadata.substr(0, n), payload).ok()) << n;
    }
    for (size_t n = 0; n < payload.size(); ++n) {
      EXPECT_FALSE(parse(metadata, payload.substr(0, n)).ok()) << n;
    }
    EXPECT_FALSE(parse(whole.metadata + "x", payload).ok());
    EXPECT_FALSE(parse(metadata, whole.payload + "x").ok());
  };
  expect_refused(task, ParsePushTask);
  expect_refused(reply, ParseTaskReply);
}

TEST(TaskFrames, HugeCountsAreRefusedAtOnce) {
  Packed task = Pack(PackPushTask, PushTaskFrame());
  std::memset(task.metadata.data() + TaskId::kSize + 12, 0xff, 4);  // references
  EXPECT_FALSE(ParsePushTask(task.metadata, task.payload).ok());
  Packed reply = Pack(PackTaskReply, SampleReply());
  std::memset(reply.metadata.data() + 1, 0xff, 4);  // returns
  EXPECT_FALSE(ParseTaskReply(reply.metadata, reply.payload).ok());
}

TEST(TaskReply, UnknownStatusAndKindAreRefused) {
  Packed packed = Pack(PackTaskReply, SampleReply());
  packed.metadata[0] = 3;
  EXPECT_FALSE(ParseTaskReply(packed.metadata, packed.payload).ok());
  packed = Pack(PackTaskReply, SampleReply());
  packed.metadata[9] = 0;
  EXPECT_FALSE(ParseTaskReply(packed.metadata, packed.payload).ok());
}

// Feeds mutations of `seed_bytes` for a while. What parses must have its views inside the bytes;
// the address sanitizer sees the rest.
void Fuzz(const std::string& seed_bytes, absl::FunctionRef<void(const std::string&)> parse) {
  std::mt19937_64 random(20240602);
  const int64_t end = base::MonotonicNanos() + 250'000'000;
  for (int round = 0; round < 100'000 && base::MonotonicNanos() < end; ++round) {
    std::string bytes = seed_bytes;
    for (auto changes = 1 + random() % 4; changes > 0; --changes) {
      bytes[random() % bytes.size()] = static_cast<char>(random() % 3 == 0 ? 0xff : random());
    }
    if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
    bytes.shrink_to_fit();
    parse(bytes);
  }
}

bool IsInside(std::string_view view, std::string_view bytes) {
  return view.empty() ||
         (view.data() >= bytes.data() && view.data() + view.size() <= bytes.data() + bytes.size());
}

TEST(TaskFrames, PushTaskSurvivesAnyBytes) {
  const Packed packed = Pack(PackPushTask, SampleTask());
  Fuzz(packed.metadata, [&](const std::string& metadata) {
    auto parsed = ParsePushTask(metadata, packed.payload);
    if (!parsed.ok()) return;
    EXPECT_TRUE(IsInside(parsed->args, packed.payload));
    for (const RefArgument& ref : parsed->refs) EXPECT_TRUE(IsInside(ref.value, packed.payload));
  });
}

TEST(TaskFrames, TaskReplySurvivesAnyBytes) {
  const Packed packed = Pack(PackTaskReply, SampleReply());
  Fuzz(packed.metadata, [&](const std::string& metadata) {
    auto parsed = ParseTaskReply(metadata, packed.payload);
    if (!parsed.ok()) return;
    for (const ReturnValue& value : parsed->returns) {
      EXPECT_TRUE(IsInside(value.value, packed.payload));
    }
  });
}

TEST(TaskFrames, ValueSurvivesAnyBytes) {
  const std::string_view buffers[] = {"first buffer", "second"};
  const BufferPtr value = Serialize({ValueKind::kPickle, "the pickle", buffers});
  Fuzz(std::string(value->view()), [](const std::string& bytes) {
    auto parsed = ParseValue(bytes);
    if (!parsed.ok()) return;
    EXPECT_TRUE(IsInside(parsed->pickle, bytes));
    for (std::string_view buffer : parsed->buffers) EXPECT_TRUE(IsInside(buffer, bytes));
  });
}

}  // namespace
}  // namespace ray::core
