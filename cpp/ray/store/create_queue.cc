#include "ray/store/create_queue.h"

#include <iterator>

namespace ray::store {

void CreateQueue::Enqueue(WaitingCreate create) {
  bytes_ += create.request.size_bytes;
  queue_.emplace_hint(queue_.end(), ++last_number_, std::move(create));
}

WaitingCreate CreateQueue::TakeFront() {
  WaitingCreate create = std::move(queue_.begin()->second);
  queue_.erase(queue_.begin());
  bytes_ -= create.request.size_bytes;
  return create;
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
  for (auto it = queue_.begin(); it != queue_.end();) {
    if (it->second.client != client) {
      ++it;
      continue;
    }
    bytes_ -= it->second.request.size_bytes;
    it = queue_.erase(it);
  }
  for (auto it = parked_.begin(); it != parked_.end();) {
    it = it->second.client == client ? parked_.erase(it) : std::next(it);
  }
}

}  // namespace ray::store
