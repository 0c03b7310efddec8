#include "ray/raylet/bundle_host.h"

#include <utility>

#include "ray/base/logging.h"
#include "ray/base/status_macros.h"

namespace ray::raylet {

using base::PlacementGroupId;
using resources::ResourceSet;

namespace {

using Bundles = std::vector<std::pair<uint32_t, ResourceSet>>;

absl::StatusOr<Bundles> BundlesOf(const gcs::v1::PrepareBundles& message) {
  if (message.indices_size() != message.resources_size()) {
    return absl::InvalidArgumentError("as many indices as resources are needed");
  }
  Bundles bundles;
  for (int i = 0; i < message.indices_size(); ++i) {
    MANTA_ASSIGN_OR_RETURN(ResourceSet resources, ResourceSet::FromWire(message.resources(i)));
    bundles.emplace_back(message.indices(i), std::move(resources));
  }
  return bundles;
}

template <typename Message>
absl::StatusOr<PlacementGroupId> GroupOf(const Message& message) {
  return PlacementGroupId::FromBinary(message.placement_group_id());
}

void LogMalformed(const absl::Status& why) {
  MANTA_LOG(kError, "the GCS sent a malformed order about bundles: ", why.message());
}

std::vector<uint32_t> Indices(const google::protobuf::RepeatedField<uint32_t>& indices) {
  return {indices.begin(), indices.end()};
}

}  // namespace

BundleHost::BundleHost(scheduling::LeaseQueue* leases, Events events)
    : leases_(leases), events_(std::move(events)) {}

void BundleHost::Prepare(const gcs::v1::PrepareBundles& message) {
  const auto group = GroupOf(message);
  const auto bundles = BundlesOf(message);
  if (!group.ok()) return LogMalformed(group.status());
  if (!bundles.ok()) return LogMalformed(bundles.status());
  gcs::v1::BundlesPrepared answer;
  answer.set_placement_group_id(message.placement_group_id());
  answer.set_attempt(message.attempt());
  answer.set_ok(leases_->PrepareBundles(*group, *bundles));
  events_.on_prepared(answer);
  events_.on_resources_changed();
}

void BundleHost::Commit(const gcs::v1::CommitBundles& message) {
  const auto group = GroupOf(message);
  if (!group.ok()) return LogMalformed(group.status());
  leases_->CommitBundles(*group, Indices(message.indices()));
  if (message.incomplete()) {
    created_.erase(*group);
  } else if (leases_->HasCommitted(*group)) {
    created_.insert(*group);
  }
  events_.on_bundles_changed(*group);
}

void BundleHost::Return(const gcs::v1::ReturnBundles& message) {
  const auto group = GroupOf(message);
  if (!group.ok()) return LogMalformed(group.status());
  if (message.removed()) {
    leases_->RemoveGroup(*group);
  } else {
    leases_->ReturnBundles(*group, Indices(message.indices()));
  }
  if (!leases_->HasCommitted(*group)) created_.erase(*group);
  events_.on_bundles_changed(*group);
  events_.on_resources_changed();
}

std::vector<gcs::v1::HeldBundles> BundleHost::Held() const {
  std::vector<gcs::v1::HeldBundles> held;
  for (const scheduling::HeldBundles& of_group : leases_->Bundles()) {
    gcs::v1::HeldBundles& message = held.emplace_back();
    message.set_placement_group_id(of_group.group.BinaryString());
    message.mutable_indices()->Add(of_group.indices.begin(), of_group.indices.end());
  }
  return held;
}

}  // namespace ray::raylet
