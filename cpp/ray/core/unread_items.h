// The items that an actor's generators have sent and that nobody has read yet, over all its calls,
// also those that have ended: what an actor with a limit for them waits for. Sans-I/O.
//
// Who reads tells how much of each stream it has read, and that it reads no more with the largest
// number. A retry sends the items of its call again: these count once.
//   UNREAD-1  a call is forgotten when it has ended and all it has sent was read, or its reader is
//   gone.
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
    stream.sent = std::max(stream.sent, total);
  }
  void Read(const base::TaskId& call, const base::WorkerId& reader, uint64_t total) {
    auto found = streams_.find(call);
    if (found == streams_.end() || found->second.reader != reader) return;
    found->second.read = std::max(found->second.read, total);
    ForgetIfDone(found);
  }
  void Ended(const base::TaskId& call) {
    auto found = streams_.find(call);
    if (found == streams_.end()) return;
    found->second.ended = true;
    ForgetIfDone(found);
  }
  void ReaderGone(const base::WorkerId& reader) {
    absl::erase_if(streams_, [&](const auto& entry) { return entry.second.reader == reader; });
  }

  uint64_t count() const {
    uint64_t unread = 0;
    for (const auto& [call, stream] : streams_) {
      unread += stream.sent > stream.read ? stream.sent - stream.read : 0;
    }
    return unread;
  }
  size_t calls() const { return streams_.size(); }

 private:
  struct Stream {
    base::WorkerId reader;
    uint64_t sent = 0;
    uint64_t read = 0;
    bool ended = false;
  };
  using Streams = absl::flat_hash_map<base::TaskId, Stream>;

  void ForgetIfDone(Streams::iterator found) {
    if (found->second.ended && found->second.read >= found->second.sent) streams_.erase(found);
  }

  Streams streams_;
};

}  // namespace ray::core
