#include "ray/accelerators/nvidia_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cpp/accelerators/accelerators_testutil.h"

namespace ray::accelerators {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kTwoDevices[] =
    "NVIDIA H100 80GB HBM3|GPU-aa11|85899345920|1048576|37|;Tesla T4|GPU-bb22|16106127360|0|0|";

auto HasUuid(const std::string& uuid) { return Field(&Device::uuid, uuid); }

TEST(NvidiaManager, FindsDevicesInTheOrderOfTheDriver) {
  FakeMachine machine;
  machine.SetDevices(kTwoDevices);
  NvidiaManager manager(machine.host());
  const Discovery found = manager.Discover();
  EXPECT_THAT(found.warnings, IsEmpty());
  ASSERT_EQ(found.devices.size(), 2);
  EXPECT_EQ(found.devices[0].index, 0);
  EXPECT_EQ(found.devices[0].visible_id, "0");
  EXPECT_EQ(found.devices[0].uuid, "GPU-aa11");
  EXPECT_EQ(found.devices[0].name, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(found.devices[0].type, "H100");
  EXPECT_EQ(found.devices[1].visible_id, "1");
  EXPECT_EQ(found.devices[1].type, "T4");
}

TEST(NvidiaManager, ReadsMemoryWithoutWhatTheDriverReserves) {
  FakeMachine machine;
  machine.SetDevices(kTwoDevices);
  NvidiaManager manager(machine.host());
  const Discovery found = manager.Discover();
  const Reading reading = manager.Read(found.devices.at(0));
  ASSERT_TRUE(reading.memory);
  EXPECT_EQ(reading.memory->total_bytes, 80ULL << 30);
  EXPECT_EQ(reading.memory->used_bytes, 1 << 20);
  EXPECT_EQ(reading.memory->free_bytes, (80ULL << 30) - (2 << 20));
  EXPECT_EQ(reading.utilization_percent, 37);
  EXPECT_EQ(reading.problem, "");
}

TEST(NvidiaManager, OldLibraryTellsLess) {
  FakeMachine machine;
  machine.Set(Nvml::kLibraryVariable, FAKE_NVML_OLD);
  machine.SetDevices(kTwoDevices);
  NvidiaManager manager(machine.host());
  const Discovery found = manager.Discover();
  ASSERT_EQ(found.devices.size(), 2);
  const Reading reading = manager.Read(found.devices[0]);
  EXPECT_EQ(reading.memory->used_bytes, 2 << 20);
  EXPECT_EQ(reading.utilization_percent, std::nullopt);
  EXPECT_EQ(reading.problem, "");
}

TEST(NvidiaManager, NoLibraryIsNoGpuAndNoWarning) {
  std::string problem;
  const auto nvml = Nvml::Open(Nvml::kDefaultLibrary, &problem);
  // A machine with GPUs may run this as well.
  EXPECT_TRUE(nvml != nullptr || problem.empty()) << problem;
}

TEST(NvidiaManager, NamedLibraryThatIsMissingIsAWarning) {
  FakeMachine machine;
  machine.Set(Nvml::kLibraryVariable, "/no/such/library.so");
  const Discovery found = NvidiaManager(machine.host()).Discover();
  EXPECT_THAT(found.devices, IsEmpty());
  EXPECT_THAT(found.warnings,
              ElementsAre(AllOf(HasSubstr("/no/such/library.so"), HasSubstr("cannot be loaded"))));
}

TEST(NvidiaManager, FileThatIsNoLibraryIsAWarning) {
  FakeMachine machine;
  machine.Write("libnvidia-ml.so.1", "text");
  machine.Set(Nvml::kLibraryVariable, machine.host().root / "libnvidia-ml.so.1");
  const Discovery found = NvidiaManager(machine.host()).Discover();
  EXPECT_THAT(found.warnings, ElementsAre(HasSubstr("cannot be loaded")));
}

TEST(NvidiaManager, LibraryWithoutANeededFunctionIsAWarning) {
  FakeMachine machine;
  machine.Set(Nvml::kLibraryVariable, FAKE_NVML_INCOMPLETE);
  const Discovery found = NvidiaManager(machine.host()).Discover();
  EXPECT_THAT(found.warnings, ElementsAre(HasSubstr("has no function nvmlDeviceGetUUID")));
}

TEST(NvidiaManager, LibraryThatDoesNotStartIsAWarning) {
  FakeMachine machine;
  machine.SetDevices(kTwoDevices);
  machine.SetFake("FAKE_NVML_INIT_CODE", "9");
  const Discovery found = NvidiaManager(machine.host()).Discover();
  EXPECT_THAT(found.devices, IsEmpty());
  EXPECT_THAT(found.warnings, ElementsAre(HasSubstr("does not start: Fake error (NVML error 9)")));
}

TEST(NvidiaManager, LibraryThatCannotCountIsAWarning) {
  FakeMachine machine;
  machine.SetDevices(kTwoDevices);
  machine.SetFake("FAKE_NVML_COUNT_CODE", "999");
  const Discovery found = NvidiaManager(machine.host()).Discover();
  EXPECT_THAT(found.devices, IsEmpty());
  EXPECT_THAT(found.warnings, ElementsAre(HasSubstr("cannot count")));
}

TEST(NvidiaManager, LostDevicesAreLeftOutAndNamed) {
  FakeMachine machine;
  machine.SetDevices("A100|GPU-a|1|0|0|unreachable;A100|GPU-b|1|0|0|;A100|GPU-c|1|0|0|lost");
  const Discovery found = NvidiaManager(machine.host()).Discover();
  EXPECT_THAT(found.devices, ElementsAre(AllOf(HasUuid("GPU-b"), Field(&Device::visible_id, "1"))));
  EXPECT_THAT(found.warnings, ElementsAre(AllOf(HasSubstr("GPU 0 is not offered"),
                                                HasSubstr("GPU is lost"), HasSubstr("reset")),
                                          HasSubstr("GPU 2 is not offered")));
}

TEST(NvidiaManager, ReadTellsOfADeviceThatWasLostMeanwhile) {
  FakeMachine machine;
  machine.SetDevices("NVIDIA A100|GPU-a|1|0|0|lost_later");
  NvidiaManager manager(machine.host());
  const Reading reading = manager.Read(manager.Discover().devices.at(0));
  EXPECT_THAT(reading.problem, HasSubstr("GPU is lost"));
  EXPECT_FALSE(reading.memory);
}

TEST(NvidiaManager, ReadTellsOfWornOutMemory) {
  FakeMachine machine;
  machine.SetDevices("NVIDIA A100|GPU-a|4194304|0|5|worn_out");
  NvidiaManager manager(machine.host());
  const Reading reading = manager.Read(manager.Discover().devices.at(0));
  EXPECT_THAT(reading.problem, HasSubstr("faulty rows"));
  EXPECT_TRUE(reading.memory);
}

TEST(NvidiaManager, DeviceWithoutMemoryOfItsOwnIsHealthy) {
  FakeMachine machine;
  machine.SetDevices("NVIDIA GB10|GPU-a|0|0|0|no_memory");
  NvidiaManager manager(machine.host());
  const Discovery found = manager.Discover();
  ASSERT_EQ(found.devices.size(), 1);
  const Reading reading = manager.Read(found.devices[0]);
  EXPECT_EQ(reading.problem, "");
  EXPECT_FALSE(reading.memory);
  EXPECT_FALSE(reading.utilization_percent);
}

TEST(NvidiaManager, KeepsVisibleDevicesInTheirOrder) {
  FakeMachine machine;
  machine.SetDevices(kTwoDevices);
  machine.Set("CUDA_VISIBLE_DEVICES", "GPU-bb22, 0");
  const Discovery found = NvidiaManager(machine.host()).Discover();
  ASSERT_THAT(found.devices, ElementsAre(HasUuid("GPU-bb22"), HasUuid("GPU-aa11")));
  EXPECT_EQ(found.devices[0].visible_id, "GPU-bb22");
  EXPECT_EQ(found.devices[0].index, 1);
  EXPECT_EQ(found.devices[1].visible_id, "0");
}

TEST(NvidiaManager, BeginOfAUuidIsEnoughIfUnique) {
  FakeMachine machine;
  machine.SetDevices("NVIDIA A100|GPU-ab1|1|0|0|;NVIDIA A100|GPU-ac2|1|0|0|");
  machine.Set("CUDA_VISIBLE_DEVICES", "GPU-ac");
  EXPECT_THAT(NvidiaManager(machine.host()).Discover().devices, ElementsAre(HasUuid("GPU-ac2")));
  machine.Set("CUDA_VISIBLE_DEVICES", "GPU-a");
  EXPECT_THAT(NvidiaManager(machine.host()).Discover().devices, IsEmpty());
}

TEST(NvidiaManager, VisibleListEndsAtWhatIsNoDevice) {
  FakeMachine machine;
  machine.SetDevices(kTwoDevices);
  machine.Set("CUDA_VISIBLE_DEVICES", "1,7,0");
  const Discovery unknown = NvidiaManager(machine.host()).Discover();
  EXPECT_THAT(unknown.devices, ElementsAre(HasUuid("GPU-bb22")));
  EXPECT_THAT(unknown.warnings, ElementsAre(HasSubstr("CUDA_VISIBLE_DEVICES names '7'")));

  machine.Set("CUDA_VISIBLE_DEVICES", "0,-1,1");
  const Discovery ended = NvidiaManager(machine.host()).Discover();
  EXPECT_THAT(ended.devices, ElementsAre(HasUuid("GPU-aa11")));
  EXPECT_THAT(ended.warnings, IsEmpty());
}

TEST(NvidiaManager, EmptyVisibleListHidesAll) {
  for (const char* const value : {"", "-1", "NoDevFiles"}) {
    FakeMachine machine;
    machine.SetDevices(kTwoDevices);
    machine.Set("CUDA_VISIBLE_DEVICES", value);
    const Discovery found = NvidiaManager(machine.host()).Discover();
    EXPECT_THAT(found.devices, IsEmpty()) << value;
    EXPECT_THAT(found.warnings, IsEmpty()) << value;
  }
}

TEST(NvidiaManager, ListsMigInstances) {
  FakeMachine machine;
  machine.SetDevices("NVIDIA H100|GPU-a|8388608|0|0|mig");
  const Discovery found = NvidiaManager(machine.host()).Discover();
  ASSERT_EQ(found.devices.size(), 1);
  EXPECT_THAT(found.devices[0].mig_instances,
              ElementsAre(Field(&MigInstance::uuid, "MIG-GPU-aa"),
                          AllOf(Field(&MigInstance::uuid, "MIG-GPU-ab"),
                                Field(&MigInstance::name, "NVIDIA H100 MIG 3g.40gb"))));
}

TEST(NvidiaManager, MigInstanceThatIsNamedIsADevice) {
  FakeMachine machine;
  machine.SetDevices("NVIDIA H100|GPU-a|8388608|0|0|mig");
  machine.Set("CUDA_VISIBLE_DEVICES", "MIG-GPU-ab");
  NvidiaManager manager(machine.host());
  const Discovery found = manager.Discover();
  ASSERT_THAT(found.devices, ElementsAre(HasUuid("MIG-GPU-ab")));
  EXPECT_EQ(found.devices[0].type, "H100");
  EXPECT_EQ(found.devices[0].visible_id, "MIG-GPU-ab");
  EXPECT_THAT(found.devices[0].mig_instances, IsEmpty());
  EXPECT_EQ(manager.Read(found.devices[0]).memory->total_bytes, 4 << 20);
}

}  // namespace
}  // namespace ray::accelerators
