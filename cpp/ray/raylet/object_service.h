// The node's object store with its hands and feet: memory, spill files, page warmer, frames and a
// timer.
//
// Owner: Raylet.   Threads: loop-bound (the store's own threads post to the loop).
// Errors: Create: as SharedMemory::Create and MakeSpillTarget.
// Frames: STORE_CREATE, STORE_SEAL, STORE_ABORT, STORE_GET, STORE_RELEASE, STORE_FREE, STORE_STATS.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "ray/base/clock.h"
#include "ray/base/config.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/deadline_timer.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/spill_setup.h"
#include "ray/store/object_store.h"
#include "ray/store/page_warmer.h"
#include "ray/store/shared_memory.h"

namespace ray::raylet {

class ObjectService {
 public:
  struct Options {
    uint64_t capacity_bytes = 0;
    SpillSetup spilling;
    std::string name;  // of this node, among others that spill to the same storage
    const base::Config* config = nullptr;  // read at once
  };

  // All pointers outlive the service. `on_change` runs when the store's use may have changed.
  static absl::StatusOr<std::unique_ptr<ObjectService>> Create(net::EventLoop* loop,
                                                               const base::Clock* clock,
                                                               FrameRouter* router,
                                                               const Options& options,
                                                               std::function<void()> on_change);

  void ClientJoined(const Client& client);
  void ClientGone(const Client& client);

  const store::ObjectStore& store() const { return *store_; }
  int memory_fd() const { return memory_->fd(); }

 private:
  ObjectService(net::EventLoop* loop, const base::Clock* clock, std::function<void()> on_change);

  absl::Status Open(const base::Clock* clock, const Options& options);
  void RegisterFrames(FrameRouter* router);
  absl::Status OnCreate(Client& client, const wire::v1::StoreCreate& message,
                        const Responder& responder);
  absl::Status OnSeal(Client& client, const wire::v1::StoreSeal& message,
                      const Responder& responder);
  absl::Status OnAbort(Client& client, const wire::v1::StoreAbort& message,
                       const Responder& responder);
  absl::Status OnGet(Client& client, const wire::v1::StoreGet& message, const Responder& responder);
  absl::Status OnRelease(Client& client, const wire::v1::StoreIds& message,
                         const Responder& responder);
  absl::Status OnFree(Client& client, const wire::v1::StoreIds& message,
                      const Responder& responder);
  absl::Status OnStats(Client& client, const wire::v1::StoreStats& message,
                       const Responder& responder);
  std::function<void(absl::AnyInvocable<void()>)> PostToLoop();
  void Changed();

  net::EventLoop* const loop_;
  const std::function<void()> on_change_;
  DeadlineTimer timer_;
  // What the store's threads have posted sees that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  // In this order: the store uses what stands before it, and ends first.
  std::unique_ptr<store::SharedMemory> memory_;
  std::unique_ptr<store::SpillTarget> spill_target_;
  std::unique_ptr<store::PageWarmer> warmer_;
  std::unique_ptr<store::ObjectStore> store_;
};

}  // namespace ray::raylet
