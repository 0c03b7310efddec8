// What a node has and what of it is free. Resources that exist as devices (GPU) are counted device
// by device: a fraction goes on one device (the fullest that still has room), whole units take
// whole devices.
//
// Owner: LeaseQueue.   Threads: thread-compatible.   Errors: none; Allocate says with nullopt that
// it does not fit.
//   NRES-1  total() - available() = the sum of the allocations that live; negative only after
//           Retake().
//   NRES-2  the free shares of the devices of a resource add up to its available quantity.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "ray/resources/resource_set.h"

namespace google::protobuf {
template <typename Key, typename T>
class Map;
}
namespace ray::wire::v1 {
class ResourceInstances;
}

namespace ray::resources {

// One device's share in an allocation.
struct InstanceShare {
  uint32_t index = 0;
  base::FixedPoint quantity;
  friend bool operator==(const InstanceShare&, const InstanceShare&) = default;
};

// What one lease or actor holds. Only NodeResources makes and changes it.
class ResourceAllocation {
 public:
  const ResourceSet& quantities() const { return quantities_; }
  const std::map<std::string, std::vector<InstanceShare>>& instances() const { return instances_; }
  // For the `instances` fields of the wire's messages.
  void ToWire(google::protobuf::Map<std::string, wire::v1::ResourceInstances>* out) const;

 private:
  friend class NodeResources;
  ResourceSet quantities_;
  std::map<std::string, std::vector<InstanceShare>> instances_;
};

class NodeResources {
 public:
  // `device_resources` name those of `total` that exist as devices, numbered from 0. A fractional
  // device in `total` becomes a last device with less room.
  explicit NodeResources(ResourceSet total,
                         absl::Span<const std::string_view> device_resources = {&kGpu, 1});
  // What was taken of another pool, as a pool of its own: the same devices under the same numbers.
  explicit NodeResources(const ResourceAllocation& part);

  const ResourceSet& total() const { return total_; }
  const ResourceSet& available() const { return available_; }

  // Whether the node could ever satisfy it, were nothing else running.
  bool IsFeasible(const ResourceSet& request) const { return request.FitsIn(total_); }
  std::optional<ResourceAllocation> Allocate(const ResourceSet& request);
  // Gives everything back and empties the allocation.
  void Release(ResourceAllocation* allocation);
  // Gives back what exceeds `keep`.
  void ShrinkTo(ResourceAllocation* allocation, const ResourceSet& keep);

  // A plain quantity that its holder lends while it blocks and takes back when it runs again, even
  // if that oversubscribes the node. Not for device resources.
  void Lend(std::string_view name, base::FixedPoint quantity);
  void Retake(std::string_view name, base::FixedPoint quantity);

  // MANTA_CHECKs NRES-2.
  void CheckInvariants() const;

 private:
  // Free share of each device.
  using Devices = std::vector<base::FixedPoint>;

  static std::optional<std::vector<InstanceShare>> PickDevices(const Devices& free,
                                                               base::FixedPoint quantity);
  void GiveBack(ResourceAllocation* allocation, const std::string& name, base::FixedPoint quantity);

  const ResourceSet total_;
  ResourceSet available_;
  std::map<std::string, Devices, std::less<>> devices_;
};

}  // namespace ray::resources
