#include "ray/bindings/cluster_state.h"

#include "ray/base/ids.h"
#include "ray/bindings/scheduling.h"

namespace ray::bindings {
namespace {

py::dict DemandDict(const wire::v1::Demand& demand) {
  py::dict row;
  row["resources"] = ResourceDict(demand.resources());
  row["count"] = demand.count();
  row["infeasible"] = demand.infeasible();
  row["reason"] = demand.reason();
  return row;
}

py::dict NodeDict(const wire::v1::NodeState& node) {
  py::dict row;
  row["node_id"] = base::BytesToHex(node.node_id());
  row["alive"] = node.alive();
  row["draining"] = node.draining();
  row["death_reason"] = node.death_reason();
  row["ip"] = node.ip();
  row["hostname"] = node.hostname();
  row["endpoint"] = node.raylet_endpoint();
  row["tcp_endpoint"] = node.tcp_endpoint();
  row["session_dir"] = node.session_dir();
  row["total"] = ResourceDict(node.total());
  row["available"] = ResourceDict(node.available());
  py::dict labels;
  for (const auto& [name, value] : node.labels()) labels[py::str(name)] = value;
  row["labels"] = labels;
  row["is_head"] = node.is_head();
  row["pid"] = node.raylet_pid();
  row["store_used_bytes"] = node.store_used_bytes();
  row["spilled_bytes"] = node.spilled_bytes();
  py::list demands;
  for (const auto& demand : node.demands()) demands.append(DemandDict(demand));
  row["demands"] = demands;
  return row;
}

py::dict PendingActorDict(const wire::v1::ActorInfo& actor) {
  py::dict row;
  row["actor_id"] = base::BytesToHex(actor.actor_id());
  row["class_name"] = actor.class_name();
  row["name"] = actor.name();
  row["state"] = wire::v1::ActorState_Name(actor.state());
  row["pending_reason"] = actor.pending_reason();
  return row;
}

}  // namespace

py::dict ClusterStateDict(const wire::v1::ClusterStateReply& state) {
  py::list nodes;
  for (const auto& node : state.nodes()) nodes.append(NodeDict(node));
  py::list actors;
  for (const auto& actor : state.pending_actors()) actors.append(PendingActorDict(actor));
  py::list groups;
  for (const auto& group : state.pending_groups()) groups.append(PlacementGroupDict(group));
  py::dict out;
  out["nodes"] = nodes;
  out["pending_actors"] = actors;
  out["pending_groups"] = groups;
  return out;
}

}  // namespace ray::bindings
