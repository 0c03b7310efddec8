#include "ray/accelerators/file_managers.h"

#include <algorithm>
#include <string>
#include <utility>

#include "ray/accelerators/device_types.h"

namespace ray::accelerators {
namespace {

constexpr uint64_t kIntelVendor = 0x8086;
constexpr uint64_t kHabanaVendor = 0x1da3;

class IntelGpuManager : public AcceleratorManager {
 public:
  explicit IntelGpuManager(const Host& host)
      : AcceleratorManager({.name = "intel",
                            .resource = "GPU",
                            .visible_variable = "ZE_AFFINITY_MASK",
                            .keep_variable = "RAY_EXPERIMENTAL_NOSET_ZE_AFFINITY_MASK"},
                           host) {}

 protected:
  Discovery FindAll() override {
    Discovery discovery;
    const std::filesystem::path cards = "sys/class/drm";
    for (const uint32_t card : host().NumberedEntries(cards, "card")) {
      const auto folder = cards / ("card" + std::to_string(card)) / "device";
      const std::string_view type = IntelGpuType(host().ReadNumber(folder / "device").value_or(0));
      if (host().ReadNumber(folder / "vendor") != kIntelVendor || type.empty()) continue;
      const auto index = static_cast<uint32_t>(discovery.devices.size());
      discovery.devices.push_back({.index = index, .type = std::string(type)});
    }
    return discovery;
  }

  // "0.1" is a tile of device 0.
  std::optional<Device> Resolve(const std::vector<Device>& devices,
                                std::string_view id) const override {
    return AcceleratorManager::Resolve(devices, id.substr(0, id.find('.')));
  }
};

class GaudiManager : public AcceleratorManager {
 public:
  explicit GaudiManager(const Host& host)
      : AcceleratorManager({.name = "gaudi",
                            .resource = "HPU",
                            .visible_variable = "HABANA_VISIBLE_MODULES",
                            .keep_variable = "RAY_EXPERIMENTAL_NOSET_HABANA_VISIBLE_MODULES"},
                           host) {}

 protected:
  Discovery FindAll() override {
    Discovery discovery;
    const std::filesystem::path accelerators = "sys/class/accel";
    for (const uint32_t number : host().NumberedEntries(accelerators, "accel")) {
      const auto folder = accelerators / ("accel" + std::to_string(number)) / "device";
      if (host().ReadNumber(folder / "vendor") != kHabanaVendor) continue;
      // The variable names modules, which need not be in the order of the device files.
      const uint64_t module = host().ReadNumber(folder / "module_id").value_or(number);
      discovery.devices.push_back({.index = static_cast<uint32_t>(module), .type = "Intel-GAUDI"});
    }
    std::sort(discovery.devices.begin(), discovery.devices.end(),
              [](const Device& a, const Device& b) { return a.index < b.index; });
    return discovery;
  }
};

class NeuronManager : public AcceleratorManager {
 public:
  explicit NeuronManager(const Host& host)
      : AcceleratorManager({.name = "neuron",
                            .resource = "neuron_cores",
                            .visible_variable = "NEURON_RT_VISIBLE_CORES",
                            .keep_variable = "RAY_EXPERIMENTAL_NOSET_NEURON_RT_VISIBLE_CORES"},
                           host) {}

 protected:
  Discovery FindAll() override {
    Discovery discovery;
    const std::filesystem::path chips = "sys/devices/virtual/neuron_device";
    for (const uint32_t chip : host().NumberedEntries("dev", "neuron")) {
      const auto folder = chips / ("neuron" + std::to_string(chip));
      // Most chips have two.
      const uint64_t cores = host().ReadNumber(folder / "core_count").value_or(2);
      for (uint64_t core = 0; core < cores; ++core) {
        const auto index = static_cast<uint32_t>(discovery.devices.size());
        discovery.devices.push_back({.index = index, .type = "aws-neuron-core"});
      }
    }
    return discovery;
  }
};

// One device file is one device.
class DeviceFileManager : public AcceleratorManager {
 public:
  DeviceFileManager(const Family& family, const Host& host, std::filesystem::path folder,
                    std::string prefix)
      : AcceleratorManager(family, host), folder_(std::move(folder)), prefix_(std::move(prefix)) {}

