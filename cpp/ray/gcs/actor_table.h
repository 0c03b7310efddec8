// The actors, by every key that somebody asks with, and their copy in the storage.
//
// Owner: ActorManager.   Threads: loop-bound.   Blocks as the storage does.
// Errors: Add and Load report the storage's; then nothing was changed. Save keeps going without the
// storage: a full disk must not stop a cluster. It logs, and writes the record again each
// kSaveRetry until that succeeds.
//   ACTORS-1  a name belongs to at most one actor that is not DEAD, per namespace.
//   ACTORS-2  at most dead_actors_max DEAD actors are remembered, the latest ones; all others
//             always are.
//   ACTORS-3  an actor stays where it is in memory until it is forgotten; only Save() of a DEAD one
//             forgets, another.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ray/base/ids.h"
#include "ray/gcs/deadlines.h"
#include "ray/gcs/storage.h"
#include "ray/gcs/v1/storage.pb.h"
#include "ray/resources/resource_set.h"
#include "ray/wire/v1/actors.pb.h"

namespace ray::gcs {

// One actor. Threads: thread-compatible.
struct Actor {
  // kInvalidArgument, naming the field, for a spec that no well-behaved peer sends.
  static absl::StatusOr<std::unique_ptr<Actor>> FromSpec(wire::v1::ActorSpec spec);

  bool dead() const { return info.state() == wire::v1::DEAD; }
  bool in_group() const { return !group.IsNil(); }
  bool placed() const { return !node.IsNil(); }
  bool being_created() const {
    return placed() &&
           (info.state() == wire::v1::PENDING_CREATION || info.state() == wire::v1::RESTARTING);
  }

  base::ActorId id;
  wire::v1::ActorSpec spec;  // empty once DEAD
  wire::v1::ActorInfo info;
  base::NodeId node;               // where it runs or is being created; nil while it waits for room
  std::optional<uint32_t> bundle;  // of its placement group, while it is placed in one
  std::string job_namespace;
  uint64_t death_number = 0;

  // Read from the spec once.
  base::WorkerId owner;
  base::NodeId owner_node;
  resources::ResourceSet creation;
  resources::ResourceSet lifetime;
  base::PlacementGroupId group;  // nil: it is in none

  // Not stored.
  resources::ResourceSet held;  // what it holds of its node's room
  bool waiting = false;         // in the queue for room
  bool unconfirmed = false;     // ALIVE, but its node came back without it
};

class ActorTable {
 public:
  static constexpr absl::Duration kSaveRetry = absl::Seconds(1);

  ActorTable(int64_t dead_actors_max, Storage* storage, Deadlines* deadlines)
      : dead_actors_max_(dead_actors_max), storage_(storage), deadlines_(deadlines) {}

  absl::Status Load();

  // Requires an id that is not in the table and, if it has a name, one that is free.
  absl::StatusOr<Actor*> Add(std::unique_ptr<Actor> actor);
  // Writes what changed. An actor that has become DEAD gives its name up and is forgotten in time.
  void Save(Actor* actor);
  // Goes into the storage together with the next change, whichever it is.
  void WriteWithNext(WriteBatch batch) { with_next_ = std::move(batch); }

  Actor* Find(const base::ActorId& id) const;
  // Not DEAD ones only.
  Actor* FindNamed(const std::string& actor_namespace, const std::string& name) const;

  // Ids, because what the caller does with one may forget another.
  std::vector<base::ActorId> OwnedBy(const base::WorkerId& owner) const;
  std::vector<base::ActorId> InGroup(const base::PlacementGroupId& group) const;
  std::vector<base::ActorId> Where(absl::FunctionRef<bool(const Actor&)> predicate) const;
  void ForEach(absl::FunctionRef<void(const Actor&)> visit) const;
  // (namespace, name) in order.
  const std::map<std::pair<std::string, std::string>, base::ActorId>& names() const {
    return names_;
  }

 private:
  absl::Status LoadSpecs();
  absl::Status Write(const Actor& actor);
  void RetryUnsaved();
  void IndexLiving(Actor* actor);
  void Bury(Actor* actor);
  void ForgetOldestDead();

  const int64_t dead_actors_max_;
  Storage* const storage_;
  Deadlines* const deadlines_;

  std::map<base::ActorId, std::unique_ptr<Actor>> actors_;
  std::map<std::pair<std::string, std::string>, base::ActorId> names_;
  // Not DEAD ones.
  std::map<base::WorkerId, std::set<base::ActorId>> by_owner_;
  std::map<base::PlacementGroupId, std::set<base::ActorId>> by_group_;
  std::map<uint64_t, base::ActorId> dead_;  // by death number
  std::set<base::ActorId> unsaved_;
  WriteBatch with_next_;
};

}  // namespace ray::gcs
