#include "ray/core/object_table.h"

#include <algorithm>
#include <utility>

#include "ray/base/check.h"

namespace ray::core {

using base::NodeId;
using base::ObjectId;
using base::WorkerId;

std::vector<NodeId> ObjectTable::Entry::Locations() const {
  std::vector<NodeId> locations{node};
  if (copies != nullptr) locations.insert(locations.end(), copies->begin(), copies->end());
  return locations;
}

ObjectTable::Entry& ObjectTable::AddOwned(const ObjectId& id) {
  auto [it, inserted] = entries_.try_emplace(id, std::make_unique<Entry>());
  MANTA_CHECK(inserted);
  return *it->second;
}

ObjectTable::Entry* ObjectTable::Find(const ObjectId& id) {
  auto it = entries_.find(id);
  return it == entries_.end() ? nullptr : it->second.get();
}

ObjectTable::Entry& ObjectTable::FindOrAddReference(const ObjectId& id, const AddressPtr& owner) {
  auto [it, inserted] = entries_.try_emplace(id);
  if (!inserted) return *it->second;
  it->second = std::make_unique<Entry>();
  Entry& entry = *it->second;
  entry.owned = owner == nullptr || owner->worker_id == self_;
  if (!entry.owned) {
    entry.owner = owner;
    unregistered_.insert(id);
  }
  return entry;
}

void ObjectTable::AddBorrower(const ObjectId& id, const WorkerId& borrower, uint32_t count) {
  Entry* entry = Find(id);
  if (entry == nullptr || count == 0) return;
  if (entry->borrowers == nullptr) {
    entry->borrowers = std::make_unique<absl::flat_hash_map<WorkerId, uint32_t>>();
  }
  (*entry->borrowers)[borrower] += count;
}

void ObjectTable::RemoveBorrower(const ObjectId& id, const WorkerId& borrower, uint32_t count) {
  Entry* entry = Find(id);
  if (entry == nullptr || entry->borrowers == nullptr) return;
  auto it = entry->borrowers->find(borrower);
  if (it == entry->borrowers->end()) return;
  if (it->second > count) {
    it->second -= count;
    return;
  }
  entry->borrowers->erase(it);
  MaybeRemove(id);
}

void ObjectTable::BorrowerGone(const WorkerId& borrower) {
  std::vector<ObjectId> touched;
  for (auto& [id, entry] : entries_) {
    if (entry->borrowers != nullptr && entry->borrowers->erase(borrower) > 0) touched.push_back(id);
  }
  for (const ObjectId& id : touched) MaybeRemove(id);
}

void ObjectTable::AddLocal(const ObjectId& id, const AddressPtr& owner) {
  ++FindOrAddReference(id, owner).local;
}

void ObjectTable::RemoveLocal(const ObjectId& id) {
  Entry* entry = Find(id);
  if (entry == nullptr || entry->local == 0) return;
  if (--entry->local == 0) MaybeRemove(id);
}

void ObjectTable::Pin(const ObjectId& id, const AddressPtr& owner) {
  ++FindOrAddReference(id, owner).pins;
}

void ObjectTable::Unpin(const ObjectId& id) {
  Entry* entry = Find(id);
  if (entry == nullptr) return;
  MANTA_CHECK(entry->pins > 0);
  if (--entry->pins == 0) MaybeRemove(id);
}

void ObjectTable::SetContains(const ObjectId& id, std::vector<ContainedObject> contains,
                              const WorkerId& registered_by) {
  if (contains.empty()) return;
  Entry* entry = Find(id);
  if (entry ==
      nullptr) {  // nobody waits for the value any more: give back what came registered with it
    for (ContainedObject& inner : contains) {
      if (inner.owner == nullptr || inner.owner->worker_id != registered_by) continue;
      held_releases_.push_back({inner.id, std::move(inner.owner), 1});
    }
    if (registering_ == 0) FlushReleases();
    return;
  }
  for (const ContainedObject& inner : contains) {
    Entry& reference = FindOrAddReference(inner.id, inner.owner);
    ++reference.containers;
    if (!reference.owned && reference.owner->worker_id == registered_by) {
      ++reference.registrations;
      unregistered_.erase(inner.id);
    }
  }
  // FindOrAddReference may have moved nothing (entries are behind pointers), so `entry` is still
  // good.
  for (ContainedObject& inner : contains) entry->contains.push_back(std::move(inner));
}

void ObjectTable::SetInline(const ObjectId& id, BufferPtr value) {
  Entry* entry = Find(id);
  if (entry == nullptr || entry->state != ObjectState::kPending) return;
  entry->value = std::move(value);
  entry->state = ObjectState::kInline;
  RunWaiters(*entry);
}

void ObjectTable::SetInStore(const ObjectId& id, const NodeId& node, uint64_t size_bytes) {
  Entry* entry = Find(id);
  if (entry == nullptr || entry->state != ObjectState::kPending) return;
  entry->node = node;
  entry->size_bytes = size_bytes;
  entry->state = ObjectState::kInStore;
  RunWaiters(*entry);
}

void ObjectTable::AddCopy(const ObjectId& id, const NodeId& node) {
  Entry* entry = Find(id);
  if (entry == nullptr || entry->state != ObjectState::kInStore || entry->node == node) return;
  if (entry->copies == nullptr) entry->copies = std::make_unique<std::vector<NodeId>>();
  std::vector<NodeId>& copies = *entry->copies;
  if (std::find(copies.begin(), copies.end(), node) == copies.end()) copies.push_back(node);
}

bool ObjectTable::MovePrimary(const ObjectId& id, const NodeId& node) {
  Entry* entry = Find(id);
  if (entry == nullptr || entry->state != ObjectState::kInStore) return false;
  AddCopy(id, node);
  if (entry->node == node) return true;
  *std::find(entry->copies->begin(), entry->copies->end(), node) = entry->node;
  entry->node = node;
  return true;
}

bool ObjectTable::DropCopies(const ObjectId& id, const std::vector<NodeId>& nodes) {
  Entry* entry = Find(id);
  if (entry == nullptr || entry->state != ObjectState::kInStore) return true;
  std::vector<NodeId> left = entry->Locations();
  std::erase_if(left, [&](const NodeId& node) {
    return std::find(nodes.begin(), nodes.end(), node) != nodes.end();
  });
  entry->copies = nullptr;
  if (left.empty()) {
    entry->state = ObjectState::kPending;
    entry->fetching = false;
    return false;
  }
  const bool primary_lost = std::exchange(entry->node, left.front()) != left.front();
  left.erase(left.begin());
  if (!left.empty()) entry->copies = std::make_unique<std::vector<NodeId>>(std::move(left));
  if (primary_lost && entry->owned) actions_->KeepCopy(id, entry->node);
  return true;
}

std::vector<ObjectId> ObjectTable::NodeGone(const NodeId& node) {
  std::vector<ObjectId> touched;
  for (const auto& [id, entry] : entries_) {
    if (entry->owned && entry->state == ObjectState::kInStore &&
        (entry->node == node || entry->copies != nullptr)) {
      touched.push_back(id);
    }
  }
  std::erase_if(touched, [&](const ObjectId& id) { return DropCopies(id, {node}); });
  return touched;
}

void ObjectTable::PinLineage(const ObjectId& id) {
  Entry* entry = Find(id);
  MANTA_CHECK(entry != nullptr && entry->owned);
  ++entry->lineage;
}

void ObjectTable::UnpinLineage(const ObjectId& id) {
  Entry* entry = Find(id);
  if (entry == nullptr) return;
  MANTA_CHECK(entry->lineage > 0);
  if (--entry->lineage == 0) MaybeRemove(id);
}

void ObjectTable::RunWaiters(Entry& entry) {
  ++ready_count_;
  auto waiters = std::move(entry.waiters);
  entry.waiters.clear();
  for (auto& waiter : waiters) waiter.ready();
}

void ObjectTable::WhenReady(const ObjectId& id, absl::AnyInvocable<void()> ready) {
  AddWaiter(id, {std::move(ready), /*until_end=*/false});
}

void ObjectTable::WhenReadyOrEnded(const ObjectId& id, absl::AnyInvocable<void()> ready) {
  AddWaiter(id, {std::move(ready), /*until_end=*/true});
}

void ObjectTable::AddWaiter(const ObjectId& id, Waiter waiter) {
  Entry* entry = Find(id);
  MANTA_CHECK(entry != nullptr);
  if (entry->state != ObjectState::kPending) return waiter.ready();
  entry->waiters.push_back(std::move(waiter));
  EnsureFetch(id, *entry);
}

void ObjectTable::EndWaits() {
  for (auto& [id, entry] : entries_) {
    std::erase_if(entry->waiters, [](Waiter& waiter) {
      if (waiter.until_end) waiter.ready();
      return waiter.until_end;
    });
  }
}

void ObjectTable::EnsureFetch(const ObjectId& id, Entry& entry) {
  if (entry.state != ObjectState::kPending) return;
  if (entry.owned) {
    if (std::exchange(entry.released, false)) actions_->Recover(id);
    return;
  }
  if (std::exchange(entry.fetching, true)) return;
  actions_->FetchFromOwner(id, entry.owner);
}

void ObjectTable::RegisterUnregistered() {
  std::vector<ObjectId> ids(unregistered_.begin(), unregistered_.end());
  unregistered_.clear();
  for (const ObjectId& id : ids) {
    Entry* entry = Find(id);
    ++entry->registering;
    ++registering_;
    actions_->RegisterBorrow(id, entry->owner);
  }
}

void ObjectTable::OnBorrowRegistered(const ObjectId& id, bool known_to_owner) {
  MANTA_CHECK(registering_ > 0);
  --registering_;
  if (Entry* entry = Find(id); entry != nullptr) {
    --entry->registering;
    if (known_to_owner) ++entry->registrations;
    MaybeRemove(id);
  }
  if (registering_ == 0) FlushReleases();
}

void ObjectTable::FlushReleases() {
  auto releases = std::move(held_releases_);
  held_releases_.clear();
  for (const Release& release : releases) {
    actions_->ReleaseBorrow(release.id, release.owner, release.registrations);
  }
}

void ObjectTable::FreeCopies(const ObjectId& id, const Entry& entry) {
  if (entry.state != ObjectState::kInStore) return;
  for (const NodeId& node : entry.Locations()) actions_->FreeStored(id, node);
}

void ObjectTable::ReleaseContained(const std::vector<ContainedObject>& contains,
                                   std::vector<ObjectId>* candidates) {
  for (const ContainedObject& inner : contains) {
    Entry* reference = Find(inner.id);
    if (reference == nullptr) continue;
    MANTA_CHECK(reference->containers > 0);
    if (--reference->containers == 0) candidates->push_back(inner.id);
  }
}

bool ObjectTable::IsReferenced(const Entry& entry) {
  return entry.local + entry.pins + entry.containers + entry.registering > 0 ||
         (entry.borrowers != nullptr && !entry.borrowers->empty());
}

// Only the lineage holds the object. A small value stays: it costs less than its task.
void ObjectTable::LeaveToLineage(const ObjectId& id, Entry& entry,
                                 std::vector<ObjectId>* candidates) {
  if (entry.state != ObjectState::kInStore) return;
  if (actions_->CanRecover(id)) return ReleaseValue(id, entry, candidates);
  for (const ObjectId& oldest : kept_.Add(id, entry.size_bytes)) {
    Entry& let_go = *entries_.at(oldest);
    if (!IsReferenced(let_go)) ReleaseValue(oldest, let_go, candidates);
  }
}

// The object's bytes in the store go, and with them what they contain.
void ObjectTable::ReleaseValue(const ObjectId& id, Entry& entry,
                               std::vector<ObjectId>* candidates) {
  if (entry.state != ObjectState::kInStore) return;
  FreeCopies(id, entry);
  entry.state = ObjectState::kPending;
  entry.copies = nullptr;
  entry.released = true;
  ReleaseContained(std::exchange(entry.contains, {}), candidates);
}

// Removing an object releases what it contains, which may remove more: iterative, since chains can
// be long.
void ObjectTable::MaybeRemove(const ObjectId& first) {
  std::vector<ObjectId> candidates{first};
  while (!candidates.empty()) {
    ObjectId id = candidates.back();
    candidates.pop_back();
    auto it = entries_.find(id);
    if (it == entries_.end()) continue;
    Entry& entry = *it->second;
    if (IsReferenced(entry)) continue;
    if (entry.lineage > 0) {
      LeaveToLineage(id, entry, &candidates);
      continue;
    }

    std::unique_ptr<Entry> gone = std::move(it->second);
    entries_.erase(it);
    kept_.Remove(id);
    ReleaseContained(gone->contains, &candidates);
    if (gone->owned) {
      FreeCopies(id, *gone);
      actions_->OwnedObjectGone(id);
      continue;
    }
    unregistered_.erase(id);
    if (gone->registrations == 0) continue;
    // What this borrow protected may still be unregistered (REF-2).
    if (!unregistered_.empty()) RegisterUnregistered();
    held_releases_.push_back({id, gone->owner, gone->registrations});
  }
  if (registering_ == 0 && !held_releases_.empty()) FlushReleases();
}

bool ObjectTable::AnyBorrowedByOthers() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const auto& item) {
    const auto& borrowers = item.second->borrowers;
    return borrowers != nullptr && !borrowers->empty();
  });
}

void ObjectTable::ForEach(absl::FunctionRef<void(const ObjectId&, const Entry&)> visit) const {
  for (const auto& [id, entry] : entries_) visit(id, *entry);
}

void ObjectTable::CheckInvariants() const {
  uint32_t registering = 0;
  for (const auto& [id, entry] : entries_) {
    MANTA_CHECK(IsReferenced(*entry) || entry->lineage > 0);
    MANTA_CHECK(entry->owned == (entry->owner == nullptr));
    MANTA_CHECK(!unregistered_.contains(id) ||
                (!entry->owned && entry->registrations + entry->registering == 0));
    MANTA_CHECK(entry->state == ObjectState::kPending || entry->waiters.empty());
    registering += entry->registering;
  }
  MANTA_CHECK(registering == registering_);
  MANTA_CHECK(registering_ > 0 || held_releases_.empty());
}

}  // namespace ray::core
