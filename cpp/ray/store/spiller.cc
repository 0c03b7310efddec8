#include "ray/store/spiller.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/logging.h"
#include "ray/store/store_report.h"

namespace ray::store {

Spiller::Spiller(const ObjectStoreOptions& options, const base::Clock* clock, SpillTarget* target,
                 ObjectTable* table, Listener* listener)
    : options_(options),
      // A small store is not to wait for a file as large as itself.
      batch_bytes_(std::clamp<uint64_t>(options.capacity_bytes / 8, 1, options.spill_batch_bytes)),
      clock_(clock),
      target_(target),
      table_(table),
      listener_(listener) {}

void Spiller::Run(bool memory_wanted) {
  if (target_ == nullptr || clock_->Now() < retry_at_) return;
  while (writes_ < options_.parallel_writes && (memory_wanted || OverThreshold())) {
    Batch batch = Choose();
    bool worth_it = memory_wanted ? !batch.objects.empty() : batch.bytes >= batch_bytes_;
    if (!worth_it) return;
    Write(std::move(batch));
  }
}

bool Spiller::OverThreshold() const {
  auto capacity = static_cast<double>(options_.capacity_bytes);
  return static_cast<double>(table_->used_bytes()) > options_.spilling_threshold * capacity;
}

std::string Spiller::QuotaTrouble(uint64_t more_bytes) const {
  // Without a quota, what no disk has.
  uint64_t quota = options_.spill_quota_bytes > 0 ? options_.spill_quota_bytes : INT64_MAX;
  if (disk_bytes_ <= quota && more_bytes <= quota - disk_bytes_) return {};
  return absl::StrCat("the spill files take ", FormatBytes(disk_bytes_), " of the ",
                      FormatBytes(quota), " that spill_disk_quota_bytes allows");
}

Spiller::Batch Spiller::Choose() {
  Batch batch;
  if (table_->spillable().empty()) trouble_.clear();
  for (const auto& [number, object] : table_->spillable()) {
    uint64_t with_this = batch.bytes + object->size_bytes;
    if (std::string trouble = QuotaTrouble(with_this); !trouble.empty()) {
      trouble_ = std::move(trouble);
      break;
    }
    batch.objects.push_back(object->id);
    batch.pieces.push_back({object->block.offset, object->size_bytes});
    batch.bytes = with_this;
    if (batch.bytes >= batch_bytes_) break;
  }
  return batch;
}

void Spiller::Write(Batch batch) {
  for (const base::ObjectId& id : batch.objects) {
    table_->Move(*table_->Find(id), ObjectState::kSpilling);
  }
  batch.file = SpillFileId{++last_file_};
  ++writes_;
  disk_bytes_ += batch.bytes;
  SpillFileId file = batch.file;
  std::vector<Extent> pieces = std::move(batch.pieces);
  target_->Write(
      file, std::move(pieces),
      [this, alive = std::weak_ptr<bool>(alive_), batch = std::move(batch)](absl::Status status) {
        if (!alive.expired()) OnWritten(batch, status);
      });
}

void Spiller::OnWritten(const Batch& batch, const absl::Status& status) {
  --writes_;
  if (status.ok()) {
    trouble_.clear();
    written_bytes_total_ += batch.bytes;
    files_[batch.file] = {.bytes = batch.bytes, .objects = batch.objects.size()};
  } else {
    ++failures_;
    disk_bytes_ -= batch.bytes;
    trouble_ = std::string(status.message());
    retry_at_ = clock_->Now() + kRetryDelay;
    MANTA_LOG(kWarning, "spilling ", batch.objects.size(), " objects of ", FormatBytes(batch.bytes),
              " failed: ", trouble_);
  }
  for (uint32_t index = 0; index < batch.objects.size(); ++index) {
    // No object leaves the table while it is kSpilling.
    Object* object = table_->Find(batch.objects[index]);
    MANTA_CHECK(object != nullptr);
    if (status.ok()) {
      table_->MoveSpilled(*object, {batch.file, index});
    } else {
      table_->Move(*object, ObjectState::kInMemory);
    }
  }
  listener_->OnWritten();
}

void Spiller::Restore(Object& object, Extent block) {
  table_->MoveRestoring(object, block);
  target_->Read(object.disk->file, object.disk->index, {block.offset, object.size_bytes},
                [this, alive = std::weak_ptr<bool>(alive_), id = object.id](absl::Status status) {
                  if (!alive.expired()) OnRead(id, std::move(status));
                });
}

void Spiller::OnRead(const base::ObjectId& id, absl::Status status) {
  Object* object = table_->Find(id);
  MANTA_CHECK(object != nullptr);
  if (status.ok()) {
    read_bytes_total_ += object->size_bytes;
    table_->Move(*object, ObjectState::kInMemory);
    listener_->OnRead(id, absl::OkStatus());
  } else {
    OnLost(id, std::move(status));
  }
}

void Spiller::OnLost(const base::ObjectId& id, absl::Status why) {
  ++failures_;
  MANTA_LOG(kError, "object ", id.Hex(), " is lost: restoring it failed: ", why.message());
  listener_->OnRead(id, std::move(why));
}

void Spiller::Map(Object& object) {
  table_->Move(object, ObjectState::kChecking);
  target_->Map(object.disk->file, object.disk->index,
               [this, alive = std::weak_ptr<bool>(alive_),
                id = object.id](absl::StatusOr<MappedPlace> mapped) {
                 if (!alive.expired()) OnMapped(id, std::move(mapped));
               });
}

void Spiller::OnMapped(const base::ObjectId& id, absl::StatusOr<MappedPlace> mapped) {
  Object* object = table_->Find(id);
  MANTA_CHECK(object != nullptr);
  if (mapped.ok()) {
    table_->MoveMapped(*object, *std::move(mapped));
    listener_->OnRead(id, absl::OkStatus());
  } else if (absl::IsUnimplemented(mapped.status())) {
    table_->Move(*object, ObjectState::kOnDisk);
    listener_->OnNotMapped(id, mapped.status());
  } else {
    OnLost(id, mapped.status());
  }
}

void Spiller::MakeFile(uint64_t size_bytes, OwnFileDone done) {
  if (std::string trouble = QuotaTrouble(size_bytes); !trouble.empty()) {
    return done(absl::ResourceExhaustedError(trouble));
  }
  SpillFileId file{++last_file_};
  disk_bytes_ += size_bytes;
  target_->Make(file, size_bytes,
                [this, alive = std::weak_ptr<bool>(alive_), file, size_bytes,
                 done = std::move(done)](absl::StatusOr<MappedPlace> mapped) mutable {
                  if (alive.expired()) return;
                  if (!mapped.ok()) {
                    ++failures_;
                    disk_bytes_ -= size_bytes;
                    return done(mapped.status());
                  }
                  files_[file] = {.bytes = size_bytes, .objects = 1};
                  done(OwnFile{.place = {file, 0}, .mapped = *std::move(mapped)});
                });
}

void Spiller::Forget(SpillPlace place) {
  auto it = files_.find(place.file);
  MANTA_CHECK(it != files_.end() && it->second.objects > 0);
  if (--it->second.objects > 0) return;
  disk_bytes_ -= it->second.bytes;
  files_.erase(it);
  trouble_.clear();
  target_->Remove(place.file);
}

absl::Time Spiller::NextDeadline() const {
  // A retry that is due but has nothing to write waits for an event, not for time.
  return retry_at_ > clock_->Now() ? retry_at_ : absl::InfiniteFuture();
}

void Spiller::CheckInvariants() const {
  absl::flat_hash_map<SpillFileId, uint64_t> objects;
  for (const auto& [id, object] : table_->objects()) {
    if (object.disk) ++objects[object.disk->file];
  }
  MANTA_CHECK_MSG(objects.size() == files_.size(), "SPILL-2");
  for (const auto& [file, count] : objects) {
    MANTA_CHECK_MSG(files_.at(file).objects == count, "SPILL-2");
  }
}

}  // namespace ray::store
