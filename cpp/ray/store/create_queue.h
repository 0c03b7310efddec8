// The creations that wait: in a queue for memory, for a file of their own, or parked while another
// client writes the same object.
//
// Owner: ObjectStore. Threads: thread-compatible. Errors: none.
//
//   CREATES-1  each of the two is in the order of arrival; as waits are equally long, of deadlines
//              too.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ray/base/ids.h"
#include "ray/store/object_store.h"

namespace ray::store {

struct WaitingCreate {
  ClientId client{};
  CreateRequest request;
  ObjectStore::CreateCallback callback;
  absl::Time deadline;       // for memory
  absl::Time file_deadline;  // while it waits for a file
  absl::Status disk;         // why it got no file; ok: none was asked for
  uint64_t number = 0;       // its place in the queue; 0: it was never there
};

class CreateQueue {
 public:
  void Enqueue(WaitingCreate create);
  void PutBack(WaitingCreate create);  // to its old place
  // Requires a queue that is not empty.
  const WaitingCreate& front() const { return queue_.begin()->second; }
  WaitingCreate TakeFront();

  // Creations that wait for a file: the number names them. None: it no longer waits.
  uint64_t AwaitFile(WaitingCreate create);
  std::optional<WaitingCreate> TakeAwaiting(uint64_t number);
  std::optional<WaitingCreate> TakeExpiredAwaiting(absl::Time now);

  // Parked creations have no deadline: they wait for the writer, which ends or dies.
  void Park(WaitingCreate create);
  std::vector<WaitingCreate> TakeParked(const base::ObjectId& id);

  void DropClient(ClientId client);  // O(size)
  // The creation of this object by this client, wherever it waits. O(size)
  std::optional<WaitingCreate> Take(ClientId client, const base::ObjectId& id);

  bool empty() const { return queue_.empty(); }
  size_t size() const { return queue_.size(); }
  uint64_t bytes() const { return bytes_; }
  // Of the queue alone, and of those that wait for a file.
  absl::Time NextDeadline() const {
    return queue_.empty() ? absl::InfiniteFuture() : front().deadline;
  }
  absl::Time NextAwaitingDeadline() const {
    return awaiting_.empty() ? absl::InfiniteFuture() : awaiting_.begin()->second.file_deadline;
  }

 private:
  using ByNumber = absl::btree_map<uint64_t, WaitingCreate>;
  WaitingCreate TakeQueued(ByNumber::iterator it);

  ByNumber queue_;     // by number of arrival
  ByNumber awaiting_;  // a file; by number
  absl::btree_map<std::pair<base::ObjectId, uint64_t>, WaitingCreate> parked_;
  uint64_t last_number_ = 0;
  uint64_t bytes_ = 0;  // of queue_
};

}  // namespace ray::store
