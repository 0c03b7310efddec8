// AMD GPUs, as the kernel's compute driver (KFD) lists them.
// Owner: NodeAccelerators.   Threads: thread-compatible.   Errors: as AcceleratorManager.
#pragma once

#include "ray/accelerators/accelerator_manager.h"

namespace ray::accelerators {

class AmdManager : public AcceleratorManager {
 public:
  explicit AmdManager(const Host& host);

  Reading Read(const Device& device) override;

 protected:
  // What ROCR_VISIBLE_DEVICES leaves, numbered from 0, as programs on HIP see it.
  Discovery FindAll() override;
};

}  // namespace ray::accelerators
