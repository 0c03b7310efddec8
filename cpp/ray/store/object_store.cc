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

constexpr int64_t kStuckDelayMsMax = 2'000;

constexpr char kFreedReason[] = "its owner freed it";
constexpr char kOwnerDiedReason[] = "its owner died";

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

class ObjectStore::Impl final : private ObjectTable::Listener, private Spiller::Listener {
 public:
  Impl(const ObjectStoreOptions& options, const base::Clock* clock, SpillTarget* spill_target,
       PageReturner* page_returner);

  absl::Status Create(ClientId client, CreateRequest request, CreateCallback callback);
  absl::Status Seal(ClientId client, const base::ObjectId& id);
  void Abort(ClientId client, const base::ObjectId& id);
  void Get(ClientId client, std::vector<base::ObjectId> ids, absl::Duration timeout,
           GetCallback callback);
  absl::Status Release(ClientId client, const base::ObjectId& id);
  void Free(absl::Span<const base::ObjectId> ids);
  bool Contains(const base::ObjectId& id) const;
  void MadeElsewhere(const base::ObjectId& id);
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
  std::vector<base::ObjectId> PrimaryCopies() const;
  bool MakePrimary(const base::ObjectId& id);
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
    bool use_files = false;  // it waited long enough: what finds no memory is mapped
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
  void Admit(WaitingCreate create);
  bool AnswerFromTable(WaitingCreate& create);
  void AdvanceCreates();
  void Grant(WaitingCreate create, Extent block);
  void Granted(Object& object, WaitingCreate create, CreateReply reply);
  void StartFile(WaitingCreate create);
  void OnFileMade(uint64_t number, absl::StatusOr<Spiller::OwnFile> file);
  bool MayStartFile() const;
  void RefuseCreate(WaitingCreate create);
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
  void OnNotMapped(const base::ObjectId& id, const absl::Status& why) override;
  absl::Time BlockedGetDeadline() const;
  bool NeedsRestoring(const std::vector<base::ObjectId>& ids) const;
  // Answers with what is in memory now. full_reason: why the rest of what is here could not be
  // restored, if so.
  void CompleteGet(GetNumber number, absl::string_view full_reason = {});
  GetReply Answer(const WaitingGet& get, absl::string_view full_reason);
  GetReply::Entry AnswerOne(const WaitingGet& get, const base::ObjectId& id,
                            absl::string_view full_reason) const;
  void ExpireGets(absl::Time now);

  // --- progress
  absl::Time StuckTime() const;
  void NoteProgress();

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

  // What changes when room is made or taken, and when it last did.
  struct Progress {
    uint64_t free_bytes = 0;
    uint64_t spillable_bytes = 0;
    uint64_t droppable_bytes = 0;
    bool writing = false;
    friend bool operator==(const Progress&, const Progress&) = default;
  };
  Progress progress_;
  absl::Time last_progress_;

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
                    .secondary = object->secondary};
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
  if (!AnswerFromTable(create)) Admit(std::move(create));
  Settle();
  return absl::OkStatus();
}

// Makes the creation wait: for memory, if that can ever hold the object.
void ObjectStore::Impl::Admit(WaitingCreate create) {
  bool fits = create.request.size_bytes <= table_.arena().capacity_bytes();
  fits ? creates_.Enqueue(std::move(create)) : StartFile(std::move(create));
}

