#include "ray/store/striped_spill_target.h"

#include <utility>

#include "ray/base/check.h"

namespace ray::store {

StripedSpillTarget::StripedSpillTarget(std::vector<std::unique_ptr<SpillTarget>> targets)
    : targets_(std::move(targets)) {
  MANTA_CHECK(!targets_.empty());
}

StripedSpillTarget::Attempt StripedSpillTarget::FirstAttempt() {
  size_t target = next_;
  next_ = (next_ + 1) % targets_.size();
  return {.target = target, .left = targets_.size() - 1, .first_error = absl::OkStatus()};
}

bool StripedSpillTarget::Advance(Attempt* attempt, const absl::Status& error) const {
  attempt->first_error.Update(error);
  if (attempt->left == 0) return false;
  --attempt->left;
  attempt->target = (attempt->target + 1) % targets_.size();
  return true;
}

void StripedSpillTarget::Write(SpillFileId file, std::vector<Extent> pieces, Done done) {
  WriteTo(FirstAttempt(), file, std::move(pieces), std::move(done));
}

// The targets are destroyed with this, and then complete nothing: `this` is there in what follows.
void StripedSpillTarget::WriteTo(Attempt attempt, SpillFileId file, std::vector<Extent> pieces,
                                 Done done) {
  SpillTarget& target = *targets_[attempt.target];
  std::vector<Extent> copy = pieces;
  target.Write(file, std::move(copy),
               [this, attempt, file, pieces = std::move(pieces),
                done = std::move(done)](absl::Status status) mutable {
                 if (status.ok()) {
                   where_[file] = attempt.target;
                   done(absl::OkStatus());
                 } else if (Advance(&attempt, status)) {
                   WriteTo(std::move(attempt), file, std::move(pieces), std::move(done));
                 } else {
                   done(attempt.first_error);
                 }
               });
}

void StripedSpillTarget::Make(SpillFileId file, uint64_t size_bytes, MapDone done) {
  MakeAt(FirstAttempt(), file, size_bytes, std::move(done));
}

void StripedSpillTarget::MakeAt(Attempt attempt, SpillFileId file, uint64_t size_bytes,
                                MapDone done) {
  targets_[attempt.target]->Make(file, size_bytes,
                                 [this, attempt, file, size_bytes, done = std::move(done)](
                                     absl::StatusOr<MappedPlace> place) mutable {
                                   if (place.ok()) {
                                     where_[file] = attempt.target;
                                     done(std::move(place));
                                   } else if (Advance(&attempt, place.status())) {
                                     MakeAt(std::move(attempt), file, size_bytes, std::move(done));
                                   } else {
                                     done(attempt.first_error);
                                   }
                                 });
}

void StripedSpillTarget::Read(SpillFileId file, uint32_t index, Extent into, Done done) {
  Of(file).Read(file, index, into, std::move(done));
}

void StripedSpillTarget::Map(SpillFileId file, uint32_t index, MapDone done) {
  Of(file).Map(file, index, std::move(done));
}

void StripedSpillTarget::Remove(SpillFileId file) {
  Of(file).Remove(file);
  where_.erase(file);
}

}  // namespace ray::store
