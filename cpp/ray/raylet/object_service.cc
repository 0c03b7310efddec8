#include "ray/raylet/object_service.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"

namespace ray::raylet {

using base::NodeId;
using base::ObjectId;
using base::WorkerId;
using store::CreateReply;
using store::GetReply;
using transfer::PullManager;
using transfer::PullPriority;
using wire::v1::StoreCreateReply;
using wire::v1::StoreGetReply;

namespace {

store::ClientId StoreClient(const Client& client) { return store::ClientId{client.id}; }

StoreCreateReply::Outcome ToWire(CreateReply::Outcome outcome) {
  switch (outcome) {
    case CreateReply::Outcome::kCreated:
      return StoreCreateReply::CREATED;
    case CreateReply::Outcome::kExists:
      return StoreCreateReply::EXISTS;
    case CreateReply::Outcome::kTooLarge:
      return StoreCreateReply::TOO_LARGE;
    case CreateReply::Outcome::kFull:
      return StoreCreateReply::FULL;
    case CreateReply::Outcome::kOutOfDisk:
      return StoreCreateReply::OUT_OF_DISK;
    case CreateReply::Outcome::kAborted:
      break;
  }
  return StoreCreateReply::FULL;
}

StoreGetReply::Entry::Absence AbsenceOf(GetReply::Outcome outcome) {
  switch (outcome) {
    case GetReply::Outcome::kGone:
      return StoreGetReply::Entry::GONE;
    case GetReply::Outcome::kNoMemory:
      return StoreGetReply::Entry::NO_MEMORY;
    case GetReply::Outcome::kLost:
      return StoreGetReply::Entry::LOST;
    case GetReply::Outcome::kPresent:
    case GetReply::Outcome::kAbsent:
      break;
  }
  return StoreGetReply::Entry::ABSENCE_UNSPECIFIED;
}

void SendCreated(const Responder& responder, const CreateReply& created) {
  StoreCreateReply reply;
  reply.set_outcome(ToWire(created.outcome));
  reply.set_offset(created.offset);
  reply.set_path(created.path);
  reply.set_message(created.message);
  responder.Send(reply);
}

void SendGot(const Responder& responder, const GetReply& got) {
  StoreGetReply reply;
  for (const GetReply::Entry& entry : got.entries) {
    StoreGetReply::Entry* out = reply.add_entries();
    out->set_present(entry.outcome == GetReply::Outcome::kPresent);
    if (!out->present()) {
      out->set_absence(AbsenceOf(entry.outcome));
      out->set_reason(entry.reason);
      continue;
    }
    out->set_offset(entry.extent.offset);
    out->set_size_bytes(entry.extent.size);
    out->set_path(entry.path);
  }
  responder.Send(reply);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ObjectService>> ObjectService::Create(net::EventLoop* loop,
                                                                     const base::Clock* clock,
                                                                     FrameRouter* router,
                                                                     const Options& options,
                                                                     Events events) {
  std::unique_ptr<ObjectService> service(
      new ObjectService(loop, clock, options.node, std::move(events)));
  MANTA_RETURN_IF_ERROR(service->Open(clock, options));
  service->RegisterFrames(router);
  return service;
}

ObjectService::ObjectService(net::EventLoop* loop, const base::Clock* clock,
                             const base::NodeId& node, Events events)
    : loop_(loop), node_(node), events_(std::move(events)), timer_(loop, clock, [this] {
        store_->Tick();
        Changed();
      }) {}

absl::Status ObjectService::Open(const base::Clock* clock, const Options& options) {
  MANTA_ASSIGN_OR_RETURN(memory_, store::SharedMemory::Create(options.capacity_bytes));
  MANTA_ASSIGN_OR_RETURN(
      spill_target_, MakeSpillTarget(options.spilling, options.name, memory_.get(), PostToLoop()));
  warmer_ = std::make_unique<store::PageWarmer>(
      memory_.get(), static_cast<uint64_t>(options.config->object_store_pretouch_bytes),
      PostToLoop(), [this](store::Extent extent) { store_->MarkWarm(extent); });
  auto store_options =
      store::ObjectStoreOptions::FromConfig(*options.config, memory_->capacity_bytes());
  store_options.parallel_writes = options.spilling.parallel_writes();
  store_ = std::make_unique<store::ObjectStore>(store_options, clock, spill_target_.get(),
                                                warmer_.get());
  return absl::OkStatus();
}

std::function<void(absl::AnyInvocable<void()>)> ObjectService::PostToLoop() {
  return
      [this, alive = std::weak_ptr<bool>(alive_), loop = loop_](absl::AnyInvocable<void()> task) {
        loop->Post([this, alive, task = std::move(task)]() mutable {
          if (alive.expired()) return;
          task();
          Changed();
        });
      };
}

void ObjectService::Changed() {
  timer_.Set(store_->NextDeadline());
  events_.on_change();
}

void ObjectService::RegisterFrames(FrameRouter* router) {
  // Each handler runs the store and then looks what changed.
  const auto on = [this, router]<typename Message>(wire::v1::FrameType type, auto method) {
    router->On<Message>(
        type, [this, method](Client& client, const Message& message, const Responder& responder) {
          const absl::Status status = (this->*method)(client, message, responder);
          Changed();
          return status;
        });
  };
  on.operator()<wire::v1::StoreCreate>(wire::v1::STORE_CREATE, &ObjectService::OnCreate);
  on.operator()<wire::v1::StoreSeal>(wire::v1::STORE_SEAL, &ObjectService::OnSeal);
  on.operator()<wire::v1::StoreAbort>(wire::v1::STORE_ABORT, &ObjectService::OnAbort);
  on.operator()<wire::v1::StoreGet>(wire::v1::STORE_GET, &ObjectService::OnGet);
  on.operator()<wire::v1::StoreIds>(wire::v1::STORE_RELEASE, &ObjectService::OnRelease);
  on.operator()<wire::v1::StoreIds>(wire::v1::STORE_FREE, &ObjectService::OnFree);
  on.operator()<wire::v1::StoreStats>(wire::v1::STORE_STATS, &ObjectService::OnStats);
}

void ObjectService::ClientJoined(const Client& client) {
  store_->NameClient(StoreClient(client), client.connection->description());
}

void ObjectService::ClientGone(const Client& client) {
  store_->ClientGone(StoreClient(client));
  if (!client.worker_id.IsNil()) store_->OwnerGone(client.worker_id);
  Changed();
}

absl::Status ObjectService::OnCreate(Client& client, const wire::v1::StoreCreate& message,
                                     const Responder& responder) {
  store::CreateRequest request;
  MANTA_ASSIGN_OR_RETURN(request.id, ObjectId::FromBinary(message.object_id()));
  MANTA_ASSIGN_OR_RETURN(request.owner, WorkerId::FromBinary(message.owner().worker_id()));
  request.size_bytes = message.size_bytes();
  request.note = message.note();
  NodeId owner_node = node_;
  if (!message.owner().node_id().empty()) {
    MANTA_ASSIGN_OR_RETURN(owner_node, NodeId::FromBinary(message.owner().node_id()));
  }
  const WorkerId owner = request.owner;
  return store_->Create(
      StoreClient(client), std::move(request),
      [this, responder, owner, owner_node](const CreateReply& created) {
        SendCreated(responder, created);
        if (created.outcome == CreateReply::Outcome::kCreated && owner_node != node_) {
          events_.on_remote_owner(owner, owner_node);
        }
      });
}

absl::Status ObjectService::OnSeal(Client& client, const wire::v1::StoreSeal& message,
                                   const Responder&) {
  MANTA_ASSIGN_OR_RETURN(const ObjectId id, ObjectId::FromBinary(message.object_id()));
  return store_->Seal(StoreClient(client), id);
}

absl::Status ObjectService::OnAbort(Client& client, const wire::v1::StoreAbort& message,
                                    const Responder&) {
  MANTA_ASSIGN_OR_RETURN(const ObjectId id, ObjectId::FromBinary(message.object_id()));
  store_->Abort(StoreClient(client), id);
  return absl::OkStatus();
}

absl::Status ObjectService::OnGet(Client& client, const wire::v1::StoreGet& message,
                                  const Responder& responder) {
  MANTA_ASSIGN_OR_RETURN(std::vector<ObjectId> ids, net::ParseIds<ObjectId>(message.object_ids()));
  const absl::Duration timeout = message.timeout_ms() < 0
                                     ? absl::InfiniteDuration()
                                     : absl::Milliseconds(message.timeout_ms());
  std::vector<PullManager::Wanted> wanted;
  if (timeout > absl::ZeroDuration()) {
    MANTA_ASSIGN_OR_RETURN(wanted, WantedElsewhere(ids, message));
  }
  if (message.prefetch()) {
    Prefetch(client, ids, timeout, std::move(wanted), responder);
    return absl::OkStatus();
  }
  Get(client, std::move(ids), timeout, std::move(wanted), PullPriority::kGet,
      [responder](const GetReply& got) { SendGot(responder, got); });
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PullManager::Wanted>> ObjectService::WantedElsewhere(
    const std::vector<ObjectId>& ids, const wire::v1::StoreGet& message) const {
  const bool has_sources = !message.sources().empty();
  if (has_sources && static_cast<size_t>(message.sources_size()) != ids.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a request for ", ids.size(), " objects with sources of ", message.sources_size()));
  }
  std::vector<PullManager::Wanted> wanted;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::optional<store::ObjectInfo> info = store_->Find(ids[i]);
    // The primary copy stays until it is freed; what is written here comes.
    if (info.has_value() && !info->secondary) continue;
    // A copy can have been dropped, though it was the only one: without a source that is a loss.
    PullManager::Wanted& one = wanted.emplace_back();
    one.id = ids[i];
    if (!has_sources) continue;
    for (const std::string& node : message.sources(static_cast<int>(i)).node_ids()) {
      MANTA_ASSIGN_OR_RETURN(one.sources.emplace_back(), NodeId::FromBinary(node));
    }
  }
  return wanted;
}

void ObjectService::Get(const Client& client, std::vector<ObjectId> ids, absl::Duration timeout,
                        std::vector<PullManager::Wanted> wanted, PullPriority priority,
                        store::ObjectStore::GetCallback callback) {
  // Ends with the callback: when it has run, and when its client is gone.
  auto pull = std::make_shared<std::shared_ptr<void>>();
  const std::weak_ptr<std::shared_ptr<void>> waits = pull;
  for (const PullManager::Wanted& one : wanted) {
    const bool elsewhere = std::any_of(one.sources.begin(), one.sources.end(),
                                       [this](const NodeId& node) { return node != node_; });
    if (elsewhere) store_->MadeElsewhere(one.id);
  }
  store_->Get(StoreClient(client), std::move(ids), timeout,
              [pull = std::move(pull), callback = std::move(callback)](GetReply got) mutable {
                callback(std::move(got));
              });
  if (wanted.empty()) return;
  const auto waiting = waits.lock();
  if (waiting == nullptr) return;
  for (PullManager::Wanted& one : wanted) one.here = store_->Contains(one.id);
  *waiting = events_.pull(std::move(wanted), priority);
}

// One by one: they need not be in memory at the same time.
void ObjectService::Prefetch(const Client& client, const std::vector<ObjectId>& ids,
                             absl::Duration timeout, std::vector<PullManager::Wanted> wanted,
                             const Responder& responder) {
  struct Progress {
    GetReply reply;
    size_t missing = 0;
  };
  auto progress = std::make_shared<Progress>();
  progress->reply.entries.resize(ids.size());
  progress->missing = ids.size();
  if (ids.empty()) SendGot(responder, progress->reply);
  auto elsewhere = wanted.begin();
  for (size_t i = 0; i < ids.size(); ++i) {
    std::vector<PullManager::Wanted> from;
    if (elsewhere != wanted.end() && elsewhere->id == ids[i]) from = {std::move(*elsewhere++)};
    Get(client, {ids[i]}, timeout, std::move(from), PullPriority::kPrefetch,
        [this, who = StoreClient(client), id = ids[i], i, progress, responder](GetReply got) {
          progress->reply.entries[i] = std::move(got.entries.front());
          if (progress->reply.entries[i].outcome == GetReply::Outcome::kPresent) {
            // Pinned just now.
            store_->Release(who, id).IgnoreError();
          }
          if (--progress->missing == 0) SendGot(responder, progress->reply);
        });
  }
}

absl::Status ObjectService::OnRelease(Client& client, const wire::v1::StoreIds& message,
                                      const Responder&) {
  MANTA_ASSIGN_OR_RETURN(const std::vector<ObjectId> ids,
                         net::ParseIds<ObjectId>(message.object_ids()));
  for (const ObjectId& id : ids) {
    MANTA_RETURN_IF_ERROR(store_->Release(StoreClient(client), id));
  }
  return absl::OkStatus();
}

absl::Status ObjectService::OnFree(Client& client, const wire::v1::StoreIds& message,
                                   const Responder&) {
  MANTA_ASSIGN_OR_RETURN(const std::vector<ObjectId> ids,
                         net::ParseIds<ObjectId>(message.object_ids()));
  if (!client.IsRaylet() && !message.node_id().empty()) {
    MANTA_ASSIGN_OR_RETURN(const NodeId node, NodeId::FromBinary(message.node_id()));
    if (node != node_) {
      events_.free_elsewhere(node, message);
      return absl::OkStatus();
    }
  }
  store_->Free(ids);
  return absl::OkStatus();
}

absl::Status ObjectService::OnStats(Client&, const wire::v1::StoreStats&,
                                    const Responder& responder) {
  const store::StoreStats stats = store_->Stats();
  wire::v1::StoreStatsReply reply;
  reply.set_capacity_bytes(stats.capacity_bytes);
  reply.set_allocated_bytes(stats.allocated_bytes);
  reply.set_objects(stats.objects);
  reply.set_breakdown(store_->Breakdown());
  responder.Send(reply);
  return absl::OkStatus();
}

}  // namespace ray::raylet
