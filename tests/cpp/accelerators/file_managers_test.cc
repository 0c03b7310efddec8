#include "ray/accelerators/file_managers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cpp/accelerators/accelerators_testutil.h"

namespace ray::accelerators {
namespace {

using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;
using testing::Pair;

auto HasIndex(uint32_t index) { return Field(&Device::index, index); }

void AddPciDevice(FakeMachine* machine, const std::string& folder, const std::string& vendor,
                  const std::string& device) {
  machine->Write(folder + "/device/vendor", vendor + "\n");
  machine->Write(folder + "/device/device", device + "\n");
}

TEST(IntelGpuManager, FindsDataCentreGpusOnly) {
  FakeMachine machine;
  AddPciDevice(&machine, "sys/class/drm/card0", "0x8086", "0x4680");  // graphics of a CPU
  AddPciDevice(&machine, "sys/class/drm/card1", "0x8086", "0x0bd5");
  AddPciDevice(&machine, "sys/class/drm/card2", "0x8086", "0x0bda");
  AddPciDevice(&machine, "sys/class/drm/card3", "0x10de", "0x0bda");
  const Discovery found = MakeIntelGpuManager(machine.host())->Discover();
  ASSERT_THAT(found.devices, ElementsAre(HasIndex(0), HasIndex(1)));
  EXPECT_EQ(found.devices[0].type, "Intel-GPU-Max-1550");
  EXPECT_EQ(found.devices[1].type, "Intel-GPU-Max-1100");
}

TEST(IntelGpuManager, MaskMayNameTiles) {
  FakeMachine machine;
  AddPciDevice(&machine, "sys/class/drm/card0", "0x8086", "0x0bd5");
  AddPciDevice(&machine, "sys/class/drm/card1", "0x8086", "0x0bd5");
  machine.Set("ZE_AFFINITY_MASK", "1.0,0");
  const Discovery found = MakeIntelGpuManager(machine.host())->Discover();
  ASSERT_THAT(found.devices, ElementsAre(HasIndex(1), HasIndex(0)));
  EXPECT_EQ(found.devices[0].visible_id, "1.0");
}

TEST(GaudiManager, NumbersModules) {
  FakeMachine machine;
  AddPciDevice(&machine, "sys/class/accel/accel0", "0x1da3", "0x1020");
  machine.Write("sys/class/accel/accel0/device/module_id", "3\n");
  AddPciDevice(&machine, "sys/class/accel/accel1", "0x1da3", "0x1020");
  AddPciDevice(&machine, "sys/class/accel/accel2", "0x1234", "0x1");
  const Discovery found = MakeGaudiManager(machine.host())->Discover();
  ASSERT_THAT(found.devices, ElementsAre(HasIndex(1), HasIndex(3)));
  EXPECT_EQ(found.devices[0].type, "Intel-GAUDI");
}

TEST(NeuronManager, DevicesAreCores) {
  FakeMachine machine;
  machine.Write("dev/neuron0");
  machine.Write("dev/neuron1");
  machine.Write("sys/devices/virtual/neuron_device/neuron1/core_count", "4\n");
  const auto manager = MakeNeuronManager(machine.host());
  EXPECT_EQ(manager->family().resource, "neuron_cores");
  const Discovery found = manager->Discover();
  ASSERT_EQ(found.devices.size(), 6);
  EXPECT_EQ(found.devices[5].index, 5);
  EXPECT_EQ(found.devices[5].type, "aws-neuron-core");
}

TEST(DeviceFileManagers, CountDeviceFiles) {
  FakeMachine machine;
  machine.Write("dev/davinci0");
  machine.Write("dev/davinci_manager");
  machine.Write("dev/rbln0");
  machine.Write("dev/rbln1");
  machine.Write("dev/tenstorrent/4");
  EXPECT_THAT(MakeAscendManager(machine.host())->Discover().devices, ElementsAre(HasIndex(0)));
  EXPECT_THAT(MakeRebellionsManager(machine.host())->Discover().devices,
              ElementsAre(HasIndex(0), HasIndex(1)));
  EXPECT_THAT(MakeTenstorrentManager(machine.host())->Discover().devices, ElementsAre(HasIndex(4)));
}

TEST(FuriosaManager, NamesDevicesAsItsLibrariesDo) {
  FakeMachine machine;
  EXPECT_THAT(MakeFuriosaManager(machine.host())->Limit({"0", "npu:1"}, 0),
              ElementsAre(Pair("FURIOSA_DEVICES", "npu:0,npu:1")));
}

TEST(FileManagers, BareMachineHasNothing) {
  FakeMachine machine;
  for (const auto make :
       {MakeIntelGpuManager, MakeGaudiManager, MakeNeuronManager, MakeAscendManager,
        MakeRebellionsManager, MakeTenstorrentManager, MakeFuriosaManager, MakeMobilintManager}) {
    const Discovery found = make(machine.host())->Discover();
    EXPECT_THAT(found.devices, IsEmpty());
    EXPECT_THAT(found.warnings, IsEmpty());
  }
}

}  // namespace
}  // namespace ray::accelerators
