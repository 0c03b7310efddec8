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
  std::string endpoint;      // where clients of this node connect
  std::string tcp_endpoint;  // where other raylets connect; "" = this node is alone
  std::string listen_host;   // core workers listen there for those of other nodes; as tcp_endpoint
  std::string session_dir;
  std::string gcs_address;
  bool is_head = false;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> config;  // flags that differ from their defaults
};

}  // namespace ray::raylet
