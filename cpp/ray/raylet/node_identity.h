// What this node is: fixed at start and told to peers.
// Threads: immutable once the raylet runs.
#pragma once

#include <map>
#include <string>

#include "ray/base/ids.h"

namespace ray::raylet {

struct NodeIdentity {
  base::NodeId id;
  std::string ip;
  std::string hostname;
  std::string endpoint;  // where clients connect
  std::string session_dir;
  std::string gcs_address;
  bool is_head = false;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> config;  // flags that differ from their defaults
};

}  // namespace ray::raylet
