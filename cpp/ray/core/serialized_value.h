// The bytes of a value, in a frame or in the store. docs/object_store.md has the layout:
//   u32 magic "MOBJ" | u8 kind | u24 upper bits of pickle_size | u32 lower bits | u32 n_buffers |
//   n x {u64 offset, u64 size} | pickle | buffers, each 64-byte aligned.
// Offsets count from the start of the value. Little endian.
// Threads: free functions over caller's memory.   Errors: Parse refuses bytes that do not fit
// together; a value that parses has every range inside its bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ray/core/buffer.h"

namespace ray::core {

enum class ValueKind : uint8_t {
  kPickle = 0,           // a value
  kError = 1,            // a pickled exception, to be raised by get
  kRawBytes = 2,         // the "pickle" is the content of a bytes object
  kSystemError = 3,      // a failure that the runtime found; the "pickle" is a packed SystemError
  kDependencyError = 4,  // the task never ran: the "pickle" is a packed DependencyError
};
inline bool IsError(ValueKind kind) {
  return kind != ValueKind::kPickle && kind != ValueKind::kRawBytes;
}

// What a value will be made of. The views must outlive the writing.
struct ValueParts {
  ValueKind kind = ValueKind::kPickle;
  std::string_view pickle;
  absl::Span<const std::string_view> buffers;
};

size_t SerializedSize(const ValueParts& parts);
// Writes what is small, and returns where the rest goes, which several threads may copy: the
// contents of the buffers, and a pickle of more than 1 MiB. Requires SerializedSize bytes at out.
std::vector<std::pair<uint8_t*, std::string_view>> WriteHeaderAndPickle(const ValueParts& parts,
                                                                        uint8_t* out);
BufferPtr Serialize(const ValueParts& parts);

struct ParsedValue {
  ValueKind kind = ValueKind::kPickle;
  std::string_view pickle;
  std::vector<std::string_view> buffers;
};
absl::StatusOr<ParsedValue> ParseValue(std::string_view bytes);

// A failure found by the runtime, as a value. `code` as in python/ray/_hooks.py.
struct SystemError {
  std::string code;
  std::string message;
  std::vector<std::pair<std::string, std::string>> details;  // e.g. {"actor_id", hex}
  std::string creation_error;  // ACTOR_DIED only: the pickled exception of __init__, or empty
};
BufferPtr SerializeSystemError(const SystemError& error);
absl::StatusOr<SystemError> ParseSystemError(std::string_view packed);

// An argument of `task_name` has the error value `cause` (a serialized value, which may be a
// DependencyError again).
struct DependencyError {
  std::string task_name;
  std::string cause;
};
BufferPtr SerializeDependencyError(const DependencyError& error);
absl::StatusOr<DependencyError> ParseDependencyError(std::string_view packed);

}  // namespace ray::core
