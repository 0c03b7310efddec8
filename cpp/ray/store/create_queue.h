// The creations that wait: in a queue for memory, or parked while another client writes the same
// object.
//
// Owner: ObjectStore. Threads: thread-compatible. Errors: none.
//
//   CREATES-1  the queue is in the order of arrival; as waits are equally long, of deadlines too.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"
#include "ray/base/ids.h"
#include "ray/store/object_store.h"

namespace ray::store {

struct WaitingCreate {
  ClientId client{};
  CreateRequest request;
  ObjectStore::CreateCallback callback;
  absl::Time deadline;
};

class CreateQueue {
 public:
  void Enqueue(WaitingCreate create);
  // Requires a queue that is not empty.
  const WaitingCreate& front() const { return queue_.begin()->second; }
  WaitingCreate TakeFront();

  // Parked creations have no deadline: they wait for the writer, which ends or dies.
  void Park(WaitingCreate create);
  std::vector<WaitingCreate> TakeParked(const base::ObjectId& id);

  void DropClient(ClientId client);  // O(size)

  bool empty() const { return queue_.empty(); }
  size_t size() const { return queue_.size(); }
  uint64_t bytes() const { return bytes_; }
  absl::Time NextDeadline() const {
    return queue_.empty() ? absl::InfiniteFuture() : front().deadline;
  }

 private:
  absl::btree_map<uint64_t, WaitingCreate> queue_;  // by number of arrival
  absl::btree_map<std::pair<base::ObjectId, uint64_t>, WaitingCreate> parked_;
  uint64_t last_number_ = 0;
  uint64_t bytes_ = 0;  // of queue_
};

}  // namespace ray::store
