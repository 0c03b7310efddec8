#include "ray/accelerators/nvidia_manager.h"

#include <utility>

#include "ray/accelerators/device_types.h"

namespace ray::accelerators {
namespace {

constexpr Family kNvidia = {.name = "nvidia",
                            .resource = "GPU",
                            .visible_variable = "CUDA_VISIBLE_DEVICES",
                            .keep_variable = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"};

bool IsGone(int code) { return code == Nvml::kGpuIsLost || code == Nvml::kResetRequired; }

}  // namespace

NvidiaManager::NvidiaManager(const Host& host) : AcceleratorManager(kNvidia, host) {}

Discovery NvidiaManager::FindAll() {
  Discovery discovery;
  const std::string library =
      host().Variable(Nvml::kLibraryVariable).value_or(Nvml::kDefaultLibrary);
  const auto warn_none = [&](const std::string& problem) {
    discovery.warnings.push_back("NVIDIA GPUs are not offered: NVML (" + library + "): " + problem +
                                 ". Check that nvidia-smi lists the GPUs, and the driver if not.");
  };
  std::string problem;
  nvml_ = Nvml::Open(library, &problem);
  if (nvml_ == nullptr) {
    if (!problem.empty()) warn_none(problem);
    return discovery;
  }
  uint32_t count = 0;
  if (const int code = nvml_->DeviceCount(&count); code != Nvml::kSuccess) {
    warn_none("it cannot count them: " + nvml_->Describe(code));
    return discovery;
  }
  for (uint32_t index = 0; index < count; ++index) {
    Device device;
    if (const int code = Inspect(index, &device); code != Nvml::kSuccess) {
      discovery.warnings.push_back("GPU " + std::to_string(index) +
                                   " is not offered: " + Explain(code));
    } else {
      discovery.devices.push_back(std::move(device));
    }
  }
  return discovery;
}

int NvidiaManager::Inspect(uint32_t index, Device* device) const {
  Nvml::DeviceHandle handle = nullptr;
  device->index = index;
  if (const int code = nvml_->DeviceByIndex(index, &handle); code != Nvml::kSuccess) return code;
  if (const int code = nvml_->Uuid(handle, &device->uuid); code != Nvml::kSuccess) return code;
  if (const int code = nvml_->Name(handle, &device->name); code != Nvml::kSuccess) return code;
  // What is lost may still tell its name. Not every device has memory of its own to tell of.
  Nvml::Memory memory;
  if (const int code = nvml_->MemoryInfo(handle, &memory); IsGone(code)) return code;
  device->type = NvidiaType(device->name);
  device->mig_instances = ListMigInstances(handle);
  return Nvml::kSuccess;
}

std::vector<MigInstance> NvidiaManager::ListMigInstances(Nvml::DeviceHandle device) const {
  std::vector<MigInstance> instances;
  bool enabled = false;
  uint32_t slots = 0;
  if (nvml_->MigEnabled(device, &enabled) != Nvml::kSuccess || !enabled) return instances;
  if (nvml_->MigSlots(device, &slots) != Nvml::kSuccess) return instances;
  for (uint32_t slot = 0; slot < slots; ++slot) {
    Nvml::DeviceHandle handle = nullptr;
    MigInstance instance;
    if (nvml_->MigInstance(device, slot, &handle) == Nvml::kSuccess &&
        nvml_->Uuid(handle, &instance.uuid) == Nvml::kSuccess &&
        nvml_->Name(handle, &instance.name) == Nvml::kSuccess) {
      instances.push_back(std::move(instance));
    }
  }
  return instances;
}

std::optional<Device> NvidiaManager::Resolve(const std::vector<Device>& devices,
                                             std::string_view id) const {
  for (const Device& device : devices) {
    for (const MigInstance& instance : device.mig_instances) {
      if (instance.uuid != id) continue;
      Device part = device;
      part.uuid = instance.uuid;
      part.name = instance.name;
      part.mig_instances.clear();
      return part;
    }
  }
  return AcceleratorManager::Resolve(devices, id);
}

Reading NvidiaManager::Read(const Device& device) {
  Reading reading;
  Nvml::DeviceHandle handle = nullptr;
  if (const int code = nvml_->DeviceByUuid(device.uuid, &handle); code != Nvml::kSuccess) {
    reading.problem = Explain(code);
    return reading;
  }
  Nvml::Memory memory;
  const int memory_code = nvml_->MemoryInfo(handle, &memory);
  if (memory_code == Nvml::kSuccess) {
    reading.memory = {.total_bytes = memory.total_bytes,
                      .used_bytes = memory.used_bytes,
                      .free_bytes = memory.free_bytes};
  } else if (memory_code != Nvml::kNotSupported) {
    reading.problem = Explain(memory_code);
  }
  uint32_t percent = 0;
  if (nvml_->Utilization(handle, &percent) == Nvml::kSuccess) reading.utilization_percent = percent;
  bool worn_out = false;
  if (nvml_->RowRemappingFailed(handle, &worn_out) == Nvml::kSuccess && worn_out) {
    reading.problem = "its memory has more faulty rows than it can replace; have it exchanged";
  }
  return reading;
}

std::string NvidiaManager::Explain(int code) const {
  const std::string text = nvml_->Describe(code);
  if (!IsGone(code)) return text;
  return text + "; dmesg has the Xid error, and a reset of the GPU or a reboot brings it back";
}

}  // namespace ray::accelerators