// Whether the creation needs no memory: it was answered, or parked until another client has written
// the object.
bool ObjectStore::Impl::AnswerFromTable(WaitingCreate& create) {
  Object* object = table_.Find(create.request.id);
  if (object == nullptr) return false;
  if (IsWriting(object->state)) {
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
  last_allocation_ = clock_->Now();
  Object& object = table_.Add(create.request, create.client, block);
  Granted(object, std::move(create),
          {.outcome = CreateReply::Outcome::kCreated, .offset = block.offset});
}

void ObjectStore::Impl::Granted(Object& object, WaitingCreate create, CreateReply reply) {
  const base::ObjectId id = object.id;
  if (gone_.Erase(id)) gets_.OnUnresolved(id);
  if (dead_owners_.Find(object.owner) != nullptr) FreeObject(id, kOwnerDiedReason);
  ClientRecord& client = clients_[create.client];
  client.writing.insert(id);
  ++client.pins[id];
  ReplyCreate(std::move(create), std::move(reply));
}

// When to stop waiting for memory: nobody makes room, and so nothing has changed for a while. It is
// in the past as long as that lasts, so that each further request does not wait as long again.
absl::Time ObjectStore::Impl::StuckTime() const {
  return spiller_.writing() ? absl::InfiniteFuture() : last_progress_ + options_.stuck_delay;
}

void ObjectStore::Impl::NoteProgress() {
  Progress progress{table_.arena().free_bytes(), table_.spillable().bytes(),
                    table_.droppable().bytes(), spiller_.writing()};
  if (progress == progress_) return;
  progress_ = progress;
  last_progress_ = clock_->Now();
}

bool ObjectStore::Impl::MayStartFile() const {
  if (!spiller_.enabled() || creates_.empty()) return false;
  return !creates_.front().request.secondary && creates_.front().disk.ok();
}

absl::Time ObjectStore::Impl::BlockedGetDeadline() const {
  absl::Time since = restoring_->blocked_since;
  if (since == absl::InfiniteFuture()) return since;
  return std::min(since + options_.full_timeout, StuckTime());
}

// The last resort of a creation: the store's memory cannot hold the object, or not in time.
void ObjectStore::Impl::StartFile(WaitingCreate create) {
  if (!spiller_.enabled() || create.request.secondary) return RefuseCreate(std::move(create));
  uint64_t size_bytes = create.request.size_bytes;
  create.file_deadline = clock_->Now() + options_.file_timeout;
  uint64_t number = creates_.AwaitFile(std::move(create));
  spiller_.MakeFile(size_bytes, [this, number](absl::StatusOr<Spiller::OwnFile> file) {
    OnFileMade(number, std::move(file));
  });
}

void ObjectStore::Impl::OnFileMade(uint64_t number, absl::StatusOr<Spiller::OwnFile> file) {
  std::optional<WaitingCreate> create = creates_.TakeAwaiting(number);
  if (create && !file.ok()) {
    create->disk = file.status();
    bool may_wait = create->number > 0 && create->deadline > clock_->Now();
    may_wait ? creates_.PutBack(*std::move(create)) : RefuseCreate(*std::move(create));
  } else if (create && !AnswerFromTable(*create)) {
    CreateReply reply{.outcome = CreateReply::Outcome::kCreated,
                      .offset = file->mapped.offset,
                      .path = file->mapped.path};
    Object& object =
        table_.AddInFile(create->request, create->client, file->place, std::move(file->mapped));
    Granted(object, *std::move(create), std::move(reply));
  } else if (file.ok()) {
    spiller_.Forget(file->place);
  }
  Settle();
}

void ObjectStore::Impl::ReplyCreate(WaitingCreate create, CreateReply reply) {
  replies_.push_back(
      {create.client, [callback = std::move(create.callback), reply = std::move(reply)]() mutable {
         callback(std::move(reply));
       }});
}

void ObjectStore::Impl::RefuseCreate(WaitingCreate create) {
  const absl::Status disk = create.disk;
  uint64_t capacity = table_.arena().capacity_bytes();
  bool too_large = create.request.size_bytes > capacity;
  CreateReply reply{.outcome =
                        too_large ? CreateReply::Outcome::kTooLarge : CreateReply::Outcome::kFull};
  if (!disk.ok()) reply.outcome = CreateReply::Outcome::kOutOfDisk;
  reply.message = absl::StrCat(
      "no room for an object of ", FormatBytes(create.request.size_bytes), " (\"",
      create.request.note, "\"): ",
      too_large ? absl::StrCat("it is larger than the object store of ", FormatBytes(capacity))
                : absl::StrCat("the object store stayed full for ",
                               absl::FormatDuration(options_.full_timeout)));
  if (!spiller_.trouble().empty()) {
    absl::StrAppend(&reply.message, "; spilling to disk failed: ", spiller_.trouble());
  }
  if (!disk.ok()) {
    absl::StrAppend(&reply.message, "; a file of its own on disk failed: ", disk.message());
  }
  absl::StrAppend(&reply.message, ". ",
                  too_large ? "Split it" : "Let go of references that are no longer needed",
                  disk.ok() ? "" : ", make room on disk",
                  ", or start with a larger object_store_memory.\n", Breakdown());
  ReplyCreate(std::move(create), std::move(reply));
}

void ObjectStore::Impl::ExpireCreates(absl::Time now) {
  while (creates_.NextDeadline() <= now || (MayStartFile() && StuckTime() <= now)) {
    WaitingCreate create = creates_.TakeFront();
    create.disk.ok() ? StartFile(std::move(create)) : RefuseCreate(std::move(create));
  }
  while (std::optional<WaitingCreate> create = creates_.TakeExpiredAwaiting(now)) {
    create->disk = absl::DeadlineExceededError(absl::StrCat(
        "the disk did not give the space within ", absl::FormatDuration(options_.file_timeout)));
    RefuseCreate(*std::move(create));
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

void ObjectStore::Impl::MadeElsewhere(const base::ObjectId& id) {
  if (table_.Find(id) == nullptr && gone_.Erase(id)) gets_.OnUnresolved(id);
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
    if (block) {
      last_allocation_ = clock_->Now();
      spiller_.Restore(*object, *block);
    } else if (restoring_->use_files) {
      spiller_.Map(*object);
    } else {
      return false;
    }
  }
  restoring_->blocked_since = absl::InfiniteFuture();
  if (!object->Readable()) restoring_->reading.insert(id);
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

void ObjectStore::Impl::OnNotMapped(const base::ObjectId& id, const absl::Status& why) {
  if (restoring_ && restoring_->reading.contains(id)) {
    CompleteGet(restoring_->number,
                absl::StrCat("it was spilled, there was no memory to restore it for ",
                             absl::FormatDuration(options_.full_timeout), ", and ", why.message(),
                             ".\n", Breakdown()));
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
    bool in_file = object->state == ObjectState::kInFile;
    return {.outcome = GetReply::Outcome::kPresent,
            .extent = {in_file ? object->mapped.offset : object->block.offset, object->size_bytes},
            .path = in_file ? object->mapped.path : ""};
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
  if (restoring_ && BlockedGetDeadline() <= now) restoring_->use_files = true;
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
StoreStats ObjectStore::Stats() const { return impl_->Stats(); }
std::vector<base::ObjectId> ObjectStore::PrimaryCopies() const { return impl_->PrimaryCopies(); }
bool ObjectStore::MakePrimary(const base::ObjectId& id) { return impl_->MakePrimary(id); }
std::string ObjectStore::Breakdown() const { return impl_->Breakdown(); }
void ObjectStore::CheckInvariants() const { impl_->CheckInvariants(); }

}  // namespace ray::store
