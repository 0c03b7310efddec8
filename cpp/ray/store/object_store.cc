#include "ray/store/object_store.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/store/object_store_impl.h"

namespace ray::store {
namespace {

constexpr uint64_t kPageReturnStepBytes = 64 << 20;
constexpr int64_t kStuckDelayMsMax = 2'000;

}  // namespace

ObjectStoreOptions ObjectStoreOptions::FromConfig(const base::Config& config,
                                                  uint64_t capacity_bytes) {
  auto bytes = [](int64_t value) { return static_cast<uint64_t>(std::max<int64_t>(value, 0)); };
  return {
      .capacity_bytes = capacity_bytes,
      .full_timeout = absl::Milliseconds(config.object_store_full_timeout_ms),
      .stuck_delay = absl::Milliseconds(
          std::min<int64_t>(config.object_store_full_timeout_ms, kStuckDelayMsMax)),
      .spilling_threshold = config.object_spilling_threshold,
      .spill_batch_bytes = std::max<uint64_t>(bytes(config.min_spilling_size_bytes), 1),
      .spill_quota_bytes = bytes(config.spill_disk_quota_bytes),
      // What was touched ahead of use is not to be returned again.
      .warm_reserve_bytes = bytes(
          std::max(config.object_store_warm_reserve_bytes, config.object_store_pretouch_bytes)),
      .page_return_delay = absl::Milliseconds(config.object_store_page_return_delay_ms),
  };
}

ObjectStore::Impl::Impl(const ObjectStoreOptions& options, const base::Clock* clock,
                        SpillTarget* spill_target, PageReturner* page_returner)
    : options_(options),
      clock_(clock),
      page_returner_(page_returner),
      table_(options.capacity_bytes, this),
      spiller_(options, clock, spill_target, &table_, this),
      last_progress_(clock->Now()),
      last_allocation_(clock->Now()) {}

// --- objects

void ObjectStore::Impl::OnDelete(const Object& object) {
  if (object.disk) spiller_.Forget(*object.disk);
  const bool evicted = object.secondary && IsSealed(object.state) && !object.freed;
  if (evicted && on_eviction_) {
    replies_.push_back({ClientId{}, [this, id = object.id] { on_eviction_(id); }});
  }
  if (IsSealed(object.state) && gone_.Find(object.id) == nullptr) gets_.OnUnresolved(object.id);
}

bool ObjectStore::Impl::IsResolved(const base::ObjectId& id) const {
  if (gone_.Find(id) != nullptr) return true;
  const Object* object = table_.Find(id);
  return object != nullptr && IsSealed(object->state);
}

void ObjectStore::Impl::MarkGone(const base::ObjectId& id, const char* reason) {
  bool was_resolved = IsResolved(id);
  std::optional<base::ObjectId> forgotten = gone_.Add(id, reason);
  if (!was_resolved) gets_.OnResolved(id);
  if (forgotten && !IsResolved(*forgotten)) gets_.OnUnresolved(*forgotten);
}

void ObjectStore::Impl::FreeObject(const base::ObjectId& id, const char* reason) {
  MarkGone(id, reason);
  if (Object* object = table_.Find(id); object != nullptr) table_.Free(*object);
}

bool ObjectStore::Impl::Contains(const base::ObjectId& id) const {
  const Object* object = table_.Find(id);
  return object != nullptr && !object->freed && IsSealed(object->state);
}

std::optional<ObjectInfo> ObjectStore::Impl::Find(const base::ObjectId& id) const {
  const Object* object = table_.Find(id);
  if (object == nullptr || object->freed) return std::nullopt;
  return ObjectInfo{.size_bytes = object->size_bytes,
                    .owner = object->owner,
                    .note = object->note,
                    .sealed = IsSealed(object->state),
                    .secondary = object->secondary,
                    .in_memory = object->Readable() && HasMemory(object->state)};
}

std::vector<base::ObjectId> ObjectStore::Impl::PrimaryCopies() const {
  std::vector<base::ObjectId> ids;
  for (const auto& [id, object] : table_.objects()) {
    if (!object.secondary && !object.freed && IsSealed(object.state)) ids.push_back(id);
  }
  return ids;
}

bool ObjectStore::Impl::MakePrimary(const base::ObjectId& id) {
  if (!Contains(id)) return false;
  Object& object = *table_.Find(id);
  if (object.secondary) table_.Promote(object);
  Settle();
  return true;
}

std::optional<ClientId> ObjectStore::Impl::FirstWaitingCreator() const {
  if (creates_.empty()) return std::nullopt;
  return creates_.front().client;
}

Object* ObjectStore::Impl::FindWrittenBy(ClientId client, const base::ObjectId& id) {
  Object* object = table_.Find(id);
  bool is_writer = object != nullptr && IsWriting(object->state) && object->creator == client;
  return is_writer ? object : nullptr;
}

absl::Status ObjectStore::Impl::Seal(ClientId client, const base::ObjectId& id) {
  Object* object = FindWrittenBy(client, id);
  if (object == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("seal of object ", id.Hex(), ", which this client is not writing"));
  }
  bool was_resolved = IsResolved(id);
  table_.Move(*object, SealedState(object->state));
  clients_[client].writing.erase(id);
  if (!was_resolved) gets_.OnResolved(id);
  for (WaitingCreate& create : creates_.TakeParked(id)) AnswerFromTable(create);
  Settle();
  return absl::OkStatus();
}

