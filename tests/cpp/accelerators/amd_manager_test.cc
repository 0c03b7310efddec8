#include "ray/accelerators/amd_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cpp/accelerators/accelerators_testutil.h"

namespace ray::accelerators {
namespace {

using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;

void AddNode(FakeMachine* machine, int node, const std::string& properties) {
  machine->Write("sys/class/kfd/kfd/topology/nodes/" + std::to_string(node) + "/properties",
                 properties);
}

// A CPU and two GPUs.
void MakeNodes(FakeMachine* machine) {
  AddNode(machine, 0, "cpu_cores_count 8\nsimd_count 0\n");
  AddNode(machine, 1, "simd_count 304\ndevice_id 29857\ndrm_render_minor 128\nunique_id 2748\n");
  AddNode(machine, 2, "simd_count 304\ndevice_id 1\ndrm_render_minor 129\nunique_id 3567\n");
}

auto HasUuid(const std::string& uuid) { return Field(&Device::uuid, uuid); }

TEST(AmdManager, FindsComputeNodesThatAreGpus) {
  FakeMachine machine;
  MakeNodes(&machine);
  machine.Write("sys/class/drm/renderD128/device/product_name", "AMD Instinct MI300X OAM\n");
  const Discovery found = AmdManager(machine.host()).Discover();
  ASSERT_EQ(found.devices.size(), 2);
  EXPECT_EQ(found.devices[0].index, 0);
  EXPECT_EQ(found.devices[0].uuid, "GPU-0000000000000abc");
  EXPECT_EQ(found.devices[0].name, "AMD Instinct MI300X OAM");
  EXPECT_EQ(found.devices[0].type, "AMD-Instinct-MI300X-OAM");
  EXPECT_EQ(found.devices[1].index, 1);
  EXPECT_EQ(found.devices[1].type, "");
}

TEST(AmdManager, NoComputeDriverIsNoGpu) {
  FakeMachine machine;
  const Discovery found = AmdManager(machine.host()).Discover();
  EXPECT_THAT(found.devices, IsEmpty());
  EXPECT_THAT(found.warnings, IsEmpty());
}

TEST(AmdManager, ReadsMemoryAndUtilization) {
  FakeMachine machine;
  MakeNodes(&machine);
  machine.Write("sys/class/drm/renderD128/device/mem_info_vram_total", "1000\n");
  machine.Write("sys/class/drm/renderD128/device/mem_info_vram_used", "300\n");
  machine.Write("sys/class/drm/renderD128/device/gpu_busy_percent", "12\n");
  AmdManager manager(machine.host());
  const Discovery found = manager.Discover();
  const Reading reading = manager.Read(found.devices.at(0));
  EXPECT_EQ(reading.memory->free_bytes, 700);
  EXPECT_EQ(reading.utilization_percent, 12);
  EXPECT_FALSE(manager.Read(found.devices.at(1)).memory);
}

TEST(AmdManager, HipNumbersWhatTheRuntimeLeaves) {
  FakeMachine machine;
  MakeNodes(&machine);
  machine.Set("ROCR_VISIBLE_DEVICES", "1");
  const Discovery one = AmdManager(machine.host()).Discover();
  ASSERT_THAT(one.devices, ElementsAre(HasUuid("GPU-0000000000000def")));
  EXPECT_EQ(one.devices[0].visible_id, "0");

  machine.Set("ROCR_VISIBLE_DEVICES", "1,0");
  machine.Set("HIP_VISIBLE_DEVICES", "1");
  const Discovery other = AmdManager(machine.host()).Discover();
  ASSERT_THAT(other.devices, ElementsAre(HasUuid("GPU-0000000000000abc")));
  EXPECT_EQ(other.devices[0].visible_id, "1");
}

}  // namespace
}  // namespace ray::accelerators
