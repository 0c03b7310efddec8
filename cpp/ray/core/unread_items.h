// The items that an actor's generators have sent and that nobody has read yet, over all its calls,
// also those that have ended: what an actor with a limit for them waits for. Sans-I/O.
//
// Who reads tells how much of each stream it has read, and that it reads no more with the largest
// number. A retry sends the items of its call again: these count once.
//   UNREAD-1  a call is forgotten when it has ended and all it has sent was read, or its reader is
//   gone.
//   UNREAD-2  count() is the sum of what each known call has sent and its reader has not read;
//   kept, not summed up anew, since every item asks for it.
//
// Threads: thread-compatible; the core worker's mutex.   Errors: none; what is not known is
// ignored.
#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "ray/base/ids.h"

namespace ray::core {

class UnreadItems {
 public:
  // The call has sent `total` items to `reader`.
  void Sent(const base::TaskId& call, const base::WorkerId& reader, uint64_t total) {
    Stream& stream = streams_[call];
    stream.reader = reader;
    stream.ended = false;
    count_ -= stream.unread();
    stream.sent = std::max(stream.sent, total);
    count_ += stream.unread();
  }
  void Read(const base::TaskId& call, const base::WorkerId& reader, uint64_t total) {
    auto found = streams_.find(call);
    if (found == streams_.end() || found->second.reader != reader) return;
    Stream& stream = found->second;
    count_ -= stream.unread();
    stream.read = std::max(stream.read, total);
    count_ += stream.unread();
    ForgetIfDone(found);
  }
  void Ended(const base::TaskId& call) {
    auto found = streams_.find(call);
    if (found == streams_.end()) return;
    found->second.ended = true;
    ForgetIfDone(found);
  }
  void ReaderGone(const base::WorkerId& reader) {
    absl::erase_if(streams_, [&](const auto& entry) {
      if (entry.second.reader != reader) return false;
      count_ -= entry.second.unread();
      return true;
    });
  }

  uint64_t count() const { return count_; }
  size_t calls() const { return streams_.size(); }

 private:
  struct Stream {
    base::WorkerId reader;
    uint64_t sent = 0;
    uint64_t read = 0;  // may run ahead of `sent`, once the reader is done
    bool ended = false;

    uint64_t unread() const { return sent > read ? sent - read : 0; }
  };
  using Streams = absl::flat_hash_map<base::TaskId, Stream>;

  void ForgetIfDone(Streams::iterator found) {
    if (found->second.ended && found->second.unread() == 0) streams_.erase(found);
  }

  Streams streams_;
  uint64_t count_ = 0;  // UNREAD-2
};

}  // namespace ray::core
