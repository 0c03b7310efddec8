// From what a driver says of a device to the accelerator type by which programs ask for it, the
// values of ray.util.accelerators. "" = none.
// Threads: free functions, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ray::accelerators {

// "NVIDIA A100-SXM4-40GB" is "A100", "NVIDIA GeForce RTX 3090" is "GeForce-RTX-3090".
std::string NvidiaType(std::string_view product_name);
// By PCI device id.
std::string_view AmdType(uint64_t device_id);
std::string_view IntelGpuType(uint64_t device_id);
// "v5litepod", "v6e", ...: the version as in TPU_ACCELERATOR_TYPE.
std::string_view TpuVersion(uint64_t device_id);

}  // namespace ray::accelerators
