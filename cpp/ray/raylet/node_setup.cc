#include "ray/raylet/node_setup.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"

namespace ray::raylet {
namespace {

using base::FixedPoint;
using Json = nlohmann::json;

// Quantities are 64-bit counts of 1/10,000.
constexpr double kQuantityMax = 9e14;

absl::StatusOr<Json> ParseObject(const std::string& flag, const std::string& text) {
  Json object = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (object.is_object()) return object;
  return absl::InvalidArgumentError(absl::StrCat("--", flag, " is no JSON object: ", text));
}

absl::Status CheckQuantity(const std::string& what, double quantity) {
  if (std::isfinite(quantity) && quantity >= 0 && quantity <= kQuantityMax) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(what, " is no possible quantity: ", quantity));
}

// What the node has found of devices, or what the flags say of them.
absl::Status AddAccelerators(const NodeFlags& flags,
                             const accelerators::NodeAccelerators& accelerators, NodeSetup* setup) {
  std::map<std::string, double> configured;
  if (flags.num_gpus.has_value()) configured[std::string(resources::kGpu)] = *flags.num_gpus;
  for (const std::string& name : accelerators.resources()) {
    const FixedPoint given = setup->resources.Get(name);
    if (!given.IsZero()) configured[name] = given.ToDouble();
  }
  for (const auto& [name, quantity] : configured) {
    MANTA_RETURN_IF_ERROR(CheckQuantity(name == resources::kGpu ? "--num_gpus" : name, quantity));
    const std::string problem = accelerators.CheckQuantity(name, quantity);
    if (!problem.empty()) return absl::InvalidArgumentError(problem);
  }
  const accelerators::Announcement announcement = accelerators.Announce(configured);
  for (const auto& [name, quantity] : announcement.resources) {
    setup->resources.Set(name, FixedPoint::FromDouble(quantity));
  }
  setup->labels.insert(announcement.labels.begin(), announcement.labels.end());
  return absl::OkStatus();
}

absl::Status AddCustom(const std::string& text, resources::ResourceSet* set) {
  MANTA_ASSIGN_OR_RETURN(const Json object, ParseObject("resources", text));
  for (const auto& [name, value] : object.items()) {
    if (name.empty() || !value.is_number()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--resources: '", name, "' is not a name with a number"));
    }
    if (name == resources::kCpu || name == resources::kGpu || name == resources::kMemory ||
        name == resources::kObjectStoreMemory) {
      return absl::InvalidArgumentError(
          absl::StrCat("--resources: ", name, " is set by a flag of its own"));
    }
    MANTA_RETURN_IF_ERROR(CheckQuantity(absl::StrCat("--resources: ", name), value.get<double>()));
    set->Set(name, FixedPoint::FromDouble(value.get<double>()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::string>> ParseLabels(const std::string& text) {
  MANTA_ASSIGN_OR_RETURN(const Json object, ParseObject("labels", text));
  std::map<std::string, std::string> labels;
  for (const auto& [name, value] : object.items()) {
    if (!value.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat("--labels: '", name, "' has no text"));
    }
    labels[name] = value.get<std::string>();
  }
  return labels;
}

int64_t DefaultStoreBytes(const base::Config& config, const Machine& machine) {
  const double share =
      static_cast<double>(machine.memory_bytes) * config.object_store_memory_fraction;
  return std::min(static_cast<int64_t>(share), config.object_store_memory_max_bytes);
}

}  // namespace

absl::StatusOr<NodeSetup> SetUpNode(const NodeFlags& flags, const base::Config& config,
                                    const Machine& machine,
                                    const accelerators::NodeAccelerators& accelerators) {
  const double cpus = flags.num_cpus.value_or(machine.cpus);
  const int64_t store = flags.object_store_memory.value_or(DefaultStoreBytes(config, machine));
  const int64_t rest = static_cast<int64_t>(machine.memory_bytes) - store;
  const int64_t memory = flags.memory.value_or(std::max<int64_t>(rest, 0));
  MANTA_RETURN_IF_ERROR(CheckQuantity("--num_cpus", cpus));
  MANTA_RETURN_IF_ERROR(CheckQuantity("--memory", static_cast<double>(memory)));
  MANTA_RETURN_IF_ERROR(CheckQuantity("--object_store_memory", static_cast<double>(store)));
  if (store == 0) return absl::InvalidArgumentError("--object_store_memory must not be 0");

  NodeSetup setup;
  setup.object_store_bytes = static_cast<uint64_t>(store);
  MANTA_ASSIGN_OR_RETURN(setup.labels, ParseLabels(flags.labels));
  MANTA_RETURN_IF_ERROR(AddCustom(flags.resources, &setup.resources));
  setup.resources.Set(resources::kCpu, FixedPoint::FromDouble(cpus));
  MANTA_RETURN_IF_ERROR(AddAccelerators(flags, accelerators, &setup));
  setup.resources.Set(resources::kMemory, FixedPoint::FromInt(memory));
  setup.resources.Set(resources::kObjectStoreMemory, FixedPoint::FromInt(store));
  setup.resources.Set(absl::StrCat("node:", flags.node_ip), FixedPoint::FromInt(1));
  if (flags.is_head) setup.resources.Set("node:__internal_head__", FixedPoint::FromInt(1));
  return setup;
}

}  // namespace ray::raylet
