#include "tests/sim/cluster/worker.h"

#include <unistd.h>

#include <cstring>
#include <utility>

#include "ray/base/check.h"
#include "ray/wire/v1/scheduling.pb.h"

namespace ray::sim {

using core::IncomingCall;
using core::IncomingCallPtr;
using resources::ResourceSet;

namespace {

ResourceSet FromRaw(const std::map<std::string, int64_t>& raw) {
  wire::v1::ResourceSet message;
  for (const auto& [name, quantity] : raw) (*message.mutable_quantities())[name] = quantity;
  return *ResourceSet::FromWire(message);
}

std::string ErrorValue(const std::string& code, const std::string& message = "") {
  core::SystemError error;
  error.code = code;
  error.message = message;
  return std::string(core::SerializeSystemError(error)->view());
}

}  // namespace

void VirtualWorker::Main(uint64_t startup_token,
                         const std::map<std::string, std::string>& environment) {
  World* world = World::Current();
  world->Sleep(world->Between(absl::Milliseconds(1), absl::Milliseconds(30)));
  core::CoreWorker::Options options;
  options.raylet_endpoint = environment.at("RAY_RAYLET_ENDPOINT");
  options.kind = wire::v1::WORKER;
  options.startup_token = startup_token;
  options.listen_host = environment.at("RAY_LISTEN_HOST");
  options.on_raylet_lost = [] { _exit(1); };
  auto session = core::CoreWorker::Connect(options);
  if (!session.ok()) return;
  session_ = *std::move(session);
  World::Current()->Note("is", session_->identity().worker_id.Hex().c_str());
  caller_ = std::make_unique<Caller>(session_);
  on_session_(process_, session_);
  while (IncomingCallPtr call = session_->NextCall([] { return false; })) {
    if (call->caller == nullptr) {
      Create(call);
    } else {
      Run(call);
    }
    call.reset();
    session_->FlushReplies();
  }
  session_->Shutdown();
}

void VirtualWorker::Create(const IncomingCallPtr& call) {
  const auto request = session_->creation_request();
  World* world = World::Current();
  world->Sleep(world->Between(absl::Microseconds(100), absl::Milliseconds(20)));
  auto held = ResourceSet::FromWire(request->spec().lifetime_resources());
  MANTA_CHECK(held.ok());
  if (request->spec().strategy().bundle().placement_group_id().empty() && !held->IsEmpty()) {
    ledger_->Begin(session_->identity().node_id, process_, *held);
  }
  kept_ = Unpack(*call).inside;
  session_->ReplyCreation(true, "", 1, {});
}

VirtualWorker::Arguments VirtualWorker::Unpack(const IncomingCall& call) const {
  const std::string_view bytes = call.args.view();
  Value value = Decode(session_, bytes);
  MANTA_CHECK(value.error.empty());
  Arguments arguments;
  arguments.number = value.number;
  arguments.inside = std::move(value.refs);
  auto parsed = core::ParseValue(bytes);
  const std::string_view tail = parsed->pickle.substr(parsed->pickle.size() - 5);
  uint32_t micros;
  std::memcpy(&micros, tail.data(), sizeof micros);
  arguments.time = absl::Microseconds(micros);
  arguments.stored = tail[4] != 0;
  return arguments;
}

void VirtualWorker::Run(const IncomingCallPtr& call) {
  World::Current()->Note("runs", call->task_template->name.c_str());
  if (call->argument_error != nullptr) {
    Result result;
    result.error = std::string(call->argument_error->view());
    return Answer(call, {}, std::move(result));
  }
  // Who waits lends its CPUs, and is not asked to stop when it takes them back.
  const auto function = static_cast<Function>(call->task_template->function[0]);
  has_waited_ |= function == Function::kNested || function == Function::kRead;
  wire::v1::SchedulingStrategy strategy;
  strategy.ParseFromString(call->task_template->strategy);
  const bool counted = !has_waited_ && call->task_template->actor_id.IsNil() &&
                       strategy.bundle().placement_group_id().empty();
  const base::NodeId node = session_->identity().node_id;
  if (counted) ledger_->Begin(node, process_, FromRaw(call->task_template->resources));
  Arguments arguments = Unpack(*call);
  World::Current()->Sleep(arguments.time);
  Result result = Compute(call, arguments);
  if (counted) ledger_->End(node, process_);
  Answer(call, arguments, std::move(result));
}

VirtualWorker::Result VirtualWorker::Compute(const IncomingCallPtr& call,
                                             const Arguments& arguments) {
  Result result;
  switch (static_cast<Function>(call->task_template->function[0])) {
    case Function::kAdd:
      result.number = arguments.number;
      for (const IncomingCall::Reference& reference : call->references) {
        const Value value = Decode(session_, reference.value.view());
        if (!value.error.empty()) {
          result.error = ErrorValue(value.error, value.message);
          return result;
        }
        result.number = Mix(result.number, value.number);
      }
      return result;
    case Function::kNested:
      return Nest(*call, arguments.number);
    case Function::kMake:
      result.number = arguments.number;
      for (uint64_t i = 0; i < 2; ++i) {
        HandlePtr made = Put(session_, Mix(arguments.number, i), arguments.stored && i == 0, 3000);
        if (made == nullptr) {
          result.error = ErrorValue("PUT_FAILED");
          return result;
        }
        result.refs.push_back(std::move(made));
      }
      return result;
    case Function::kRead:
      return Fold(arguments.number, arguments.inside, call->task_id);
    case Function::kPass:
      result.number = arguments.number;
      result.refs = arguments.inside;
      return result;
    case Function::kHold:
      kept_.insert(kept_.end(), arguments.inside.begin(), arguments.inside.end());
      result.number = arguments.number;
      return result;
    case Function::kHeld:
      return Fold(arguments.number, kept_, call->task_id);
    case Function::kDrop:
      kept_.clear();
      result.number = arguments.number;
      return result;
  }
  MANTA_CHECK_MSG(false, "no such function");
  return result;
}

VirtualWorker::Result VirtualWorker::Fold(uint64_t number, const std::vector<HandlePtr>& refs,
                                          const base::TaskId& waiter) {
  Result result;
  result.number = number;
  for (const HandlePtr& ref : refs) {
    const Value value = Get(session_, ref, waiter);
    if (!value.error.empty()) {
      result.error = ErrorValue(value.error, value.message);
      return result;
    }
    result.number = Mix(result.number, value.number);
  }
  return result;
}

VirtualWorker::Result VirtualWorker::Nest(const IncomingCall& call, uint64_t number) {
  std::vector<HandlePtr> children;
  for (uint64_t i = 0; i < kChildren; ++i) {
    Call child;
    child.number = ChildNumber(number, i);
    child.time = absl::Milliseconds(1);
    child.stored = i == 0;
    children.push_back(caller_->Submit(child, {}, call.task_id));
  }
  return Fold(number, children, call.task_id);
}

void VirtualWorker::Answer(const IncomingCallPtr& call, const Arguments& arguments, Result result) {
  core::ResultValue value;
  if (!result.error.empty()) {
    value.inline_value = core::Buffer::Copy(result.error);
    return session_->Reply(call, core::TaskStatus::kError, {std::move(value)});
  }
  for (const HandlePtr& ref : result.refs) value.contained.push_back(ref->Named());
  const bool stores = arguments.stored && result.refs.empty();
  const std::string bytes =
      Encode(session_->self_address(), result.number, value.contained, stores ? 3000 : 0);
  if (!stores) {
    value.inline_value = core::Serialize(AsValue(bytes));
  } else {
    value.stored_bytes = core::SerializedSize(AsValue(bytes));
    auto stored = session_->PutInStore(AsValue(bytes), base::ReturnObjectId(call->task_id, 1),
                                       call->caller->address, "", {}, [] { return false; });
    if (!stored.ok()) {
      value.stored_bytes = 0;
      value.inline_value = core::Buffer::Copy(ErrorValue("PUT_FAILED"));
      return session_->Reply(call, core::TaskStatus::kError, {std::move(value)});
    }
  }
  session_->Reply(call, core::TaskStatus::kOk, {std::move(value)});
}

}  // namespace ray::sim
