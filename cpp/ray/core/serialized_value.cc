#include "ray/core/serialized_value.h"

#include <cstring>

#include "ray/base/check.h"
#include "ray/core/packing.h"

namespace ray::core {
namespace {

constexpr uint32_t kValueMagic = 0x4a424f4d;  // "MOBJ"

// Larger ones are copied by who copies the buffers.
constexpr size_t kSmallPickle = 1 << 20;

struct ValueHeader {
  uint32_t magic = kValueMagic;
  ValueKind kind = ValueKind::kPickle;
  uint8_t pickle_size_high[3] = {};
  uint32_t pickle_size_low = 0;
  uint32_t n_buffers = 0;

  void SetPickleSize(uint64_t size) {
    MANTA_CHECK(size >> 56 == 0);
    pickle_size_low = static_cast<uint32_t>(size);
    const uint64_t high = size >> 32;
    std::memcpy(pickle_size_high, &high, sizeof pickle_size_high);
  }
  uint64_t PickleSize() const {
    uint64_t high = 0;
    std::memcpy(&high, pickle_size_high, sizeof pickle_size_high);
    return high << 32 | pickle_size_low;
  }
};
static_assert(sizeof(ValueHeader) == 16);

struct BufferRange {
  uint64_t offset;
  uint64_t size;
};

size_t AlignUp(size_t size) { return (size + Buffer::kAlignment - 1) & ~(Buffer::kAlignment - 1); }

size_t SizeBeforeBuffers(const ValueParts& parts) {
  return sizeof(ValueHeader) + parts.buffers.size() * sizeof(BufferRange) + parts.pickle.size();
}

}  // namespace

size_t SerializedSize(const ValueParts& parts) {
  size_t size = SizeBeforeBuffers(parts);
  for (std::string_view buffer : parts.buffers) size = AlignUp(size) + buffer.size();
  return size;
}

std::vector<std::pair<uint8_t*, std::string_view>> WriteHeaderAndPickle(const ValueParts& parts,
                                                                        uint8_t* out) {
  std::vector<std::pair<uint8_t*, std::string_view>> copies;
  ValueHeader header;
  header.kind = parts.kind;
  header.SetPickleSize(parts.pickle.size());
  header.n_buffers = static_cast<uint32_t>(parts.buffers.size());
  std::memcpy(out, &header, sizeof header);
  uint8_t* range_at = out + sizeof header;
  size_t offset = SizeBeforeBuffers(parts);
  for (std::string_view buffer : parts.buffers) {
    offset = AlignUp(offset);
    BufferRange range{offset, buffer.size()};
    std::memcpy(range_at, &range, sizeof range);
    range_at += sizeof range;
    copies.emplace_back(out + offset, buffer);
    offset += buffer.size();
  }
  if (parts.pickle.size() > kSmallPickle) {
    copies.emplace_back(range_at, parts.pickle);
  } else {
    parts.pickle.copy(reinterpret_cast<char*>(range_at), parts.pickle.size());
  }
  return copies;
}

BufferPtr Serialize(const ValueParts& parts) {
  auto buffer = std::make_shared<Buffer>(SerializedSize(parts));
  for (auto& [to, from] : WriteHeaderAndPickle(parts, buffer->mutable_data())) {
    from.copy(reinterpret_cast<char*>(to), from.size());  // unlike memcpy, takes an empty null view
  }
  return buffer;
}

absl::StatusOr<ParsedValue> ParseValue(std::string_view bytes) {
  PackReader reader(bytes);
  auto header = reader.Get<ValueHeader>();
  if (!reader.ok() || header.magic != kValueMagic || header.kind > ValueKind::kDependencyError) {
    return absl::DataLossError("the bytes are no serialized value");
  }
  std::string_view ranges = reader.GetBytes(uint64_t{header.n_buffers} * sizeof(BufferRange));
  ParsedValue value;
  value.kind = header.kind;
  value.pickle = reader.GetBytes(header.PickleSize());
  if (!reader.ok()) return absl::DataLossError("a serialized value was cut short");
  PackReader range_reader(ranges);
  for (uint32_t i = 0; i < header.n_buffers; ++i) {
    auto range = range_reader.Get<BufferRange>();
    if (range.offset > bytes.size() || range.size > bytes.size() - range.offset) {
      return absl::DataLossError("a serialized value has a buffer outside of its bytes");
    }
    value.buffers.push_back(bytes.substr(range.offset, range.size));
  }
  return value;
}

BufferPtr SerializeSystemError(const SystemError& error) {
  std::string packed;
  PackWriter writer(&packed);
  writer.PutSized(error.code);
  writer.PutSized(error.message);
  writer.PutSized(error.creation_error);
  writer.Put(static_cast<uint32_t>(error.details.size()));
  for (const auto& [key, value] : error.details) {
    writer.PutSized(key);
    writer.PutSized(value);
  }
  return Serialize({ValueKind::kSystemError, packed, {}});
}

absl::StatusOr<SystemError> ParseSystemError(std::string_view packed) {
  PackReader reader(packed);
  SystemError error;
  error.code = std::string(reader.GetSized());
  error.message = std::string(reader.GetSized());
  error.creation_error = std::string(reader.GetSized());
  auto count = reader.Get<uint32_t>();
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    std::string key(reader.GetSized());
    error.details.emplace_back(std::move(key), std::string(reader.GetSized()));
  }
  if (!reader.at_end()) return absl::DataLossError("a stored error was cut short");
  return error;
}

BufferPtr SerializeDependencyError(const DependencyError& error) {
  std::string packed;
  PackWriter writer(&packed);
  writer.PutSized(error.task_name);
  writer.PutSized(error.cause);
  return Serialize({ValueKind::kDependencyError, packed, {}});
}

absl::StatusOr<DependencyError> ParseDependencyError(std::string_view packed) {
  PackReader reader(packed);
  DependencyError error;
  error.task_name = std::string(reader.GetSized());
  error.cause = std::string(reader.GetSized());
  if (!reader.at_end()) return absl::DataLossError("a stored error was cut short");
  return error;
}

}  // namespace ray::core
