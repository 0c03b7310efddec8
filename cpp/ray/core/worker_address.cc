#include "ray/core/worker_address.h"

#include "ray/base/status_macros.h"

namespace ray::core {

absl::StatusOr<AddressPtr> WorkerAddress::FromProto(const wire::v1::Address& proto) {
  auto address = std::make_shared<WorkerAddress>();
  MANTA_ASSIGN_OR_RETURN(address->node_id, base::NodeId::FromBinary(proto.node_id()));
  MANTA_ASSIGN_OR_RETURN(address->worker_id, base::WorkerId::FromBinary(proto.worker_id()));
  address->endpoint = proto.endpoint();
  address->tcp_endpoint = proto.tcp_endpoint();
  address->serialized = proto.SerializeAsString();
  return AddressPtr(std::move(address));
}

absl::StatusOr<AddressPtr> WorkerAddress::Parse(std::string_view serialized) {
  wire::v1::Address proto;
  if (!proto.ParseFromArray(serialized.data(), static_cast<int>(serialized.size()))) {
    return absl::InvalidArgumentError("malformed address");
  }
  return FromProto(proto);
}

void WorkerAddress::ToProto(wire::v1::Address* out) const {
  out->set_node_id(node_id.BinaryString());
  out->set_worker_id(worker_id.BinaryString());
  out->set_endpoint(endpoint);
  out->set_tcp_endpoint(tcp_endpoint);
}

}  // namespace ray::core
