#include "ray/core/task_frames.h"

#include <algorithm>

#include "ray/core/packing.h"

namespace ray::core {
namespace {

constexpr uint8_t kArgsInStore = 1;
constexpr uint8_t kOutOfTurn = 2;
constexpr uint8_t kLeaving = 0x80;  // beside the status
constexpr size_t kSourcesMax = 16;  // of one reference; more would not help

absl::Status Malformed(const char* what) {
  return absl::InvalidArgumentError(std::string("malformed ") + what + " frame");
}

template <typename IdType>
IdType GetId(PackReader* reader) {
  std::string_view bytes = reader->GetBytes(IdType::kSize);
  return bytes.empty() ? IdType::Nil() : IdType::FromTrusted(bytes.data());
}

void PutRefArgument(const RefArgument& ref, PackWriter* writer) {
  writer->Put(ref.kind);
  writer->Put(ref.position);
  writer->PutSized(ref.keyword);
  writer->PutBytes(ref.object_id.Binary());
  if (ref.kind == RefArgument::Kind::kInline) {
    writer->Put(static_cast<uint32_t>(ref.value.size()));
  } else {
    writer->PutSized(ref.owner_address);
  }
  if (ref.kind != RefArgument::Kind::kInStore) return;
  const size_t n = std::min(ref.sources.size(), kSourcesMax);
  writer->Put(static_cast<uint8_t>(n));
  for (size_t i = 0; i < n; ++i) writer->PutBytes(ref.sources[i].Binary());
}

// `payload` is consumed from its front.
bool GetRefArgument(PackReader* reader, PackReader* payload, RefArgument* ref) {
  ref->kind = reader->Get<RefArgument::Kind>();
  ref->position = reader->Get<int32_t>();
  ref->keyword = std::string(reader->GetSized());
  ref->object_id = GetId<base::ObjectId>(reader);
  if (ref->kind == RefArgument::Kind::kInline) {
    ref->value = payload->GetBytes(reader->Get<uint32_t>());
  } else if (ref->kind == RefArgument::Kind::kInStore || ref->kind == RefArgument::Kind::kByOwner) {
    ref->owner_address = std::string(reader->GetSized());
  } else {
    return false;
  }
  if (ref->kind == RefArgument::Kind::kInStore) {
    const auto n = reader->Get<uint8_t>();
    for (uint8_t i = 0; i < n && reader->ok(); ++i) {
      ref->sources.push_back(GetId<base::NodeId>(reader));
    }
  }
  return reader->ok() && payload->ok();
}

void PutReturn(const ReturnValue& value, PackWriter* writer,
               std::vector<std::string_view>* payload) {
  writer->Put(value.kind);
  writer->Put(static_cast<uint32_t>(value.value.size()));
  if (value.kind == ReturnValue::Kind::kInStore) writer->Put(value.size_bytes);
  writer->Put(static_cast<uint32_t>(value.contained.size()));
  for (const ContainedReference& reference : value.contained) {
    writer->PutBytes(reference.object_id.Binary());
    writer->PutSized(reference.owner_address);
  }
  payload->push_back(value.value);
}

bool GetReturn(PackReader* reader, PackReader* payload, ReturnValue* value) {
  value->kind = reader->Get<ReturnValue::Kind>();
  auto size = reader->Get<uint32_t>();
  if (value->kind == ReturnValue::Kind::kInline) {
    value->value = payload->GetBytes(size);
  } else if (value->kind != ReturnValue::Kind::kInStore || size != 0) {
    return false;
  }
  if (value->kind == ReturnValue::Kind::kInStore) value->size_bytes = reader->Get<uint64_t>();
  auto contained = reader->Get<uint32_t>();
  for (uint32_t i = 0; i < contained && reader->ok(); ++i) {
    ContainedReference reference;
    reference.object_id = GetId<base::ObjectId>(reader);
    reference.owner_address = std::string(reader->GetSized());
    value->contained.push_back(std::move(reference));
  }
  return reader->ok() && payload->ok();
}

}  // namespace

void PackPushTask(const PushTaskFrame& task, std::string* metadata,
                  std::vector<std::string_view>* payload) {
  PackWriter writer(metadata);
  bool in_store = !task.args_object.IsNil();
  writer.PutBytes(task.task_id.Binary());
  writer.Put(task.template_id);
  writer.Put(task.attempt);
  writer.Put(static_cast<uint32_t>(task.args.size()));
  writer.Put(static_cast<uint32_t>(task.refs.size()));
  writer.Put(
      static_cast<uint8_t>((in_store ? kArgsInStore : 0) | (task.out_of_turn ? kOutOfTurn : 0)));
  if (in_store) writer.PutBytes(task.args_object.Binary());
  payload->push_back(task.args);
  for (const RefArgument& ref : task.refs) {
    PutRefArgument(ref, &writer);
    if (ref.kind == RefArgument::Kind::kInline) payload->push_back(ref.value);
  }
}

absl::StatusOr<PushTaskFrame> ParsePushTask(std::string_view metadata, std::string_view payload) {
  PackReader reader(metadata);
  PackReader values(payload);
  PushTaskFrame task;
  task.task_id = GetId<base::TaskId>(&reader);
  task.template_id = reader.Get<uint32_t>();
  task.attempt = reader.Get<uint32_t>();
  task.args = values.GetBytes(reader.Get<uint32_t>());
  auto n_refs = reader.Get<uint32_t>();
  auto flags = reader.Get<uint8_t>();
  task.out_of_turn = (flags & kOutOfTurn) != 0;
  if ((flags & kArgsInStore) != 0) task.args_object = GetId<base::ObjectId>(&reader);
  for (uint32_t i = 0; i < n_refs; ++i) {
    RefArgument ref;
    if (!GetRefArgument(&reader, &values, &ref)) return Malformed("PUSH_TASK");
    task.refs.push_back(std::move(ref));
  }
  if (!reader.at_end() || !values.at_end()) return Malformed("PUSH_TASK");
  return task;
}

void PackTaskReply(const TaskReplyFrame& reply, std::string* metadata,
                   std::vector<std::string_view>* payload) {
  PackWriter writer(metadata);
  writer.Put(
      static_cast<uint8_t>(static_cast<uint8_t>(reply.status) | (reply.leaving ? kLeaving : 0)));
  writer.Put(static_cast<uint32_t>(reply.returns.size()));
  writer.Put(reply.run_micros);
  for (const ReturnValue& value : reply.returns) PutReturn(value, &writer, payload);
}

absl::StatusOr<TaskReplyFrame> ParseTaskReply(std::string_view metadata, std::string_view payload) {
  PackReader reader(metadata);
  PackReader values(payload);
  TaskReplyFrame reply;
  auto status = reader.Get<uint8_t>();
  reply.leaving = (status & kLeaving) != 0;
  reply.status = static_cast<TaskStatus>(status & ~kLeaving);
  auto n_returns = reader.Get<uint32_t>();
  reply.run_micros = reader.Get<uint32_t>();
  if (reply.status > TaskStatus::kRetryableError) return Malformed("PUSH_TASK reply");
  for (uint32_t i = 0; i < n_returns; ++i) {
    ReturnValue value;
    if (!GetReturn(&reader, &values, &value)) return Malformed("PUSH_TASK reply");
    reply.returns.push_back(std::move(value));
  }
  if (!reader.at_end() || !values.at_end()) return Malformed("PUSH_TASK reply");
  return reply;
}

void PackStreamItem(const StreamItemFrame& item, std::string* metadata,
                    std::vector<std::string_view>* payload) {
  PackWriter writer(metadata);
  writer.PutBytes(item.task_id.Binary());
  writer.Put(item.index);
  PutReturn(item.item, &writer, payload);
}

absl::StatusOr<StreamItemFrame> ParseStreamItem(std::string_view metadata,
                                                std::string_view payload) {
  PackReader reader(metadata);
  PackReader values(payload);
  StreamItemFrame item;
  item.task_id = GetId<base::TaskId>(&reader);
  item.index = reader.Get<uint64_t>();
  bool good = GetReturn(&reader, &values, &item.item);
  if (!good || !reader.at_end() || !values.at_end()) return Malformed("STREAM_ITEM");
  return item;
}

}  // namespace ray::core
