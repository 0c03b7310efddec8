#include "ray/store/create_queue.h"

#include <algorithm>
#include <utility>

namespace ray::store {

void CreateQueue::Enqueue(WaitingCreate create) {
  create.number = ++last_number_;
  PutBack(std::move(create));
}

void CreateQueue::PutBack(WaitingCreate create) {
  bytes_ += create.request.size_bytes;
  queue_.emplace(create.number, std::move(create));
}

WaitingCreate CreateQueue::TakeQueued(ByNumber::iterator it) {
  WaitingCreate create = std::move(it->second);
  queue_.erase(it);
  bytes_ -= create.request.size_bytes;
  return create;
}

WaitingCreate CreateQueue::TakeFront() { return TakeQueued(queue_.begin()); }

uint64_t CreateQueue::AwaitFile(WaitingCreate create) {
  awaiting_.emplace_hint(awaiting_.end(), ++last_number_, std::move(create));
  return last_number_;
}

std::optional<WaitingCreate> CreateQueue::TakeAwaiting(uint64_t number) {
  auto node = awaiting_.extract(number);
  if (!node) return std::nullopt;
  return std::move(node.mapped());
}

std::optional<WaitingCreate> CreateQueue::TakeExpiredAwaiting(absl::Time now) {
  if (NextAwaitingDeadline() > now) return std::nullopt;
  return TakeAwaiting(awaiting_.begin()->first);
}

void CreateQueue::Park(WaitingCreate create) {
  std::pair<base::ObjectId, uint64_t> key{create.request.id, ++last_number_};
  parked_.emplace(key, std::move(create));
}

std::vector<WaitingCreate> CreateQueue::TakeParked(const base::ObjectId& id) {
  std::vector<WaitingCreate> taken;
  auto begin = parked_.lower_bound({id, 0});
  auto end = begin;
  for (; end != parked_.end() && end->first.first == id; ++end) {
    taken.push_back(std::move(end->second));
  }
  parked_.erase(begin, end);
  return taken;
}

void CreateQueue::DropClient(ClientId client) {
  auto of_client = [client](const auto& entry) { return entry.second.client == client; };
  for (const auto& entry : queue_) {
    if (of_client(entry)) bytes_ -= entry.second.request.size_bytes;
  }
  absl::erase_if(queue_, of_client);
  absl::erase_if(awaiting_, of_client);
  absl::erase_if(parked_, of_client);
}

std::optional<WaitingCreate> CreateQueue::Take(ClientId client, const base::ObjectId& id) {
  auto wanted = [&](const auto& entry) {
    return entry.second.client == client && entry.second.request.id == id;
  };
  if (auto it = std::find_if(queue_.begin(), queue_.end(), wanted); it != queue_.end()) {
    return TakeQueued(it);
  }
  if (auto it = std::find_if(awaiting_.begin(), awaiting_.end(), wanted); it != awaiting_.end()) {
    return TakeAwaiting(it->first);
  }
  auto it = std::find_if(parked_.begin(), parked_.end(), wanted);
  if (it == parked_.end()) return std::nullopt;
  return std::move(parked_.extract(it).mapped());
}

}  // namespace ray::store
