// One family of accelerators (NVIDIA, AMD, TPU, ...): what it is called, which devices the machine
// has, how they are, and which variables limit a process to some of them.
//
// A manager holds no state of the node; NodeAccelerators does, and is what the raylet uses.
// Threads: thread-compatible.   Errors: a machine without the family has no devices; what is there
// but does not work is left out, with a warning that says why and what to do.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ray/accelerators/host.h"

namespace ray::accelerators {

// A part of an NVIDIA GPU in MIG mode.
struct MigInstance {
  std::string uuid;
  std::string name;
};

struct Device {
  uint32_t index = 0;      // as the driver counts them on this machine
  std::string visible_id;  // what names it in the variable of visible devices
  std::string uuid;        // "" = the driver tells none
  std::string name;        // product, as the driver calls it
  std::string type;        // as in ray.util.accelerators, "H100"; "" = unknown
  std::vector<MigInstance> mig_instances;
  std::filesystem::path folder;  // where its driver keeps its readings, from the root; "" = nowhere
};

struct MemoryReading {
  uint64_t total_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t free_bytes = 0;
};

// How a device is now. What its driver does not tell is absent.
struct Reading {
  std::optional<MemoryReading> memory;
  std::optional<uint32_t> utilization_percent;  // share of the last moments in which it computed
  std::string problem;                          // "" = healthy
};

struct Discovery {
  std::vector<Device> devices;  // in the order in which the node numbers them
  std::vector<std::string> warnings;
};

// What a node tells of itself to the cluster.
struct Announcement {
  std::map<std::string, double> resources;
  std::map<std::string, std::string> labels;
};

using Environment = std::vector<std::pair<std::string, std::string>>;

// The names of a family. All are string literals.
struct Family {
  std::string_view name;              // "nvidia"
  std::string_view resource;          // "GPU"
  std::string_view visible_variable;  // "CUDA_VISIBLE_DEVICES"
  // Users set this one to keep Ray from setting visible_variable.
  std::string_view keep_variable;
};

class AcceleratorManager {
 public:
  AcceleratorManager(const Family& family, const Host& host) : family_(family), host_(host) {}
  virtual ~AcceleratorManager() = default;
  AcceleratorManager(const AcceleratorManager&) = delete;
  AcceleratorManager& operator=(const AcceleratorManager&) = delete;

  const Family& family() const { return family_; }

  // The devices that this process may use: all of the machine, or those that visible_variable
  // names, in its order. Reads /dev and /sys or asks the driver, which may take seconds.
  Discovery Discover();
  // What visible_variable of this process names; nullopt = not set, all devices.
  std::optional<std::vector<std::string>> VisibleIds() const;

  virtual Reading Read(const Device&) { return {}; }
  // Limits a process to these devices; `ids` are not empty. `device_count`: those of the node.
  virtual Environment Limit(const std::vector<std::string>& ids, size_t device_count) const;
  // What the family announces beyond its devices and their type.
  virtual Announcement Extras() const { return {}; }

 protected:
  // All devices of the machine that work.
  virtual Discovery FindAll() = 0;
  // The device that an entry of visible_variable means: by index, or by the begin of its UUID if
  // that is unique.
  virtual std::optional<Device> Resolve(const std::vector<Device>& devices,
                                        std::string_view id) const;

  const Host& host() const { return host_; }
  // As the drivers do, the list ends at the first entry that names no device.
  void KeepVisible(std::string_view variable, const std::vector<std::string>& ids,
                   Discovery* discovery) const;

 private:
  const Family family_;
  const Host host_;
};

}  // namespace ray::accelerators
