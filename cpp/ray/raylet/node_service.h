// What concerns the node and the cluster as a whole: jobs of drivers, the key-value store, the
// cluster's state, and the node's reports to the GCS.
//
// Owner: Raylet.   Threads: loop-bound.   Frames: KV, CLUSTER_STATE.
//   NODE-1  a change of resources is reported at once after a quiet interval, else at its end.
//   NODE-2  CLUSTER_STATE says of this node what is true now, whatever the GCS has heard.
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
    std::function<std::vector<wire::v1::Demand>()> demands;  // what waits at this node
    absl::Duration report_interval = absl::Milliseconds(100);
  };

  // All pointers, also those of the options, outlive the service.
  NodeService(net::EventLoop* loop, const base::Clock* clock, FrameRouter* router,
              gcs::GcsClient* gcs, Options options);

  void AddJob(const wire::v1::Hello& hello, ClientRegistry::JobCallback callback);
  void FinishJob(const base::JobId& job);

  // Resources, the store's use or what waits may have changed.
  void MarkChanged();
  // This node as it is now.
  wire::v1::NodeState State() const;

 private:
  void RelayClusterState(const Responder& responder);
  void ReportIfChanged();
  resources::ResourceSet Available() const;

  const base::Clock* const clock_;
  gcs::GcsClient* const gcs_;
  const Options options_;
  uint64_t last_sequence_ = 0;
  // What was reported last.
  resources::ResourceSet last_available_;
  uint64_t last_store_used_ = 0;
  std::string last_demands_;
  absl::Time last_time_ = absl::InfinitePast();
  bool report_due_ = false;
  DeadlineTimer timer_;
};

}  // namespace ray::raylet
