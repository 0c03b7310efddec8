#include "ray/store/object_store.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ray/base/check.h"
#include "ray/store/client_record.h"
#include "ray/store/create_queue.h"
#include "ray/store/get_queue.h"
#include "ray/store/object_table.h"
#include "ray/store/recent_map.h"
#include "ray/store/spiller.h"
#include "ray/store/store_report.h"

namespace ray::store {
namespace {

constexpr size_t kNoteMaxBytes = 100;
constexpr size_t kGoneObjectsMax = 16'384;  // remembered, so that a late Get is told at once
constexpr size_t kDeadOwnersMax = 4'096;    // remembered, so that a late creation leaks nothing
constexpr uint64_t kPageReturnStepBytes = 64 << 20;

constexpr char kFreedReason[] = "its owner freed it";
constexpr char kOwnerDiedReason[] = "its owner died";

}  // namespace

ObjectStoreOptions ObjectStoreOptions::FromConfig(const base::Config& config,
                                                  uint64_t capacity_bytes) {
  auto bytes = [](int64_t value) { return static_cast<uint64_t>(std::max<int64_t>(value, 0)); };
  return {
      .capacity_bytes = capacity_bytes,
      .full_timeout = absl::Milliseconds(config.object_store_full_timeout_ms),
      .spilling_threshold = config.object_spilling_threshold,
      .spill_batch_bytes = std::max<uint64_t>(bytes(config.min_spilling_size_bytes), 1),
      .spill_quota_bytes = bytes(config.spill_disk_quota_bytes),
      // What was touched ahead of use is not to be returned again.
      .warm_reserve_bytes = bytes(
          std::max(config.object_store_warm_reserve_bytes, config.object_store_pretouch_bytes)),
      .page_return_delay = absl::Milliseconds(config.object_store_page_return_delay_ms),
  };
}

class ObjectStore::Impl final : private ObjectTable::Listener, private Spiller::Listener {
 public:
  Impl(const ObjectStoreOptions& options, const base::Clock* clock, SpillTarget* spill_target,
       PageReturner* page_returner);

  absl::Status Create(ClientId client, CreateRequest request, CreateCallback callback);
  absl::Status Seal(ClientId client, const base::ObjectId& id);
  absl::Status Abort(ClientId client, const base::ObjectId& id);
  void Get(ClientId client, std::vector<base::ObjectId> ids, absl::Duration timeout,
           GetCallback callback);
  absl::Status Release(ClientId client, const base::ObjectId& id);
  void Free(absl::Span<const base::ObjectId> ids);
  bool Contains(const base::ObjectId& id) const;
  void FailGets(const base::ObjectId& id, GetReply::Outcome outcome, std::string reason);
  void OnEviction(EvictionCallback callback) { on_eviction_ = std::move(callback); }
  std::optional<ObjectInfo> Find(const base::ObjectId& id) const;
  std::optional<ClientId> FirstWaitingCreator() const;
  void NameClient(ClientId client, std::string name) { clients_[client].name = std::move(name); }
  void ClientGone(ClientId client);
  void OwnerGone(const base::WorkerId& owner);
  void MarkWarm(Extent extent) { table_.arena().MarkWarm(extent); }
  void Tick();
  absl::Time NextDeadline() const;
  const ObjectTable& table() const { return table_; }
  StoreStats Stats() const;
  std::string Breakdown() const { return DescribeUse(Stats(), table_, clients_); }
  void CheckInvariants() const;

 private:
  // The one Get whose spilled objects are being restored. It pins what it has so far; as no other
  // waiting Get pins anything, two Gets never hold the memory that each other needs.
  struct RestoringGet {
    GetNumber number;
    size_t next = 0;  // ids before this one are pinned or gone
    absl::btree_set<base::ObjectId> pinned;
    absl::btree_set<base::ObjectId> reading;            // of the pinned: kRestoring
    absl::Time blocked_since = absl::InfiniteFuture();  // for want of memory
  };
  struct QueuedReply {
    ClientId client;
    absl::AnyInvocable<void()> run;
  };

