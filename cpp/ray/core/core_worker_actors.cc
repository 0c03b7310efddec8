// Actors of this process: creating them, calling them, hearing of their fate.
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/logging.h"
#include "ray/core/core_worker.h"
#include "ray/net/parse_frame.h"

namespace ray::core {

using base::ActorId;
using base::ObjectId;
using base::TaskId;

namespace {

constexpr int kSubscribeAttempts = 10;
constexpr absl::Duration kSubscribeAgain = absl::Milliseconds(500);
// Of a process that ended its raylet knows within milliseconds.
constexpr absl::Duration kAskLater = absl::Seconds(1);

void SetCreation(const PushTaskFrame& call, wire::v1::ActorSpec* spec) {
  std::string metadata;
  std::string bytes;
  std::vector<std::string_view> payload;
  PackPushTask(call, &metadata, &payload);
  for (std::string_view segment : payload) bytes.append(segment);
  spec->set_args_metadata(std::move(metadata));
  spec->set_args_payload(std::move(bytes));
}

}  // namespace

ObjectId HandleReferenceOf(const ActorId& actor) {
  return base::ReturnObjectId(base::MakeTaskId(0, actor), 1);
}

absl::StatusOr<CoreWorker::ActorHandle> CoreWorker::CreateActor(NewActor actor,
                                                                Interrupted interrupted) {
  wire::v1::RegisterActor request;
  request.set_get_if_exists(actor.get_if_exists);
  *request.mutable_spec() = std::move(actor.spec);
  wire::v1::ActorSpec* spec = request.mutable_spec();
  bool named = !spec->name().empty();
  struct Registration {
    std::optional<wire::v1::RegisterActorReply> reply;
    bool abandoned = false;
  };
  auto registration = std::make_shared<Registration>();
  ActorHandle handle;
  {
    absl::MutexLock lock(&mutex_);
    Drain();
    handle = NewHandle(spec->detached());
    spec->set_actor_id(handle.id.BinaryString());
    self_->ToProto(spec->mutable_owner());

    // The creation call travels as a task would; arguments that are references are fetched by the
    // actor itself, so that creation waits for nobody. What they mention lives until the actor is
    // dead: a restart needs it again.
    Task creation;
    creation.id = base::MakeTaskId(0, handle.id);
    PinArguments(&creation, actor.arguments);
    PushTaskFrame frame;
    frame.task_id = creation.id;
    frame.args_object = actor.arguments.args_object;
    if (actor.arguments.args != nullptr) frame.args = actor.arguments.args->view();
    for (const Task::TopLevelRef& ref : actor.arguments.refs) {
      RefArgument argument;
      argument.kind = RefArgument::Kind::kByOwner;
      argument.position = ref.position;
      argument.keyword = ref.keyword;
      argument.object_id = ref.id;
      argument.owner_address = (ref.owner == nullptr ? self_ : ref.owner)->serialized;
      frame.refs.push_back(std::move(argument));
    }
    SetCreation(frame, spec);
    ActorMaking& making = makings_[handle.id];
    for (const ContainedObject& mentioned : creation.mentions) making.pins.push_back(mentioned.id);
    if (!spec->detached() && spec->restarts_max() != 0) making.again = request;
    RegisterActor(request,
                  [this, registration, named, handle](const wire::v1::RegisterActorReply& reply) {
                    mutex_.AssertHeld();
                    if (reply.status().code() != 0 && !named) NotRegistered(handle.id, reply);
                    registration->reply = reply;
                    if (registration->abandoned) Abandon(handle, reply);
                  });
    // After the registration: the raylet answers a subscription to an actor that nobody registered
    // with "not found".
    actors_.AddActor(handle.id, spec->pending_calls_max());
  }
  if (!named) return handle;

  auto outcome =
      driver_->WaitUntil([&] { return registration->reply.has_value(); }, kNoDeadline, interrupted);
  absl::MutexLock lock(&mutex_);
  if (outcome == net::LoopDriver::Outcome::kInterrupted) {
    // The GCS can hear that nobody wants the actor once it knows it.
    registration->abandoned = true;
    if (registration->reply.has_value()) Abandon(handle, *registration->reply);
    return absl::CancelledError("interrupted");
  }
  const wire::v1::RegisterActorReply& reply = *registration->reply;
  if (reply.status().code() == 0) return handle;
  ForgetNotCreated(handle);
  bool taken = reply.status().code() == static_cast<int>(absl::StatusCode::kAlreadyExists);
  if (!taken || !request.get_if_exists()) {
    return absl::Status(static_cast<absl::StatusCode>(reply.status().code()),
                        reply.status().message());
  }
  ActorHandle existing;
  MANTA_ASSIGN_OR_RETURN(existing.id, ActorId::FromBinary(reply.existing().actor_id()));
  existing.existing_blob = reply.existing().handle_blob();
  actors_.AddActor(existing.id, reply.existing().pending_calls_max());
  actors_.OnActorInfo(reply.existing());
  return existing;
}

CoreWorker::ActorHandle CoreWorker::NewHandle(bool detached) {
  ActorHandle handle;
  handle.id = base::NewActorId(worker_job_);
  if (detached) return handle;
  handle.handle_ref = HandleReferenceOf(handle.id);
  objects_.AddOwned(handle.handle_ref).local = 1;
  handle_refs_[handle.handle_ref] = handle.id;
  return handle;
}

// An actor that ended only because nobody had a handle of it any more.
bool CoreWorker::CanBeMadeAnew(const ActorId& id) const {
  auto making = makings_.find(id);
  return making != makings_.end() && making->second.again.has_value() &&
         !handle_refs_.contains(HandleReferenceOf(id));
}

// For calls whose results were lost: as an actor of its own, without the name, that has a restart
// less and ends with the last of these calls. The handle has one local reference.
CoreWorker::ActorHandle CoreWorker::MakeAnew(const ActorId& id) {
  ActorMaking& old = makings_.at(id);
  if (auto there = handle_refs_.find(HandleReferenceOf(old.successor));
      there != handle_refs_.end()) {
    objects_.AddLocal(there->first, nullptr);
    return {there->second, there->first, std::nullopt};
  }
  const ActorHandle handle = NewHandle(/*detached=*/false);
  old.successor = handle.id;
  ActorMaking making;
  making.pins = old.pins;
  for (const ObjectId& pinned : making.pins) objects_.Pin(pinned, nullptr);  // it has an entry
  wire::v1::RegisterActor request = *old.again;
  request.set_get_if_exists(false);
  wire::v1::ActorSpec* spec = request.mutable_spec();
  spec->clear_name();
  spec->set_actor_id(handle.id.BinaryString());
  if (spec->restarts_max() > 0) spec->set_restarts_max(spec->restarts_max() - 1);
  const wire::v1::ActorSpec& first = old.again->spec();
  absl::StatusOr<PushTaskFrame> creation =
      ParsePushTask(first.args_metadata(), first.args_payload());
  MANTA_CHECK(creation.ok());  // this process has packed it
  creation->task_id = base::MakeTaskId(0, handle.id);
  SetCreation(*creation, spec);
  MANTA_LOG(kInfo, "actor ", id.Hex(), " is made anew as ", handle.id.Hex(),
            " to compute lost results of its calls");
  if (spec->restarts_max() != 0) making.again = request;
  makings_[handle.id] = std::move(making);
  RegisterActor(request, [this, id = handle.id](const wire::v1::RegisterActorReply& reply) {
    mutex_.AssertHeld();
    if (reply.status().code() != 0) NotRegistered(id, reply);
  });
  actors_.AddActor(handle.id, spec->pending_calls_max());
  return handle;
}

void CoreWorker::ForgetMakingIfUnused(const ActorId& id) {
  auto making = makings_.find(id);
  if (making == makings_.end() || !making->second.dead || making->second.kept_calls > 0) return;
  const auto forgotten = makings_.extract(making);
  for (const ObjectId& pinned : forgotten.mapped().pins) objects_.Unpin(pinned);
}

void CoreWorker::HearOfActor(const wire::v1::ActorInfo& info) {
  // Only one that was not wanted any more is made anew.
  if (info.state() == wire::v1::DEAD && info.death_cause() != wire::v1::OUT_OF_SCOPE) {
    const absl::StatusOr<ActorId> id = ActorId::FromBinary(info.actor_id());
    auto making = id.ok() ? makings_.find(*id) : makings_.end();
    if (making != makings_.end()) making->second.again.reset();
  }
  actors_.OnActorInfo(info);
}

void CoreWorker::NotRegistered(const ActorId& id, const wire::v1::RegisterActorReply& reply) {
  MarkActorDead(id, wire::v1::CREATION_FAILED,
                absl::StrCat("the actor could not be registered: ", reply.status().message()));
}

// The name is somebody else's, or the GCS could not be asked: nothing was created here.
void CoreWorker::ForgetNotCreated(const ActorHandle& handle) {
  if (!handle.handle_ref.IsNil()) {
    handle_refs_.erase(handle.handle_ref);
    objects_.RemoveLocal(handle.handle_ref);
  }
  MarkActorDead(handle.id, wire::v1::CREATION_FAILED, "the name was taken");
}

// Its caller was interrupted: an actor that was created ends as if its only handle were dropped,
// unless it is detached.
void CoreWorker::Abandon(const ActorHandle& handle, const wire::v1::RegisterActorReply& reply) {
  if (reply.status().code() != 0) return ForgetNotCreated(handle);
  if (!handle.handle_ref.IsNil()) objects_.RemoveLocal(handle.handle_ref);
}

void CoreWorker::RegisterActor(const wire::v1::RegisterActor& request,
                               absl::AnyInvocable<void(const wire::v1::RegisterActorReply&)> done) {
  raylet_->Call(wire::v1::REGISTER_ACTOR, request,
                [done = std::move(done)](absl::StatusOr<net::Frame> frame) mutable {
                  wire::v1::RegisterActorReply reply;
                  if (frame.ok()) {
                    auto parsed = net::ParseMetadata<wire::v1::RegisterActorReply>(*frame);
                    if (parsed.ok()) return done(*parsed);
                    frame = parsed.status();
                  }
                  reply.mutable_status()->set_code(static_cast<int>(frame.status().code()));
                  reply.mutable_status()->set_message(std::string(frame.status().message()));
                  done(reply);
                });
}

void CoreWorker::MarkActorDead(const ActorId& id, wire::v1::ActorDeathCause cause,
                               std::string_view message) {
  wire::v1::ActorInfo info;
  info.set_actor_id(id.BinaryString());
  info.set_state(wire::v1::DEAD);
  info.set_death_cause(cause);
  info.set_death_message(std::string(message));
  info.set_class_name(actors_.ClassNameOf(id));
  info.set_revision(UINT64_MAX);
  HearOfActor(info);
}

void CoreWorker::KnowActor(const ActorId& id, int32_t pending_calls_max) {
  absl::MutexLock lock(&mutex_);
  actors_.AddActor(id, pending_calls_max);
}

std::optional<TaskId> CoreWorker::SubmitActorCall(const ActorId& id, TemplatePtr task_template,
                                                  CallArguments arguments, const TaskId& parent) {
  absl::MutexLock lock(&mutex_);
  Drain();
  actors_.AddActor(id, /*pending_calls_max=*/-1);  // it may be forgotten
  if (!actors_.HasRoom(id)) return std::nullopt;
  TaskId task_id = task_ids_.Next(id);
  // The call keeps the actor in scope.
  ObjectId handle_ref = HandleReferenceOf(id);
  if (ObjectTable::Entry* entry = objects_.Find(handle_ref); entry != nullptr) {
    arguments.nested.push_back({handle_ref, entry->owner});
  }
  TaskPtr task = MakeTask(task_id, std::move(task_template), std::move(arguments), parent);
  task->actor_id = id;
  // In the actor's queue before its arguments are there: calls keep their order (CALL-1).
  task->unresolved = task->refs.empty() ? 0 : 1;
  actors_.Submit(task);
  if (!task->refs.empty() && pending_.contains(task_id)) Resolve(task);
  return task_id;
}

void CoreWorker::Subscribe(const ActorId& actor) {
  mutex_.AssertHeld();
  Subscribe(actor, kSubscribeAttempts);
}

// The GCS does not know actors that died long ago, nor for a moment one that another node has just
// registered.
void CoreWorker::Subscribe(const ActorId& actor, int attempts_left) {
  wire::v1::SubscribeActor request;
  request.set_actor_id(actor.BinaryString());
  raylet_->Call(wire::v1::SUBSCRIBE_ACTOR, request,
                [this, actor, attempts_left](absl::StatusOr<net::Frame> reply) {
                  mutex_.AssertHeld();
                  if (!reply.ok()) return;
                  auto info = net::ParseMetadata<wire::v1::ActorInfoReply>(*reply);
                  if (!info.ok()) return;
                  if (info->status().code() == 0) return HearOfActor(info->info());
                  if (info->status().code() != static_cast<int>(absl::StatusCode::kNotFound))
                    return;
                  if (attempts_left <= 1) {
                    return MarkActorDead(actor, wire::v1::WORKER_DIED,
                                         "the cluster knows it no more: it died long ago");
                  }
                  loop_.RunAfter(kSubscribeAgain, [this, actor, attempts_left] {
                    mutex_.AssertHeld();
                    if (!shut_down_.load()) Subscribe(actor, attempts_left - 1);
                  });
                });
}

void CoreWorker::AskLater(const ActorId& actor) {
  loop_.RunAfter(kAskLater, [this, actor] {
    mutex_.AssertHeld();
    if (!shut_down_.load()) actors_.AskIfCutOff(actor);
  });
}

void CoreWorker::ActorDead(const ActorId& actor) {
  mutex_.AssertHeld();
  auto making = makings_.find(actor);
  if (making == makings_.end()) return;
  making->second.dead = true;
  ForgetMakingIfUnused(actor);
}

bool CoreWorker::IsConnected(const base::WorkerId& worker) {
  mutex_.AssertHeld();
  return peers_->FindConnected(worker) != nullptr;
}

wire::v1::ActorState CoreWorker::StateOfActor(const ActorId& id) {
  absl::MutexLock lock(&mutex_);
  return actors_.StateOf(id);
}

}  // namespace ray::core
