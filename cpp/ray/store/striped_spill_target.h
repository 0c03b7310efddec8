// Spills to several targets in turn: folders on several disks. A file that one of them cannot take
// goes to the next.
//
// Owner: the raylet. Threads: loop-bound. Errors: as SpillTarget says; a write fails when all
// targets failed, with the first one's error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "ray/store/spill_target.h"

namespace ray::store {

class StripedSpillTarget final : public SpillTarget {
 public:
  // At least one target.
  explicit StripedSpillTarget(std::vector<std::unique_ptr<SpillTarget>> targets);

  void Write(SpillFileId file, std::vector<Extent> pieces, Done done) override;
  void Read(SpillFileId file, uint32_t index, Extent into, Done done) override;
  void Map(SpillFileId file, uint32_t index, MapDone done) override;
  void Make(SpillFileId file, uint64_t size_bytes, MapDone done) override;
  void Remove(SpillFileId file) override;

 private:
  struct Attempt {
    size_t target;
    size_t left;  // targets that have not been tried
    absl::Status first_error;
  };
  Attempt FirstAttempt();
  // Whether there is another target to try after a failure.
  bool Advance(Attempt* attempt, const absl::Status& error) const;
  void WriteTo(Attempt attempt, SpillFileId file, std::vector<Extent> pieces, Done done);
  void MakeAt(Attempt attempt, SpillFileId file, uint64_t size_bytes, MapDone done);
  SpillTarget& Of(SpillFileId file) const { return *targets_[where_.at(file)]; }

  const std::vector<std::unique_ptr<SpillTarget>> targets_;
  size_t next_ = 0;
  absl::flat_hash_map<SpillFileId, size_t> where_;  // of each file that exists
};

}  // namespace ray::store
