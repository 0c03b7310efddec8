// A cluster in one thread: the lease routers and queues of many nodes, the processes that ask them
// for leases, and a control plane that tells the nodes of each other, late. Time is virtual, and
// all that is random (delays, faults, what is asked for) comes from one seed: the same options make
// the same run, event for event.
//
// A connection between two nodes delivers in order; different ones do not wait for each other.
// Frames may come twice, the second time late. Connections break, nodes crash, owners die, nodes
// drain.
//
// Checked at every step: the invariants of routers and queues; that no node runs more than it has;
// that each request is answered once, and no lease has two holders. At the end: everything was
// answered or its owner is gone, and nothing is held, waits, or is remembered anywhere.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/scheduling/lease_queue.h"
#include "ray/scheduling/lease_router.h"

namespace ray::sim {

class LeaseCluster {
 public:
  struct Options {
    uint64_t seed = 0;
    size_t nodes = 5;
    size_t tasks = 200;
    size_t owner_nodes = 3;  // nodes with processes that ask for leases: the first ones
    size_t owners_per_node = 2;
    size_t requests_at_once = 16;  // of one owner
    absl::Duration task_min = absl::Milliseconds(1);
    absl::Duration task_max = absl::Milliseconds(200);
    absl::Duration report_interval = absl::Milliseconds(100);
    bool faults = true;
    size_t check_every = 1;  // events; all invariants of the node that had it
  };
  struct Outcome {
    size_t events = 0;
    size_t granted = 0;
    size_t granted_elsewhere = 0;
    size_t refused = 0;
    size_t cancelled = 0;
    size_t orphaned = 0;  // their owner or its node is gone
    size_t lost = 0;      // leases whose node died or was cut off; their tasks are asked for again
    absl::Duration took;
    uint64_t trace = 0;  // of all that happened, in its order
  };

  explicit LeaseCluster(Options options);
  ~LeaseCluster();

  Outcome Run();

 private:
  class Node;
  struct Owner;
  struct Link;
  struct Task;
  struct Event {
    absl::Time at;
    uint64_t number;
    std::function<void()> run;
    bool operator>(const Event& other) const {
      return at != other.at ? at > other.at : number > other.number;
    }
  };

  // Chance.
  uint64_t Any(uint64_t below) { return random_() % below; }
  bool Chance(double p) { return static_cast<double>(random_() % 1'000'000) < p * 1e6; }
  absl::Duration Delay();

  void After(absl::Duration delay, std::function<void()> run);
  void Trace(uint64_t what, uint64_t a, uint64_t b = 0);
  void Touch(size_t node);

  // The network.
  Link* LinkFrom(size_t from, size_t to);
  void Deliver(Link* link, bool forth, std::function<void(Node*)> run);
  void Break(size_t from, size_t to);
  void AskerNotices(Link* link);
  void ServerNotices(Link* link);

  // The control plane.
  void Report();
  void Tell(size_t receiver, std::function<void(Node*)> run);
  void Crash(size_t node);
  void Drain(size_t node);
  wire::v1::NodeState StateOf(const Node& node) const;
  bool HasOwners(size_t node) const { return node < options_.owner_nodes; }

  // Owners.
  void Submit(size_t owner);
  void Ask(size_t owner, const Task& task);
  Task RandomTask();
  void Answered(size_t node, scheduling::ClientId client, uint64_t request_id,
                const wire::v1::RequestLeaseReply& reply);
  void OnReply(size_t owner, const Task& task, const wire::v1::RequestLeaseReply& reply);
  void EndTask(size_t owner, const base::LeaseId& lease, bool broken);
  void LeaseEnded(const base::LeaseId& lease, bool returned);
  void OwnerDies(size_t owner);

  void PlanFaults();
  bool IsQuiet() const;
  void CheckTheEnd() const;

  const Options options_;
  std::mt19937_64 random_;
  base::VirtualClock clock_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t last_event_ = 0;
  uint64_t last_id_ = 0;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<base::NodeId> ids_;
  std::map<base::NodeId, size_t> node_of_;
  std::set<size_t> dead_;
  std::vector<std::unique_ptr<Owner>> owners_;
  std::map<std::pair<size_t, size_t>, std::unique_ptr<Link>> links_;
  std::vector<std::unique_ptr<Link>> broken_;  // frames of theirs may be under way
  std::map<scheduling::ClientId, size_t> owner_of_;
  std::set<base::LeaseId> live_leases_;
  std::map<base::LeaseId, size_t> holders_;  // lease -> owner
  std::map<size_t, absl::Time> told_;        // when the last word of the control plane arrives
  size_t tasks_left_ = 0;
  size_t in_flight_ = 0;  // answers on their way to owners
  bool over_ = false;
  Outcome outcome_;
};

}  // namespace ray::sim