  // --- objects
  void OnDelete(const Object& object) override;
  bool IsResolved(const base::ObjectId& id) const;
  void MarkGone(const base::ObjectId& id, const char* reason);
  void FreeObject(const base::ObjectId& id, const char* reason);
  Object* FindWrittenBy(ClientId client, const base::ObjectId& id);
  void DropUnsealed(ClientRecord& client, Object& object);

  // --- creations
  bool AnswerFromTable(WaitingCreate& create);
  void AdvanceCreates();
  void Grant(WaitingCreate create, Extent block);
  void ReplyCreate(WaitingCreate create, CreateReply reply);
  void ExpireCreates(absl::Time now);
  bool CreatesBlocked() const { return !creates_.empty(); }

  // --- gets
  void AdvanceGets();
  bool AdvanceRestoring();
  bool RestoreNext(const base::ObjectId& id);
  void PinForRestoring(Object& object);
  void EndRestoring();
  void OnWritten() override { Settle(); }
  void OnRead(const base::ObjectId& id, absl::Status status) override;
  bool NeedsRestoring(const std::vector<base::ObjectId>& ids) const;
  // Answers with what is in memory now. full_reason: why the rest of what is here could not be
  // restored, if so.
  void CompleteGet(GetNumber number, absl::string_view full_reason = {});
  GetReply Answer(const WaitingGet& get, absl::string_view full_reason);
  GetReply::Entry AnswerOne(const WaitingGet& get, const base::ObjectId& id,
                            absl::string_view full_reason) const;
  void ExpireGets(absl::Time now);

  // --- pages
  absl::Time PageReturnTime() const;
  void ReturnPages(absl::Time now);

  // Does all that has become possible, then runs the replies. Every public change ends with it.
  void Settle();
  void RunReplies();

  const ObjectStoreOptions options_;
  const base::Clock* const clock_;
  PageReturner* const page_returner_;

  ObjectTable table_;
  Spiller spiller_;
  CreateQueue creates_;
  GetQueue gets_;
  std::optional<RestoringGet> restoring_;
  absl::node_hash_map<ClientId, ClientRecord> clients_;
  RecentMap<base::ObjectId, std::string> gone_{kGoneObjectsMax};  // why each is gone
  RecentMap<base::WorkerId, bool> dead_owners_{kDeadOwnersMax};

  EvictionCallback on_eviction_;

  std::deque<QueuedReply> replies_;
  bool settling_ = false;
  bool settle_again_ = false;

  bool returning_pages_ = false;
  absl::Time last_allocation_;
  // The page returner outlives this and holds it weakly.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

ObjectStore::Impl::Impl(const ObjectStoreOptions& options, const base::Clock* clock,
                        SpillTarget* spill_target, PageReturner* page_returner)
    : options_(options),
      clock_(clock),
      page_returner_(page_returner),
      table_(options.capacity_bytes, this),
      spiller_(options, clock, spill_target, &table_, this),
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
                    .secondary = object->secondary};
}

std::optional<ClientId> ObjectStore::Impl::FirstWaitingCreator() const {
  if (creates_.empty()) return std::nullopt;
  return creates_.front().client;
}

Object* ObjectStore::Impl::FindWrittenBy(ClientId client, const base::ObjectId& id) {
  Object* object = table_.Find(id);
  bool is_writer =
      object != nullptr && object->state == ObjectState::kWriting && object->creator == client;
  return is_writer ? object : nullptr;
}

absl::Status ObjectStore::Impl::Seal(ClientId client, const base::ObjectId& id) {
  Object* object = FindWrittenBy(client, id);
  if (object == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("seal of object ", id.Hex(), ", which this client is not writing"));
  }
  bool was_resolved = IsResolved(id);
  table_.Move(*object, ObjectState::kInMemory);
  clients_[client].writing.erase(id);
  if (!was_resolved) gets_.OnResolved(id);
  for (WaitingCreate& create : creates_.TakeParked(id)) AnswerFromTable(create);
  Settle();
  return absl::OkStatus();
}