 protected:
  Discovery FindAll() override {
    Discovery discovery;
    for (const uint32_t index : host().NumberedEntries(folder_, prefix_)) {
      discovery.devices.push_back({.index = index});
    }
    return discovery;
  }

 private:
  const std::filesystem::path folder_;
  const std::string prefix_;
};

class MobilintManager : public AcceleratorManager {
 public:
  explicit MobilintManager(const Host& host)
      : AcceleratorManager({.name = "mobilint",
                            .resource = "MBLT",
                            .visible_variable = "QBRUNTIME_VISIBLE_DEVICES",
                            .keep_variable = "RAY_EXPERIMENTAL_NOSET_MBLT_RT_VISIBLE_DEVICES"},
                           host) {}

 protected:
  Discovery FindAll() override { return {}; }
};

class FuriosaManager : public AcceleratorManager {
 public:
  explicit FuriosaManager(const Host& host)
      : AcceleratorManager({.name = "furiosa",
                            .resource = "FURIOSA",
                            .visible_variable = "FURIOSA_DEVICES",
                            .keep_variable = "RAY_EXPERIMENTAL_NOSET_FURIOSA_DEVICES"},
                           host) {}

  // Its libraries want "npu:0".
  Environment Limit(const std::vector<std::string>& ids, size_t device_count) const override {
    std::vector<std::string> named;
    for (const std::string& id : ids) named.push_back(id.starts_with("npu:") ? id : "npu:" + id);
    return AcceleratorManager::Limit(named, device_count);
  }

 protected:
  Discovery FindAll() override { return {}; }
};

}  // namespace

std::unique_ptr<AcceleratorManager> MakeIntelGpuManager(const Host& host) {
  return std::make_unique<IntelGpuManager>(host);
}

std::unique_ptr<AcceleratorManager> MakeGaudiManager(const Host& host) {
  return std::make_unique<GaudiManager>(host);
}

std::unique_ptr<AcceleratorManager> MakeNeuronManager(const Host& host) {
  return std::make_unique<NeuronManager>(host);
}

std::unique_ptr<AcceleratorManager> MakeAscendManager(const Host& host) {
  constexpr Family kAscend = {.name = "ascend",
                              .resource = "NPU",
                              .visible_variable = "ASCEND_RT_VISIBLE_DEVICES",
                              .keep_variable = "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES"};
  return std::make_unique<DeviceFileManager>(kAscend, host, "dev", "davinci");
}

std::unique_ptr<AcceleratorManager> MakeRebellionsManager(const Host& host) {
  constexpr Family kRebellions = {
      .name = "rebellions",
      .resource = "RBLN",
      .visible_variable = "RBLN_DEVICES",
      .keep_variable = "RAY_EXPERIMENTAL_NOSET_RBLN_RT_VISIBLE_DEVICES"};
  return std::make_unique<DeviceFileManager>(kRebellions, host, "dev", "rbln");
}

std::unique_ptr<AcceleratorManager> MakeTenstorrentManager(const Host& host) {
  constexpr Family kTenstorrent = {
      .name = "tenstorrent",
      .resource = "TTNPU",
      .visible_variable = "TT_VISIBLE_DEVICES",
      .keep_variable = "RAY_EXPERIMENTAL_NOSET_TENSTORRENT_VISIBLE_DEVICES"};
  return std::make_unique<DeviceFileManager>(kTenstorrent, host, "dev/tenstorrent", "");
}

std::unique_ptr<AcceleratorManager> MakeFuriosaManager(const Host& host) {
  return std::make_unique<FuriosaManager>(host);
}

std::unique_ptr<AcceleratorManager> MakeMobilintManager(const Host& host) {
  return std::make_unique<MobilintManager>(host);
}

}  // namespace ray::accelerators
