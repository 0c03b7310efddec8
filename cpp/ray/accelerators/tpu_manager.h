// Google TPU chips of this host, and the slice that the host is part of.
// Owner: NodeAccelerators.   Threads: thread-compatible.   Errors: as AcceleratorManager.
#pragma once

#include <string>
#include <vector>

#include "ray/accelerators/accelerator_manager.h"

namespace ray::accelerators {

class TpuManager : public AcceleratorManager {
 public:
  explicit TpuManager(const Host& host);

  // One or two chips of several need their shape told as well.
  Environment Limit(const std::vector<std::string>& ids, size_t device_count) const override;
  // The slice by name, its head, and where in it this host is; from the TPU_... variables that GKE
  // sets.
  Announcement Extras() const override;

 protected:
  Discovery FindAll() override;

 private:
  // "v4-16", of this slice; "" if nothing tells.
  std::string PodType() const;
  std::string Type() const;
  // "v4", by the chips on the PCI bus; "" if there are none that are known.
  std::string VersionOnBus() const;
};

}  // namespace ray::accelerators