void ObjectStore::Impl::Abort(ClientId client, const base::ObjectId& id) {
  if (Object* object = FindWrittenBy(client, id); object != nullptr) {
    DropUnsealed(clients_[client], *object);
  } else if (std::optional<WaitingCreate> create = creates_.Take(client, id)) {
    ReplyCreate(*std::move(create), {.outcome = CreateReply::Outcome::kAborted});
  }
  Settle();
}

void ObjectStore::Impl::DropUnsealed(ClientRecord& client, Object& object) {
  base::ObjectId id = object.id;
  client.writing.erase(id);
  client.pins.erase(id);
  table_.Delete(object);
  for (WaitingCreate& create : creates_.TakeParked(id)) {
    create.deadline = clock_->Now() + options_.full_timeout;
    Admit(std::move(create));
  }
}

absl::Status ObjectStore::Impl::Release(ClientId client, const base::ObjectId& id) {
  auto record = clients_.find(client);
  if (record == clients_.end() || !record->second.pins.contains(id)) {
    return absl::FailedPreconditionError(
        absl::StrCat("release of object ", id.Hex(), ", which this client has not pinned"));
  }
  ClientRecord& holder = record->second;
  if (holder.writing.contains(id)) {
    return absl::FailedPreconditionError(
        absl::StrCat("release of object ", id.Hex(), " before it was sealed"));
  }
  auto pin = holder.pins.find(id);
  if (--pin->second == 0) holder.pins.erase(pin);
  table_.Unpin(*table_.Find(id));
  Settle();
  return absl::OkStatus();
}

void ObjectStore::Impl::Free(absl::Span<const base::ObjectId> ids) {
  for (const base::ObjectId& id : ids) FreeObject(id, kFreedReason);
  Settle();
}

void ObjectStore::Impl::OwnerGone(const base::WorkerId& owner) {
  dead_owners_.Add(owner, true);
  absl::btree_set<base::ObjectId> owned = table_.OwnedBy(owner);  // freeing changes the set
  for (const base::ObjectId& id : owned) FreeObject(id, kOwnerDiedReason);
  Settle();
}

void ObjectStore::Impl::ClientGone(ClientId client) {
  creates_.DropClient(client);
  for (GetNumber number : gets_.OfClient(client)) {
    gets_.Take(number);
    if (restoring_ && restoring_->number == number) EndRestoring();
  }
  std::erase_if(replies_, [&](const QueuedReply& reply) { return reply.client == client; });
  if (auto node = clients_.extract(client)) {
    ClientRecord& record = node.mapped();
    absl::btree_set<base::ObjectId> writing = record.writing;
    for (const base::ObjectId& id : writing) DropUnsealed(record, *table_.Find(id));
    for (const auto& [id, pins] : record.pins) {
      for (uint32_t i = 0; i < pins; ++i) table_.Unpin(*table_.Find(id));
    }
  }
  Settle();
}

