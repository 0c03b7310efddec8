// The streams of the generator tasks that this process owns: which items have come, which were
// read, and how a stream ends. Sans-I/O, on top of the ObjectTable.
//
// Return 1 of a streaming task is its end: ready when the generator has ended, with an error if it
// failed. Item k (from 0) is return k + 2. An error of the task is one more item, then the stream
// ends. A reader looks at the next item before it has come (Peek) and waits for it as for any
// object.
//   STREAM-1  items come in order; one that comes again (a retry) is not taken twice.
//   STREAM-2  an item has one local reference of the stream from when it comes until it is read
//   (Advance) or the reader goes (Close).
//   STREAM-3  every item that was peeked becomes ready: with its value, with the stream's error, or
//   with the mark of the end (code STREAM_ENDED), which Advance then tells from an item.
//
// Threads: thread-compatible; the core worker's mutex.   Errors: none; unknown streams are ended.
#pragma once

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"
#include "ray/core/object_table.h"

namespace ray::core {

base::ObjectId StreamItemId(const base::TaskId& task, uint64_t index);

class StreamTable {
 public:
  // `objects` outlives the table.
  explicit StreamTable(ObjectTable* objects) : objects_(objects) {}

  // At submission. `has_reader` is false for num_returns="dynamic": the items are held until the
  // end, when the value of return 1 contains them.
  void Open(const base::TaskId& task, bool has_reader);

  // -- the producer's side
  struct Arrival {
    bool wanted = false;    // a new item that somebody may read: it now waits for its value
    uint64_t consumed = 0;  // as ConsumedOf
    uint64_t received = 0;  // items that have come
  };
  Arrival OnItem(const base::TaskId& task, uint64_t index);
  // The task ended; `error` is null or the value that it failed with.
  void End(const base::TaskId& task, const BufferPtr& error);

  // -- the reader's side
  // The next item's object, with one local reference for the caller.
  base::ObjectId Peek(const base::TaskId& task);
  enum class Step { kItem, kEnd, kNotYet };
  // Goes on to the item after `peeked`. kNotYet: that has not come, or another reader took it.
  Step Advance(const base::TaskId& task, const base::ObjectId& peeked);
  // The reader is gone: items that it did not read go too.
  void Close(const base::TaskId& task);

  // Items that the reader has read; all there can ever be once it is gone.
  uint64_t ConsumedOf(const base::TaskId& task) const;
  // Its reader has not read to the end, and is not gone.
  bool IsOpen(const base::TaskId& task) const { return streams_.contains(task); }
  size_t size() const { return streams_.size(); }

 private:
  struct Stream {
    uint64_t received = 0;
    uint64_t read = 0;
    bool ended = false;
    bool has_reader = true;
  };
  void Arrive(const base::TaskId& task, Stream* stream);
  void DropUnread(const base::TaskId& task, const Stream& stream);

  ObjectTable* const objects_;
  absl::flat_hash_map<base::TaskId, Stream> streams_;  // until read to the end, or closed
};

}  // namespace ray::core
