// What a LeaseQueue keeps: for lease_queue*.cc only.
#pragma once

#include <list>
#include <optional>
#include <string>
#include <utility>

#include "ray/scheduling/lease_queue.h"

namespace ray::scheduling {

// Where resources come from: the node itself, or a bundle that was set aside on it.
struct LeaseQueue::Pool {
  explicit Pool(resources::NodeResources resources) : resources(std::move(resources)) {}

  resources::NodeResources resources;
  absl::flat_hash_set<Lease*> leases;  // those that hold something of it, actors too
};

struct LeaseQueue::Bundle : Pool {
  explicit Bundle(resources::ResourceAllocation taken)
      : Pool(resources::NodeResources(taken)), reserved(std::move(taken)) {}

  resources::ResourceAllocation reserved;  // of the node's
  bool committed = false;
};

// A request that waits for resources.
struct LeaseQueue::Queued {
  uint64_t request_id;
  std::string task_name;
  bool retriable;
  absl::Time since;
};

// Requests of one client, job, environment and shape. Lives while it has requests or leases.
struct LeaseQueue::Class {
  ClassKey key;
  Shape* shape = nullptr;
  std::list<Queued> queue;
  std::list<Class*>::iterator in_ring;  // valid while the queue is not empty
  size_t leases = 0;
  bool warned_busy = false;                   // until nothing waits any more
  std::optional<uint64_t> warned_infeasible;  // the request that was warned of
};

// Classes that ask for the same resources in the same place. Lives while it has classes.
struct LeaseQueue::Shape {
  ShapeKey key;
  size_t classes = 0;
  std::list<Class*> ring;                  // classes with requests, next first
  std::list<Shape*>::iterator in_waiting;  // valid while the ring is not empty
  absl::Time waits_since;                  // the last grant, or when the ring filled
};

struct LeaseQueue::Lease {
  base::LeaseId id;
  LeaseState state = LeaseState::kAwaitingWorker;
  Pool* pool = nullptr;
  resources::ResourceAllocation allocation;
  base::WorkerId worker;      // nil while kAwaitingWorker
  base::FixedPoint lent_cpu;  // while kBlocked
  // Of the request; an actor has none.
  Class* in_class = nullptr;
  uint64_t request_id = 0;
  absl::Time since;
  bool warned = false;
  // For whom it is.
  base::JobId job;
  std::string name;  // of the task or the actor's class
  bool retriable = false;
  absl::Time granted;  // when its worker was attached

  bool IsActor() const { return in_class == nullptr; }
};

}  // namespace ray::scheduling
