// Gets: who waits for objects, and the one whose spilled objects are being restored.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/store/object_store_impl.h"

namespace ray::store {

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

}  // namespace ray::store
