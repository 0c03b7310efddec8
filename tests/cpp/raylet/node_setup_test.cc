#include "ray/raylet/node_setup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ray::raylet {
namespace {

using ::testing::HasSubstr;

const Machine kMachine{.cpus = 8, .memory_bytes = 1000, .hostname = "h"};

absl::StatusOr<NodeSetup> Offer(const NodeFlags& flags) {
  accelerators::Host host;
  host.root = "/nonexistent";
  return SetUpNode(flags, base::Config(), kMachine, accelerators::NodeAccelerators::Detect(host));
}

double Quantity(const NodeSetup& setup, std::string_view name) {
  return setup.resources.Get(name).ToDouble();
}

TEST(NodeSetup, TakesFromTheMachineWhatNoFlagSays) {
  const auto setup = Offer({.node_ip = "1.2.3.4"});
  ASSERT_TRUE(setup.ok()) << setup.status();
  EXPECT_EQ(setup->object_store_bytes, 300u);
  EXPECT_EQ(Quantity(*setup, "CPU"), 8);
  EXPECT_EQ(Quantity(*setup, "GPU"), 0);
  EXPECT_EQ(Quantity(*setup, "object_store_memory"), 300);
  EXPECT_EQ(Quantity(*setup, "memory"), 700);
  EXPECT_EQ(Quantity(*setup, "node:1.2.3.4"), 1);
  EXPECT_EQ(Quantity(*setup, "node:__internal_head__"), 0);
}

TEST(NodeSetup, FlagsWin) {
  const auto setup = Offer({.num_cpus = 2.5,
                            .num_gpus = 1,
                            .memory = 10,
                            .object_store_memory = 20,
                            .resources = R"({"a": 2, "b": 0.5})",
                            .labels = R"({"zone": "x"})",
                            .is_head = true});
  ASSERT_TRUE(setup.ok()) << setup.status();
  EXPECT_EQ(Quantity(*setup, "CPU"), 2.5);
  EXPECT_EQ(Quantity(*setup, "GPU"), 1);
  EXPECT_EQ(Quantity(*setup, "memory"), 10);
  EXPECT_EQ(setup->object_store_bytes, 20u);
  EXPECT_EQ(Quantity(*setup, "a"), 2);
  EXPECT_EQ(Quantity(*setup, "b"), 0.5);
  EXPECT_EQ(Quantity(*setup, "node:__internal_head__"), 1);
  EXPECT_EQ(setup->labels.at("zone"), "x");
}

TEST(NodeSetup, RefusesWhatMakesNoSense) {
  const NodeFlags wrong[] = {
      {.num_cpus = -1},
      {.num_gpus = 1e300},
      {.object_store_memory = 0},
      {.resources = "CPU=1"},
      {.resources = "[1]"},
      {.resources = R"({"CPU": 1})"},
      {.resources = R"({"a": -1})"},
      {.resources = R"({"a": "1"})"},
      {.resources = R"({"": 1})"},
      {.labels = R"({"a": 1})"},
  };
  for (const NodeFlags& flags : wrong) {
    const auto setup = Offer(flags);
    EXPECT_EQ(setup.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(setup.status().message()), HasSubstr("--"));
  }
}

TEST(Machine, HasProcessorsMemoryAndAName) {
  const Machine machine = InspectMachine();
  EXPECT_GE(machine.cpus, 1);
  EXPECT_GT(machine.memory_bytes, uint64_t{1} << 20);
  EXPECT_FALSE(machine.hostname.empty());
}

}  // namespace
}  // namespace ray::raylet
