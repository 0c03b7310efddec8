// Names the devices of a grant for the process that will use them.
// Threads: free function, thread-compatible.
#pragma once

#include <string>

#include "ray/accelerators/node_accelerators.h"
#include "ray/wire/v1/resources.pb.h"

namespace ray::raylet {

// Fills in the ids of the instances, and the variables that confine a process to them.
void DescribeDevices(const accelerators::NodeAccelerators& accelerators,
                     google::protobuf::Map<std::string, wire::v1::ResourceInstances>* instances,
                     google::protobuf::Map<std::string, std::string>* environment);

}  // namespace ray::raylet
