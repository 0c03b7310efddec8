// What a node must not fail to tell the GCS: kept, in its order, until the GCS says that it has
// stored it, and sent again on each new channel until then.
// Owner: GcsClient.   Threads: thread-compatible.   Errors: none.
//   OUTBOX-1  sequences grow by one with each message, from 1, over all channels.
#pragma once

#include <cstdint>
#include <deque>
#include <utility>

#include "ray/gcs/v1/gcs.pb.h"

namespace ray::gcs {

class NodeOutbox {
 public:
  // Numbers the message and keeps it.
  const v1::NodeMessage& Add(v1::NodeMessage message) {
    message.set_sequence(++last_sequence_);
    kept_.push_back(std::move(message));
    return kept_.back();
  }
  // All up to that sequence have taken effect for good. 0: none has.
  void Acknowledge(uint64_t sequence) {
    while (!kept_.empty() && kept_.front().sequence() <= sequence) kept_.pop_front();
  }
  // Bounded by what the node's workers do while the GCS is away.
  const std::deque<v1::NodeMessage>& kept() const { return kept_; }

 private:
  uint64_t last_sequence_ = 0;
  std::deque<v1::NodeMessage> kept_;
};

}  // namespace ray::gcs
