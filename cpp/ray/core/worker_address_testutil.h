// Help for tests of the core: addresses of workers that nobody has to reach.
#pragma once

#include "ray/base/check.h"
#include "ray/core/worker_address.h"

namespace ray::core {

inline AddressPtr MakeAddress(const base::WorkerId& worker = base::WorkerId::Random()) {
  wire::v1::Address proto;
  proto.set_node_id(base::NodeId::Random().BinaryString());
  proto.set_worker_id(worker.BinaryString());
  proto.set_endpoint("unix:/nowhere");
  auto address = WorkerAddress::FromProto(proto);
  MANTA_CHECK(address.ok());
  return *std::move(address);
}

}  // namespace ray::core
