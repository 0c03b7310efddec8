#include "ray/accelerators/node_accelerators.h"

#include <iterator>
#include <utility>

#include "ray/accelerators/amd_manager.h"
#include "ray/accelerators/file_managers.h"
#include "ray/accelerators/nvidia_manager.h"
#include "ray/accelerators/tpu_manager.h"

namespace ray::accelerators {
namespace {

constexpr char kOverrideOnZero[] = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO";

// Of those that share a resource, the first ones go first.
std::vector<std::unique_ptr<AcceleratorManager>> AllManagers(const Host& host) {
  std::vector<std::unique_ptr<AcceleratorManager>> managers;
  managers.push_back(std::make_unique<NvidiaManager>(host));
  managers.push_back(std::make_unique<AmdManager>(host));
  managers.push_back(MakeIntelGpuManager(host));
  managers.push_back(std::make_unique<TpuManager>(host));
  managers.push_back(MakeGaudiManager(host));
  managers.push_back(MakeNeuronManager(host));
  managers.push_back(MakeAscendManager(host));
  managers.push_back(MakeRebellionsManager(host));
  managers.push_back(MakeTenstorrentManager(host));
  managers.push_back(MakeFuriosaManager(host));
  managers.push_back(MakeMobilintManager(host));
  return managers;
}

// ['0', 'GPU-8f']
std::string Quoted(const std::vector<std::string>& ids) {
  std::string text;
  for (const std::string& id : ids) text += (text.empty() ? "'" : ", '") + id + "'";
  return "[" + text + "]";
}

}  // namespace

NodeAccelerators NodeAccelerators::Detect(const Host& host) {
  NodeAccelerators node(host);
  for (auto& manager : AllManagers(host)) {
    Discovery found = manager->Discover();
    std::move(found.warnings.begin(), found.warnings.end(), std::back_inserter(node.warnings_));
    Share& share = node.shares_[std::string(manager->family().resource)];
    if (share.manager == nullptr || (share.devices.empty() && !found.devices.empty())) {
      share = {.manager = std::move(manager), .devices = std::move(found.devices)};
    } else if (!found.devices.empty()) {
      node.warnings_.push_back(
          std::to_string(found.devices.size()) + " devices of " +
          std::string(manager->family().name) + " are not offered: on this node '" +
          std::string(manager->family().resource) + "' means those of " +
          std::string(share.manager->family().name) + ". Hide these, with " +
          std::string(share.manager->family().visible_variable) + "=, to offer the others.");
    }
  }
  return node;
}

const NodeAccelerators::Share* NodeAccelerators::Find(std::string_view resource) const {
  const auto share = shares_.find(resource);
  return share == shares_.end() ? nullptr : &share->second;
}

std::vector<std::string> NodeAccelerators::resources() const {
  std::vector<std::string> names;
  for (const auto& [resource, share] : shares_) names.push_back(resource);
  return names;
}

const std::vector<Device>& NodeAccelerators::devices(std::string_view resource) const {
  static const std::vector<Device> kNone;
  const Share* const share = Find(resource);
  return share == nullptr ? kNone : share->devices;
}

std::string_view NodeAccelerators::family(std::string_view resource) const {
  const Share* const share = Find(resource);
  return share == nullptr ? std::string_view() : share->manager->family().name;
}

std::string NodeAccelerators::CheckQuantity(std::string_view resource, double quantity) const {
  const Share* const share = Find(resource);
  if (share == nullptr) return "";
  const auto visible = share->manager->VisibleIds();
  if (!visible || quantity <= static_cast<double>(visible->size())) return "";
  std::string number = std::to_string(quantity);
  number.erase(number.find_last_not_of('0') + 1);
  if (number.ends_with('.')) number.pop_back();
  return "Attempting to start raylet with " + number + " " + std::string(resource) + ", but " +
         std::string(share->manager->family().visible_variable) + " contains " + Quoted(*visible) +
         ".";
}

Announcement NodeAccelerators::Announce(const std::map<std::string, double>& configured) const {
  Announcement announcement;
  for (const auto& [resource, share] : shares_) {
    const auto given = configured.find(resource);
    const double quantity =
        given == configured.end() ? static_cast<double>(share.devices.size()) : given->second;
    if (quantity <= 0) continue;
    announcement.resources[resource] = quantity;
    if (share.devices.empty()) continue;
    const std::string& type = share.devices.front().type;
    if (!type.empty()) {
      announcement.resources[kAcceleratorTypePrefix + type] = 1;
      announcement.labels.emplace(kAcceleratorTypeLabel, type);
    }
    announcement.resources.merge(share.manager->Extras().resources);
    announcement.labels.merge(share.manager->Extras().labels);
  }
  return announcement;
}

std::vector<std::string> NodeAccelerators::IdsOf(const Share& share,
                                                 const std::vector<uint32_t>& indices) {
  const auto visible = share.manager->VisibleIds();
  std::vector<std::string> ids;
  for (const uint32_t index : indices) {
    if (index < share.devices.size()) {
      ids.push_back(share.devices[index].visible_id);
    } else if (visible && index < visible->size()) {
      ids.push_back((*visible)[index]);
    } else {
      // A node may be told to offer devices that were not found.
      ids.push_back(std::to_string(index));
    }
  }
  return ids;
}

std::vector<std::string> NodeAccelerators::DeviceIds(std::string_view resource,
                                                     const std::vector<uint32_t>& indices) const {
  const Share* const share = Find(resource);
  return share == nullptr ? std::vector<std::string>() : IdsOf(*share, indices);
}

Environment NodeAccelerators::VisibleDevicesEnvironment(const DeviceAllocation& allocation) const {
  Environment environment;
  const bool hides_others = host_.IsOn(kOverrideOnZero);
  for (const auto& [resource, share] : shares_) {
    const Family& family = share.manager->family();
    if (host_.IsOn(family.keep_variable)) continue;
    const auto allocated = allocation.find(resource);
    if (allocated != allocation.end() && !allocated->second.empty()) {
      const Environment limit =
          share.manager->Limit(IdsOf(share, allocated->second), share.devices.size());
      environment.insert(environment.end(), limit.begin(), limit.end());
    } else if (hides_others) {
      environment.emplace_back(family.visible_variable, "");
    }
  }
  return environment;
}

std::vector<Reading> NodeAccelerators::Read(std::string_view resource) const {
  std::vector<Reading> readings;
  const Share* const share = Find(resource);
  if (share == nullptr) return readings;
  for (const Device& device : share->devices) readings.push_back(share->manager->Read(device));
  return readings;
}

}  // namespace ray::accelerators
