// A process that this raylet serves, from its HELLO to the close of its connection: a driver,
// worker or tool of this node, or another node's raylet. Owner: ClientRegistry.   Threads:
// loop-bound.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "ray/base/ids.h"
#include "ray/net/connection.h"
#include "ray/scheduling/lease_queue.h"
#include "ray/wire/v1/connection.pb.h"

namespace ray::raylet {

struct Client {
  scheduling::ClientId id = 0;  // never reused
  wire::v1::ProcessKind kind = wire::v1::PROCESS_UNSPECIFIED;
  base::WorkerId worker_id;  // nil: a raylet or a tool
  pid_t pid = 0;
  wire::v1::Address
      address;  // where it listens for other core workers; of a raylet: its node alone
  std::shared_ptr<net::Connection> connection;
  uint64_t startup_token = 0;  // workers and their set-up only
  // Drivers only.
  base::JobId job;
  bool log_to_driver = false;

  bool IsDriver() const { return kind == wire::v1::DRIVER; }
  bool IsRaylet() const { return kind == wire::v1::RAYLET; }
};

}  // namespace ray::raylet
