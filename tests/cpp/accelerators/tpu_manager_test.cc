#include "ray/accelerators/tpu_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cpp/accelerators/accelerators_testutil.h"

namespace ray::accelerators {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

TEST(TpuManager, OlderChipsAreDeviceFiles) {
  FakeMachine machine;
  for (const char* const file : {"dev/accel0", "dev/accel1", "dev/accel2", "dev/accel3"}) {
    machine.Write(file);
  }
  machine.Set("TPU_ACCELERATOR_TYPE", "v4-16");
  const Discovery found = TpuManager(machine.host()).Discover();
  ASSERT_EQ(found.devices.size(), 4);
  EXPECT_EQ(found.devices[3].visible_id, "3");
  EXPECT_EQ(found.devices[3].type, "TPU-V4");
}

TEST(TpuManager, LaterChipsAreGroupsOfVfio) {
  FakeMachine machine;
  machine.Write("dev/vfio/vfio");
  machine.Write("dev/vfio/7");
  machine.Write("dev/vfio/8");
  machine.Write("sys/bus/pci/devices/0000:00:05.0/vendor", "0x1ae0\n");
  machine.Write("sys/bus/pci/devices/0000:00:05.0/device", "0x006f\n");
  const Discovery found = TpuManager(machine.host()).Discover();
  ASSERT_EQ(found.devices.size(), 2);
  EXPECT_EQ(found.devices[0].index, 0);
  EXPECT_EQ(found.devices[0].type, "TPU-V6E");
}

TEST(TpuManager, OtherDevicesOfVfioAreNoChips) {
  FakeMachine machine;
  machine.Write("dev/vfio/7");
  machine.Write("sys/bus/pci/devices/0000:00:05.0/vendor", "0x1ae0\n");
  machine.Write("sys/bus/pci/devices/0000:00:05.0/device", "0x0042\n");  // a network card
  EXPECT_THAT(TpuManager(machine.host()).Discover().devices, IsEmpty());
}

TEST(TpuManager, PartOfAHostNeedsItsShape) {
  FakeMachine machine;
  const TpuManager manager(machine.host());
  EXPECT_THAT(manager.Limit({"2"}, 4), ElementsAre(Pair("TPU_VISIBLE_CHIPS", "2"),
                                                   Pair("TPU_CHIPS_PER_HOST_BOUNDS", "1,1,1"),
                                                   Pair("TPU_HOST_BOUNDS", "1,1,1")));
  EXPECT_THAT(manager.Limit({"0", "1"}, 4), ElementsAre(Pair("TPU_VISIBLE_CHIPS", "0,1"),
                                                        Pair("TPU_CHIPS_PER_HOST_BOUNDS", "1,2,1"),
                                                        Pair("TPU_HOST_BOUNDS", "1,1,1")));
  EXPECT_THAT(manager.Limit({"0", "1", "2", "3"}, 8),
              ElementsAre(Pair("TPU_VISIBLE_CHIPS", "0,1,2,3")));
  EXPECT_THAT(manager.Limit({"0", "1", "2", "3"}, 4), IsEmpty());
}

TEST(TpuManager, AnnouncesItsPlaceInTheSlice) {
  FakeMachine machine;
  machine.Set("TPU_NAME", "my-slice");
  machine.Set("TPU_ACCELERATOR_TYPE", "tpu7x-16");
  machine.Set("TPU_TOPOLOGY", "2x2x2");
  machine.Set("TPU_WORKER_ID", "0");
  const Announcement head = TpuManager(machine.host()).Extras();
  EXPECT_THAT(head.resources, ElementsAre(Pair("TPU-v7x-16-head", 1), Pair("my-slice", 1)));
  EXPECT_THAT(
      head.labels,
      ElementsAre(Pair("ray.io/tpu-pod-type", "v7x-16"), Pair("ray.io/tpu-slice-name", "my-slice"),
                  Pair("ray.io/tpu-topology", "2x2x2"), Pair("ray.io/tpu-worker-id", "0")));

  machine.Set("TPU_WORKER_ID", "1");
  EXPECT_THAT(TpuManager(machine.host()).Extras().resources, ElementsAre(Pair("my-slice", 1)));
}

}  // namespace
}  // namespace ray::accelerators
