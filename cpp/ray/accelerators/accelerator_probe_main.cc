// accelerator_probe [RESOURCE=INDEX,INDEX ...]
//
// Prints as JSON what accelerators this node has, how they are, what it would announce, and, for an
// allocation given by arguments, which ids and variables a process with it gets.

#include <iostream>
#include <string>
#include <vector>

#include "ray/accelerators/json_writer.h"
#include "ray/accelerators/node_accelerators.h"

namespace ray::accelerators {
namespace {

void WriteDevice(const Device& device, const Reading& reading, JsonWriter* json) {
  json->BeginObject();
  json->Field("index", device.index);
  json->Field("visible_id", device.visible_id);
  json->Field("uuid", device.uuid);
  json->Field("name", device.name);
  json->Field("type", device.type);
  if (reading.memory) {
    json->Field("memory_total_bytes", reading.memory->total_bytes);
    json->Field("memory_used_bytes", reading.memory->used_bytes);
    json->Field("memory_free_bytes", reading.memory->free_bytes);
  }
  if (reading.utilization_percent) {
    json->Field("utilization_percent", *reading.utilization_percent);
  }
  json->Field("problem", reading.problem);
  json->Key("mig_instances");
  json->BeginArray();
  for (const MigInstance& instance : device.mig_instances) {
    json->BeginObject();
    json->Field("uuid", instance.uuid);
    json->Field("name", instance.name);
    json->EndObject();
  }
  json->EndArray();
  json->EndObject();
}

void WriteResource(const NodeAccelerators& node, const std::string& resource, JsonWriter* json) {
  json->Key(resource);
  json->BeginObject();
  json->Field("family", node.family(resource));
  json->Key("devices");
  json->BeginArray();
  const std::vector<Device>& devices = node.devices(resource);
  const std::vector<Reading> readings = node.Read(resource);
  for (size_t i = 0; i < devices.size(); ++i) WriteDevice(devices[i], readings[i], json);
  json->EndArray();
  json->EndObject();
}

void WriteAnnouncement(const Announcement& announcement, JsonWriter* json) {
  json->Key("announcement");
  json->BeginObject();
  json->Key("resources");
  json->BeginObject();
  for (const auto& [name, quantity] : announcement.resources) json->Field(name, quantity);
  json->EndObject();
  json->Key("labels");
  json->BeginObject();
  for (const auto& [name, value] : announcement.labels) json->Field(name, value);
  json->EndObject();
  json->EndObject();
}

void WriteAllocation(const NodeAccelerators& node, const DeviceAllocation& allocation,
                     JsonWriter* json) {
  json->Key("ids");
  json->BeginObject();
  for (const auto& [resource, indices] : allocation) {
    json->Field(resource, JoinList(node.DeviceIds(resource, indices)));
  }
  json->EndObject();
  json->Key("environment");
  json->BeginObject();
  for (const auto& [name, value] : node.VisibleDevicesEnvironment(allocation)) {
    json->Field(name, value);
  }
  json->EndObject();
}

// Adds "GPU=0,2"; false if that is not its form.
bool ParseAllocation(const std::string& argument, DeviceAllocation* allocation) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos || equals == 0) return false;
  std::vector<uint32_t>& indices = (*allocation)[argument.substr(0, equals)];
  for (const std::string& text : SplitList(argument.substr(equals + 1))) {
    const auto index = ParseIndex(text);
    if (!index) return false;
    indices.push_back(*index);
  }
  return true;
}

void Print(const DeviceAllocation& allocation) {
  const NodeAccelerators node = NodeAccelerators::Detect(Host::Current());
  JsonWriter json;
  json.BeginObject();
  json.Key("resources");
  json.BeginObject();
  for (const std::string& resource : node.resources()) WriteResource(node, resource, &json);
  json.EndObject();
  json.Key("warnings");
  json.BeginArray();
  for (const std::string& warning : node.warnings()) json.Value(warning);
  json.EndArray();
  WriteAnnouncement(node.Announce(), &json);
  WriteAllocation(node, allocation, &json);
  json.EndObject();
  std::cout << json.text() << std::endl;
}

}  // namespace
}  // namespace ray::accelerators

int main(int argc, char** argv) {
  ray::accelerators::DeviceAllocation allocation;
  for (int i = 1; i < argc; ++i) {
    if (!ray::accelerators::ParseAllocation(argv[i], &allocation)) {
      std::cerr << "accelerator_probe: '" << argv[i] << "' is not RESOURCE=INDEX,INDEX...\n";
      return 2;
    }
  }
  ray::accelerators::Print(allocation);
  return 0;
}
