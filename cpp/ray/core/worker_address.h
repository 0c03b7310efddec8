// Where a core worker can be reached, parsed once and shared: entries, templates and peers all
// point to one copy. Threads: immutable.   Errors: Parse refuses ids of a wrong length.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "ray/base/ids.h"
#include "ray/wire/v1/connection.pb.h"

namespace ray::core {

struct WorkerAddress {
  base::NodeId node_id;
  base::WorkerId worker_id;
  std::string endpoint;      // "unix:PATH": from the same node
  std::string tcp_endpoint;  // "tcp:HOST:PORT": from others; "" = not at all
  std::string serialized;    // as wire::v1::Address

  static absl::StatusOr<std::shared_ptr<const WorkerAddress>> Parse(std::string_view serialized);
  static absl::StatusOr<std::shared_ptr<const WorkerAddress>> FromProto(
      const wire::v1::Address& address);
  void ToProto(wire::v1::Address* out) const;
};

using AddressPtr = std::shared_ptr<const WorkerAddress>;

}  // namespace ray::core
