// Lease requests over many nodes, under faults. MANTA_SIM_SEEDS runs so many small clusters (the
// default is for every day, `make soak` asks for thousands), from MANTA_SIM_FIRST_SEED on: a
// failure names its seed, and that seed alone fails again in the same way.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/sim/lease_cluster.h"

namespace ray::sim {
namespace {

// Sanitizers make it ten times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kManyTasks = 5'000;
#else
constexpr size_t kManyTasks = 100'000;
#endif

std::string g_running;  // what an abort should name

void NameTheSeed(int) {
  signal(SIGABRT, SIG_DFL);
  if (write(STDERR_FILENO, g_running.data(), g_running.size()) < 0) _exit(1);
  abort();
}

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = getenv(name);
  return value == nullptr ? otherwise : strtoull(value, nullptr, 10);
}

LeaseCluster::Options SmallCluster(uint64_t seed) {
  std::mt19937_64 random(seed * 7919);
  LeaseCluster::Options options;
  options.seed = seed;
  options.nodes = 2 + random() % 9;
  options.owner_nodes = 1 + random() % options.nodes;
  options.owners_per_node = 1 + random() % 3;
  options.tasks = 50 + random() % 250;
  options.task_max = absl::Milliseconds(random() % 2 == 0 ? 20 : 500);
  options.faults = random() % 8 != 0;
  return options;
}

LeaseCluster::Outcome RunSeed(const LeaseCluster::Options& options) {
  g_running = absl::StrCat("seed ", options.seed, " fails: MANTA_SIM_FIRST_SEED=", options.seed,
                           " MANTA_SIM_SEEDS=1\n");
  signal(SIGABRT, NameTheSeed);
  return LeaseCluster(options).Run();
}

TEST(LeaseSimTest, SmallClustersUnderFaults) {
  const uint64_t first = FromEnvironment("MANTA_SIM_FIRST_SEED", 1);
  const uint64_t seeds = FromEnvironment("MANTA_SIM_SEEDS", 300);
  LeaseCluster::Outcome sum;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    const LeaseCluster::Outcome outcome = RunSeed(SmallCluster(seed));
    sum.granted += outcome.granted;
    sum.granted_elsewhere += outcome.granted_elsewhere;
    sum.lost += outcome.lost;
    sum.refused += outcome.refused;
    sum.cancelled += outcome.cancelled;
    sum.orphaned += outcome.orphaned;
  }
  if (seeds < 100) return;
  // What is to be tested did happen.
  EXPECT_GT(sum.granted, 10 * seeds);
  EXPECT_GT(sum.granted_elsewhere, seeds);
  EXPECT_GT(sum.lost, seeds / 10);
  EXPECT_GT(sum.refused, seeds / 10);
  EXPECT_GT(sum.cancelled, seeds / 10);
  EXPECT_GT(sum.orphaned, seeds / 10);
}

TEST(LeaseSimTest, ASeedReplaysExactly) {
  for (uint64_t seed : {3, 5, 8, 13}) {
    const LeaseCluster::Outcome first = RunSeed(SmallCluster(seed));
    const LeaseCluster::Outcome second = RunSeed(SmallCluster(seed));
    EXPECT_EQ(first.trace, second.trace) << "seed " << seed;
    EXPECT_EQ(first.events, second.events) << "seed " << seed;
  }
}

TEST(LeaseSimTest, AThousandNodesRunAHundredThousandTasks) {
  LeaseCluster::Options options;
  options.seed = 1;
  options.nodes = 1000;
  options.owner_nodes = 10;
  options.owners_per_node = 10;
  options.requests_at_once = 16;
  options.tasks = kManyTasks;
  options.task_max = absl::Milliseconds(500);
  options.check_every = 20'000;
  const LeaseCluster::Outcome outcome = RunSeed(options);
  EXPECT_GT(outcome.granted_elsewhere, kManyTasks / 2);
}

}  // namespace
}  // namespace ray::sim
