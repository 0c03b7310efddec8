// The node's object store with its hands and feet: memory, spill files, page warmer, frames and a
// timer.
//
// Owner: Raylet.   Threads: loop-bound (the store's own threads post to the loop).
// Errors: Create: as SharedMemory::Create and MakeSpillTarget.
// Frames: STORE_CREATE, STORE_SEAL, STORE_ABORT, STORE_GET, STORE_RELEASE, STORE_FREE, STORE_STATS;
// from clients of this node and from other raylets.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

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
#include "ray/transfer/pull_manager.h"
#include "ray/wire/v1/store.pb.h"

namespace ray::raylet {

class ObjectService {
 public:
  struct Options {
    uint64_t capacity_bytes = 0;
    SpillSetup spilling;
    std::string name;  // of this node, among others that spill to the same storage
    const base::Config* config = nullptr;  // read at once
    base::NodeId node;                     // this one
  };
  struct Events {
    std::function<void()> on_change;  // the store's use may have changed
    // Fetches objects that other nodes have, for as long as the handle lives. An object that cannot
    // be had is told to the store (ObjectStore::FailGets).
    std::function<std::shared_ptr<void>(std::vector<transfer::PullManager::Wanted>,
                                        transfer::PullPriority)>
        pull;
    std::function<void(const base::NodeId&, const wire::v1::StoreIds&)> free_elsewhere;
    // An object was created for an owner on another node.
    std::function<void(const base::WorkerId& owner, const base::NodeId&)> on_remote_owner;
  };

  // All pointers outlive the service.
  static absl::StatusOr<std::unique_ptr<ObjectService>> Create(net::EventLoop* loop,
                                                               const base::Clock* clock,
                                                               FrameRouter* router,
                                                               const Options& options,
                                                               Events events);

  void ClientJoined(const Client& client);
  void ClientGone(const Client& client);

  store::ObjectStore& store() { return *store_; }
  const store::SharedMemory& memory() const { return *memory_; }
  // After calls of the store by others.
  void Changed();

 private:
  ObjectService(net::EventLoop* loop, const base::Clock* clock, const base::NodeId& node,
                Events events);

  absl::Status Open(const base::Clock* clock, const Options& options);
  void RegisterFrames(FrameRouter* router);
  absl::Status OnCreate(Client& client, const wire::v1::StoreCreate& message,
                        const Responder& responder);
  absl::Status OnSeal(Client& client, const wire::v1::StoreSeal& message,
                      const Responder& responder);
  absl::Status OnAbort(Client& client, const wire::v1::StoreAbort& message,
                       const Responder& responder);
  absl::Status OnGet(Client& client, const wire::v1::StoreGet& message, const Responder& responder);
  // What of the objects may be on other nodes.
  absl::StatusOr<std::vector<transfer::PullManager::Wanted>> WantedElsewhere(
      const std::vector<base::ObjectId>& ids, const wire::v1::StoreGet& message) const;
  void Get(const Client& client, std::vector<base::ObjectId> ids, absl::Duration timeout,
           std::vector<transfer::PullManager::Wanted> wanted, transfer::PullPriority priority,
           store::ObjectStore::GetCallback callback);
  void Prefetch(const Client& client, const std::vector<base::ObjectId>& ids,
                absl::Duration timeout, std::vector<transfer::PullManager::Wanted> wanted,
                const Responder& responder);
  absl::Status OnRelease(Client& client, const wire::v1::StoreIds& message,
                         const Responder& responder);
  absl::Status OnFree(Client& client, const wire::v1::StoreIds& message,
                      const Responder& responder);
  absl::Status OnStats(Client& client, const wire::v1::StoreStats& message,
                       const Responder& responder);
  std::function<void(absl::AnyInvocable<void()>)> PostToLoop();

  net::EventLoop* const loop_;
  const base::NodeId node_;
  const Events events_;
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
