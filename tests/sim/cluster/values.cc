#include "tests/sim/cluster/values.h"

#include <cstring>

#include "ray/base/check.h"

namespace ray::sim {

using core::ContainedObject;
using core::ValueKind;

namespace {

void AppendNumber(std::string* to, uint64_t number) {
  to->append(reinterpret_cast<const char*>(&number), sizeof number);
}

uint64_t TakeNumber(std::string_view* from) {
  uint64_t number;
  MANTA_CHECK(from->size() >= sizeof number);
  std::memcpy(&number, from->data(), sizeof number);
  from->remove_prefix(sizeof number);
  return number;
}

std::string_view Take(std::string_view* from, size_t size) {
  MANTA_CHECK(from->size() >= size);
  const std::string_view taken = from->substr(0, size);
  from->remove_prefix(size);
  return taken;
}

Value ErrorOf(std::string_view bytes) {
  auto parsed = core::ParseValue(bytes);
  MANTA_CHECK(parsed.ok());
  if (parsed->kind == ValueKind::kDependencyError) {
    return ErrorOf(core::ParseDependencyError(parsed->pickle)->cause);
  }
  Value value;
  value.error = "RAISED";
  if (parsed->kind == ValueKind::kSystemError) {
    auto error = core::ParseSystemError(parsed->pickle);
    value.error = std::move(error->code);
    value.message = std::move(error->message);
  }
  return value;
}

}  // namespace

HandlePtr Receive(const Session& session, const ContainedObject& object) {
  session->AddLocalReference(object.id, object.owner);
  return std::make_shared<Handle>(session, object.id, object.owner);
}

std::string Encode(const core::AddressPtr& self, uint64_t number,
                   const std::vector<ContainedObject>& refs, size_t padding) {
  std::string bytes;
  AppendNumber(&bytes, number);
  AppendNumber(&bytes, refs.size());
  for (const ContainedObject& ref : refs) {
    bytes.append(ref.id.Binary());
    const std::string& owner = (ref.owner == nullptr ? self : ref.owner)->serialized;
    AppendNumber(&bytes, owner.size());
    bytes.append(owner);
  }
  bytes.append(padding, 'x');
  return bytes;
}

core::ValueParts AsValue(std::string_view bytes) {
  core::ValueParts parts;
  parts.kind = ValueKind::kRawBytes;
  parts.pickle = bytes;
  return parts;
}

Value Decode(const Session& session, std::string_view value_bytes) {
  auto parsed = core::ParseValue(value_bytes);
  MANTA_CHECK_MSG(parsed.ok(), "the bytes of a value are damaged");
  if (core::IsError(parsed->kind)) return ErrorOf(value_bytes);
  Value value;
  std::string_view rest = parsed->pickle;
  value.number = TakeNumber(&rest);
  const uint64_t refs = TakeNumber(&rest);
  for (uint64_t i = 0; i < refs; ++i) {
    const auto id = base::ObjectId::FromTrusted(Take(&rest, base::ObjectId::kSize).data());
    const uint64_t size = TakeNumber(&rest);
    auto owner = core::WorkerAddress::Parse(Take(&rest, size));
    MANTA_CHECK(owner.ok());
    value.refs.push_back(Receive(session, {id, *std::move(owner)}));
  }
  return value;
}

Value Get(const Session& session, const HandlePtr& object, const base::TaskId& waiter,
          int64_t deadline) {
  const base::ObjectId id = object->id();
  core::CoreWorker::GetResult result = session->Get(
      {&id, 1}, deadline, [] { return false; }, waiter);
  Value value;
  if (result.outcome == net::LoopDriver::Outcome::kTimeout) {
    value.error = "TIMEOUT";
  } else if (result.outcome != net::LoopDriver::Outcome::kDone) {
    value.error = "ENDED";
  } else {
    value = Decode(session, result.values[0].view());
  }
  return value;
}

HandlePtr Put(const Session& session, uint64_t number, bool in_store, size_t padding) {
  const std::string bytes = Encode(session->self_address(), number, {}, padding);
  if (!in_store) {
    const base::ObjectId id = session->PutInline(core::Serialize(AsValue(bytes)), {});
    return std::make_shared<Handle>(session, id, nullptr);
  }
  auto id = session->PutInStore(AsValue(bytes), {}, session->self_address(), "", {},
                                [] { return false; });
  if (!id.ok()) return nullptr;
  return std::make_shared<Handle>(session, *id, nullptr);
}

}  // namespace ray::sim
