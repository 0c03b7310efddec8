// The managers' way to the raylets.
// Threads: loop-bound.   Never blocks. A message to a node that has no channel now is dropped: what
// it must know is said again when it registers.
#pragma once

#include "ray/base/ids.h"
#include "ray/gcs/v1/gcs.pb.h"

namespace ray::gcs {

class NodeSender {
 public:
  virtual ~NodeSender() = default;
  virtual void Send(const base::NodeId& node, const v1::GcsMessage& message) = 0;
};

}  // namespace ray::gcs
