#include "ray/base/ids.h"

#include <sys/random.h>

#include "absl/strings/escaping.h"

namespace ray::base {
namespace {

constexpr size_t kActorUniqueBytes = 12;
constexpr size_t kGroupUniqueBytes = PlacementGroupId::kSize - JobId::kSize;
constexpr size_t kTaskUniqueBytes = 8;

// The finalizer of SplitMix64: a bijection on 64 bits.
uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ULL;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

ObjectId MakeObjectId(const TaskId& task, uint32_t index) {
  ObjectId id;
  std::memcpy(id.mutable_data(), task.data(), TaskId::kSize);
  std::memcpy(id.mutable_data() + TaskId::kSize, &index, sizeof index);
  return id;
}

}  // namespace

void FillUniqueBytes(uint8_t* out, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = getrandom(out + done, size - done, 0);
    if (n > 0) done += static_cast<size_t>(n);
  }
}

std::string BytesToHex(std::string_view bytes) {
  return absl::BytesToHexString(absl::string_view(bytes.data(), bytes.size()));
}

JobId JobIdFromInt(uint32_t number) { return JobId::FromTrusted(&number); }

uint32_t JobIdToInt(const JobId& job) {
  uint32_t number;
  std::memcpy(&number, job.data(), sizeof number);
  return number;
}

ActorId NewActorId(const JobId& job) {
  ActorId id;
  FillUniqueBytes(id.mutable_data(), kActorUniqueBytes);
  std::memcpy(id.mutable_data() + kActorUniqueBytes, job.data(), JobId::kSize);
  return id;
}

ActorId NilActorOf(const JobId& job) {
  ActorId id;
  std::memcpy(id.mutable_data() + kActorUniqueBytes, job.data(), JobId::kSize);
  return id;
}

JobId JobOf(const ActorId& actor) { return JobId::FromTrusted(actor.data() + kActorUniqueBytes); }

PlacementGroupId NewPlacementGroupId(const JobId& job) {
  PlacementGroupId id;
  FillUniqueBytes(id.mutable_data(), kGroupUniqueBytes);
  std::memcpy(id.mutable_data() + kGroupUniqueBytes, job.data(), JobId::kSize);
  return id;
}

JobId JobOf(const PlacementGroupId& group) {
  return JobId::FromTrusted(group.data() + kGroupUniqueBytes);
}

TaskId MakeTaskId(uint64_t unique, const ActorId& actor) {
  TaskId id;
  std::memcpy(id.mutable_data(), &unique, kTaskUniqueBytes);
  std::memcpy(id.mutable_data() + kTaskUniqueBytes, actor.data(), ActorId::kSize);
  return id;
}

// 00, then 7 x ff: what Ray prints for a driver.
TaskId DriverTaskId(const JobId& job) { return MakeTaskId(~uint64_t{0xff}, NilActorOf(job)); }

ActorId ActorOf(const TaskId& task) { return ActorId::FromTrusted(task.data() + kTaskUniqueBytes); }

ObjectId ReturnObjectId(const TaskId& task, uint32_t index) { return MakeObjectId(task, index); }

ObjectId PutObjectId(const TaskId& task, uint32_t index) {
  return MakeObjectId(task, kPutIndexBase + index);
}

TaskId TaskOf(const ObjectId& object) { return TaskId::FromTrusted(object.data()); }

uint32_t IndexOf(const ObjectId& object) {
  uint32_t index;
  std::memcpy(&index, object.data() + TaskId::kSize, sizeof index);
  return index;
}

TaskIdGenerator::TaskIdGenerator() {
  FillUniqueBytes(reinterpret_cast<uint8_t*>(&counter_), sizeof counter_);
}

TaskId TaskIdGenerator::Next(const ActorId& actor) { return MakeTaskId(Mix(counter_++), actor); }

}  // namespace ray::base
