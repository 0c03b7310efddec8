// Touches and returns pages of the store's memory on a thread of its own with idle priority, so
// that neither costs a request anything. At start it touches the first bytes of the arena, where
// the allocator places objects first.
//
// Owner: the raylet. Threads: loop-bound, except that it runs a thread, which posts to the loop.
//
// Errors: where the kernel refuses to touch or return pages nothing happens: both are
// optimisations. The constructor ends the process (std::system_error) where no thread can be made.
//
//   WARM-1  the contents of memory never change by warming, whoever writes at the same time.
//   WARM-2  destruction waits for at most one step (kStepBytes), at normal priority.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "ray/store/page_return.h"
#include "ray/store/shared_memory.h"

namespace ray::store {

class PageWarmer final : public PageReturner {
 public:
  static constexpr uint64_t kStepBytes = 512 << 10;

  // Runs a function on the store's loop, in order (EventLoop::Post). Called from the warmer's
  // thread while it lives.
  using Post = std::function<void(absl::AnyInvocable<void()>)>;
  // Runs on the loop, once a touched extent: pass it to ObjectStore::MarkWarm.
  using OnWarm = std::function<void(Extent)>;

  // `memory` outlives the warmer. Touches at most pretouch_bytes (flag
  // object_store_pretouch_bytes).
  PageWarmer(const SharedMemory* memory, uint64_t pretouch_bytes, Post post, OnWarm on_warm);
  ~PageWarmer() override;

  void ReturnPages(Extent extent, absl::AnyInvocable<void()> done) override;

 private:
  class Thread;
  const std::unique_ptr<Thread> thread_;
};

}  // namespace ray::store