absl::Status ObjectStore::Impl::Abort(ClientId client, const base::ObjectId& id) {
  Object* object = FindWrittenBy(client, id);
  if (object == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("abort of object ", id.Hex(), ", which this client is not writing"));
  }
  DropUnsealed(clients_[client], *object);
  Settle();
  return absl::OkStatus();
}

void ObjectStore::Impl::DropUnsealed(ClientRecord& client, Object& object) {
  base::ObjectId id = object.id;
  client.writing.erase(id);
  client.pins.erase(id);
  table_.Delete(object);
  for (WaitingCreate& create : creates_.TakeParked(id)) {
    create.deadline = clock_->Now() + options_.full_timeout;
    creates_.Enqueue(std::move(create));
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

// --- creations

absl::Status ObjectStore::Impl::Create(ClientId client, CreateRequest request,
                                       CreateCallback callback) {
  if (request.size_bytes == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("creation of object ", request.id.Hex(), " without a size"));
  }
  if (FindWrittenBy(client, request.id) != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("creation of object ", request.id.Hex(), ", which this client is writing"));
  }
  if (request.note.size() > kNoteMaxBytes) request.note.resize(kNoteMaxBytes);
  WaitingCreate create{.client = client,
                       .request = std::move(request),
                       .callback = std::move(callback),
                       .deadline = clock_->Now() + options_.full_timeout};
  if (!AnswerFromTable(create)) creates_.Enqueue(std::move(create));
  Settle();
  return absl::OkStatus();
}

// Whether the creation needs no memory: it was answered, or parked until another client has written
// the object.
bool ObjectStore::Impl::AnswerFromTable(WaitingCreate& create) {
  uint64_t capacity = table_.arena().capacity_bytes();
  if (create.request.size_bytes > capacity) {
    std::string message = absl::StrCat(
        "an object of ", FormatBytes(create.request.size_bytes), " (\"", create.request.note,
        "\") can never fit into the object store of ", FormatBytes(capacity),
        "; split it, or start with a larger object_store_memory");
    ReplyCreate(std::move(create),
                {.outcome = CreateReply::Outcome::kTooLarge, .message = std::move(message)});
    return true;
  }
  Object* object = table_.Find(create.request.id);
  if (object == nullptr) return false;
  if (object->state == ObjectState::kWriting) {
    creates_.Park(std::move(create));
    return true;
  }
  // Its bytes were not reused yet, and a creation says that the object is wanted again.
  if (object->freed) {
    gone_.Erase(object->id);
    table_.Revive(*object);
  }
  if (object->secondary && !create.request.secondary) table_.Promote(*object);
  ReplyCreate(std::move(create), {.outcome = CreateReply::Outcome::kExists});
  return true;
}

void ObjectStore::Impl::AdvanceCreates() {
  while (!creates_.empty()) {
    if (table_.Find(creates_.front().request.id) != nullptr) {
      WaitingCreate create = creates_.TakeFront();
      AnswerFromTable(create);
      continue;
    }
    std::optional<Extent> block = table_.Allocate(creates_.front().request.size_bytes);
    if (!block) return;
    Grant(creates_.TakeFront(), *block);
  }
}

void ObjectStore::Impl::Grant(WaitingCreate create, Extent block) {
  const base::ObjectId id = create.request.id;
  if (gone_.Erase(id)) gets_.OnUnresolved(id);
  Object& object = table_.Add(create.request, create.client, block);
  if (dead_owners_.Find(object.owner) != nullptr) FreeObject(id, kOwnerDiedReason);
  ClientRecord& client = clients_[create.client];
  client.writing.insert(id);
  ++client.pins[id];
  last_allocation_ = clock_->Now();
  ReplyCreate(std::move(create),
              {.outcome = CreateReply::Outcome::kCreated, .offset = block.offset});
}

void ObjectStore::Impl::ReplyCreate(WaitingCreate create, CreateReply reply) {
  replies_.push_back(
      {create.client, [callback = std::move(create.callback), reply = std::move(reply)]() mutable {
         callback(std::move(reply));
       }});
}

