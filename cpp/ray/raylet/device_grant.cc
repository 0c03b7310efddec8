#include "ray/raylet/device_grant.h"

#include <utility>
#include <vector>

namespace ray::raylet {

void DescribeDevices(const accelerators::NodeAccelerators& accelerators,
                     google::protobuf::Map<std::string, wire::v1::ResourceInstances>* instances,
                     google::protobuf::Map<std::string, std::string>* environment) {
  accelerators::DeviceAllocation allocation;
  for (auto& [resource, share] : *instances) {
    std::vector<uint32_t> indices(share.indices().begin(), share.indices().end());
    for (std::string& id : accelerators.DeviceIds(resource, indices)) share.add_ids(std::move(id));
    allocation.emplace(resource, std::move(indices));
  }
  for (auto& [name, value] : accelerators.VisibleDevicesEnvironment(allocation)) {
    (*environment)[name] = std::move(value);
  }
}

}  // namespace ray::raylet
