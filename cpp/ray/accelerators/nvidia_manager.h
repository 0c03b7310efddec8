// NVIDIA GPUs, as NVML sees them.
//
// Owner: NodeAccelerators.   Threads: thread-compatible.   Errors: as AcceleratorManager; no NVML
// means no GPUs, a broken one a warning.   Blocks: Discover for seconds while the driver wakes up,
// Read for milliseconds.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ray/accelerators/accelerator_manager.h"
#include "ray/accelerators/nvml.h"

namespace ray::accelerators {

class NvidiaManager : public AcceleratorManager {
 public:
  explicit NvidiaManager(const Host& host);

  // Requires a device from Discover() of this manager.
  Reading Read(const Device& device) override;

 protected:
  Discovery FindAll() override;
  // Also an instance of a GPU in MIG mode, by its UUID.
  std::optional<Device> Resolve(const std::vector<Device>& devices,
                                std::string_view id) const override;

 private:
  // A code of NVML, or of the first call that failed.
  int Inspect(uint32_t index, Device* device) const;
  std::vector<MigInstance> ListMigInstances(Nvml::DeviceHandle device) const;
  std::string Explain(int code) const;

  std::unique_ptr<Nvml> nvml_;
};

}  // namespace ray::accelerators