// --- pages

absl::Time ObjectStore::Impl::PageReturnTime() const {
  bool too_warm = table_.arena().warm_free_bytes() > options_.warm_reserve_bytes;
  if (page_returner_ == nullptr || returning_pages_ || !too_warm) return absl::InfiniteFuture();
  return last_allocation_ + options_.page_return_delay;
}

void ObjectStore::Impl::ReturnPages(absl::Time now) {
  if (PageReturnTime() > now) return;
  uint64_t surplus = table_.arena().warm_free_bytes() - options_.warm_reserve_bytes;
  std::optional<Extent> lent = table_.arena().TakeWarm(std::min(surplus, kPageReturnStepBytes));
  if (!lent) return;
  returning_pages_ = true;
  page_returner_->ReturnPages(*lent,
                              [this, alive = std::weak_ptr<bool>(alive_), offset = lent->offset] {
                                if (alive.expired()) return;
                                returning_pages_ = false;
                                table_.arena().FreeCold(offset);
                                ReturnPages(clock_->Now());
                                Settle();
                              });
}

// --- all of it

void ObjectStore::Impl::Tick() {
  absl::Time now = clock_->Now();
  ExpireCreates(now);
  ExpireGets(now);
  ReturnPages(now);
  Settle();
}

absl::Time ObjectStore::Impl::NextDeadline() const {
  absl::Time next = std::min(creates_.NextDeadline(), spiller_.NextDeadline());
  next = std::min({next, creates_.NextAwaitingDeadline(), PageReturnTime()});
  if (auto get = gets_.NextDeadline()) next = std::min(next, get->first);
  if (restoring_) next = std::min(next, BlockedGetDeadline());
  if (MayStartFile()) next = std::min(next, StuckTime());
  return next;
}

void ObjectStore::Impl::Settle() {
  settle_again_ = true;
  if (settling_) return;  // called by a callback: the loop below goes round once more
  settling_ = true;
  while (settle_again_) {
    settle_again_ = false;
    AdvanceGets();
    AdvanceCreates();
    bool get_blocked = restoring_ && restoring_->blocked_since < absl::InfiniteFuture();
    spiller_.Run(/*memory_wanted=*/get_blocked || CreatesBlocked());
    if (!spiller_.trouble().empty() && DropFileCopies()) settle_again_ = true;
    NoteProgress();
    RunReplies();
  }
  settling_ = false;
}

void ObjectStore::Impl::RunReplies() {
  while (!replies_.empty()) {
    QueuedReply reply = std::move(replies_.front());
    replies_.pop_front();
    reply.run();
  }
}

StoreStats ObjectStore::Impl::Stats() const {
  StoreStats stats;
  stats.capacity_bytes = table_.arena().capacity_bytes();
  stats.allocated_bytes = table_.object_bytes();
  stats.used_bytes = table_.used_bytes();
  stats.pinned_bytes = table_.pinned_bytes();
  stats.warm_free_bytes = table_.arena().warm_free_bytes();
  stats.objects = table_.objects().size();
  for (const auto& [id, object] : table_.objects()) {
    if (!HasMemory(object.state)) ++stats.spilled_objects;
  }
  stats.disk_bytes = spiller_.disk_bytes();
  stats.waiting_creates = creates_.size();
  stats.waiting_create_bytes = creates_.bytes();
  stats.waiting_gets = gets_.size();
  stats.evictions = table_.evictions();
  stats.spilled_bytes_total = spiller_.written_bytes_total();
  stats.restored_bytes_total = spiller_.read_bytes_total();
  stats.spill_failures = spiller_.failures();
  return stats;
}

