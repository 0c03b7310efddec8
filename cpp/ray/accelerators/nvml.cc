#include "ray/accelerators/nvml.h"

#include <dlfcn.h>

#include <array>
#include <utility>

namespace ray::accelerators {
namespace {

constexpr size_t kTextMax = 96;

struct MemoryV1 {
  unsigned long long total, free, used;
};
struct MemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
constexpr unsigned kMemoryV2 = sizeof(MemoryV2) | (2u << 24);

struct UtilizationRates {
  unsigned gpu, memory;
};

template <typename Function>
void Find(void* library, const char* symbol, Function** function) {
  *function = reinterpret_cast<Function*>(dlsym(library, symbol));
}

bool FileIsMissing(const std::string& library, const std::string& dl_error) {
  // dlerror has no codes. The message names the file itself, or a library that it needs.
  return dl_error.starts_with(library + ":") &&
         dl_error.find("No such file or directory") != std::string::npos;
}

}  // namespace

struct Nvml::Functions {
  // Needed.
  int (*init)();
  int (*shutdown)();
  int (*count)(unsigned*);
  int (*by_index)(unsigned, DeviceHandle*);
  int (*by_uuid)(const char*, DeviceHandle*);
  int (*uuid)(DeviceHandle, char*, unsigned);
  int (*name)(DeviceHandle, char*, unsigned);
  int (*memory)(DeviceHandle, MemoryV1*);
  // Newer, or of some devices only.
  const char* (*error_string)(int);
  int (*memory_v2)(DeviceHandle, MemoryV2*);
  int (*utilization)(DeviceHandle, UtilizationRates*);
  int (*mig_mode)(DeviceHandle, unsigned*, unsigned*);
  int (*mig_slots)(DeviceHandle, unsigned*);
  int (*mig_instance)(DeviceHandle, unsigned, DeviceHandle*);
  int (*remapped_rows)(DeviceHandle, unsigned*, unsigned*, unsigned*, unsigned*);

  // Returns the first needed symbol that the library lacks, or nullptr.
  const char* Load(void* library) {
    Find(library, "nvmlErrorString", &error_string);
    Find(library, "nvmlDeviceGetMemoryInfo_v2", &memory_v2);
    Find(library, "nvmlDeviceGetUtilizationRates", &utilization);
    Find(library, "nvmlDeviceGetMigMode", &mig_mode);
    Find(library, "nvmlDeviceGetMaxMigDeviceCount", &mig_slots);
    Find(library, "nvmlDeviceGetMigDeviceHandleByIndex", &mig_instance);
    Find(library, "nvmlDeviceGetRemappedRows", &remapped_rows);
    const char* missing = nullptr;
    const auto need = [&](const char* symbol, auto** function) {
      Find(library, symbol, function);
      if (*function == nullptr && missing == nullptr) missing = symbol;
    };
    need("nvmlInit_v2", &init);
    need("nvmlShutdown", &shutdown);
    need("nvmlDeviceGetCount_v2", &count);
    need("nvmlDeviceGetHandleByIndex_v2", &by_index);
    need("nvmlDeviceGetHandleByUUID", &by_uuid);
    need("nvmlDeviceGetUUID", &uuid);
    need("nvmlDeviceGetName", &name);
    need("nvmlDeviceGetMemoryInfo", &memory);
    return missing;
  }
};

std::unique_ptr<Nvml> Nvml::Open(const std::string& library, std::string* problem) {
  problem->clear();
  void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const text = dlerror();
    const std::string error = text == nullptr ? "unknown error" : text;
    if (library != kDefaultLibrary || !FileIsMissing(library, error)) {
      *problem = "it cannot be loaded: " + error;
    }
    return nullptr;
  }
  auto functions = std::make_unique<Functions>();
  if (const char* const missing = functions->Load(handle)) {
    *problem = std::string("it has no function ") + missing;
    dlclose(handle);
    return nullptr;
  }
  const int code = functions->init();
  std::unique_ptr<Nvml> nvml(new Nvml(handle, std::move(functions)));
  if (code == kSuccess) return nvml;
  *problem = "it does not start: " + nvml->Describe(code);
  return nullptr;
}

Nvml::Nvml(void* library, std::unique_ptr<Functions> functions)
    : library_(library), functions_(std::move(functions)) {}

Nvml::~Nvml() {
  functions_->shutdown();
  dlclose(library_);
}

int Nvml::DeviceCount(uint32_t* count) const { return functions_->count(count); }

int Nvml::DeviceByIndex(uint32_t index, DeviceHandle* device) const {
  return functions_->by_index(index, device);
}

int Nvml::DeviceByUuid(const std::string& uuid, DeviceHandle* device) const {
  return functions_->by_uuid(uuid.c_str(), device);
}

int Nvml::Uuid(DeviceHandle device, std::string* uuid) const {
  std::array<char, kTextMax + 1> text = {};
  const int code = functions_->uuid(device, text.data(), kTextMax);
  *uuid = text.data();
  return code;
}

int Nvml::Name(DeviceHandle device, std::string* name) const {
  std::array<char, kTextMax + 1> text = {};
  const int code = functions_->name(device, text.data(), kTextMax);
  *name = text.data();
  return code;
}

int Nvml::MemoryInfo(DeviceHandle device, Memory* memory) const {
  if (functions_->memory_v2 != nullptr) {
    MemoryV2 info = {.version = kMemoryV2};
    if (functions_->memory_v2(device, &info) == kSuccess) {
      *memory = {.total_bytes = info.total, .free_bytes = info.free, .used_bytes = info.used};
      return kSuccess;
    }
  }
  MemoryV1 info = {};
  const int code = functions_->memory(device, &info);
  *memory = {.total_bytes = info.total, .free_bytes = info.free, .used_bytes = info.used};
  return code;
}

int Nvml::Utilization(DeviceHandle device, uint32_t* percent) const {
  if (functions_->utilization == nullptr) return kNotSupported;
  UtilizationRates rates = {};
  const int code = functions_->utilization(device, &rates);
  *percent = rates.gpu;
  return code;
}

int Nvml::MigEnabled(DeviceHandle device, bool* enabled) const {
  if (functions_->mig_mode == nullptr) return kNotSupported;
  unsigned current = 0;
  unsigned pending = 0;
  const int code = functions_->mig_mode(device, &current, &pending);
  *enabled = current != 0;
  return code;
}

int Nvml::MigSlots(DeviceHandle device, uint32_t* slots) const {
  if (functions_->mig_slots == nullptr) return kNotSupported;
  return functions_->mig_slots(device, slots);
}

int Nvml::MigInstance(DeviceHandle device, uint32_t slot, DeviceHandle* instance) const {
  if (functions_->mig_instance == nullptr) return kNotSupported;
  return functions_->mig_instance(device, slot, instance);
}

int Nvml::RowRemappingFailed(DeviceHandle device, bool* failed) const {
  if (functions_->remapped_rows == nullptr) return kNotSupported;
  unsigned correctable = 0;
  unsigned uncorrectable = 0;
  unsigned pending = 0;
  unsigned failure = 0;
  const int code =
      functions_->remapped_rows(device, &correctable, &uncorrectable, &pending, &failure);
  *failed = failure != 0;
  return code;
}

std::string Nvml::Describe(int code) const {
  const std::string number = "NVML error " + std::to_string(code);
  if (functions_->error_string == nullptr) return number;
  const char* const text = functions_->error_string(code);
  return text == nullptr ? number : std::string(text) + " (" + number + ")";
}

}  // namespace ray::accelerators
