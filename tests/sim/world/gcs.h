// The GCS of a virtual cluster: the control plane on a storage that outlives it, behind the sockets
// of gcs_wire.h. It may be ended after any write.
//
// A request may come twice, the second time late, as when its answer was lost.
//
// Owner: a virtual cluster.   Threads: one.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "ray/base/config.h"
#include "ray/gcs/control_plane.h"
#include "ray/gcs/memory_storage.h"
#include "tests/sim/world/world.h"

namespace ray::sim {

class VirtualGcs final : public gcs::NodeSender, public gcs::NodeProbe {
 public:
  static constexpr char kEndpoint[] = "tcp:gcs:6379";

  // What survives it.
  class Storage final : public gcs::Storage {
   public:
    absl::StatusOr<std::string> Get(std::string_view table, std::string_view key) override {
      return memory_.Get(table, key);
    }
    absl::Status Scan(std::string_view table, std::string_view prefix, Visitor visit) override {
      return memory_.Scan(table, prefix, visit);
    }
    absl::Status Write(const gcs::WriteBatch& batch) override;

    uint64_t writes = 0;
    uint64_t last_write = std::numeric_limits<uint64_t>::max();  // the process ends with this one

   private:
    gcs::MemoryStorage memory_;
  };

  // In its process.
  VirtualGcs(const base::Config& config, Storage* storage, double repeats);

  gcs::ControlPlane& control() { return *control_; }

 private:
  struct Channel {
    Socket* socket = nullptr;
    std::optional<base::NodeId> node;
  };

  void Send(const base::NodeId& node, const gcs::v1::GcsMessage& message) override;
  void Ask(const std::string& tcp_endpoint, Callback callback) override;

  void Accept(int fd);
  void OnPacket(const std::shared_ptr<Channel>& channel, const Packet& packet);
  absl::Status OnNodeMessage(const std::shared_ptr<Channel>& channel,
                             const gcs::v1::NodeMessage& message);
  void OnChannelEnd(const std::shared_ptr<Channel>& channel);
  void OnCall(Socket* socket, const Packet& call);
  void ArmDeadline();

  World* const world_ = World::Current();
  Process* const process_ = world_->current();
  base::RealClock* const clock_ = base::RealClock::Get();
  const double repeats_;
  std::unique_ptr<gcs::ControlPlane> control_;
  std::map<base::NodeId, std::shared_ptr<Channel>> channels_;
  absl::Time armed_for_ = absl::InfiniteFuture();
};

}  // namespace ray::sim
