#include "ray/accelerators/tpu_manager.h"

#include <algorithm>
#include <cctype>
#include <system_error>

#include "ray/accelerators/device_types.h"

namespace ray::accelerators {
namespace {

constexpr uint64_t kGoogleVendor = 0x1ae0;
constexpr char kPciDevices[] = "sys/bus/pci/devices";

constexpr Family kTpu = {.name = "tpu",
                         .resource = "TPU",
                         .visible_variable = "TPU_VISIBLE_CHIPS",
                         .keep_variable = "RAY_EXPERIMENTAL_NOSET_TPU_VISIBLE_CHIPS"};

}  // namespace

TpuManager::TpuManager(const Host& host) : AcceleratorManager(kTpu, host) {}

Discovery TpuManager::FindAll() {
  // Up to version 4 the chips are /dev/accel0 and on. Later ones are given out by VFIO, which other
  // devices use too.
  std::vector<uint32_t> chips = host().NumberedEntries("dev", "accel");
  const bool may_be_others = chips.empty();
  if (may_be_others) chips = host().NumberedEntries("dev/vfio", "");
  if (chips.empty()) return {};
  const std::string type = Type();
  if (may_be_others && type.empty()) return {};
  Discovery discovery;
  for (size_t index = 0; index < chips.size(); ++index) {
    discovery.devices.push_back({.index = static_cast<uint32_t>(index), .type = type});
  }
  return discovery;
}

Environment TpuManager::Limit(const std::vector<std::string>& ids, size_t device_count) const {
  // Limited to part of its chips, a host does not work with the others of its slice: all of them
  // must look as no limit.
  if (ids.size() == device_count) return {};
  Environment environment = AcceleratorManager::Limit(ids, device_count);
  if (ids.size() == 1 || ids.size() == 2) {
    environment.emplace_back("TPU_CHIPS_PER_HOST_BOUNDS", ids.size() == 1 ? "1,1,1" : "1,2,1");
    environment.emplace_back("TPU_HOST_BOUNDS", "1,1,1");
  }
  return environment;
}

Announcement TpuManager::Extras() const {
  Announcement extras;
  const std::string slice = host().Variable("TPU_NAME").value_or("");
  const std::string worker = host().Variable("TPU_WORKER_ID").value_or("");
  const std::string pod_type = PodType();
  if (!slice.empty()) {
    extras.resources[slice] = 1;
    if (worker == "0" && !pod_type.empty()) extras.resources["TPU-" + pod_type + "-head"] = 1;
  }
  const auto label = [&](const char* name, const std::string& value) {
    if (!value.empty()) extras.labels[name] = value;
  };
  label("ray.io/tpu-slice-name", slice);
  label("ray.io/tpu-worker-id", worker);
  label("ray.io/tpu-topology", host().Variable("TPU_TOPOLOGY").value_or(""));
  label("ray.io/tpu-pod-type", pod_type);
  return extras;
}

std::string TpuManager::PodType() const {
  const std::string type = host().Variable("TPU_ACCELERATOR_TYPE").value_or("");
  return type.starts_with("tpu7x-") ? "v7x-" + type.substr(6) : type;
}

std::string TpuManager::Type() const {
  const std::string pod_type = PodType();
  std::string version = pod_type.substr(0, pod_type.find('-'));
  if (version.empty()) version = VersionOnBus();
  if (version.empty()) return "";
  std::transform(version.begin(), version.end(), version.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return "TPU-" + version;
}

std::string TpuManager::VersionOnBus() const {
  std::error_code error;
  std::filesystem::directory_iterator entry(host().root / kPciDevices, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const auto folder = kPciDevices / entry->path().filename();
    if (host().ReadNumber(folder / "vendor") != kGoogleVendor) continue;
    const auto version = TpuVersion(host().ReadNumber(folder / "device").value_or(0));
    if (!version.empty()) return std::string(version);
  }
  return "";
}

}  // namespace ray::accelerators