void ObjectStore::Impl::ExpireCreates(absl::Time now) {
  std::string breakdown;
  while (creates_.NextDeadline() <= now) {
    if (breakdown.empty()) breakdown = Breakdown();
    WaitingCreate create = creates_.TakeFront();
    bool disk_hinders = !spiller_.trouble().empty();
    CreateReply reply{.outcome = disk_hinders ? CreateReply::Outcome::kOutOfDisk
                                              : CreateReply::Outcome::kFull};
    reply.message = absl::StrCat(
        "no room for an object of ", FormatBytes(create.request.size_bytes), " (\"",
        create.request.note, "\") after waiting ", absl::FormatDuration(options_.full_timeout),
        disk_hinders ? absl::StrCat("; spilling to disk failed: ", spiller_.trouble()) : "",
        ". Let go of references that are no longer needed, or start with a larger "
        "object_store_memory.\n",
        breakdown);
    ReplyCreate(std::move(create), std::move(reply));
  }
}

// --- gets

void ObjectStore::Impl::Get(ClientId client, std::vector<base::ObjectId> ids,
                            absl::Duration timeout, GetCallback callback) {
  GetNumber number = gets_.Add({.client = client,
                                .ids = std::move(ids),
                                .deadline = clock_->Now() + timeout,
                                .callback = std::move(callback)},
                               [this](const base::ObjectId& id) { return IsResolved(id); });
  Settle();
  if (timeout <= absl::ZeroDuration() && gets_.Contains(number)) {
    CompleteGet(number);
    Settle();
  }
}

void ObjectStore::Impl::FailGets(const base::ObjectId& id, GetReply::Outcome outcome,
                                 std::string reason) {
  if (IsResolved(id)) return;
  gets_.Fail(id, {.outcome = outcome, .reason = std::move(reason)});
  Settle();
}

bool ObjectStore::Impl::NeedsRestoring(const std::vector<base::ObjectId>& ids) const {
  return std::any_of(ids.begin(), ids.end(), [this](const base::ObjectId& id) {
    const Object* object = table_.Find(id);
    return object != nullptr && !object->freed && IsSealed(object->state) && !object->Readable();
  });
}

void ObjectStore::Impl::AdvanceGets() {
  for (GetNumber number : gets_.TakeNewlyReady()) {
    if (gets_.Contains(number) && !NeedsRestoring(gets_.Get(number).ids)) CompleteGet(number);
  }
  while (true) {
    if (!restoring_) {
      std::optional<GetNumber> next = gets_.FirstReady();
      if (!next) return;
      restoring_ = RestoringGet{.number = *next};
      for (const base::ObjectId& id : gets_.Get(*next).ids) {
        Object* object = table_.Find(id);
        if (object != nullptr && object->Readable()) PinForRestoring(*object);
      }
    }
    if (!AdvanceRestoring()) return;
    CompleteGet(restoring_->number);
  }
}

// True: everything is in memory that can be.
bool ObjectStore::Impl::AdvanceRestoring() {
  const std::vector<base::ObjectId>& ids = gets_.Get(restoring_->number).ids;
  for (; restoring_->next < ids.size(); ++restoring_->next) {
    if (RestoreNext(ids[restoring_->next])) continue;
    restoring_->blocked_since = std::min(restoring_->blocked_since, clock_->Now());
    return false;
  }
  return restoring_->reading.empty();
}

// False: there is no memory now.
bool ObjectStore::Impl::RestoreNext(const base::ObjectId& id) {
  Object* object = table_.Find(id);
  if (object == nullptr || object->freed || !IsSealed(object->state)) return true;
  if (object->state == ObjectState::kOnDisk) {
    std::optional<Extent> block = table_.Allocate(object->size_bytes);
    if (!block) return false;
    last_allocation_ = clock_->Now();
    spiller_.Restore(*object, *block);
  }
  restoring_->blocked_since = absl::InfiniteFuture();
  if (object->state == ObjectState::kRestoring) restoring_->reading.insert(id);
  PinForRestoring(*object);
  return true;
}

