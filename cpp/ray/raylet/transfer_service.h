// Objects between this node and the others: PullManager, PushTable and OfferTable with their
// sockets, streams, memory and time.
//
// Owner: Raylet.   Threads: loop-bound (the threads of streams, and one that opens files, post to
// the loop).
// Errors: a node that cannot be reached is a source that failed; see PullManager.
// Frames: PULL_BEGIN, PULL_MORE and PULL_END, from other raylets.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "ray/base/clock.h"
#include "ray/base/config.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/client.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/deadline_timer.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/node_identity.h"
#include "ray/raylet/node_peers.h"
#include "ray/raylet/object_service.h"
#include "ray/raylet/owner_watch.h"
#include "ray/raylet/stream_dialer.h"
#include "ray/store/io_thread.h"
#include "ray/transfer/data_stream.h"
#include "ray/transfer/offer_table.h"
#include "ray/transfer/pull_manager.h"
#include "ray/transfer/push_table.h"
#include "ray/wire/v1/transfer.pb.h"

namespace ray::raylet {

class TransferService final : private transfer::PullManager::Actions {
 public:
  // All pointers outlive the service.
  TransferService(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
                  NodePeers* peers, ObjectService* objects, OwnerWatch* owners,
                  const NodeIdentity* identity, const base::Config& config,
                  net::Connection::Options connection_options);
  ~TransferService() override;

  // Fetches the objects, for as long as the handle lives (longer than the service, if need be).
  std::shared_ptr<void> Pull(std::vector<transfer::PullManager::Wanted> wanted,
                             transfer::PullPriority priority);
  void FreeElsewhere(const base::NodeId& node, const wire::v1::StoreIds& message);

  // Events.
  void StoreChanged();
  void StreamOpened(const base::NodeId& node, ClientRegistry::From from,
                    net::Connection& connection);
  void ClientGone(const Client& client);
  void NodeDead(const base::NodeId& node);
  void CheckInvariants() const {
    pulls_.CheckInvariants();
    pushes_.CheckInvariants();
  }

 private:
  using PullManager = transfer::PullManager;

  // Where a copy in the making is written: the store's memory, or a file of its own.
  struct Target {
    uint64_t offset = 0;                                        // in either
    std::shared_ptr<const store::SharedMemory> file = nullptr;  // mapped from `offset` on
    net::UniqueFd fd = {};                                      // of the file
  };

  // Actions of PullManager.
  void Ask(const base::NodeId& node, const base::ObjectId& id, uint64_t number,
           uint32_t tier_below) override;
  void AskMore(const base::NodeId& node, const base::ObjectId& id, uint64_t number,
               uint64_t known_bytes) override;
  void End(const base::NodeId& node, const base::ObjectId& id, bool fetched) override;
  void Reserve(const base::ObjectId& id, const transfer::ObjectFacts& facts) override;
  void Fetch(const base::NodeId& node, const base::ObjectId& id, store::Extent part,
             uint64_t number) override;
  void Seal(const base::ObjectId& id, bool hold) override;
  void Unhold(const base::ObjectId& id) override;
  void Abort(const base::ObjectId& id) override;
  void Fail(const base::ObjectId& id, transfer::PullFailure failure,
            const std::string& reason) override;

  // Runs an event of the manager; one that an action causes runs after the action's event.
  void Enter(absl::AnyInvocable<void()> event);
  void OnReserved(const base::ObjectId& id, const transfer::ObjectFacts& facts,
                  const store::CreateReply& reply);
  // The store has made a file for the copy.
  void OnReservedFile(const base::ObjectId& id, const transfer::ObjectFacts& facts,
                      const store::CreateReply& reply);
  void StartCopy(const base::ObjectId& id, const transfer::ObjectFacts& facts, Target target);
  // Runs what may wait for a disk on a thread of its own.
  template <typename Result>
  void OffLoop(absl::AnyInvocable<absl::StatusOr<Result>()> operation,
               absl::AnyInvocable<void(absl::StatusOr<Result>)> done);

  // The source's side.
  absl::Status OnPullBegin(Client& client, const wire::v1::PullBegin& message,
                           const Responder& responder);
  absl::Status OnPullMore(Client& client, const wire::v1::PullMore& message,
                          const Responder& responder);
  absl::Status OnPullEnd(Client& client, const wire::v1::PullEnd& message);
  void Grant(const base::NodeId& node, const base::ObjectId& id,
             const store::GetReply::Entry& entry, const Responder& responder);
  // `file`: where the extent lies, if not in the store's memory.
  void GrantPinned(const base::NodeId& node, const base::ObjectId& id, store::Extent extent,
                   net::UniqueFd file, const Responder& responder);
  void RefusePinned(const base::NodeId& node, const base::ObjectId& id, const Responder& responder);
  // A copy in the making.
  void GrantPartial(const base::NodeId& node, const base::ObjectId& id,
                    const PullManager::Partial& partial, const Responder& responder);
  void EndGrant(const base::NodeId& node, const base::ObjectId& id);
  transfer::PushKind KindOf(const wire::v1::PullBegin& message, uint64_t size_bytes) const;

  // A function that runs another one on the loop, unless this service has ended.
  std::function<void(absl::AnyInvocable<void()>)> PostToLoop();

  net::EventLoop* const loop_;
  NodePeers* const peers_;
  ObjectService* const objects_;
  store::ObjectStore* const store_;
  OwnerWatch* const owners_;
  const NodeIdentity* const identity_;
  const absl::Duration restore_timeout_;
  // What comes back after the end sees that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  const uint64_t large_bytes_;

  transfer::PushTable pushes_;
  transfer::OfferTable offers_;
  transfer::GrantTable grants_;
  StreamDialer dialer_;
  transfer::DataServer server_;
  transfer::DataFetcher fetcher_;
  PullManager pulls_;
  DeadlineTimer timer_;
  absl::flat_hash_map<base::ObjectId, Target> targets_;  // of what is reserved
  std::deque<absl::AnyInvocable<void()>> events_;
  bool in_event_ = false;
  std::unique_ptr<store::IoThread> files_;  // null: there was no file yet
};

}  // namespace ray::raylet
