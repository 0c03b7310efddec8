// Families that show themselves in /dev and /sys and need no library: the rest of what Ray knows.
// They list devices and tell programs which to use; their drivers' readings are not taken.
// Threads: free functions, thread-safe; the managers as AcceleratorManager.
#pragma once

#include <memory>

#include "ray/accelerators/accelerator_manager.h"

namespace ray::accelerators {

// Data-centre GPUs (Max). Graphics that sit in a CPU are no resource for computing.
std::unique_ptr<AcceleratorManager> MakeIntelGpuManager(const Host& host);
std::unique_ptr<AcceleratorManager> MakeGaudiManager(const Host& host);
// The devices are cores; an Inferentia or Trainium chip has several.
std::unique_ptr<AcceleratorManager> MakeNeuronManager(const Host& host);
std::unique_ptr<AcceleratorManager> MakeAscendManager(const Host& host);
std::unique_ptr<AcceleratorManager> MakeRebellionsManager(const Host& host);
std::unique_ptr<AcceleratorManager> MakeTenstorrentManager(const Host& host);
// Their devices are not looked for: a node offers what its user says it has.
std::unique_ptr<AcceleratorManager> MakeFuriosaManager(const Host& host);
std::unique_ptr<AcceleratorManager> MakeMobilintManager(const Host& host);

}  // namespace ray::accelerators
