// Stands in for libnvidia-ml.so.1. At nvmlInit_v2 it reads from the environment
//   FAKE_NVML_DEVICES    devices, separated by ';', each "name|uuid|total bytes|used
//   bytes|percent|state" FAKE_NVML_INIT_CODE  what nvmlInit_v2 returns, 0 if unset;
//   FAKE_NVML_COUNT_CODE likewise
// A state is "" or one of
//   unreachable  it has no handle: lost            lost       has one, but its calls fail
//   lost_later   found by index, not by UUID       no_memory  none of its own to tell of
//   worn_out     row remapping has failed          mig        in MIG mode, two instances in slots
//   0, 2
// FAKE_NVML_OLD leaves out what old libraries lack, FAKE_NVML_INCOMPLETE what every one has.

#include <cstdlib>
#include <cstring>
#include <deque>
#include <sstream>
#include <string>

namespace {

enum Code : int {
  kSuccess = 0,
  kInvalidArgument = 2,
  kNotSupported = 3,
  kNotFound = 6,
  kGpuIsLost = 15,
};

struct FakeDevice {
  std::string name;
  std::string uuid;
  unsigned long long total_bytes = 0;
  unsigned long long used_bytes = 0;
  unsigned percent = 0;
  std::string state;
};

constexpr unsigned long long kReservedBytes = 1 << 20;

std::deque<FakeDevice>& Devices() {
  static std::deque<FakeDevice> devices;
  return devices;
}

std::deque<FakeDevice>& Instances() {
  static std::deque<FakeDevice> instances;
  return instances;
}

const char* Setting(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

FakeDevice ParseDevice(const std::string& text) {
  FakeDevice device;
  std::istringstream fields(text);
  std::string field;
  std::getline(fields, device.name, '|');
  std::getline(fields, device.uuid, '|');
  if (std::getline(fields, field, '|'))
    device.total_bytes = std::strtoull(field.c_str(), nullptr, 10);
  if (std::getline(fields, field, '|'))
    device.used_bytes = std::strtoull(field.c_str(), nullptr, 10);
  if (std::getline(fields, field, '|'))
    device.percent = static_cast<unsigned>(std::atoi(field.c_str()));
  std::getline(fields, device.state, '|');
  return device;
}

FakeDevice* Find(const std::string& uuid) {
  for (auto* const list : {&Devices(), &Instances()}) {
    for (FakeDevice& device : *list) {
      if (device.uuid == uuid) return &device;
    }
  }
  return nullptr;
}

int CopyText(const std::string& text, char* buffer, unsigned size) {
  if (text.size() + 1 > size) return kInvalidArgument;
  std::memcpy(buffer, text.c_str(), text.size() + 1);
  return kSuccess;
}

}  // namespace

extern "C" {

struct FakeMemory {
  unsigned long long total, free, used;
};
struct FakeMemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
struct FakeUtilization {
  unsigned gpu, memory;
};

int nvmlInit_v2() {
  Devices().clear();
  Instances().clear();
  std::istringstream list(Setting("FAKE_NVML_DEVICES"));
  for (std::string text; std::getline(list, text, ';');) {
    Devices().push_back(ParseDevice(text));
    const FakeDevice& device = Devices().back();
    if (device.state != "mig") continue;
    for (const char* const part : {"a", "b"}) {
      Instances().push_back({.name = device.name + " MIG 3g.40gb",
                             .uuid = "MIG-" + device.uuid + part,
                             .total_bytes = device.total_bytes / 2,
                             .used_bytes = device.used_bytes / 2});
    }
  }
  return std::atoi(Setting("FAKE_NVML_INIT_CODE"));
}

int nvmlShutdown() { return kSuccess; }

int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(Devices().size());
  return std::atoi(Setting("FAKE_NVML_COUNT_CODE"));
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, FakeDevice** device) {
  if (index >= Devices().size()) return kInvalidArgument;
  *device = &Devices()[index];
  return (*device)->state == "unreachable" ? kGpuIsLost : kSuccess;
}

int nvmlDeviceGetHandleByUUID(const char* uuid, FakeDevice** device) {
  *device = Find(uuid);
  if (*device == nullptr) return kNotFound;
  return (*device)->state == "lost_later" ? kGpuIsLost : kSuccess;
}

#ifndef FAKE_NVML_INCOMPLETE
int nvmlDeviceGetUUID(FakeDevice* device, char* text, unsigned size) {
  return CopyText(device->uuid, text, size);
}
#endif

int nvmlDeviceGetName(FakeDevice* device, char* text, unsigned size) {
  return CopyText(device->name, text, size);
}

// Counts what the driver reserves as used, as the real one does.
int nvmlDeviceGetMemoryInfo(FakeDevice* device, FakeMemory* memory) {
  if (device->state == "lost") return kGpuIsLost;
  if (device->state == "no_memory") return kNotSupported;
  *memory = {.total = device->total_bytes,
             .free = device->total_bytes - device->used_bytes - kReservedBytes,
             .used = device->used_bytes + kReservedBytes};
  return kSuccess;
}

#ifndef FAKE_NVML_OLD
const char* nvmlErrorString(int code) { return code == kGpuIsLost ? "GPU is lost" : "Fake error"; }

int nvmlDeviceGetMemoryInfo_v2(FakeDevice* device, FakeMemoryV2* memory) {
  if (memory->version != (sizeof *memory | (2u << 24))) return kInvalidArgument;
  FakeMemory all = {};
  if (const int code = nvmlDeviceGetMemoryInfo(device, &all); code != kSuccess) return code;
  memory->total = all.total;
  memory->reserved = kReservedBytes;
  memory->free = all.free;
  memory->used = device->used_bytes;
  return kSuccess;
}

int nvmlDeviceGetUtilizationRates(FakeDevice* device, FakeUtilization* rates) {
  *rates = {.gpu = device->percent, .memory = 0};
  return device->state == "no_memory" ? kNotSupported : kSuccess;
}

int nvmlDeviceGetMigMode(FakeDevice* device, unsigned* current, unsigned* pending) {
  *current = *pending = device->state == "mig" ? 1 : 0;
  return kSuccess;
}

int nvmlDeviceGetMaxMigDeviceCount(FakeDevice*, unsigned* count) {
  *count = 7;
  return kSuccess;
}

int nvmlDeviceGetMigDeviceHandleByIndex(FakeDevice* device, unsigned slot, FakeDevice** instance) {
  if (slot != 0 && slot != 2) return kNotFound;
  *instance = Find("MIG-" + device->uuid + (slot == 0 ? "a" : "b"));
  return kSuccess;
}

int nvmlDeviceGetRemappedRows(FakeDevice* device, unsigned*, unsigned*, unsigned*,
                              unsigned* failed) {
  *failed = device->state == "worn_out" ? 1 : 0;
  return kSuccess;
}
#endif

}  // extern "C"
