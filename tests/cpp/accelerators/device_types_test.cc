#include "ray/accelerators/device_types.h"

#include <gtest/gtest.h>

namespace ray::accelerators {
namespace {

struct Case {
  std::string name;
  std::string type;
};

// What real Ray 2.60 answers for these names.
const Case kNames[] = {
    {"Tesla V100-SXM2-16GB", "V100"},
    {"Tesla T4", "T4"},
    {"Tesla K80", "K80"},
    {"NVIDIA A100-SXM4-40GB", "A100"},
    {"NVIDIA A100 80GB PCIe", "A100"},
    {"NVIDIA A100-SXM4-40GB MIG 1g.5gb", "A100"},
    {"NVIDIA A10G", "A10G"},
    {"NVIDIA H100 80GB HBM3", "H100"},
    {"NVIDIA H200", "H200"},
    {"NVIDIA GH200 480GB", "GH200"},
    {"NVIDIA L40S", "L40S"},
    {"NVIDIA B300 SXM6 AC", "B300"},
    {"NVIDIA RTX A6000", "RTX-A6000"},
    {"NVIDIA RTX 6000 Ada Generation", "RTX-6000"},
    {"NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"},
    {"NVIDIA GeForce RTX 3090", "GeForce-RTX-3090"},
    {"NVIDIA GeForce RTX 4060 Ti 16GB", "GeForce-RTX-4060-Ti-16GB"},
    {"NVIDIA GeForce RTX 2080 Super with Max-Q Design", "GeForce-RTX-2080-Super-with-Max-Q-Design"},
    {"GeForce GT 1030", "GT-1030"},
    {"GeForce GTX TITAN X", "GeForce-GTX-TITAN-X"},
    {"NVIDIA TITAN V", "TITAN-V"},
    {"NVIDIA TITAN X (Pascal)", "TITAN-X-(Pascal)"},
    {"NVIDIA CMP 170HX", "CMP-170HX"},
    {"NVIDIA PG506-232", "PG506"},
    {"Quadro RTX 8000", "RTX-8000"},
    {"NVIDIA Quadro GV100", "Quadro-GV100"},
    {"NVIDIA Tesla T4", "Tesla-T4"},
    {"GRID V100D-32Q", "V100D"},
    {"NVIDIA GRACE-X1", "GRACE-X1"},
    {"NVIDIA Graphics Device", "Graphics-Device"},
    {"NVIDIA Jetson Orin NX 16GB", "Jetson-Orin-NX-16GB"},
    {"Orin (nvgpu)", "Orin-(nvgpu)"},
    {"NVIDIA", "NVIDIA"},
    {"", ""},
};

TEST(DeviceTypes, NvidiaProductsHaveTheTypesOfRay) {
  for (const auto& [name, type] : kNames) EXPECT_EQ(NvidiaType(name), type) << name;
}

TEST(DeviceTypes, AmdDevicesHaveTheTypesOfRay) {
  EXPECT_EQ(AmdType(0x74a1), "AMD-Instinct-MI300X-OAM");
  EXPECT_EQ(AmdType(0x740c), "AMD-Instinct-MI250X-MI250");
  EXPECT_EQ(AmdType(0x744c), "");
}

}  // namespace
}  // namespace ray::accelerators
