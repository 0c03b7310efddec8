#include "ray/accelerators/node_accelerators.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cpp/accelerators/accelerators_testutil.h"

namespace ray::accelerators {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

constexpr char kTwoDevices[] =
    "NVIDIA H100 80GB HBM3|GPU-aa|8388608|0|0|;NVIDIA H100 80GB HBM3|GPU-bb|8388608|0|0|";

void AddAmdGpu(FakeMachine* machine) {
  machine->Write("sys/class/kfd/kfd/topology/nodes/1/properties",
                 "simd_count 304\ndevice_id 29857\n");
}

TEST(NodeAccelerators, AnnouncesDevicesAndTheirType) {
  FakeMachine machine;
  machine.SetDevices(kTwoDevices);
  const auto node = NodeAccelerators::Detect(machine.host());
  const Announcement announcement = node.Announce();
  EXPECT_THAT(announcement.resources,
              ElementsAre(Pair("GPU", 2), Pair("accelerator_type:H100", 1)));
  EXPECT_THAT(announcement.labels, ElementsAre(Pair("ray.io/accelerator-type", "H100")));
  EXPECT_EQ(node.family("GPU"), "nvidia");
}

TEST(NodeAccelerators, ConfiguredQuantityReplacesTheFoundOne) {
  FakeMachine machine;
  machine.SetDevices(kTwoDevices);
  const auto node = NodeAccelerators::Detect(machine.host());
  EXPECT_THAT(node.Announce({{"GPU", 1.5}, {"TPU", 4}}).resources,
              ElementsAre(Pair("GPU", 1.5), Pair("TPU", 4), Pair("accelerator_type:H100", 1)));
  EXPECT_THAT(node.Announce({{"GPU", 0}}).resources, IsEmpty());
  EXPECT_THAT(node.Announce({{"GPU", 0}}).labels, IsEmpty());
}

TEST(NodeAccelerators, BareMachineAnnouncesNothing) {
  FakeMachine machine;
  const auto node = NodeAccelerators::Detect(machine.host());
  EXPECT_THAT(node.warnings(), IsEmpty());
  EXPECT_THAT(node.Announce().resources, IsEmpty());
  EXPECT_THAT(node.resources(), ElementsAre("FURIOSA", "GPU", "HPU", "MBLT", "NPU", "RBLN", "TPU",
                                            "TTNPU", "neuron_cores"));
}

TEST(NodeAccelerators, SliceIsAnnouncedWithChipsOnly) {
  FakeMachine machine;
  machine.Set("TPU_NAME", "my-slice");
  EXPECT_THAT(NodeAccelerators::Detect(machine.host()).Announce().resources, IsEmpty());
  machine.Write("dev/accel0");
  EXPECT_THAT(NodeAccelerators::Detect(machine.host()).Announce().resources,
              ElementsAre(Pair("TPU", 1), Pair("my-slice", 1)));
}

TEST(NodeAccelerators, OneFamilyServesGpu) {
  FakeMachine machine;
  AddAmdGpu(&machine);
  const auto amd = NodeAccelerators::Detect(machine.host());
  EXPECT_EQ(amd.family("GPU"), "amd");
  EXPECT_THAT(amd.VisibleDevicesEnvironment({{"GPU", {0}}}),
              ElementsAre(Pair("HIP_VISIBLE_DEVICES", "0")));

  machine.SetDevices(kTwoDevices);
  const auto both = NodeAccelerators::Detect(machine.host());
  EXPECT_EQ(both.family("GPU"), "nvidia");
  EXPECT_THAT(both.warnings(), ElementsAre(HasSubstr("1 devices of amd are not offered")));
}

TEST(NodeAccelerators, LimitsAProcessToItsAllocation) {
  FakeMachine machine;
  machine.SetDevices(kTwoDevices);
  const auto node = NodeAccelerators::Detect(machine.host());
  EXPECT_THAT(node.VisibleDevicesEnvironment({{"GPU", {1}}, {"CPU", {0}}}),
              ElementsAre(Pair("CUDA_VISIBLE_DEVICES", "1")));
  EXPECT_THAT(
      node.VisibleDevicesEnvironment({{"GPU", {0, 1}}, {"neuron_cores", {2}}}),
      ElementsAre(Pair("CUDA_VISIBLE_DEVICES", "0,1"), Pair("NEURON_RT_VISIBLE_CORES", "2")));
  EXPECT_THAT(node.DeviceIds("GPU", {1, 0}), ElementsAre("1", "0"));
}

TEST(NodeAccelerators, IndicesCountWithinTheVisibleDevices) {
  FakeMachine machine;
  machine.SetDevices(kTwoDevices);
  machine.Set("CUDA_VISIBLE_DEVICES", "GPU-bb,0");
  const auto node = NodeAccelerators::Detect(machine.host());
  EXPECT_THAT(node.DeviceIds("GPU", {0, 1}), ElementsAre("GPU-bb", "0"));
  EXPECT_THAT(node.VisibleDevicesEnvironment({{"GPU", {1}}}),
              ElementsAre(Pair("CUDA_VISIBLE_DEVICES", "0")));
}

TEST(NodeAccelerators, DevicesThatWereNotFoundAreNumbered) {
  FakeMachine machine;
  const auto node = NodeAccelerators::Detect(machine.host());
  EXPECT_THAT(node.VisibleDevicesEnvironment({{"GPU", {0, 3}}}),
              ElementsAre(Pair("CUDA_VISIBLE_DEVICES", "0,3")));
}

TEST(NodeAccelerators, WithoutAShareNothingIsSet) {
  FakeMachine machine;
  const auto node = NodeAccelerators::Detect(machine.host());
  EXPECT_THAT(node.VisibleDevicesEnvironment({}), IsEmpty());
  EXPECT_THAT(node.VisibleDevicesEnvironment({{"GPU", {}}}), IsEmpty());
  machine.Set("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1");
  EXPECT_THAT(NodeAccelerators::Detect(machine.host()).VisibleDevicesEnvironment({}),
              Contains(Pair("CUDA_VISIBLE_DEVICES", "")));
}

TEST(NodeAccelerators, VariablesAreLeftAloneOnRequest) {
  FakeMachine machine;
  machine.Set("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "1");
  EXPECT_THAT(NodeAccelerators::Detect(machine.host()).VisibleDevicesEnvironment({{"GPU", {0}}}),
              IsEmpty());
  machine.Set("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "0");
  EXPECT_THAT(NodeAccelerators::Detect(machine.host()).VisibleDevicesEnvironment({{"GPU", {0}}}),
              ElementsAre(Pair("CUDA_VISIBLE_DEVICES", "0")));
}

TEST(NodeAccelerators, NodeMayNotOfferMoreThanIsVisible) {
  FakeMachine machine;
  EXPECT_EQ(NodeAccelerators::Detect(machine.host()).CheckQuantity("GPU", 8), "");
  machine.Set("CUDA_VISIBLE_DEVICES", "0,GPU-bb");
  const auto node = NodeAccelerators::Detect(machine.host());
  EXPECT_EQ(node.CheckQuantity("GPU", 2), "");
  EXPECT_EQ(node.CheckQuantity("CPU", 100), "");
  EXPECT_EQ(node.CheckQuantity("GPU", 3),
            "Attempting to start raylet with 3 GPU, but CUDA_VISIBLE_DEVICES contains ['0', "
            "'GPU-bb'].");
}

TEST(NodeAccelerators, ReadsEachDevice) {
  FakeMachine machine;
  machine.SetDevices(kTwoDevices);
  const auto node = NodeAccelerators::Detect(machine.host());
  const std::vector<Reading> readings = node.Read("GPU");
  ASSERT_EQ(readings.size(), 2);
  EXPECT_EQ(readings[1].memory->total_bytes, 8 << 20);
  EXPECT_THAT(node.Read("TPU"), IsEmpty());
  EXPECT_THAT(node.Read("CPU"), IsEmpty());
}

}  // namespace
}  // namespace ray::accelerators
