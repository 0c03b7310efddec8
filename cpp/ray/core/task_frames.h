// PUSH_TASK, its reply and STREAM_ITEM, the frames of the hot path: hand-packed metadata, raw
// payload.
// docs/wire.md has the offsets; golden bytes are in tests/cpp/core/task_frames_test.cc. Threads:
// free functions.   Errors: Parse refuses what does not fit together; the caller then closes the
// connection.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "ray/base/ids.h"

namespace ray::core {

// An argument that was an ObjectRef at top level and arrives as its value.
struct RefArgument {
  // kInline: the value is in the payload. kInStore: sealed in the store. kByOwner: ask the owner
  // (an actor's creation is not delayed by its arguments).
  enum class Kind : uint8_t { kInline = 1, kInStore = 2, kByOwner = 3 };
  Kind kind = Kind::kInline;
  int32_t position = -1;  // >= 0: index in args; -1: see keyword
  std::string keyword;
  base::ObjectId object_id;
  std::string owner_address;          // serialized wire::v1::Address; not with kInline
  std::vector<base::NodeId> sources;  // kInStore: where it may be, the primary copy first
  std::string_view value;             // kInline: in the payload
};

struct PushTaskFrame {
  base::TaskId task_id;
  uint32_t template_id = 0;
  uint32_t attempt = 0;      // 0 = the first
  bool out_of_turn = false;  // it does not keep its place in the order of calls
  base::ObjectId
      args_object;  // not nil: the arguments are this object in the store, not in the payload
  std::vector<RefArgument> refs;
  std::string_view args;  // serialized value of (args, kwargs), in the payload
};

// Appends metadata to `metadata` and fills `payload` with views of what follows it.
void PackPushTask(const PushTaskFrame& task, std::string* metadata,
                  std::vector<std::string_view>* payload);
absl::StatusOr<PushTaskFrame> ParsePushTask(std::string_view metadata, std::string_view payload);

struct ContainedReference {
  base::ObjectId object_id;
  std::string owner_address;  // serialized wire::v1::Address
};

struct ReturnValue {
  enum class Kind : uint8_t { kInline = 1, kInStore = 2 };
  Kind kind = Kind::kInline;
  std::string_view value;   // kInline
  uint64_t size_bytes = 0;  // kInStore
  std::vector<ContainedReference> contained;
};

enum class TaskStatus : uint8_t {
  kOk = 0,
  kError = 1,           // every return is the same error value
  kRetryableError = 2,  // the same, and retry_exceptions covers it
};

struct TaskReplyFrame {
  TaskStatus status = TaskStatus::kOk;
  bool leaving = false;     // the worker takes no further task: its lease should end
  uint32_t run_micros = 0;  // wall time of the user's function
  std::vector<ReturnValue> returns;
};

void PackTaskReply(const TaskReplyFrame& reply, std::string* metadata,
                   std::vector<std::string_view>* payload);
absl::StatusOr<TaskReplyFrame> ParseTaskReply(std::string_view metadata, std::string_view payload);

// One item of a generator task.
struct StreamItemFrame {
  base::TaskId task_id;
  uint64_t index = 0;  // from 0
  ReturnValue item;
};

void PackStreamItem(const StreamItemFrame& item, std::string* metadata,
                    std::vector<std::string_view>* payload);
absl::StatusOr<StreamItemFrame> ParseStreamItem(std::string_view metadata,
                                                std::string_view payload);

}  // namespace ray::core