void ObjectStore::Impl::PinForRestoring(Object& object) {
  if (restoring_->pinned.insert(object.id).second) table_.Pin(object);
}

void ObjectStore::Impl::EndRestoring() {
  for (const base::ObjectId& id : restoring_->pinned) table_.Unpin(*table_.Find(id));
  restoring_.reset();
}

void ObjectStore::Impl::OnRead(const base::ObjectId& id, absl::Status status) {
  if (restoring_) restoring_->reading.erase(id);
  if (!status.ok()) {
    if (restoring_) restoring_->pinned.erase(id);
    MarkGone(id, absl::StrCat("it was spilled and cannot be restored: ", status.message()).c_str());
    table_.Delete(*table_.Find(id));
  }
  Settle();
}

void ObjectStore::Impl::CompleteGet(GetNumber number, absl::string_view full_reason) {
  WaitingGet get = gets_.Take(number);
  GetReply reply = Answer(get, full_reason);
  if (restoring_ && restoring_->number == number) EndRestoring();
  replies_.push_back(
      {get.client, [callback = std::move(get.callback), reply = std::move(reply)]() mutable {
         callback(std::move(reply));
       }});
}

GetReply ObjectStore::Impl::Answer(const WaitingGet& get, absl::string_view full_reason) {
  GetReply reply;
  reply.entries.reserve(get.ids.size());
  ClientRecord& record = clients_[get.client];
  for (const base::ObjectId& id : get.ids) {
    reply.entries.push_back(AnswerOne(get, id, full_reason));
    if (reply.entries.back().outcome != GetReply::Outcome::kPresent) continue;
    table_.Pin(*table_.Find(id));
    ++record.pins[id];
  }
  return reply;
}

GetReply::Entry ObjectStore::Impl::AnswerOne(const WaitingGet& get, const base::ObjectId& id,
                                             absl::string_view full_reason) const {
  const Object* object = table_.Find(id);
  if (object != nullptr && object->Readable()) {
    return {.outcome = GetReply::Outcome::kPresent,
            .extent = {object->block.offset, object->size_bytes}};
  }
  if (const std::string* reason = gone_.Find(id); reason != nullptr) {
    return {.outcome = GetReply::Outcome::kGone, .reason = *reason};
  }
  if (object != nullptr && object->freed) {
    return {.outcome = GetReply::Outcome::kGone, .reason = kFreedReason};
  }
  if (!full_reason.empty() && object != nullptr && IsSealed(object->state)) {
    return {.outcome = GetReply::Outcome::kNoMemory, .reason = std::string(full_reason)};
  }
  if (auto failed = get.failed.find(id); failed != get.failed.end()) return failed->second;
  return {};
}

void ObjectStore::Impl::ExpireGets(absl::Time now) {
  while (auto next = gets_.NextDeadline()) {
    if (next->first > now) break;
    CompleteGet(next->second);
  }
  if (restoring_ && restoring_->blocked_since + options_.full_timeout <= now) {
    CompleteGet(restoring_->number,
                absl::StrCat("it was spilled, and there was no memory to restore it for ",
                             absl::FormatDuration(options_.full_timeout), ".\n", Breakdown()));
  }
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
  next = std::min(next, PageReturnTime());
  if (auto get = gets_.NextDeadline()) next = std::min(next, get->first);
  if (restoring_) next = std::min(next, restoring_->blocked_since + options_.full_timeout);
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
    if (object.state == ObjectState::kOnDisk) ++stats.spilled_objects;
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
      MANTA_CHECK_MSG(object->state == ObjectState::kWriting && object->creator == client,
                      "STORE-1");
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
absl::Status ObjectStore::Abort(ClientId client, const base::ObjectId& id) {
  return impl_->Abort(client, id);
}
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
StoreStats ObjectStore::Stats() const { return impl_->Stats(); }
std::string ObjectStore::Breakdown() const { return impl_->Breakdown(); }
void ObjectStore::CheckInvariants() const { impl_->CheckInvariants(); }

}  // namespace ray::store
