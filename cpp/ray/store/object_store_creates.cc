// Creations: who waits for room, in which order room is granted, and when it is given up.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/store/object_store_impl.h"

namespace ray::store {
namespace {

constexpr size_t kNoteMaxBytes = 100;

}  // namespace

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

// The last resort of a creation: the store's memory cannot hold the object, or not in time. A copy
// that memory could hold is worth no file: it can be fetched again.
void ObjectStore::Impl::StartFile(WaitingCreate create) {
  const bool fits = create.request.size_bytes <= table_.arena().capacity_bytes();
  const bool may_have_file = spiller_.enabled() && !(create.request.secondary && fits);
  if (!may_have_file) return RefuseCreate(std::move(create));
  uint64_t size_bytes = create.request.size_bytes;
  create.file_deadline = clock_->Now() + options_.file_timeout;
  uint64_t number = creates_.AwaitFile(std::move(create));
  spiller_.MakeFile(size_bytes, [this, number](absl::StatusOr<Spiller::OwnFile> file) {
    OnFileMade(number, std::move(file));
  });
}

void ObjectStore::Impl::OnFileMade(uint64_t number, absl::StatusOr<Spiller::OwnFile> file) {
  std::optional<WaitingCreate> create = creates_.TakeAwaiting(number);
  if (create && !file.ok() && DropFileCopies()) {
    StartFile(*std::move(create));
  } else if (create && !file.ok()) {
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

// Copies in files of their own that nobody reads: dropped when there is no other room on disk.
bool ObjectStore::Impl::DropFileCopies() {
  bool dropped = false;
  while (!table_.file_copies().empty()) {
    table_.Evict(table_.file_copies().front());
    dropped = true;
  }
  return dropped;
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

}  // namespace ray::store
