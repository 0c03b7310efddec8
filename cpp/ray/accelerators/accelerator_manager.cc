#include "ray/accelerators/accelerator_manager.h"

namespace ray::accelerators {

Discovery AcceleratorManager::Discover() {
  Discovery discovery = FindAll();
  for (Device& device : discovery.devices) device.visible_id = std::to_string(device.index);
  if (const auto ids = VisibleIds()) KeepVisible(family_.visible_variable, *ids, &discovery);
  return discovery;
}

std::optional<std::vector<std::string>> AcceleratorManager::VisibleIds() const {
  const std::optional<std::string> value = host_.Variable(family_.visible_variable);
  if (!value) return std::nullopt;
  // Containers without devices say NoDevFiles.
  if (*value == "NoDevFiles") return std::vector<std::string>();
  return SplitList(*value);
}

Environment AcceleratorManager::Limit(const std::vector<std::string>& ids, size_t) const {
  return {{std::string(family_.visible_variable), JoinList(ids)}};
}

std::optional<Device> AcceleratorManager::Resolve(const std::vector<Device>& devices,
                                                  std::string_view id) const {
  const std::optional<uint32_t> index = ParseIndex(id);
  std::optional<Device> found;
  for (const Device& device : devices) {
    const bool named = index ? device.index == *index : device.uuid.starts_with(id);
    if (!named) continue;
    if (found) return std::nullopt;
    found = device;
  }
  return found;
}

void AcceleratorManager::KeepVisible(std::string_view variable, const std::vector<std::string>& ids,
                                     Discovery* discovery) const {
  std::vector<Device> kept;
  for (const std::string& id : ids) {
    std::optional<Device> device;
    if (!id.empty()) device = Resolve(discovery->devices, id);
    if (!device) {
      // Without devices this is no news: a machine whose driver is absent has warned, or wants
      // none.
      if (id != "-1" && !discovery->devices.empty()) {
        discovery->warnings.push_back(std::string(variable) + " names '" + id +
                                      "', which is no device of this machine; it and what follows "
                                      "it is left out. Correct the variable.");
      }
      break;
    }
    device->visible_id = id;
    kept.push_back(*std::move(device));
  }
  discovery->devices = std::move(kept);
}

}  // namespace ray::accelerators
