// NVIDIA's management library, opened at run time: nothing here is linked against it. The layouts
// are those of its public C interface.
//
// Owner: NvidiaManager.   Threads: thread-compatible.   Errors: Open says in *problem what failed;
// calls return the library's code, which Describe makes readable. Blocks: Open may wake a driver
// up, which takes seconds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace ray::accelerators {

class Nvml {
 public:
  enum Code : int {
    kSuccess = 0,
    kNotSupported = 3,
    kNotFound = 6,
    kGpuIsLost = 15,
    kResetRequired = 16,
  };
  struct DeviceRecord;
  using DeviceHandle = DeviceRecord*;

  struct Memory {
    uint64_t total_bytes = 0;
    uint64_t free_bytes = 0;
    uint64_t used_bytes = 0;
  };

  // The library's name for dlopen, "libnvidia-ml.so.1"; a path in this variable replaces it.
  static constexpr char kLibraryVariable[] = "RAY_nvml_library";
  static constexpr char kDefaultLibrary[] = "libnvidia-ml.so.1";

  // nullptr with an empty *problem: there is no such library here, nothing is wrong.
  static std::unique_ptr<Nvml> Open(const std::string& library, std::string* problem);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  int DeviceCount(uint32_t* count) const;
  int DeviceByIndex(uint32_t index, DeviceHandle* device) const;
  int DeviceByUuid(const std::string& uuid, DeviceHandle* device) const;
  int Uuid(DeviceHandle device, std::string* uuid) const;
  int Name(DeviceHandle device, std::string* name) const;
  // `used` leaves out what the driver reserves, as nvidia-smi does, if the library can tell.
  int MemoryInfo(DeviceHandle device, Memory* memory) const;

  // kNotSupported also where the library is too old to have the function.
  int Utilization(DeviceHandle device, uint32_t* percent) const;
  int MigEnabled(DeviceHandle device, bool* enabled) const;
  int MigSlots(DeviceHandle device, uint32_t* slots) const;
  // kNotFound: the slot is empty.
  int MigInstance(DeviceHandle device, uint32_t slot, DeviceHandle* instance) const;
  // Whether memory rows are worn out beyond what the device can replace.
  int RowRemappingFailed(DeviceHandle device, bool* failed) const;

  std::string Describe(int code) const;

 private:
  struct Functions;
  Nvml(void* library, std::unique_ptr<Functions> functions);

  void* const library_;
  const std::unique_ptr<Functions> functions_;
};

}  // namespace ray::accelerators