void ObjectStore::Impl::CheckInvariants() const {
  table_.CheckInvariants();
  spiller_.CheckInvariants();
  gets_.CheckInvariants([this](const base::ObjectId& id) { return IsResolved(id); });
  absl::flat_hash_map<base::ObjectId, uint32_t> pins;
  for (const auto& [client, record] : clients_) {
    for (const auto& [id, count] : record.pins) pins[id] += count;
    for (const base::ObjectId& id : record.writing) {
      const Object* object = table_.Find(id);
      MANTA_CHECK_MSG(IsWriting(object->state) && object->creator == client, "STORE-1");
    }
  }
  if (restoring_) {
    for (const base::ObjectId& id : restoring_->pinned) ++pins[id];
  }
  for (const auto& [id, object] : table_.objects()) {
    MANTA_CHECK_MSG(object.pins == pins[id], "STORE-2");
  }
}

// --- the public face

ObjectStore::ObjectStore(const ObjectStoreOptions& options, const base::Clock* clock,
                         SpillTarget* spill_target, PageReturner* page_returner)
    : impl_(std::make_unique<Impl>(options, clock, spill_target, page_returner)) {}
ObjectStore::~ObjectStore() = default;

absl::Status ObjectStore::Create(ClientId client, CreateRequest request, CreateCallback callback) {
  return impl_->Create(client, std::move(request), std::move(callback));
}
absl::Status ObjectStore::Seal(ClientId client, const base::ObjectId& id) {
  return impl_->Seal(client, id);
}
void ObjectStore::Abort(ClientId client, const base::ObjectId& id) { impl_->Abort(client, id); }
void ObjectStore::Get(ClientId client, std::vector<base::ObjectId> ids, absl::Duration timeout,
                      GetCallback callback) {
  impl_->Get(client, std::move(ids), timeout, std::move(callback));
}
absl::Status ObjectStore::Release(ClientId client, const base::ObjectId& id) {
  return impl_->Release(client, id);
}
void ObjectStore::Free(absl::Span<const base::ObjectId> ids) { impl_->Free(ids); }
bool ObjectStore::Contains(const base::ObjectId& id) const { return impl_->Contains(id); }
void ObjectStore::FailGets(const base::ObjectId& id, GetReply::Outcome outcome,
                           std::string reason) {
  impl_->FailGets(id, outcome, std::move(reason));
}
void ObjectStore::MadeElsewhere(const base::ObjectId& id) { impl_->MadeElsewhere(id); }
void ObjectStore::OnEviction(EvictionCallback callback) { impl_->OnEviction(std::move(callback)); }
std::optional<ObjectInfo> ObjectStore::Find(const base::ObjectId& id) const {
  return impl_->Find(id);
}
bool ObjectStore::HasObjectsOf(const base::WorkerId& owner) const {
  return !impl_->table().OwnedBy(owner).empty();
}
std::optional<ClientId> ObjectStore::FirstWaitingCreator() const {
  return impl_->FirstWaitingCreator();
}
void ObjectStore::NameClient(ClientId client, std::string name) {
  impl_->NameClient(client, std::move(name));
}
void ObjectStore::ClientGone(ClientId client) { impl_->ClientGone(client); }
void ObjectStore::OwnerGone(const base::WorkerId& owner) { impl_->OwnerGone(owner); }
void ObjectStore::MarkWarm(Extent extent) { impl_->MarkWarm(extent); }
void ObjectStore::Tick() { impl_->Tick(); }
absl::Time ObjectStore::NextDeadline() const { return impl_->NextDeadline(); }
uint64_t ObjectStore::capacity_bytes() const { return impl_->table().arena().capacity_bytes(); }
uint64_t ObjectStore::used_bytes() const { return impl_->table().used_bytes(); }
uint64_t ObjectStore::disk_bytes() const { return impl_->disk_bytes(); }
StoreStats ObjectStore::Stats() const { return impl_->Stats(); }
std::vector<base::ObjectId> ObjectStore::PrimaryCopies() const { return impl_->PrimaryCopies(); }
bool ObjectStore::MakePrimary(const base::ObjectId& id) { return impl_->MakePrimary(id); }
std::string ObjectStore::Breakdown() const { return impl_->Breakdown(); }
void ObjectStore::CheckInvariants() const { impl_->CheckInvariants(); }

}  // namespace ray::store
