// What concerns the node and the cluster as a whole: jobs of drivers, the key-value store, the
// cluster's state, the node's reports to the GCS, and its draining.
//
// Owner: Raylet.   Threads: loop-bound.   Frames: KV, CLUSTER_STATE, DRAIN_NODE.
//   NODE-1  a change of resources is reported at once after a quiet interval, else at its end.
//   NODE-2  CLUSTER_STATE says of this node what is true now, whatever the GCS has heard.
//   NODE-3  the GCS hears of the end of each job, however long it is away.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/gcs/gcs_client.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/client_registry.h"
#include "ray/raylet/deadline_timer.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/node_drain.h"
#include "ray/raylet/node_identity.h"
#include "ray/resources/node_resources.h"
#include "ray/store/object_store.h"

namespace ray::raylet {

class NodeService {
 public:
  struct Options {
    const NodeIdentity* identity = nullptr;
    const resources::NodeResources* resources = nullptr;
    const store::ObjectStore* store = nullptr;
    absl::Duration report_interval = absl::Milliseconds(100);
    // What waits here for resources, by shape. Without a function: nothing.
    std::function<std::vector<wire::v1::Demand>()> demands = nullptr;
    NodeDrain::Environment drain;
  };

  // All pointers, also those of the options, outlive the service.
  NodeService(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
              gcs::GcsClient* gcs, Options options);

  void AddJob(const wire::v1::Hello& hello, ClientRegistry::JobCallback callback);
  void FinishJob(const base::JobId& job);

  // Resources, the store's use or the demands may have changed.
  void MarkChanged();
  // What the GCS has placed here took resources, or gave them back. It is reported even if as much
  // is free as before: the GCS had counted it by itself.
  void MarkPlaced();
  // The GCS wants this node to end.
  void Drain(const wire::v1::DrainNode& order);
  // Nothing new is to be started here.
  bool draining() const { return drain_.draining(); }
  // This node as it is now.
  wire::v1::NodeState State() const;

 private:
  void RelayClusterState(const Responder& responder);
  void ReportIfChanged();
  gcs::v1::NodeReport MakeReport() const;
  void LookAtDrain();
  resources::ResourceSet Available() const;

  const base::Clock* const clock_;
  gcs::GcsClient* const gcs_;
  const Options options_;
  uint64_t last_sequence_ = 0;
  std::string last_report_;  // serialized, without its sequence
  absl::Time last_time_ = absl::InfinitePast();
  bool report_due_ = false;
  DeadlineTimer timer_;
  NodeDrain drain_;
  DeadlineTimer drain_timer_;
};

}  // namespace ray::raylet
