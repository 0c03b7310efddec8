// Whole clusters under faults. MANTA_SIM_SEEDS runs so many small ones (the default is for every
// day, `make soak` asks for thousands), from MANTA_SIM_FIRST_SEED on: a failure names its seed, and
// that seed alone fails again in the same way (of the same binary). MANTA_SIM_TRACE=1 shows what
// happens, MANTA_SIM_LOG=info what the programs log, which changes the run.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "tests/sim/cluster/seed_runner.h"

namespace ray::sim {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = getenv(name);
  return value == nullptr ? otherwise : strtoull(value, nullptr, 10);
}

TEST(ClusterSimTest, SmallClustersUnderFaults) {
  const uint64_t first = FromEnvironment("MANTA_SIM_FIRST_SEED", 1);
  const uint64_t seeds = FromEnvironment("MANTA_SIM_SEEDS", 200);
  VirtualCluster::Outcome sum;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    VirtualCluster::Outcome outcome;
    EXPECT_TRUE(SeedRunner::Run({.seed = seed}, &outcome))
        << "seed " << seed << " fails: MANTA_SIM_FIRST_SEED=" << seed << " MANTA_SIM_SEEDS=1";
    sum.events += outcome.events;
    sum.right += outcome.right;
    sum.failed += outcome.failed;
    sum.actors += outcome.actors;
    sum.groups += outcome.groups;
    sum.worker_deaths += outcome.worker_deaths;
    sum.node_deaths += outcome.node_deaths;
    sum.gcs_deaths += outcome.gcs_deaths;
    sum.cuts += outcome.cuts;
  }
  if (seeds < 100) return;
  // What is to be tested did happen.
  EXPECT_GT(sum.right, 20 * seeds);
  EXPECT_GT(sum.failed, seeds / 10);
  EXPECT_GT(sum.actors, seeds);
  EXPECT_GT(sum.groups, seeds / 10);
  EXPECT_GT(sum.worker_deaths, seeds / 2);
  EXPECT_GT(sum.node_deaths, seeds / 2);
  EXPECT_GT(sum.gcs_deaths, seeds / 2);
  EXPECT_GT(sum.cuts, seeds / 2);
}

TEST(ClusterSimTest, ASeedReplaysExactly) {
  for (uint64_t seed : {3, 5, 8, 13}) {
    VirtualCluster::Outcome first;
    VirtualCluster::Outcome second;
    ASSERT_TRUE(SeedRunner::Run({.seed = seed}, &first));
    ASSERT_TRUE(SeedRunner::Run({.seed = seed}, &second));
    EXPECT_EQ(first.events, second.events) << "seed " << seed;
    EXPECT_EQ(first.trace, second.trace) << "seed " << seed;
  }
}

TEST(ClusterSimTest, AnActorThatHoldsItsResultEndsWithItsHandles) {
  VirtualCluster::Outcome outcome;
  EXPECT_TRUE(SeedRunner::Run(
      {.seed = 1, .nodes = 2, .drivers = 1, .program = Program::kActorHoldsResult}, &outcome));
}

TEST(ClusterSimTest, ManyNodesRunManyTasks) {
  VirtualCluster::Outcome outcome;
  const uint64_t nodes = FromEnvironment("MANTA_SIM_NODES", 100);
  const uint64_t tasks = FromEnvironment("MANTA_SIM_TASKS", 5'000);
  // Each has workers of its own on each node, and each of those a descriptor.
  constexpr uint64_t kDrivers = 4;
  ASSERT_TRUE(SeedRunner::Run({.seed = 1,
                               .nodes = nodes,
                               .drivers = kDrivers,
                               .calls = tasks / kDrivers,
                               .program = Program::kManyTasks},
                              &outcome));
  EXPECT_EQ(outcome.right, tasks);
}

}  // namespace
}  // namespace ray::sim

int main(int argc, char** argv) {
  ray::sim::SeedRunner::Begin(argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
