#include "ray/store/get_queue.h"

#include "absl/container/flat_hash_set.h"
#include "ray/base/check.h"

namespace ray::store {
namespace {

// Takes `number` out of the set of `key`, where it may not be (any more), and drops a set that gets
// empty.
template <typename Index, typename Key>
void EraseFrom(Index& index, const Key& key, GetNumber number) {
  auto set = index.find(key);
  if (set == index.end()) return;
  set->second.erase(number);
  if (set->second.empty()) index.erase(set);
}

}  // namespace

GetNumber GetQueue::Add(WaitingGet get, IsResolved is_resolved) {
  GetNumber number = ++last_number_;
  get.unresolved = 0;
  for (const base::ObjectId& id : get.ids) {
    bool is_first_mention = by_object_[id].insert(number).second;
    if (is_first_mention && !is_resolved(id)) ++get.unresolved;
  }
  by_client_[get.client].insert(number);
  by_deadline_.emplace(get.deadline, number);
  if (get.ready()) MarkReady(number);
  gets_.emplace(number, std::move(get));
  return number;
}

void GetQueue::MarkReady(GetNumber number) {
  ready_.insert(number);
  newly_ready_.push_back(number);
}

WaitingGet GetQueue::Take(GetNumber number) {
  auto it = gets_.find(number);
  MANTA_CHECK(it != gets_.end());
  WaitingGet get = std::move(it->second);
  gets_.erase(it);
  ready_.erase(number);
  by_deadline_.erase({get.deadline, number});
  EraseFrom(by_client_, get.client, number);
  for (const base::ObjectId& id : get.ids) EraseFrom(by_object_, id, number);
  return get;
}

std::vector<GetNumber> GetQueue::OfClient(ClientId client) const {
  auto gets = by_client_.find(client);
  if (gets == by_client_.end()) return {};
  return {gets->second.begin(), gets->second.end()};
}

void GetQueue::OnResolved(const base::ObjectId& id) {
  auto waiting = by_object_.find(id);
  if (waiting == by_object_.end()) return;
  for (GetNumber number : waiting->second) {
    WaitingGet& get = gets_.at(number);
    if (get.failed.contains(id)) continue;
    if (!get.ready() && --get.unresolved == 0) MarkReady(number);
  }
}

void GetQueue::OnUnresolved(const base::ObjectId& id) {
  auto waiting = by_object_.find(id);
  if (waiting == by_object_.end()) return;
  for (GetNumber number : waiting->second) {
    WaitingGet& get = gets_.at(number);
    if (!get.ready() && !get.failed.contains(id)) ++get.unresolved;
  }
}

void GetQueue::Fail(const base::ObjectId& id, const GetReply::Entry& entry) {
  auto waiting = by_object_.find(id);
  if (waiting == by_object_.end()) return;
  for (GetNumber number : waiting->second) {
    WaitingGet& get = gets_.at(number);
    if (get.ready() || !get.failed.emplace(id, entry).second) continue;
    if (--get.unresolved == 0) MarkReady(number);
  }
}

std::optional<GetNumber> GetQueue::FirstReady() const {
  if (ready_.empty()) return std::nullopt;
  return *ready_.begin();
}

std::optional<std::pair<absl::Time, GetNumber>> GetQueue::NextDeadline() const {
  if (by_deadline_.empty()) return std::nullopt;
  return *by_deadline_.begin();
}

void GetQueue::CheckInvariants(IsResolved is_resolved) const {
  for (const auto& [number, get] : gets_) {
    absl::flat_hash_set<base::ObjectId> distinct(get.ids.begin(), get.ids.end());
    uint64_t unresolved = 0;
    for (const base::ObjectId& id : distinct) {
      if (!is_resolved(id) && !get.failed.contains(id)) ++unresolved;
      MANTA_CHECK_MSG(by_object_.at(id).contains(number), "GETS-2");
    }
    MANTA_CHECK_MSG(get.ready() || get.unresolved == unresolved, "GETS-1");
    MANTA_CHECK_MSG(by_client_.at(get.client).contains(number), "GETS-2");
    MANTA_CHECK_MSG(by_deadline_.contains({get.deadline, number}), "GETS-2");
    MANTA_CHECK_MSG(ready_.contains(number) == get.ready(), "GETS-2");
  }
  MANTA_CHECK_MSG(by_deadline_.size() == gets_.size(), "GETS-2");
}

}  // namespace ray::store
