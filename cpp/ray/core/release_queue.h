// References and pins that ended, on their way to the core worker. A Python object may be
// deallocated anywhere: inside an allocation, under any lock, at interpreter exit. So the end of an
// ObjectRef or of a view into the store only pushes here, and whoever next enters the core worker
// drains.
//
// A Treiber stack that is only ever emptied whole:
//   RELQ-1  Push allocates one node and links it with a compare-and-swap; it takes no lock and
//   calls nothing else. RELQ-2  Drain detaches the whole list with one exchange, so no node is ever
//   unlinked alone and there is no ABA. RELQ-3  Items of one thread come out in the order they went
//   in.
//
// Threads: Push from any; Drain from one at a time (the core worker's mutex).
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "ray/base/ids.h"

namespace ray::core {

class ReleaseQueue {
 public:
  // kStream: the reader of the stream that ends with this object.
  enum class Kind : uint8_t { kReference, kStorePin, kStream };

  ReleaseQueue() = default;
  ~ReleaseQueue() {
    Drain([](Kind, const base::ObjectId&) {});
  }
  ReleaseQueue(const ReleaseQueue&) = delete;
  ReleaseQueue& operator=(const ReleaseQueue&) = delete;

  // True if the queue was empty before: somebody should see to it that it is drained.
  bool Push(Kind kind, const base::ObjectId& id) {
    Node* before = head_.load(std::memory_order_relaxed);
    Node* node = new Node{before, id, kind};
    while (!head_.compare_exchange_weak(before, node, std::memory_order_release,
                                        std::memory_order_relaxed)) {
      node->next = before;
    }
    return before == nullptr;  // once linked, the node is the drainer's
  }

  bool empty() const { return head_.load(std::memory_order_relaxed) == nullptr; }

  void Drain(absl::FunctionRef<void(Kind, const base::ObjectId&)> visit) {
    Node* node = head_.exchange(nullptr, std::memory_order_acquire);
    Node* in_order = nullptr;
    while (node != nullptr) {
      Node* next = node->next;
      node->next = in_order;
      in_order = node;
      node = next;
    }
    while (in_order != nullptr) {
      Node* next = in_order->next;
      visit(in_order->kind, in_order->id);
      delete in_order;
      in_order = next;
    }
  }

 private:
  struct Node {
    Node* next;
    base::ObjectId id;
    Kind kind;
  };
  std::atomic<Node*> head_{nullptr};
};

}  // namespace ray::core
