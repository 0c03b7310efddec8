#include "ray/bindings/scheduling.h"

#include <pybind11/stl.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/base/fixed_point.h"
#include "ray/base/ids.h"

namespace ray::bindings {
namespace {

using wire::v1::SchedulingStrategy;
using LabelCondition = SchedulingStrategy::LabelCondition;
using LabelConditions = google::protobuf::RepeatedPtrField<LabelCondition>;

LabelCondition::Kind KindOf(const std::string& name) {
  static const auto* const kKinds = new std::map<std::string, LabelCondition::Kind>{
      {"in", LabelCondition::IN},
      {"not_in", LabelCondition::NOT_IN},
      {"exists", LabelCondition::EXISTS},
      {"does_not_exist", LabelCondition::DOES_NOT_EXIST}};
  auto kind = kKinds->find(name);
  if (kind == kKinds->end()) {
    throw py::value_error(absl::StrCat("no kind of label condition is called '", name, "'"));
  }
  return kind->second;
}

// A list of (key, kind, values).
LabelConditions ToConditions(const py::handle& conditions) {
  LabelConditions out;
  for (py::handle condition : conditions) {
    auto [key, kind, values] =
        condition.cast<std::tuple<std::string, std::string, std::vector<std::string>>>();
    LabelCondition* message = out.Add();
    message->set_key(key);
    message->set_kind(KindOf(kind));
    for (const std::string& value : values) message->add_values(value);
  }
  return out;
}

std::string StateName(wire::v1::PlacementGroupState state) {
  switch (state) {
    case wire::v1::GROUP_CREATED:
      return "CREATED";
    case wire::v1::GROUP_RESCHEDULING:
      return "RESCHEDULING";
    case wire::v1::GROUP_STATE_REMOVED:
      return "REMOVED";
    default:
      return "PENDING";
  }
}

}  // namespace

void PutResources(const std::map<std::string, double>& resources, wire::v1::ResourceSet* out) {
  for (const auto& [name, quantity] : resources) {
    (*out->mutable_quantities())[name] = base::FixedPoint::FromDouble(quantity).raw();
  }
}

py::dict ResourceDict(const wire::v1::ResourceSet& resources) {
  py::dict out;
  for (const auto& [name, raw] : resources.quantities()) {
    out[py::str(name)] = base::FixedPoint::FromRaw(raw).ToDouble();
  }
  return out;
}

SchedulingStrategy ToStrategy(const py::dict& strategy) {
  SchedulingStrategy out;
  for (auto [name, value] : strategy) {
    const auto part = name.cast<std::string>();
    if (part == "spread") {
      out.set_spread(value.cast<bool>());
    } else if (part == "node") {
      auto [id, soft, spill, fail] = value.cast<std::tuple<py::bytes, bool, bool, bool>>();
      out.mutable_node_affinity()->set_node_id(std::string(id));
      out.mutable_node_affinity()->set_soft(soft);
      out.mutable_node_affinity()->set_spill_on_unavailable(spill);
      out.mutable_node_affinity()->set_fail_on_unavailable(fail);
    } else if (part == "bundle") {
      auto [id, index, capture] = value.cast<std::tuple<py::bytes, int, bool>>();
      out.mutable_bundle()->set_placement_group_id(std::string(id));
      out.mutable_bundle()->set_bundle_index(index);
      out.mutable_bundle()->set_capture_child_tasks(capture);
    } else if (part == "required_labels") {
      *out.mutable_required_labels() = ToConditions(value);
    } else if (part == "preferred_labels") {
      *out.mutable_preferred_labels() = ToConditions(value);
    } else if (part == "fallback_labels") {
      for (py::handle conditions : value) {
        *out.add_fallback_labels()->mutable_conditions() = ToConditions(conditions);
      }
    } else {
      throw py::value_error(absl::StrCat("no part of a strategy is called '", part, "'"));
    }
  }
  return out;
}

py::object PlacementGroupOf(const SchedulingStrategy& strategy) {
  if (!strategy.has_bundle()) return py::none();
  return py::make_tuple(py::bytes(strategy.bundle().placement_group_id()),
                        strategy.bundle().capture_child_tasks());
}

wire::v1::PlacementGroupSpec ToPlacementGroup(const py::kwargs& options) {
  wire::v1::PlacementGroupSpec spec;
  spec.set_name(options["name"].cast<std::string>());
  spec.set_group_namespace(options["namespace"].cast<std::string>());
  spec.set_detached(options["detached"].cast<bool>());
  spec.set_soft_target_node(options["soft_target_node"].cast<std::string>());
  wire::v1::PlacementStrategy strategy = wire::v1::PLACEMENT_STRATEGY_UNSPECIFIED;
  wire::v1::PlacementStrategy_Parse(options["strategy"].cast<std::string>(), &strategy);
  spec.set_strategy(strategy);
  for (py::handle bundle : options["bundles"]) {
    PutResources(bundle.cast<std::map<std::string, double>>(),
                 spec.add_bundles()->mutable_resources());
  }
  const py::list labels = options["labels"];
  for (size_t i = 0; i < labels.size(); ++i) {
    *spec.mutable_bundles(static_cast<int>(i))->mutable_labels() = ToConditions(labels[i]);
  }
  return spec;
}

py::dict PlacementGroupDict(const wire::v1::PlacementGroupInfo& info) {
  py::dict row;
  py::list bundles;
  py::list nodes;
  for (const wire::v1::Bundle& bundle : info.spec().bundles()) {
    bundles.append(ResourceDict(bundle.resources()));
    nodes.append(base::BytesToHex(bundle.node_id()));
  }
  row["placement_group_id"] = py::bytes(info.spec().placement_group_id());
  row["name"] = info.spec().name();
  row["namespace"] = info.spec().group_namespace();
  row["strategy"] = wire::v1::PlacementStrategy_Name(info.spec().strategy());
  row["state"] = StateName(info.state());
  row["bundles"] = bundles;
  row["nodes"] = nodes;
  row["detached"] = info.spec().detached();
  row["pending_reason"] = info.pending_reason();
  row["create_time_ms"] = info.create_time_ms();
  return row;
}

}  // namespace ray::bindings
