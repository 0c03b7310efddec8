// Strong, fixed-size ids with Ray's layout, so that printed ids look alike.
//
//   JobId    4   counter from 1, little endian: the first job prints as 01000000
//   ActorId 16   12 unique bytes + JobId               (nil actor of a job: 12 x 0xff + JobId)
//   TaskId  24   8 unique bytes + ActorId              (driver task: 00, 7 x 0xff + nil actor)
//   ObjectId 28  TaskId + index, 4 bytes little endian (returns 1.., puts kPutIndexBase + 1..)
//   PlacementGroupId 18   14 unique bytes + JobId
//   NodeId, WorkerId, LeaseId 28   random
//
// Threads: immutable values.   Errors: FromBinary refuses a wrong length; the rest cannot fail.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ray::base {

// Random bytes of cryptographic quality are not needed here; distinctness is. Thread-safe,
// fork-safe.
void FillUniqueBytes(uint8_t* out, size_t size);
std::string BytesToHex(std::string_view bytes);

template <typename Tag, size_t kBytes>
class Id {
 public:
  static constexpr size_t kSize = kBytes;

  // Nil: every byte 0xff.
  constexpr Id() { bytes_.fill(0xff); }

  static Id Nil() { return Id(); }
  static Id Random() {
    Id id;
    FillUniqueBytes(id.bytes_.data(), kSize);
    return id;
  }
  static absl::StatusOr<Id> FromBinary(std::string_view binary) {
    if (binary.size() != kSize) {
      return absl::InvalidArgumentError("an id of " + std::to_string(binary.size()) +
                                        " bytes where " + std::to_string(kSize) + " are needed");
    }
    return FromTrusted(binary.data());
  }
  // Requires kSize readable bytes at data.
  static Id FromTrusted(const void* data) {
    Id id;
    std::memcpy(id.bytes_.data(), data, kSize);
    return id;
  }

  std::string_view Binary() const { return {reinterpret_cast<const char*>(bytes_.data()), kSize}; }
  std::string BinaryString() const { return std::string(Binary()); }
  std::string Hex() const { return BytesToHex(Binary()); }
  bool IsNil() const { return *this == Id(); }
  const uint8_t* data() const { return bytes_.data(); }
  uint8_t* mutable_data() { return bytes_.data(); }

  friend bool operator==(const Id& a, const Id& b) {
    return std::memcmp(a.bytes_.data(), b.bytes_.data(), kSize) == 0;
  }
  friend bool operator!=(const Id& a, const Id& b) { return !(a == b); }
  friend bool operator<(const Id& a, const Id& b) {
    return std::memcmp(a.bytes_.data(), b.bytes_.data(), kSize) < 0;
  }
  // Of the first and the last eight bytes, where every layout above has what tells ids apart: two
  // multiplications, where a hash of all bytes takes a call of three times that.
  template <typename H>
  friend H AbslHashValue(H h, const Id& id) {
    if constexpr (kSize < sizeof(uint64_t)) {
      return H::combine_contiguous(std::move(h), id.bytes_.data(), kSize);
    } else {
      return H::combine(std::move(h), id.Load(0), id.Load(kSize - sizeof(uint64_t)));
    }
  }

 private:
  uint64_t Load(size_t at) const {
    uint64_t value;
    std::memcpy(&value, bytes_.data() + at, sizeof value);
    return value;
  }

  std::array<uint8_t, kBytes> bytes_;
};

using JobId = Id<struct JobTag, 4>;
using ActorId = Id<struct ActorTag, 16>;
using TaskId = Id<struct TaskTag, 24>;
using ObjectId = Id<struct ObjectTag, 28>;
using NodeId = Id<struct NodeTag, 28>;
using WorkerId = Id<struct WorkerTag, 28>;
using LeaseId = Id<struct LeaseTag, 28>;
using PlacementGroupId = Id<struct PlacementGroupTag, 18>;

// The index of a put is this plus 1, 2, ..., so that it never meets the index of a return.
inline constexpr uint32_t kPutIndexBase = 100'000'000;

JobId JobIdFromInt(uint32_t number);
uint32_t JobIdToInt(const JobId& job);

ActorId NewActorId(const JobId& job);
ActorId NilActorOf(const JobId& job);
JobId JobOf(const ActorId& actor);

PlacementGroupId NewPlacementGroupId(const JobId& job);
JobId JobOf(const PlacementGroupId& group);

// `unique` must not repeat within a job and actor; see TaskIdGenerator.
TaskId MakeTaskId(uint64_t unique, const ActorId& actor);
TaskId DriverTaskId(const JobId& job);
ActorId ActorOf(const TaskId& task);

ObjectId ReturnObjectId(const TaskId& task, uint32_t index);  // index from 1
ObjectId PutObjectId(const TaskId& task, uint32_t index);     // index from 1
TaskId TaskOf(const ObjectId& object);
uint32_t IndexOf(const ObjectId& object);

// Task ids of one process: a random 64-bit start, then a bijective mix of a counter, so that no id
// repeats within the process and ids of processes meet only as random ones do. Thread-compatible.
class TaskIdGenerator {
 public:
  TaskIdGenerator();
  TaskId Next(const ActorId& actor);

 private:
  uint64_t counter_;
};

}  // namespace ray::base
