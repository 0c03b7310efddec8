// The placement groups, by id and by name, and their copy in the storage.
//
// Owner: PlacementGroupManager.   Threads: loop-bound.   Blocks as the storage does.
// Errors: Add and Load report the storage's; then nothing was changed. Save keeps going without the
// storage: it logs, and writes the record again each kSaveRetry until that succeeds.
//   GROUPS-1  a name belongs to at most one group that is not REMOVED, per namespace.
//   GROUPS-2  at most removed_max REMOVED groups are remembered, the latest ones; all others always
//             are.
//   GROUPS-3  a group stays where it is in memory until it is forgotten; only Save() of a REMOVED
//             one forgets, another.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/base/ids.h"
#include "ray/gcs/deadlines.h"
#include "ray/gcs/storage.h"
#include "ray/gcs/v1/storage.pb.h"
#include "ray/resources/resource_set.h"
#include "ray/scheduling/bundle_placement.h"
#include "ray/wire/v1/placement_groups.pb.h"

namespace ray::gcs {

// One placement group. Threads: thread-compatible.
struct PlacementGroup {
  struct Bundle {
    scheduling::BundleDemand demand;
    base::NodeId node;            // where it is set aside; nil: nowhere yet
    resources::ResourceSet room;  // less the actors that were placed in it
  };
  // What one node is to set aside in an attempt to place the group.
  struct Share {
    std::vector<uint32_t> indices;
    resources::ResourceSet sum;
    bool prepared = false;
  };
  using Waiter = absl::AnyInvocable<void(const wire::v1::PlacementGroupInfo&)>;

  // kInvalidArgument, naming the field, for a spec that no well-behaved peer sends.
  static absl::StatusOr<std::unique_ptr<PlacementGroup>> FromSpec(
      wire::v1::PlacementGroupSpec spec);

  const wire::v1::PlacementGroupSpec& spec() const { return info.spec(); }
  bool removed() const { return info.state() == wire::v1::GROUP_STATE_REMOVED; }
  bool created() const { return info.state() == wire::v1::GROUP_CREATED; }
  void SetNode(uint32_t index, const base::NodeId& node);
  std::vector<uint32_t> BundlesWithoutNode() const;
  std::vector<uint32_t> BundlesOn(const base::NodeId& node) const;

  base::PlacementGroupId id;
  wire::v1::PlacementGroupInfo info;
  uint64_t removal_number = 0;

  // Read from the spec.
  std::vector<Bundle> bundles;
  std::optional<base::ActorId> creator;
  base::NodeId soft_target;
  std::string shape;  // equal for groups that ask for the same

  // Not stored.
  uint64_t attempt = 0;                  // the number of the last one
  std::map<base::NodeId, Share> shares;  // of the attempt under way; empty: there is none
  absl::Duration pause;                  // before the next attempt, if this one fails
  uint64_t queue_number = 0;             // > 0: waits for room, in this order
  std::map<uint64_t, Waiter> waiters;    // by number
};

class PlacementGroupTable {
 public:
  static constexpr absl::Duration kSaveRetry = absl::Seconds(1);

  PlacementGroupTable(int64_t removed_max, Storage* storage, Deadlines* deadlines)
      : removed_max_(removed_max), storage_(storage), deadlines_(deadlines) {}

  absl::Status Load();

  // Requires an id that is not in the table and, if it has a name, one that is free.
  absl::StatusOr<PlacementGroup*> Add(std::unique_ptr<PlacementGroup> group);
  // Writes what changed. A group that has become REMOVED gives its name up and is forgotten in
  // time.
  void Save(PlacementGroup* group);

  PlacementGroup* Find(const base::PlacementGroupId& id) const;
  // Not REMOVED ones only.
  PlacementGroup* FindNamed(const std::string& group_namespace, const std::string& name) const;

  // Of those that are not REMOVED. Ids, because what the caller does with one may forget another.
  std::vector<base::PlacementGroupId> Where(
      absl::FunctionRef<bool(const PlacementGroup&)> predicate) const;
  // REMOVED ones too.
  void ForEach(absl::FunctionRef<void(const PlacementGroup&)> visit) const;

 private:
  absl::Status LoadOne(std::string_view key, std::string_view value);
  absl::Status Write(const PlacementGroup& group);
  void RetryUnsaved();
  void Bury(PlacementGroup* group);

  const int64_t removed_max_;
  Storage* const storage_;
  Deadlines* const deadlines_;

  std::map<base::PlacementGroupId, std::unique_ptr<PlacementGroup>> groups_;
  std::set<base::PlacementGroupId> living_;  // not REMOVED
  std::map<std::pair<std::string, std::string>, base::PlacementGroupId> names_;
  std::map<uint64_t, base::PlacementGroupId> removed_;  // by removal number
  std::set<base::PlacementGroupId> unsaved_;
};

}  // namespace ray::gcs
