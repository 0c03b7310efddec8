#include "ray/raylet/transfer_service.h"

#include <errno.h>
#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"

namespace ray::raylet {

using base::NodeId;
using base::ObjectId;
using base::WorkerId;
using net::Connection;
using store::CreateReply;
using store::GetReply;
using transfer::GrantTable;
using transfer::ObjectFacts;
using transfer::PullAnswer;
using transfer::PullFailure;
using wire::v1::PullBegin;
using wire::v1::PullBeginReply;
using wire::v1::PullEnd;
using wire::v1::PullMore;
using wire::v1::PullMoreReply;

namespace {

// Of the store: who writes what is fetched, and who pins what others fetch. Clients have small
// numbers; push_ahead_service.cc has another large one.
constexpr store::ClientId kPuller{UINT64_MAX};
constexpr store::ClientId kSource{UINT64_MAX - 1};

// A large object goes from here to one node at a time: the time that the first chunks take through
// a chain of nodes is small against that of all.
constexpr uint64_t kChunksOfLargeObject = 8;

uint64_t ChunkBytes(const base::Config& config) {
  return static_cast<uint64_t>(std::max<int64_t>(config.object_transfer_chunk_bytes, 64 << 10));
}

transfer::PullManager::Options PullOptions(const base::Config& config, const NodeId& self,
                                           uint64_t capacity_bytes) {
  const auto limit = config.object_pull_memory_fraction * static_cast<double>(capacity_bytes);
  const auto streams = static_cast<size_t>(std::max<int64_t>(config.object_transfer_streams, 1));
  return {.self = self,
          .memory_limit = static_cast<uint64_t>(limit),
          .capacity_bytes = capacity_bytes,
          .chunk_bytes = ChunkBytes(config),
          .chunks_per_node = 4 * streams,
          .retry_pause = absl::Milliseconds(config.object_pull_retry_ms)};
}

PullAnswer Broken(absl::string_view reason) {
  return {.outcome = PullAnswer::Outcome::kBroken, .reason = std::string(reason)};
}

absl::StatusOr<PullAnswer> ParseAnswer(const net::Frame& frame) {
  PullBeginReply reply;
  if (!net::ParseMetadata(frame, &reply)) {
    return absl::InvalidArgumentError("an answer that does not parse");
  }
  PullAnswer answer;
  switch (reply.outcome()) {
    case PullBeginReply::READY: {
      answer.outcome = PullAnswer::Outcome::kReady;
      answer.available_bytes = reply.available_bytes();
      answer.tier = reply.tier();
      answer.facts.size_bytes = reply.size_bytes();
      if (reply.size_bytes() == 0) return absl::InvalidArgumentError("an object without bytes");
      answer.facts.note = reply.note();
      MANTA_ASSIGN_OR_RETURN(answer.facts.owner, WorkerId::FromBinary(reply.owner().worker_id()));
      MANTA_ASSIGN_OR_RETURN(answer.facts.owner_node, NodeId::FromBinary(reply.owner().node_id()));
      return answer;
    }
    case PullBeginReply::ABSENT:
      answer.outcome = PullAnswer::Outcome::kAbsent;
      return answer;
    case PullBeginReply::BUSY:
      answer.outcome = PullAnswer::Outcome::kBusy;
      for (const std::string& node : reply.other_nodes()) {
        MANTA_ASSIGN_OR_RETURN(answer.other_nodes.emplace_back(), NodeId::FromBinary(node));
      }
      return answer;
    default:
      return absl::InvalidArgumentError("an answer without an outcome");
  }
}

absl::StatusOr<net::UniqueFd> OpenFile(const std::string& path, int flags) {
  net::UniqueFd file(open(path.c_str(), flags | O_CLOEXEC));
  if (file.valid()) return file;
  return absl::UnavailableError(absl::StrCat("opening its file: ", std::strerror(errno)));
}

}  // namespace

TransferService::TransferService(net::EventLoop* loop, const base::Clock* clock,
                                 FrameRouter* router, NodePeers* peers, ObjectService* objects,
                                 OwnerWatch* owners, const NodeIdentity* identity,
                                 const base::Config& config, Connection::Options connection_options)
    : loop_(loop),
      peers_(peers),
      objects_(objects),
      store_(&objects->store()),
      owners_(owners),
      identity_(identity),
      restore_timeout_(absl::Milliseconds(config.object_store_full_timeout_ms)),
      large_bytes_(kChunksOfLargeObject * ChunkBytes(config)),
      pushes_(static_cast<size_t>(std::max<int64_t>(config.object_push_fanout_max, 1))),
      dialer_(loop, peers, identity, std::move(connection_options), PostToLoop()),
      server_(&objects->memory(), &grants_),
      fetcher_(
          &objects->memory(),
          {.streams = static_cast<size_t>(std::max<int64_t>(config.object_transfer_streams, 1)),
           .dial = [this](const NodeId& node, auto done) { dialer_.Dial(node, std::move(done)); },
           .post = PostToLoop(),
           .open_here = [this](const NodeId& node) { return dialer_.OpenHere(node); }}),
      pulls_(PullOptions(config, identity->id, store_->capacity_bytes()), clock, this),
      timer_(loop, clock, [this] { Enter([this] { pulls_.Tick(); }); }) {
  store_->NameClient(kPuller, "copies being fetched from other nodes");
  store_->NameClient(kSource, "objects being fetched by other nodes");
  store_->OnEviction([this](const ObjectId& id) { Enter([this, id] { pulls_.OnEvicted(id); }); });
  router->On<PullBegin>(wire::v1::PULL_BEGIN, [this](Client& client, const PullBegin& message,
                                                     const Responder& responder) {
    return OnPullBegin(client, message, responder);
  });
  router->On<PullMore>(wire::v1::PULL_MORE,
                       [this](Client& client, const PullMore& message, const Responder& responder) {
                         return OnPullMore(client, message, responder);
                       });
  router->On<PullEnd>(wire::v1::PULL_END,
                      [this](Client& client, const PullEnd& message, const Responder&) {
                        return OnPullEnd(client, message);
                      });
}

TransferService::~TransferService() { store_->OnEviction(nullptr); }

std::function<void(absl::AnyInvocable<void()>)> TransferService::PostToLoop() {
  return [alive = std::weak_ptr<bool>(alive_), loop = loop_](absl::AnyInvocable<void()> task) {
    loop->Post([alive, task = std::move(task)]() mutable {
      if (!alive.expired()) task();
    });
  };
}

void TransferService::Enter(absl::AnyInvocable<void()> event) {
  events_.push_back(std::move(event));
  if (in_event_) return;
  in_event_ = true;
  while (!events_.empty()) {
    absl::AnyInvocable<void()> next = std::move(events_.front());
    events_.pop_front();
    next();
  }
  in_event_ = false;
  timer_.Set(pulls_.NextDeadline());
  objects_->Changed();
}

// --- What is wanted here

std::shared_ptr<void> TransferService::Pull(std::vector<PullManager::Wanted> wanted,
                                            transfer::PullPriority priority) {
  const auto request = std::make_shared<std::optional<PullManager::RequestId>>();
  Enter([this, request, wanted = std::move(wanted), priority]() mutable {
    *request = pulls_.Pull(std::move(wanted), priority);
  });
  // The aliased pointer is only a handle: its end is what counts.
  return std::shared_ptr<void>(request.get(),
                               [this, alive = std::weak_ptr<bool>(alive_), request](void*) {
                                 if (alive.expired()) return;
                                 Enter([this, request] {
                                   if (request->has_value()) pulls_.Cancel(**request);
                                 });
                               });
}

void TransferService::FreeElsewhere(const NodeId& node, const wire::v1::StoreIds& message) {
  // Of a node that is gone nothing is left to free.
  if (Connection* connection = peers_->Get(node); connection != nullptr) {
    connection->Send(wire::v1::STORE_FREE, message);
  }
}

void TransferService::StoreChanged() {
  const std::optional<store::ClientId> waits = store_->FirstWaitingCreator();
  const bool revoke = pulls_.holds() && waits.has_value() && *waits != kPuller;
  if (revoke) Enter([this] { pulls_.Revoke(); });
}

void TransferService::NodeDead(const NodeId& node) {
  fetcher_.NodeGone(node);
  server_.NodeGone(node);
  Enter([this, node] { pulls_.NodeGone(node); });
}

void TransferService::Ask(const NodeId& node, const ObjectId& id, uint64_t number,
                          uint32_t tier_below) {
  Connection* connection = peers_->Get(node);
  if (connection == nullptr) {
    PullAnswer answer = Broken("its raylet cannot be reached");
    if (peers_->IsDead(node)) {
      answer = {.outcome = PullAnswer::Outcome::kAbsent, .reason = "it died"};
    }
    return Enter(
        [this, id, number, answer = std::move(answer)] { pulls_.OnAnswer(id, number, answer); });
  }
  PullBegin message;
  message.set_object_id(id.BinaryString());
  message.set_tier_below(tier_below);
  connection->Call(
      wire::v1::PULL_BEGIN, message,
      [this, alive = std::weak_ptr<bool>(alive_), id, number](absl::StatusOr<net::Frame> frame) {
        if (alive.expired()) return;
        absl::StatusOr<PullAnswer> answer = frame.ok() ? ParseAnswer(*frame) : frame.status();
        if (!answer.ok()) answer = Broken(answer.status().message());
        Enter([this, id, number, answer = *std::move(answer)] {
          pulls_.OnAnswer(id, number, answer);
        });
      });
}

void TransferService::AskMore(const NodeId& node, const ObjectId& id, uint64_t number,
                              uint64_t known_bytes) {
  // 0: whatever keeps it from saying more, it is no source any longer.
  const auto answer = [this, alive = std::weak_ptr<bool>(alive_), id, number](uint64_t available) {
    if (alive.expired()) return;
    Enter([this, id, number, available] { pulls_.OnMore(id, number, available); });
  };
  Connection* connection = peers_->Get(node);
  if (connection == nullptr) return answer(0);
  PullMore message;
  message.set_object_id(id.BinaryString());
  message.set_known_bytes(known_bytes);
  connection->Call(wire::v1::PULL_MORE, message, [answer](const absl::StatusOr<net::Frame>& frame) {
    PullMoreReply reply;
    const bool parsed = frame.ok() && net::ParseMetadata(*frame, &reply);
    answer(parsed ? reply.available_bytes() : 0);
  });
}

void TransferService::End(const NodeId& node, const ObjectId& id, bool fetched) {
  Connection* connection = peers_->Get(node);
  if (connection == nullptr) return;
  PullEnd message;
  message.set_object_id(id.BinaryString());
  message.set_fetched(fetched);
  connection->Send(wire::v1::PULL_END, message);
}

void TransferService::Reserve(const ObjectId& id, const ObjectFacts& facts) {
  // An earlier copy may still be read.
  offers_.AfterReaders(id, [this, id, facts] {
    const absl::Status status = store_->Create(
        kPuller,
        {.id = id,
         .size_bytes = facts.size_bytes,
         .owner = facts.owner,
         .note = facts.note,
         .secondary = true},
        [this, id, facts](const CreateReply& reply) { OnReserved(id, facts, reply); });
    MANTA_CHECK(status.ok());
  });
}

void TransferService::OnReserved(const ObjectId& id, const ObjectFacts& facts,
                                 const CreateReply& reply) {
  switch (reply.outcome) {
    case CreateReply::Outcome::kCreated:
      if (!reply.path.empty()) return OnReservedFile(id, facts, reply);
      return StartCopy(id, facts, {.offset = reply.offset});
    case CreateReply::Outcome::kExists:
      return Enter([this, id] { pulls_.OnExists(id); });
    case CreateReply::Outcome::kFull:
    case CreateReply::Outcome::kTooLarge:
    case CreateReply::Outcome::kOutOfDisk:
      return Enter([this, id, message = reply.message] { pulls_.OnNoMemory(id, message); });
    case CreateReply::Outcome::kAborted:
      return;  // by Abort: nobody waits
  }
}

// Its file is on disk: opening it may take its time. Nobody else ends the copy before OnReserved.
void TransferService::OnReservedFile(const ObjectId& id, const ObjectFacts& facts,
                                     const CreateReply& reply) {
  const store::Extent extent{reply.offset, facts.size_bytes};
  OffLoop<Target>(
      [path = reply.path, extent]() -> absl::StatusOr<Target> {
        Target target{.offset = extent.offset};
        MANTA_ASSIGN_OR_RETURN(target.fd, OpenFile(path, O_RDWR));
        MANTA_ASSIGN_OR_RETURN(target.file, store::SharedMemory::MapFile(
                                                path, extent, store::SharedMemory::Access::kWrite));
        return target;
      },
      [this, id, facts](absl::StatusOr<Target> target) {
        if (target.ok()) return StartCopy(id, facts, *std::move(target));
        store_->Abort(kPuller, id);
        Enter([this, id, why = std::string(target.status().message())] {
          pulls_.OnNoMemory(id, absl::StrCat("the file for it cannot be used: ", why));
        });
      });
}

void TransferService::StartCopy(const ObjectId& id, const ObjectFacts& facts, Target target) {
  targets_[id] = std::move(target);
  if (facts.owner_node != identity_->id) owners_->Watch(facts.owner, facts.owner_node);
  Enter([this, id] { pulls_.OnReserved(id); });
}

template <typename Result>
void TransferService::OffLoop(absl::AnyInvocable<absl::StatusOr<Result>()> operation,
                              absl::AnyInvocable<void(absl::StatusOr<Result>)> done) {
  if (files_ == nullptr) {
    auto thread = std::make_unique<store::IoThread>(PostToLoop());
    if (const absl::Status status = thread->Start(); !status.ok()) {
      return PostToLoop()([done = std::move(done), status]() mutable { done(status); });
    }
    files_ = std::move(thread);
  }
  files_->Run<absl::StatusOr<Result>>(std::move(operation), std::move(done));
}

void TransferService::Fetch(const NodeId& node, const ObjectId& id, store::Extent part,
                            uint64_t number) {
  const Target& target = targets_.at(id);
  const uint64_t begin = target.file == nullptr ? target.offset : 0;
  fetcher_.Fetch(node, id, part, {.offset = begin + part.offset, .file = target.file},
                 [this, id, number](const absl::Status& status) {
                   const std::string error = status.ok() ? "" : std::string(status.message());
                   Enter([this, id, number, error] {
                     pulls_.OnFetched(id, number, error);
                     if (const auto partial = pulls_.FindPartial(id); partial.has_value()) {
                       offers_.Grow(id, partial->available_bytes);
                     }
                   });
                 });
}

void TransferService::Seal(const ObjectId& id, bool hold) {
  targets_.erase(id);
  MANTA_CHECK(store_->Seal(kPuller, id).ok());
  offers_.Grow(id, UINT64_MAX);
  if (!hold) Unhold(id);
}

void TransferService::Unhold(const ObjectId& id) {
  offers_.AfterReaders(id, [this, id] { MANTA_CHECK(store_->Release(kPuller, id).ok()); });
}

void TransferService::Abort(const ObjectId& id) {
  targets_.erase(id);
  offers_.GiveUp(id);
  offers_.AfterReaders(id, [this, id] { store_->Abort(kPuller, id); });
}

void TransferService::Fail(const ObjectId& id, PullFailure failure, const std::string& reason) {
  store_->FailGets(
      id, failure == PullFailure::kLost ? GetReply::Outcome::kLost : GetReply::Outcome::kNoMemory,
      reason);
}

// --- What others want from here

void TransferService::StreamOpened(const NodeId& node, ClientRegistry::From from,
                                   Connection& connection) {
  absl::StatusOr<Connection::Detached> detached = connection.Detach();
  if (!detached.ok()) return connection.Close(detached.status());
  server_.Serve({.fd = std::move(detached->fd),
                 .tls = std::move(detached->tls),
                 .already_read = std::move(detached->already_read)},
                node, from == ClientRegistry::From::kThisNode);
}

absl::Status TransferService::OnPullBegin(Client& client, const PullBegin& message,
                                          const Responder& responder) {
  if (!client.IsRaylet()) return absl::PermissionDeniedError("only raylets fetch objects");
  MANTA_ASSIGN_OR_RETURN(const ObjectId id, ObjectId::FromBinary(message.object_id()));
  MANTA_ASSIGN_OR_RETURN(const NodeId node, NodeId::FromBinary(client.address.node_id()));
  PullBeginReply reply;
  const std::optional<store::ObjectInfo> info = store_->Find(id);
  const bool in_making = info.has_value() && info->secondary && !info->sealed;
  const std::optional<PullManager::Partial> partial =
      in_making ? pulls_.FindPartial(id) : std::nullopt;
  // Two nodes must not wait for each other's bytes.
  const bool too_high =
      partial.has_value() && message.tier_below() > 0 && partial->tier >= message.tier_below();
  if (!info.has_value() || (in_making && !partial.has_value()) || too_high) {
    reply.set_outcome(PullBeginReply::ABSENT);
    responder.Send(reply);
    return absl::OkStatus();
  }
  const transfer::PushTable::Verdict verdict =
      pushes_.Begin(node, id, KindOf(message, info->size_bytes));
  if (!verdict.granted) {
    reply.set_outcome(PullBeginReply::BUSY);
    for (const NodeId& other : verdict.other_nodes) reply.add_other_nodes(other.BinaryString());
    responder.Send(reply);
    return absl::OkStatus();
  }
  if (partial.has_value()) {
    GrantPartial(node, id, *partial, responder);
    return absl::OkStatus();
  }
  // It may have to be restored, or its last bytes are being written.
  store_->Get(kSource, {id}, restore_timeout_, [this, node, id, responder](const GetReply& got) {
    Grant(node, id, got.entries.front(), responder);
  });
  objects_->Changed();
  return absl::OkStatus();
}

void TransferService::Grant(const NodeId& node, const ObjectId& id, const GetReply::Entry& entry,
                            const Responder& responder) {
  PullBeginReply reply;
  if (entry.outcome != GetReply::Outcome::kPresent) {
    pushes_.End(node, id, false);
    // What is here, and only could not be brought into memory in time, is not lost.
    reply.set_outcome(store_->Find(id).has_value() ? PullBeginReply::BUSY : PullBeginReply::ABSENT);
    return responder.Send(reply);
  }
  if (entry.path.empty()) return GrantPinned(node, id, entry.extent, {}, responder);
  OffLoop<net::UniqueFd>(
      [path = entry.path] { return OpenFile(path, O_RDONLY); },
      [this, node, id, extent = entry.extent, responder](absl::StatusOr<net::UniqueFd> file) {
        if (file.ok()) {
          GrantPinned(node, id, extent, *std::move(file), responder);
        } else {
          MANTA_LOG(kError, "object ", id.Hex(), " cannot be sent: ", file.status().message());
          RefusePinned(node, id, responder);
        }
        objects_->Changed();
      });
}

void TransferService::RefusePinned(const NodeId& node, const ObjectId& id,
                                   const Responder& responder) {
  pushes_.End(node, id, false);
  MANTA_CHECK(store_->Release(kSource, id).ok());
  PullBeginReply reply;
  reply.set_outcome(PullBeginReply::ABSENT);
  responder.Send(reply);
}

void TransferService::GrantPinned(const NodeId& node, const ObjectId& id, store::Extent extent,
                                  net::UniqueFd file, const Responder& responder) {
  if (!pushes_.IsGranted(node, id)) {
    // Given up meanwhile, or an earlier question of that node failed: it may ask again.
    MANTA_CHECK(store_->Release(kSource, id).ok());
    PullBeginReply busy;
    busy.set_outcome(PullBeginReply::BUSY);
    return responder.Send(busy);
  }
  auto unused = [this, post = PostToLoop(), id] {
    post([this, id] {
      MANTA_CHECK(store_->Release(kSource, id).ok());
      objects_->Changed();
    });
  };
  grants_.Add(node, id,
              std::shared_ptr<const GrantTable::Grant>(new GrantTable::Grant{
                  .extent = extent, .file = std::move(file), .unused = std::move(unused)}));
  const store::ObjectInfo info =
      store_->Find(id).value_or(store::ObjectInfo{.size_bytes = extent.size});
  PullBeginReply reply;
  reply.set_outcome(PullBeginReply::READY);
  reply.set_size_bytes(info.size_bytes);
  reply.set_available_bytes(info.size_bytes);
  reply.set_note(info.note);
  reply.mutable_owner()->set_worker_id(info.owner.BinaryString());
  reply.mutable_owner()->set_node_id(owners_->NodeOf(info.owner, identity_->id).BinaryString());
  responder.Send(reply);
}

void TransferService::GrantPartial(const NodeId& node, const ObjectId& id,
                                   const PullManager::Partial& partial,
                                   const Responder& responder) {
  const Target& target = targets_.at(id);
  PullBeginReply reply;
  net::UniqueFd file;
  if (target.file != nullptr) file.Reset(fcntl(target.fd.get(), F_DUPFD_CLOEXEC, 0));
  if (target.file != nullptr && !file.valid()) {
    MANTA_LOG(kWarning, "object ", id.Hex(), " cannot be sent: ", std::strerror(errno));
    pushes_.End(node, id, false);
    reply.set_outcome(PullBeginReply::BUSY);
    return responder.Send(reply);
  }
  auto unused = [this, post = PostToLoop(), id] {
    post([this, id] {
      offers_.End(id);
      objects_->Changed();
    });
  };
  grants_.Add(node, id,
              std::shared_ptr<const GrantTable::Grant>(new GrantTable::Grant{
                  .extent = {target.offset, partial.facts.size_bytes},
                  .file = std::move(file),
                  .available_bytes = offers_.Begin(id, partial.available_bytes),
                  .unused = std::move(unused)}));
  reply.set_outcome(PullBeginReply::READY);
  reply.set_size_bytes(partial.facts.size_bytes);
  reply.set_available_bytes(partial.available_bytes);
  reply.set_tier(partial.tier);
  reply.set_note(partial.facts.note);
  reply.mutable_owner()->set_worker_id(partial.facts.owner.BinaryString());
  reply.mutable_owner()->set_node_id(partial.facts.owner_node.BinaryString());
  responder.Send(reply);
}

absl::Status TransferService::OnPullMore(Client& client, const PullMore& message,
                                         const Responder& responder) {
  if (!client.IsRaylet()) return absl::PermissionDeniedError("only raylets fetch objects");
  MANTA_ASSIGN_OR_RETURN(const ObjectId id, ObjectId::FromBinary(message.object_id()));
  MANTA_ASSIGN_OR_RETURN(const NodeId node, NodeId::FromBinary(client.address.node_id()));
  const auto answer = [responder](uint64_t available_bytes) {
    PullMoreReply reply;
    reply.set_available_bytes(available_bytes);
    responder.Send(reply);
  };
  if (pushes_.IsGranted(node, id)) {
    offers_.AskMore(node, id, message.known_bytes(), answer);
  } else {
    answer(0);
  }
  return absl::OkStatus();
}

transfer::PushKind TransferService::KindOf(const PullBegin& message, uint64_t size_bytes) const {
  if (message.tier_below() > 0) return transfer::PushKind::kResumed;
  return size_bytes < large_bytes_ ? transfer::PushKind::kSmall : transfer::PushKind::kLarge;
}

void TransferService::EndGrant(const NodeId& node, const ObjectId& id) {
  offers_.Forget(node, id);
  grants_.Remove(node, id);
}

absl::Status TransferService::OnPullEnd(Client& client, const PullEnd& message) {
  if (!client.IsRaylet()) return absl::PermissionDeniedError("only raylets fetch objects");
  MANTA_ASSIGN_OR_RETURN(const ObjectId id, ObjectId::FromBinary(message.object_id()));
  MANTA_ASSIGN_OR_RETURN(const NodeId node, NodeId::FromBinary(client.address.node_id()));
  if (pushes_.End(node, id, message.fetched())) EndGrant(node, id);
  return absl::OkStatus();
}

void TransferService::ClientGone(const Client& client) {
  if (!client.IsRaylet()) return;
  const NodeId node = NodeId::FromTrusted(client.address.node_id().data());
  for (const ObjectId& id : pushes_.Disconnected(node)) EndGrant(node, id);
}

}  // namespace ray::raylet
