// Messages of a node's channel that leave together: what is said in one turn of the loop, and what
// gathers while a write is under way. For gRPC a message costs two hand-offs between threads at
// either end, however small it is.
// Owner: an end of the channel.   Threads: thread-compatible.   Errors: none.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

namespace ray::gcs {

// Message: NodeMessage or GcsMessage.
template <typename Message>
class MessageBatch {
 public:
  void Add(Message message) { waiting_.push_back(std::move(message)); }
  size_t size() const { return waiting_.size(); }

  // The next ones, in order, as one message; nullopt: none waits.
  std::optional<Message> Take() {
    if (waiting_.empty()) return std::nullopt;
    Message first = Pop();
    size_t bytes = first.ByteSizeLong();
    while (!waiting_.empty() && bytes < kBytesEnough) {
      Message next = Pop();
      bytes += next.ByteSizeLong();
      *first.add_more() = std::move(next);
    }
    return first;
  }

 private:
  static constexpr size_t kBytesEnough = 64 << 10;

  Message Pop() {
    Message message = std::move(waiting_.front());
    waiting_.pop_front();
    return message;
  }

  std::deque<Message> waiting_;
};

}  // namespace ray::gcs
