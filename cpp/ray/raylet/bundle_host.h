// The bundles that are set aside on this node: carries out the orders of the GCS on the lease
// queue. The GCS decides all else.
//
// Owner: Raylet.   Threads: loop-bound.   Errors: a malformed message is logged and dropped.
//   BUNDLES-1  each PrepareBundles is answered by one BundlesPrepared; a repeated one changes
//              nothing and is answered alike.
#pragma once

#include <functional>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "ray/base/ids.h"
#include "ray/gcs/v1/gcs.pb.h"
#include "ray/scheduling/lease_queue.h"

namespace ray::raylet {

class BundleHost {
 public:
  struct Events {
    std::function<void(const gcs::v1::BundlesPrepared&)> on_prepared;
    std::function<void()> on_resources_changed;
    // Bundles of the group can be used here from now on, or went.
    std::function<void(const base::PlacementGroupId&)> on_bundles_changed;
  };

  // `leases` outlives the host.
  BundleHost(scheduling::LeaseQueue* leases, Events events);

  // -- From the GCS.
  void Prepare(const gcs::v1::PrepareBundles& message);
  void Commit(const gcs::v1::CommitBundles& message);
  void Return(const gcs::v1::ReturnBundles& message);

  // Whether the group is created, as far as bundles of it here have heard.
  bool IsCreated(const base::PlacementGroupId& group) const { return created_.contains(group); }
  // A client has asked for its removal, of which the GCS will send word.
  void ExpectRemoval(const base::PlacementGroupId& group) { created_.erase(group); }

  // For the registration after a reconnect.
  std::vector<gcs::v1::HeldBundles> Held() const;

 private:
  scheduling::LeaseQueue* const leases_;
  const Events events_;
  absl::flat_hash_set<base::PlacementGroupId> created_;
};

}  // namespace ray::raylet
