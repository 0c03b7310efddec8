#include "ray/accelerators/amd_manager.h"

#include <fstream>
#include <map>
#include <string>
#include <utility>

#include "ray/accelerators/device_types.h"

namespace ray::accelerators {
namespace {

constexpr Family kAmd = {.name = "amd",
                         .resource = "GPU",
                         .visible_variable = "HIP_VISIBLE_DEVICES",
                         .keep_variable = "RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES"};
constexpr char kRuntimeVariable[] = "ROCR_VISIBLE_DEVICES";
constexpr char kNodes[] = "sys/class/kfd/kfd/topology/nodes";

// Lines of a name and a number. CPUs are nodes too; they have no SIMD units.
std::map<std::string, uint64_t> ReadProperties(const std::filesystem::path& path) {
  std::map<std::string, uint64_t> properties;
  std::ifstream file(path);
  std::string name;
  uint64_t value = 0;
  while (file >> name >> value) properties[name] = value;
  return properties;
}

// As the ROCm runtime writes it. Older devices have none.
std::string UuidText(uint64_t unique_id) {
  if (unique_id == 0) return "";
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "GPU-";
  for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(unique_id >> shift) & 0xf];
  return text;
}

}  // namespace

AmdManager::AmdManager(const Host& host) : AcceleratorManager(kAmd, host) {}

Discovery AmdManager::FindAll() {
  Discovery discovery;
  for (const uint32_t node : host().NumberedEntries(kNodes, "")) {
    auto properties = ReadProperties(host().root / kNodes / std::to_string(node) / "properties");
    if (properties["simd_count"] == 0) continue;
    const std::filesystem::path folder =
        "sys/class/drm/renderD" + std::to_string(properties["drm_render_minor"]) + "/device";
    Device device = {.index = static_cast<uint32_t>(discovery.devices.size()),
                     .uuid = UuidText(properties["unique_id"]),
                     .name = host().ReadLine(folder / "product_name"),
                     .type = std::string(AmdType(properties["device_id"])),
                     .folder = folder};
    discovery.devices.push_back(std::move(device));
  }
  if (const auto visible = host().Variable(kRuntimeVariable)) {
    KeepVisible(kRuntimeVariable, SplitList(*visible), &discovery);
    uint32_t index = 0;
    for (Device& device : discovery.devices) device.index = index++;
  }
  return discovery;
}

Reading AmdManager::Read(const Device& device) {
  Reading reading;
  const auto total = host().ReadNumber(device.folder / "mem_info_vram_total");
  const auto used = host().ReadNumber(device.folder / "mem_info_vram_used");
  if (total && used && *used <= *total) {
    reading.memory = {.total_bytes = *total, .used_bytes = *used, .free_bytes = *total - *used};
  }
  if (const auto percent = host().ReadNumber(device.folder / "gpu_busy_percent")) {
    reading.utilization_percent = static_cast<uint32_t>(*percent);
  }
  return reading;
}

}  // namespace ray::accelerators
