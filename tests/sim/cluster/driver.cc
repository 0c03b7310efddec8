#include "tests/sim/cluster/driver.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/clock.h"
#include "ray/wire/v1/scheduling.pb.h"

namespace ray::sim {
namespace {

constexpr size_t kKnownMax = 40;
constexpr absl::Duration kGroupPatience = absl::Seconds(20);

bool Never() { return false; }

int64_t In(absl::Duration time) { return base::MonotonicNanos() + absl::ToInt64Nanoseconds(time); }

}  // namespace

void VirtualDriver::Main() {
  if (!Connect()) return;
  switch (options_.program) {
    case Program::kMixed:
      RunMixed();
      break;
    case Program::kManyTasks:
      RunManyTasks();
      break;
    case Program::kActorHoldsResult:
      RunActorHoldsResult();
      break;
  }
  Finish();
  finished_ = true;
}

bool VirtualDriver::Connect() {
  core::CoreWorker::Options options;
  options.raylet_endpoint = options_.raylet_endpoint;
  options.listen_host = options_.listen_host;
  options.kind = wire::v1::DRIVER;
  options.on_raylet_lost = [] { _exit(1); };
  // Its node may be starting, and the GCS away.
  for (int attempt = 0; attempt < 100; ++attempt) {
    auto session = core::CoreWorker::Connect(options);
    if (session.ok()) {
      session_ = *std::move(session);
      caller_ = std::make_unique<Caller>(session_);
      options_.on_session(world_->current(), session_);
      return true;
    }
    world_->Sleep(absl::Milliseconds(200));
  }
  return false;
}

std::string VirtualDriver::Describe() const {
  std::string text =
      absl::StrCat(doing_, ", ", counts_.submitted, " calls submitted, ", counts_.right, " right");
  if (waits_for_ != nullptr) {
    absl::StrAppend(&text, ", waits for object ", waits_for_->object->id().Hex(), " of function ",
                    std::string(1, waits_for_->function));
    const auto why = session_->WhyPending(waits_for_->object->id(), Never);
    absl::StrAppend(&text, ": ", why.ok() ? *why : why.status().ToString());
  }
  return text;
}

// --- Many tasks

void VirtualDriver::RunManyTasks() {
  constexpr size_t kAtOnce = 1000;
  while (counts_.submitted < options_.calls) {
    Known next;
    Call call;
    call.number = counts_.submitted;
    call.time = world_->Between(absl::Milliseconds(1), options_.time_max);
    next.number = call.number;
    next.object = caller_->Submit(call, {}, base::TaskId());
    known_.push_back(std::move(next));
    ++counts_.submitted;
    while (known_.size() >= kAtOnce) {
      if (!Check(known_.front())) _exit(1);
      known_.erase(known_.begin());
    }
  }
}

// --- An actor that holds its result

void VirtualDriver::RunActorHoldsResult() {
  MakeActor();
  const KnownActor& actor = actors_.front();
  Call make;
  make.stored = true;
  Known made;
  made.number = 0;
  made.object = caller_->SubmitTo(actor.id, make, core::kUnlimited);
  MANTA_CHECK(Check(made));
  Call hold;
  hold.function = Function::kHold;
  hold.inside.push_back(made.object);
  Known held;
  held.object = caller_->SubmitTo(actor.id, hold, core::kUnlimited);
  MANTA_CHECK(Check(held));
  actors_.clear();
}

// --- Everything

void VirtualDriver::RunMixed() {
  while (counts_.submitted < options_.calls) {
    DoSomething();
    if (world_->Chance(0.3)) {
      world_->Sleep(world_->Between(absl::ZeroDuration(), absl::Milliseconds(50)));
    }
  }
}

void VirtualDriver::DoSomething() {
  const uint64_t kind = world_->Any(100);
  if (kind < 45) return Submit();
  if (kind < 60) return CallActor();
  if (kind < 64) return MakeActor();
  if (kind < 66) return UseGroup();
  if (kind < 85) return CheckOne();
  DropSome();
}

VirtualDriver::Known& VirtualDriver::Remember(Known known) {
  while (known_.size() >= kKnownMax) known_.erase(known_.begin() + world_->Any(known_.size()));
  known_.push_back(std::move(known));
  return known_.back();
}

const VirtualDriver::Known& VirtualDriver::AnyKnown() {
  if (known_.empty() || world_->Chance(0.1)) {
    doing_ = "putting";
    Known put;
    put.number = world_->Any(1 << 30);
    put.object = Put(session_, *put.number, world_->Chance(0.5), 3000);
    MANTA_CHECK_MSG(put.object != nullptr, "a put failed");
    put.function = 'P';
    return Remember(std::move(put));
  }
  return known_[world_->Any(known_.size())];
}

Call VirtualDriver::AnyCall() {
  Call call;
  call.number = world_->Any(1 << 30);
  call.time = world_->Chance(0.2) ? world_->Between(absl::Milliseconds(1), options_.time_max)
                                  : world_->Between(absl::Microseconds(50), absl::Milliseconds(2));
  call.stored = world_->Chance(0.4);
  return call;
}

// One or two objects inside the argument.
void VirtualDriver::AddReferences(Call* call, Known* known) {
  const size_t count = 1 + world_->Any(2);
  for (size_t i = 0; i < count; ++i) {
    const Known inside = AnyKnown();
    call->inside.push_back(inside.object);
    known->refs.push_back(inside);
  }
}

void VirtualDriver::Submit() {
  doing_ = "submitting";
  Known next;
  Call call = AnyCall();
  CallOptions options;
  const uint64_t kind = world_->Any(10);
  if (kind < 5) {
    next.number = call.number;
    const size_t count = world_->Any(3);
    for (size_t i = 0; i < count; ++i) {
      const Known argument = AnyKnown();
      call.args.push_back(argument.object);
      next.may_fail |= argument.may_fail;
      next.number = next.number.has_value() && argument.number.has_value()
                        ? std::optional(Mix(*next.number, *argument.number))
                        : std::nullopt;
    }
    if (world_->Chance(0.1)) options.resources = {{"CPU", 20'000}};
    if (world_->Chance(0.1)) options.resources["gold"] = 5'000;
    if (world_->Chance(0.1)) options.strategy = wire::v1::SchedulingStrategy().SerializeAsString();
  } else if (kind < 6) {
    call.function = Function::kNested;
    next.number = call.number;
    for (uint64_t i = 0; i < kChildren; ++i) {
      next.number = Mix(*next.number, ChildNumber(call.number, i));
    }
  } else if (kind < 7) {
    call.function = Function::kMake;
    next.number = call.number;
  } else if (kind < 9) {
    call.function = Function::kRead;
    AddReferences(&call, &next);
    next.number = call.number;
    for (const Known& inside : std::exchange(next.refs, {})) {
      next.may_fail |= inside.may_fail;
      next.number = next.number.has_value() && inside.number.has_value()
                        ? std::optional(Mix(*next.number, *inside.number))
                        : std::nullopt;
    }
  } else {
    call.function = Function::kPass;
    AddReferences(&call, &next);
    next.number = call.number;
  }
  if (world_->Chance(0.2)) {
    options.max_retries = static_cast<int>(world_->Any(3));
    next.may_fail |= options_.faults;
  }
  next.function = static_cast<char>(call.function);
  next.object = caller_->Submit(call, options, base::TaskId());
  ++counts_.submitted;
  Remember(std::move(next));
}

// --- Actors

void VirtualDriver::MakeActor() {
  doing_ = "making an actor";
  if (actors_.size() > 4) LetGo(world_->Any(actors_.size()));
  core::CoreWorker::NewActor actor;
  KnownActor made;
  made.lasting = !options_.faults || world_->Chance(0.5);
  actor.spec.set_class_name("Keeper");
  actor.spec.set_restarts_max(made.lasting ? -1 : static_cast<int>(world_->Any(2)));
  actor.spec.set_task_retries_max(made.lasting ? -1 : 0);
  actor.spec.set_concurrency_max(1);
  actor.spec.set_pending_calls_max(-1);
  if (world_->Chance(0.7)) {
    (*actor.spec.mutable_creation_resources()->mutable_quantities())["slot"] = 10'000;
    (*actor.spec.mutable_lifetime_resources()->mutable_quantities())["slot"] = 10'000;
  }
  (*actor.spec.mutable_creation_resources()->mutable_quantities())["CPU"] = 10'000;
  Call creation;
  if (world_->Chance(0.3)) {
    const Known inside = AnyKnown();
    if (!inside.may_fail) {
      creation.inside.push_back(inside.object);
      made.kept.push_back(inside);
    }
  }
  actor.arguments = caller_->ArgumentsOf(creation);
  auto handle = session_->CreateActor(std::move(actor), Never);
  MANTA_CHECK(handle.ok());
  made.id = handle->id;
  made.handle = std::make_shared<Handle>(session_, handle->handle_ref, nullptr);
  actors_.push_back(std::move(made));
  ++counts_.actors;
}

// It keeps nothing that it was given: its process stays as long as others borrow what it owns, and
// that may be inside what it keeps.
void VirtualDriver::LetGo(size_t which) {
  const KnownActor actor = std::move(actors_[which]);
  actors_.erase(actors_.begin() + static_cast<ptrdiff_t>(which));
  Call drop;
  drop.function = Function::kDrop;
  caller_->SubmitTo(actor.id, drop, actor.lasting ? core::kUnlimited : 0);
}

void VirtualDriver::CallActor() {
  if (actors_.empty()) return MakeActor();
  doing_ = "calling an actor";
  KnownActor& actor = actors_[world_->Any(actors_.size())];
  Known next;
  Call call = AnyCall();
  next.number = call.number;
  // Lost with its node, a stored value is not made again once the actor is out of scope.
  next.may_fail = !actor.lasting || (options_.faults && call.stored);
  const uint64_t kind = world_->Any(10);
  if (kind < 4) {
    const Known argument = AnyKnown();
    call.args.push_back(argument.object);
    next.may_fail |= argument.may_fail;
    next.number = argument.number.has_value() ? std::optional(Mix(call.number, *argument.number))
                                              : std::nullopt;
  } else if (kind < 6) {
    call.function = Function::kHold;
    const Known inside = AnyKnown();
    call.inside.push_back(inside.object);
    actor.kept.push_back(inside);
  } else if (kind < 9) {
    call.function = Function::kHeld;
    // What it held before it was started again it holds no more.
    if (options_.faults) next.number.reset();
    for (const Known& kept : actor.kept) {
      next.may_fail |= kept.may_fail;
      next.number = next.number.has_value() && kept.number.has_value()
                        ? std::optional(Mix(*next.number, *kept.number))
                        : std::nullopt;
    }
  } else {
    call.function = Function::kDrop;
    actor.kept.clear();
  }
  next.function = static_cast<char>(call.function);
  next.object = caller_->SubmitTo(actor.id, call, actor.lasting ? core::kUnlimited : 0);
  ++counts_.submitted;
  Remember(std::move(next));
  if (options_.faults && !actor.lasting && world_->Chance(0.05)) {
    doing_ = "killing an actor";
    static_cast<void>(session_->KillActor(actor.id, world_->Chance(0.5), Never));
  }
}

// --- Placement groups

void VirtualDriver::UseGroup() {
  doing_ = "making a placement group";
  wire::v1::PlacementGroupSpec spec;
  constexpr wire::v1::PlacementStrategy kStrategies[] = {
      wire::v1::PACK, wire::v1::SPREAD, wire::v1::STRICT_PACK, wire::v1::STRICT_SPREAD};
  spec.set_strategy(kStrategies[world_->Any(4)]);
  const size_t bundles = 1 + world_->Any(2);
  for (size_t i = 0; i < bundles; ++i) {
    (*spec.add_bundles()->mutable_resources()->mutable_quantities())["CPU"] = 10'000;
  }
  auto group = session_->CreatePlacementGroup(std::move(spec), Never);
  MANTA_CHECK(group.ok());
  ++counts_.groups;
  auto info = session_->WaitPlacementGroup(*group, In(kGroupPatience), Never);
  if (info.ok() && info->state() == wire::v1::GROUP_CREATED) {
    doing_ = "running in a placement group";
    wire::v1::SchedulingStrategy strategy;
    strategy.mutable_bundle()->set_placement_group_id(group->BinaryString());
    strategy.mutable_bundle()->set_bundle_index(
        world_->Chance(0.5) ? -1 : static_cast<int>(world_->Any(bundles)));
    CallOptions options;
    options.strategy = strategy.SerializeAsString();
    options.group = *group;
    std::vector<HandlePtr> objects;
    const size_t calls = 1 + world_->Any(4);
    for (size_t i = 0; i < calls; ++i) {
      Call call = AnyCall();
      objects.push_back(caller_->Submit(call, options, base::TaskId()));
      ++counts_.submitted;
    }
    for (const HandlePtr& object : objects) {
      const Value value = Get(session_, object, base::TaskId(), In(kGroupPatience));
      if (value.error == "ENDED") _exit(1);
      MANTA_CHECK_MSG(value.error.empty() || options_.faults, value.error);
      ++(value.error.empty() ? counts_.right : counts_.failed);
    }
  }
  session_->RemovePlacementGroup(*group);
}

// --- Looking at results

void VirtualDriver::CheckOne() {
  if (known_.empty()) return;
  const size_t which = world_->Any(known_.size());
  const Known known = known_[which];
  if (!Check(known)) _exit(1);
}

// Its node was declared dead while it was cut off, and it hears of that from the GCS first.
bool VirtualDriver::SaysThatWeAreDead(const Value& value) const {
  const std::string self = session_->self_address()->worker_id.Hex();
  return value.error == "ACTOR_DIED" &&
         value.message.find(absl::StrCat("worker ", self, ", is dead")) != std::string::npos;
}

bool VirtualDriver::Check(const Known& known) {
  doing_ = "waiting";
  waits_for_ = &known;
  const Value value = Get(session_, known.object, base::TaskId());
  waits_for_ = nullptr;
  if (value.error == "ENDED" || SaysThatWeAreDead(value)) return false;
  if (!value.error.empty()) {
    // A worker ends with its group if it runs a call that was given up, or if a grant of it was
    // still under way when the group was removed. It may own what other calls have made.
    const bool ended_with_group = value.error == "OWNER_DIED" && counts_.groups > 0;
    MANTA_CHECK_MSG(
        known.may_fail || ended_with_group,
        absl::StrCat("function ", std::string(1, known.function), " (object ",
                     known.object->id().Hex(), ") failed: ", value.error, ", ", value.message));
    ++counts_.failed;
    return true;
  }
  MANTA_CHECK_MSG(!known.number.has_value() || *known.number == value.number,
                  absl::StrCat("function ", std::string(1, known.function), " is wrong"));
  ++counts_.right;
  for (size_t i = 0; i < value.refs.size(); ++i) {
    Known inner;
    inner.object = value.refs[i];
    if (known.function == static_cast<char>(Function::kMake)) {
      inner.number = Mix(value.number, i);
      inner.may_fail = options_.faults;  // their owner may die
      inner.function = 'i';
    } else {
      inner = known.refs[i];
      inner.object = value.refs[i];
    }
    Remember(std::move(inner));
  }
  return true;
}

void VirtualDriver::DropSome() {
  doing_ = "dropping";
  const size_t count = 1 + world_->Any(5);
  for (size_t i = 0; i < count && !known_.empty(); ++i) {
    known_.erase(known_.begin() + world_->Any(known_.size()));
  }
  if (world_->Chance(0.2) && !actors_.empty()) {
    LetGo(world_->Any(actors_.size()));
  }
}

std::string VirtualDriver::DescribeLeft() const {
  std::string text = "objects are left that nobody refers to:";
  for (const auto& [id, local, other] : session_->CountReferences()) {
    const auto why = session_->WhyPending(id, Never);
    absl::StrAppend(&text, " ", id.Hex(), " (local ", local, ", other ", other, "; ",
                    why.ok() ? *why : why.status().ToString(), ")");
  }
  return text;
}

// Everything that it still has must come out; then it lets go of everything, and nothing is left.
void VirtualDriver::Finish() {
  while (!known_.empty()) {
    const Known last = known_.back();
    known_.pop_back();
    if (!Check(last)) _exit(1);
  }
  while (!actors_.empty()) LetGo(0);
  doing_ = "letting go";
  const int64_t deadline = In(absl::Seconds(60));
  while (!session_->CountReferences().empty()) {
    MANTA_CHECK_MSG(base::MonotonicNanos() < deadline, DescribeLeft());
    world_->Sleep(absl::Milliseconds(100));
  }
  caller_.reset();
  session_->Shutdown();
}

}  // namespace ray::sim
