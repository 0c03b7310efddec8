// Objects: references, puts, gets, waits, and what owner and borrowers say to each other.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/clock.h"
#include "ray/core/core_worker.h"
#include "ray/net/parse_frame.h"
#include "ray/wire/v1/objects.pb.h"

namespace ray::core {

using base::ObjectId;
using net::LoopDriver;

namespace {

// A get looks this far ahead for objects in the store, so that it asks for many at once.
constexpr size_t kStoreLookAhead = 1024;
// A wait shorter than this is not announced: the worker keeps its CPU, and what is queued behind
// its task stays.
constexpr int64_t kBlockedAfterNanos = 300'000;

BufferPtr LostError(std::string_view code, const ObjectId& id, std::string_view why) {
  SystemError error;
  error.code = std::string(code);
  error.message = std::string(why);
  error.details = {{"object_id", id.Hex()}};
  return SerializeSystemError(error);
}

}  // namespace

BufferPtr AbsenceError(const ObjectId& id, const FetchedObject& absent) {
  if (absent.no_memory) return LostError("OBJECT_STORE_FULL", id, absent.reason);
  return LostError("OBJECT_LOST", id,
                   absent.reason.empty() ? "its copy in the object store is gone" : absent.reason);
}

// ----------------------------------------------------------------------------------------------
// references

void CoreWorker::AddLocalReference(const ObjectId& id, const AddressPtr& owner) {
  absl::MutexLock lock(&mutex_);
  objects_.AddLocal(id, owner);
}

AddressPtr CoreWorker::OwnerOf(const ObjectId& id) {
  absl::MutexLock lock(&mutex_);
  ObjectTable::Entry* entry = objects_.Find(id);
  if (entry == nullptr) return nullptr;
  return entry->owned ? self_ : entry->owner;
}

std::vector<CoreWorker::ReferenceCounts> CoreWorker::CountReferences() {
  absl::MutexLock lock(&mutex_);
  Drain();
  std::vector<ReferenceCounts> counts;
  objects_.ForEach([&](const ObjectId& id, const ObjectTable::Entry& entry) {
    uint32_t other = entry.pins + entry.containers;
    if (entry.borrowers != nullptr) {
      for (const auto& [borrower, count] : *entry.borrowers) other += count;
    }
    counts.push_back({id, entry.local, other});
  });
  return counts;
}

void CoreWorker::Drain() {
  if (release_queue_.empty()) return;
  release_queue_.Drain([this](ReleaseQueue::Kind kind, const ObjectId& id) {
    mutex_.AssertHeld();
    switch (kind) {
      case ReleaseQueue::Kind::kReference:
        return objects_.RemoveLocal(id);
      case ReleaseQueue::Kind::kStream:
        return CloseStream(base::TaskOf(id));
      case ReleaseQueue::Kind::kStorePin:
        if (store_ != nullptr) EndPin(id);
    }
  });
}

// Only the owner's pins may rest: it knows at once when the object goes. A borrower's would keep
// memory that was freed.
void CoreWorker::EndPin(const ObjectId& id) {
  const ObjectTable::Entry* entry = objects_.Find(id);
  if (store_->Release(id, entry != nullptr && entry->owned)) ScheduleDrain();
}

// ----------------------------------------------------------------------------------------------
// put

ObjectId CoreWorker::PutInline(BufferPtr value, std::vector<ContainedObject> contained) {
  absl::MutexLock lock(&mutex_);
  Drain();
  ObjectId id = base::PutObjectId(put_task_, ++put_index_);
  objects_.AddOwned(id).local = 1;
  objects_.SetContains(id, std::move(contained), {});
  objects_.SetInline(id, std::move(value));
  return id;
}

absl::StatusOr<ObjectId> CoreWorker::PutInStore(const ValueParts& parts, const ObjectId& wanted,
                                                const AddressPtr& owner, std::string_view note,
                                                std::vector<ContainedObject> contained,
                                                Interrupted interrupted) {
  bool is_put = wanted.IsNil();
  ObjectId id = wanted;
  uint64_t size = SerializedSize(parts);
  using Created = absl::StatusOr<StoreClient::Destination>;
  auto created = std::make_shared<std::optional<Created>>();
  {
    absl::MutexLock lock(&mutex_);
    if (store_ == nullptr) return absl::FailedPreconditionError("this node has no object store");
    Drain();
    if (is_put) id = base::PutObjectId(put_task_, ++put_index_);
    store_->Create(id, size, *owner, note,
                   [created](Created destination) { created->emplace(std::move(destination)); });
  }
  auto outcome = driver_->WaitUntil([&] { return created->has_value(); }, kNoDeadline, interrupted);
  Created destination = absl::CancelledError("interrupted");
  {
    absl::MutexLock lock(&mutex_);
    if (created->has_value()) destination = **created;
    if (outcome == LoopDriver::Outcome::kInterrupted) {
      // Before or after the raylet's answer: frames keep their order.
      if (!created->has_value() || destination.ok()) store_->Abort(id);
      return absl::CancelledError("interrupted");
    }
  }
  bool exists = absl::IsAlreadyExists(destination.status());
  if (!destination.ok() && !exists) return destination.status();
  if (!exists) {
    const auto& [memory, offset] = *destination;
    auto* base = reinterpret_cast<uint8_t*>(memory->At(offset));
    for (auto& [to, from] : WriteHeaderAndPickle(parts, base)) {
      store::CopyInto(*memory, static_cast<uint64_t>(to - base) + offset, from.data(), from.size(),
                      copy_options_);
    }
  }
  absl::MutexLock lock(&mutex_);
  if (!exists) store_->Seal(id);
  if (is_put) {
    objects_.AddOwned(id).local = 1;
    objects_.SetContains(id, std::move(contained), {});
    objects_.SetInStore(id, self_->node_id, size);
  }
  return id;
}

// ----------------------------------------------------------------------------------------------
// get and wait

BufferPtr CoreWorker::TryGetInline(const ObjectId& id) {
  absl::MutexLock lock(&mutex_);
  ObjectTable::Entry* entry = objects_.Find(id);
  return entry != nullptr && entry->state == ObjectState::kInline ? entry->value : nullptr;
}

CoreWorker::GetResult CoreWorker::Get(absl::Span<const ObjectId> ids, int64_t deadline,
                                      Interrupted interrupted, const base::TaskId& waiter) {
  auto state = std::make_shared<GetState>();
  state->ids = ids;
  if (deadline == kNoDeadline) state->waiter = waiter;
  state->values.resize(ids.size());
  state->asked.resize(ids.size());
  {
    absl::MutexLock lock(&mutex_);
    Drain();
    for (const ObjectId& id : ids) {
      if (ObjectTable::Entry* entry = objects_.Find(id); entry != nullptr) {
        objects_.EnsureFetch(id, *entry);
      }
    }
    AskStore(state);
    if (AdvanceGet(state)) return {LoopDriver::Outcome::kDone, std::move(state->values)};
    if (store_ != nullptr) store_->Flush();
    peers_->FlushAll();
  }
  auto outcome = WaitBlocked(
      [&] {
        mutex_.AssertHeld();
        return AdvanceGet(state);
      },
      deadline, interrupted, state);
  absl::MutexLock lock(&mutex_);
  state->ids = {};  // answers that are still under way find nothing to do
  return {outcome, std::move(state->values)};
}

bool CoreWorker::AdvanceGet(const std::shared_ptr<GetState>& state) {
  if (state->deadlock != nullptr) {
    for (ArgumentBytes& value : state->values) value = {state->deadlock, nullptr};
    return true;
  }
  for (; state->next < state->ids.size(); ++state->next) {
    ArgumentBytes& value = state->values[state->next];
    if (value.inline_bytes != nullptr || value.stored != nullptr) continue;
    const ObjectId& id = state->ids[state->next];
    ObjectTable::Entry* entry = objects_.Find(id);
    if (entry == nullptr) {
      value.inline_bytes = LostError("OBJECT_LOST", id,
                                     "this process does not know the object: the reference was "
                                     "made from bytes, or belongs to a session that ended");
      continue;
    }
    if (entry->state == ObjectState::kPending) return false;
    if (entry->state == ObjectState::kInline) {
      value.inline_bytes = entry->value;
      continue;
    }
    if (!state->asked[state->next]) AskStore(state);
    if (value.stored == nullptr && value.inline_bytes == nullptr) return false;
  }
  return true;
}

void CoreWorker::AskStore(const std::shared_ptr<GetState>& state) {
  std::vector<StoredObject> objects;
  std::vector<size_t> positions;
  size_t end = std::min(state->ids.size(), state->next + kStoreLookAhead);
  for (size_t i = state->next; i < end; ++i) {
    if (state->asked[i]) continue;
    ObjectTable::Entry* entry = objects_.Find(state->ids[i]);
    if (entry == nullptr || entry->state != ObjectState::kInStore) continue;
    state->asked[i] = true;
    objects.push_back(InStore(state->ids[i], *entry));
    positions.push_back(i);
  }
  if (objects.empty()) return;
  store_->Fetch(objects, [this, state, objects, positions](std::vector<FetchedObject> fetched) {
    mutex_.AssertHeld();
    for (size_t i = 0; i < positions.size(); ++i) {
      TakeFetched(state, positions[i], objects[i], std::move(fetched[i]));
    }
  });
}

void CoreWorker::TakeFetched(const GetStatePtr& state, size_t position, const StoredObject& object,
                             FetchedObject fetched) {
  ObjectTable::Entry* entry = objects_.Find(object.id);
  if (fetched.pin != nullptr && entry != nullptr) Copied(object.id, entry->owner, object.sources);
  if (state->ids.empty()) return;
  ArgumentBytes& value = state->values[position];
  value.stored = std::move(fetched.pin);
  if (value.stored != nullptr) return;
  if (fetched.no_memory || entry == nullptr) {
    value.inline_bytes = AbsenceError(object.id, fetched);
    return;
  }
  // Its owner finds another copy or has it computed again; then it is asked for once more.
  CopiesLost(object.id, LocationsOf(object),
             fetched.reason.empty() ? "its copy in the object store is gone" : fetched.reason);
  state->asked[position] = false;
  if (entry = objects_.Find(object.id); entry != nullptr) objects_.EnsureFetch(object.id, *entry);
  peers_->FlushAll();
}

std::vector<base::NodeId> CoreWorker::LocationsOf(const StoredObject& object) const {
  return object.sources.empty() ? std::vector<base::NodeId>{self_->node_id} : object.sources;
}

StoredObject CoreWorker::InStore(const ObjectId& id, const ObjectTable::Entry& entry) const {
  StoredObject object{id, {}};
  const bool only_here = entry.node == self_->node_id && entry.copies == nullptr;
  if (!only_here) object.sources = entry.Locations();
  return object;
}

void CoreWorker::Copied(const ObjectId& id, const AddressPtr& owner,
                        const std::vector<base::NodeId>& sources) {
  if (sources.empty() || std::count(sources.begin(), sources.end(), self_->node_id) > 0) return;
  if (owner == nullptr) return objects_.AddCopy(id, self_->node_id);
  PeerPtr peer = peers_->FindConnected(owner->worker_id);
  if (peer == nullptr) return;
  wire::v1::ObjectCopied message;
  message.set_object_id(id.BinaryString());
  message.set_node_id(self_->node_id.BinaryString());
  peer->connection->Send(wire::v1::OBJECT_COPIED, message, {}, net::Connection::Flush::kCoalesce);
  peers_->MarkDirty(peer);
}

void CoreWorker::OnObjectCopied(const PeerPtr& peer, const net::Frame& frame) {
  auto message = net::ParseMetadata<wire::v1::ObjectCopied>(frame);
  auto id = message.ok() ? ObjectId::FromBinary(message->object_id()) : message.status();
  auto node = message.ok() ? base::NodeId::FromBinary(message->node_id()) : message.status();
  if (!id.ok() || !node.ok()) {
    return peer->connection->Close(absl::InvalidArgumentError("malformed OBJECT_COPIED"));
  }
  // What is freed here meanwhile must be freed there as well.
  if (objects_.Find(*id) == nullptr) return FreeStored(*id, *node);
  objects_.AddCopy(*id, *node);
}

// The own raylet says it of an object that another one took over: the way between the raylets is
// theirs alone.
void CoreWorker::OnPrimaryMoved(const net::Frame& frame) {
  auto message = net::ParseMetadata<wire::v1::ObjectCopied>(frame);
  auto id = message.ok() ? ObjectId::FromBinary(message->object_id()) : message.status();
  auto node = message.ok() ? base::NodeId::FromBinary(message->node_id()) : message.status();
  if (!id.ok() || !node.ok()) return;
  // What was freed here meanwhile must be freed there as well.
  if (!objects_.MovePrimary(*id, *node)) FreeStored(*id, *node);
}

void CoreWorker::KeepCopy(const ObjectId& id, const base::NodeId& node) {
  wire::v1::ObjectCopied message;
  message.set_object_id(id.BinaryString());
  message.set_node_id(node.BinaryString());
  raylet_->Send(wire::v1::OBJECT_COPIED, message, {}, net::Connection::Flush::kCoalesce);
}

absl::StatusOr<LoopDriver::Outcome> CoreWorker::Wait(absl::Span<HeldReference* const> references,
                                                     size_t num_ready, bool fetch_local,
                                                     int64_t deadline, Interrupted interrupted,
                                                     std::vector<bool>* ready) {
  ready->assign(references.size(), false);
  LocalWait local;
  const LocalWait* wait = fetch_local ? &local : nullptr;
  size_t found = 0;
  size_t looked_at_before = 0;
  uint64_t scanned_at = 0;
  auto scan = [&] {
    mutex_.AssertHeld();
    const uint64_t changes = objects_.ready_count() + brought_;
    if (found > 0 && scanned_at == changes) return found >= num_ready;
    scanned_at = changes;
    found = 0;
    size_t looked_at = 0;
    for (; looked_at < references.size() && found < num_ready; ++looked_at) {
      bool is_ready = IsReady(references[looked_at], wait);
      (*ready)[looked_at] = is_ready;
      if (is_ready) ++found;
    }
    // An earlier look that went further has marked what does not count any more.
    std::fill(ready->begin() + static_cast<ptrdiff_t>(looked_at),
              ready->begin() + static_cast<ptrdiff_t>(std::max(looked_at, looked_at_before)),
              false);
    looked_at_before = looked_at;
    return found >= num_ready;
  };
  {
    absl::MutexLock lock(&mutex_);
    Drain();
    ++waits_;
    for (HeldReference* reference : references) {
      ObjectTable::Entry* entry = EntryOf(reference);
      if (entry != nullptr && std::exchange(entry->last_wait, waits_) == waits_) {
        return absl::InvalidArgumentError(
            "ray.wait takes a list of unique ObjectRefs, but one is in it twice.");
      }
    }
    if (scan()) return LoopDriver::Outcome::kDone;
    peers_->FlushAll();
    local_waits_.push_back(&local);
  }
  const auto outcome = WaitBlocked(scan, deadline, interrupted);
  absl::MutexLock lock(&mutex_);
  std::erase(local_waits_, &local);
  return outcome;
}

ObjectTable::Entry* CoreWorker::EntryOf(HeldReference* reference) {
  if (reference->entry == nullptr) reference->entry = objects_.Find(reference->id);
  return reference->entry;
}

// What is pending is seen to. `wait` null: a value anywhere will do. Else one that is elsewhere is
// sent for.
bool CoreWorker::IsReady(HeldReference* reference, const LocalWait* wait) {
  const ObjectId& id = reference->id;
  ObjectTable::Entry* entry = EntryOf(reference);
  if (entry == nullptr) return true;
  objects_.EnsureFetch(id, *entry);
  if (wait == nullptr || entry->state != ObjectState::kInStore || entry->node == self_->node_id) {
    return entry->state != ObjectState::kPending;
  }
  const bool is_copied = entry->copies != nullptr &&
                         std::count(entry->copies->begin(), entry->copies->end(), self_->node_id);
  if (is_copied || wait->without_room.contains(id)) return true;
  BringHere(InStore(id, *entry));
  return false;
}

void CoreWorker::BringHere(const StoredObject& object) {
  if (!coming_here_.insert(object.id).second) return;
  store_->Prefetch(object, [this, object](const FetchedObject* failed) {
    mutex_.AssertHeld();
    OnBrought(object, failed);
  });
}

void CoreWorker::OnBrought(const StoredObject& object, const FetchedObject* failed) {
  coming_here_.erase(object.id);
  ++brought_;
  ObjectTable::Entry* entry = objects_.Find(object.id);
  if (entry == nullptr) return;
  if (failed == nullptr) {
    Copied(object.id, entry->owner, object.sources);
    return objects_.AddCopy(object.id, self_->node_id);
  }
  if (failed->no_memory) {
    for (LocalWait* wait : local_waits_) wait->without_room.insert(object.id);
    return;
  }
  // As of a get: its owner finds another copy or has it computed again.
  CopiesLost(object.id, LocationsOf(object),
             failed->reason.empty() ? "its copy in the object store is gone" : failed->reason);
  if (entry = objects_.Find(object.id); entry != nullptr) objects_.EnsureFetch(object.id, *entry);
  peers_->FlushAll();
}

LoopDriver::Outcome CoreWorker::WaitBlocked(absl::FunctionRef<bool()> done, int64_t deadline,
                                            Interrupted interrupted, const GetStatePtr& get) {
  auto ended = [&] { return interrupted() || shut_down_.load() || raylet_lost_.load(); };
  if (options_.kind == wire::v1::DRIVER) return driver_->WaitUntil(done, deadline, ended);
  int64_t soon = std::min(deadline, base::MonotonicNanos() + kBlockedAfterNanos);
  auto outcome = driver_->WaitUntil(done, soon, ended);
  if (outcome != LoopDriver::Outcome::kTimeout || soon == deadline) return outcome;
  {
    absl::MutexLock lock(&mutex_);
    BeginBlocked();
    if (get != nullptr && !get->waiter.IsNil()) {
      blocked_gets_[get->waiter] = get;
      ProbeLater(get);
    }
  }
  outcome = driver_->WaitUntil(done, deadline, ended);
  absl::MutexLock lock(&mutex_);
  if (get != nullptr) blocked_gets_.erase(get->waiter);
  EndBlocked();
  return outcome;
}

bool CoreWorker::NotifyWhenReady(const ObjectId& id, absl::AnyInvocable<void()> ready, bool flush) {
  absl::MutexLock lock(&mutex_);
  Drain();
  ObjectTable::Entry* entry = objects_.Find(id);
  if (entry == nullptr || entry->state != ObjectState::kPending || shut_down_) return false;
  objects_.WhenReadyOrEnded(id, std::move(ready));
  if (flush) peers_->FlushAll();
  return true;
}

bool CoreWorker::DriveUnlessWanted(absl::FunctionRef<bool()> done) {
  {
    absl::MutexLock lock(&mutex_);
    Drain();
    store_->Flush();
    peers_->FlushAll();
  }
  return driver_->DriveUnlessWanted(done, [this] { return shut_down_.load(); });
}

// ----------------------------------------------------------------------------------------------
// owner and borrower

void CoreWorker::RegisterBorrow(const ObjectId& id, const AddressPtr& owner) {
  mutex_.AssertHeld();
  PeerPtr peer = peers_->Get(owner);
  if (peer == nullptr) {
    // Answered from the loop: the table must not be re-entered.
    loop_.Post([this, id] {
      mutex_.AssertHeld();
      OnBorrowAnswer(id, false);
    });
    return;
  }
  wire::v1::ObjectIds message;
  message.add_object_ids(id.BinaryString());
  message.add_counts(1);
  peer->connection->Call(wire::v1::ADD_BORROWER, message,
                         [this, id](absl::StatusOr<net::Frame> reply) {
                           mutex_.AssertHeld();
                           bool known = reply.ok();
                           if (known) {
                             auto status = net::ParseMetadata<wire::v1::StatusReply>(*reply);
                             known = status.ok() && status->code() == 0;
                           }
                           OnBorrowAnswer(id, known);
                         });
}

void CoreWorker::OnBorrowAnswer(const ObjectId& id, bool known) {
  objects_.OnBorrowRegistered(id, known);
  if (objects_.registrations_under_way()) return;
  SendRefsTaken();
  SendHeldReplies();
}

void CoreWorker::ReleaseBorrow(const ObjectId& id, const AddressPtr& owner,
                               uint32_t registrations) {
  mutex_.AssertHeld();
  PeerPtr peer = peers_->FindConnected(owner->worker_id);
  if (peer == nullptr) return;  // REF-4: the owner forgot this process when the connection ended
  wire::v1::ObjectIds message;
  message.add_object_ids(id.BinaryString());
  message.add_counts(registrations);
  peer->connection->Send(wire::v1::REMOVE_BORROWER, message, {}, net::Connection::Flush::kCoalesce);
  peers_->MarkDirty(peer);
}

void CoreWorker::OnAddBorrower(const PeerPtr& peer, const net::Frame& frame) {
  auto message = net::ParseMetadata<wire::v1::ObjectIds>(frame);
  auto ids = message.ok() ? net::ParseIds<ObjectId>(message->object_ids()) : message.status();
  if (!ids.ok() || message->counts_size() != message->object_ids_size()) {
    return peer->connection->Close(absl::InvalidArgumentError("malformed ADD_BORROWER"));
  }
  wire::v1::StatusReply reply;
  for (size_t i = 0; i < ids->size(); ++i) {
    if (objects_.Find((*ids)[i]) == nullptr) {
      reply.set_code(static_cast<int>(absl::StatusCode::kNotFound));
      continue;
    }
    objects_.AddBorrower((*ids)[i], peer->worker_id, message->counts(static_cast<int>(i)));
  }
  peer->connection->Reply(wire::v1::ADD_BORROWER, frame.correlation_id, reply);
}

void CoreWorker::OnRemoveBorrower(const PeerPtr& peer, const net::Frame& frame) {
  auto message = net::ParseMetadata<wire::v1::ObjectIds>(frame);
  auto ids = message.ok() ? net::ParseIds<ObjectId>(message->object_ids()) : message.status();
  if (!ids.ok() || message->counts_size() != message->object_ids_size()) {
    return peer->connection->Close(absl::InvalidArgumentError("malformed REMOVE_BORROWER"));
  }
  for (size_t i = 0; i < ids->size(); ++i) {
    objects_.RemoveBorrower((*ids)[i], peer->worker_id, message->counts(static_cast<int>(i)));
  }
}

void CoreWorker::FetchFromOwner(const ObjectId& id, const AddressPtr& owner) {
  mutex_.AssertHeld();
  PeerPtr peer = peers_->Get(owner);
  if (peer == nullptr) {
    loop_.Post([this, id] {
      mutex_.AssertHeld();
      OnObjectReply(id, absl::UnavailableError("its owner cannot be reached"));
    });
    return;
  }
  wire::v1::ObjectRequest request;
  request.set_object_id(id.BinaryString());
  if (auto lost = lost_at_.extract(id); !lost.empty()) {
    for (const base::NodeId& node : lost.mapped()) request.add_lost_at(node.BinaryString());
  }
  peer->connection->Call(
      wire::v1::GET_OBJECT, request,
      [this, id](absl::StatusOr<net::Frame> reply) {
        mutex_.AssertHeld();
        OnObjectReply(id, reply);
      },
      {}, net::Connection::Flush::kCoalesce);
  peers_->MarkDirty(peer);
}

void CoreWorker::OnObjectRequest(const PeerPtr& peer, const net::Frame& frame) {
  auto request = net::ParseMetadata<wire::v1::ObjectRequest>(frame);
  auto id = request.ok() ? ObjectId::FromBinary(request->object_id()) : request.status();
  if (!id.ok()) return peer->connection->Close(id.status());
  if (request->lost_at_size() > 0) {
    auto nodes = net::ParseIds<base::NodeId>(request->lost_at());
    if (!nodes.ok()) return peer->connection->Close(nodes.status());
    CopiesLost(*id, *nodes, "its copies were not found where they had been");
  }
  ObjectTable::Entry* entry = objects_.Find(*id);
  if (entry == nullptr || entry->state != ObjectState::kPending) {
    return AnswerObjectRequest(peer, frame.correlation_id, *id);
  }
  objects_.WhenReady(*id, [this, peer, correlation_id = frame.correlation_id, id = *id] {
    mutex_.AssertHeld();
    AnswerObjectRequest(peer, correlation_id, id);
  });
}

void CoreWorker::AnswerObjectRequest(const PeerPtr& peer, uint64_t correlation_id,
                                     const ObjectId& id) {
  wire::v1::ObjectReply reply;
  std::string_view payload;
  ObjectTable::Entry* entry = objects_.Find(id);
  if (entry == nullptr) {
    reply.set_outcome(wire::v1::ObjectReply::GONE);
    reply.set_message("its owner has freed it");
  } else if (entry->state == ObjectState::kInline) {
    reply.set_outcome(wire::v1::ObjectReply::INLINE);
    payload = entry->value->view();
  } else {
    reply.set_outcome(wire::v1::ObjectReply::IN_STORE);
    reply.set_node_id(entry->node.BinaryString());
    if (entry->copies != nullptr) {
      for (const base::NodeId& node : *entry->copies) reply.add_copies(node.BinaryString());
    }
  }
  peer->connection->Reply(wire::v1::GET_OBJECT, correlation_id, reply, payload);
}

void CoreWorker::OnObjectReply(const ObjectId& id, const absl::StatusOr<net::Frame>& reply) {
  lost_at_.erase(id);
  if (!reply.ok()) {
    return objects_.SetInline(
        id,
        LostError("OWNER_DIED", id,
                  "the process that owned the object has ended, and with it the object's value"));
  }
  auto parsed = net::ParseMetadata<wire::v1::ObjectReply>(*reply);
  if (!parsed.ok()) return objects_.SetInline(id, LostError("OBJECT_LOST", id, "malformed reply"));
  switch (parsed->outcome()) {
    case wire::v1::ObjectReply::INLINE:
      return objects_.SetInline(id, Buffer::Copy(reply->payload));
    case wire::v1::ObjectReply::IN_STORE: {
      auto node = base::NodeId::FromBinary(parsed->node_id());
      auto copies = net::ParseIds<base::NodeId>(parsed->copies());
      if (node.ok() && copies.ok()) {
        objects_.SetInStore(id, *node, 0);
        for (const base::NodeId& copy : *copies) objects_.AddCopy(id, copy);
        return;
      }
      return objects_.SetInline(id, LostError("OBJECT_LOST", id, "malformed reply"));
    }
    default:
      return objects_.SetInline(id, LostError("OBJECT_LOST", id, parsed->message()));
  }
}

void CoreWorker::FreeStored(const ObjectId& id, const base::NodeId& node) {
  mutex_.AssertHeld();
  if (store_ == nullptr) return;
  store_->Free(id, node);
  ScheduleDrain();
}

void CoreWorker::OwnedObjectGone(const ObjectId& id) {
  mutex_.AssertHeld();
  if (!lineage_.empty()) {
    if (TaskPtr task = lineage_.ObjectGone(id); task != nullptr) LetGo(task);
  }
  if (!deferred_.empty()) {
    if (auto deferred = deferred_.extract(id); !deferred.empty()) deferred.mapped().gone();
  }
  auto handle = handle_refs_.find(id);
  if (handle == handle_refs_.end()) return;
  wire::v1::ActorOutOfScope message;
  message.set_actor_id(handle->second.BinaryString());
  handle_refs_.erase(handle);
  raylet_->Send(wire::v1::ACTOR_OUT_OF_SCOPE, message);
}

}  // namespace ray::core
