// The accelerators of this node: found once at start, numbered from 0 within each resource, told to
// the cluster, and given to processes by setting their variables of visible devices.
//
// Owner: the raylet.
// Threads: thread-compatible.   Errors: Detect never fails, see warnings().   Blocks: Detect, for
// seconds while a driver wakes up; Read, for milliseconds.
//   NACC-1  each resource is served by one family: of those that share "GPU" the first with
//           devices, NVIDIA if none has any.
//   NACC-2  index i of a resource is the i-th entry of the family's variable of visible devices
//           where this process has it set, else the device i of the machine.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ray/accelerators/accelerator_manager.h"

namespace ray::accelerators {

inline constexpr char kAcceleratorTypeLabel[] = "ray.io/accelerator-type";
inline constexpr char kAcceleratorTypePrefix[] = "accelerator_type:";

// Device indices by resource, as the raylet allocates them.
using DeviceAllocation = std::map<std::string, std::vector<uint32_t>, std::less<>>;

class NodeAccelerators {
 public:
  // A node without accelerators, where "GPU" and the like are resources as any other.
  NodeAccelerators() = default;
  // `host` is kept as it is now.
  static NodeAccelerators Detect(const Host& host);

  // For the log and the user: what was left out and why.
  const std::vector<std::string>& warnings() const { return warnings_; }
  // The resources that exist as devices, on this node or another: "GPU", "TPU", ...
  std::vector<std::string> resources() const;
  const std::vector<Device>& devices(std::string_view resource) const;
  // "nvidia"; "" if no family serves the resource.
  std::string_view family(std::string_view resource) const;

  // "" if the node may offer that many; else what is wrong, for a ValueError.
  std::string CheckQuantity(std::string_view resource, double quantity) const;
  // Resources and labels to announce. `configured`: quantities that the user gave, which replace
  // what was found; 0 hides a family.
  Announcement Announce(const std::map<std::string, double>& configured = {}) const;

  // What ray.get_gpu_ids and get_accelerator_ids show, and programs pass to their libraries.
  std::vector<std::string> DeviceIds(std::string_view resource,
                                     const std::vector<uint32_t>& indices) const;
  // The variables that limit a process to the allocation, to be set before user code runs. Families
  // without a share are left as they are, unless RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO says to hide
  // their devices. Nothing for a family whose RAY_EXPERIMENTAL_NOSET_... is set.
  Environment VisibleDevicesEnvironment(const DeviceAllocation& allocation) const;

  // One for each of devices(resource), in that order.
  std::vector<Reading> Read(std::string_view resource) const;

 private:
  struct Share {
    std::unique_ptr<AcceleratorManager> manager;
    std::vector<Device> devices;
  };

  explicit NodeAccelerators(const Host& host) : host_(host) {}
  const Share* Find(std::string_view resource) const;
  static std::vector<std::string> IdsOf(const Share& share, const std::vector<uint32_t>& indices);

  Host host_;
  std::map<std::string, Share, std::less<>> shares_;  // by resource
  std::vector<std::string> warnings_;
};

}  // namespace ray::accelerators
