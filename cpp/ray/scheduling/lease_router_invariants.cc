// The invariants that lease_router.h names.
#include "ray/base/check.h"
#include "ray/scheduling/lease_router_parts.h"

namespace ray::scheduling {

void LeaseRouter::CheckInvariants() {
  chooser_.CheckInvariants();
  size_t held = 0;
  size_t there = 0;
  size_t entries = 0;
  for (const auto& [number, in_class] : classes_) {
    MANTA_CHECK(class_numbers_.at(in_class->key) == number);
    MANTA_CHECK(in_class->entries > 0);
    entries += in_class->entries;
    held += in_class->held.size();
    for (const auto& [sequence, entry] : in_class->held) {
      MANTA_CHECK(entry->place == Entry::Place::kHeld);
    }
    for (const auto& [sequence, entry] : in_class->queued) {
      MANTA_CHECK(entry->place == Entry::Place::kQueue);
    }
  }
  MANTA_CHECK(held == held_ && entries == requests_.size());
  for (const auto& [key, entry] : requests_) {
    const bool is_there =
        entry->place == Entry::Place::kAsked || entry->place == Entry::Place::kWaitingThere;
    MANTA_CHECK_MSG(entry->place != Entry::Place::kNowhere, "ROUTE-1");
    MANTA_CHECK_MSG(is_there == (entry->forward_id != 0), "ROUTE-1");
    const bool in_queue = queue_->Has(key.first, key.second);
    MANTA_CHECK_MSG(in_queue == (entry->place == Entry::Place::kQueue), "ROUTE-1");
    if (!is_there) continue;
    ++there;
    MANTA_CHECK(forwarded_.at(entry->forward_id).entry == entry.get());
    MANTA_CHECK(forwarded_.at(entry->forward_id).node == entry->node);
    MANTA_CHECK(view_.Find(entry->node) != nullptr);
  }
  for (const auto& [id, forwarded] : forwarded_) there -= forwarded.entry != nullptr ? 1 : 0;
  MANTA_CHECK(there == 0);
  for (const auto& [lease, remote] : remote_leases_) {
    MANTA_CHECK_MSG(view_.Find(remote.node) != nullptr, "ROUTE-3");
  }
}

}  // namespace ray::scheduling
