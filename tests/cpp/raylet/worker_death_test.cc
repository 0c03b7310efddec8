#include "ray/raylet/worker_death.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ray::raylet {
namespace {

TEST(ExplainDeath, NamesTheSignal) {
  EXPECT_EQ(ExplainDeath({.pid = 7, .status = ExitStatus{.signal = 11}}, ""),
            "its process (pid=7) was killed by signal 11 (SIGSEGV)");
}

TEST(ExplainDeath, NamesTheExitCodeAndQuotesStderr) {
  EXPECT_EQ(ExplainDeath({.pid = 7, .status = ExitStatus{.exit_code = 3}}, "boom\n"),
            "its process (pid=7) exited with code 3. The last lines of its stderr:\nboom\n");
}

TEST(ExplainDeath, TellsThatTheKernelRanOutOfMemory) {
  const std::string text =
      ExplainDeath({.pid = 7,
                    .status = ExitStatus{.signal = 9, .peak_memory_bytes = 3ull << 29},
                    .out_of_memory = true},
                   "");
  EXPECT_THAT(text, ::testing::HasSubstr("(SIGKILL) by the kernel, because memory ran out: it had "
                                         "used up to 1.50 GiB of the machine's "));
}

TEST(ExplainDeath, BeginsWithTheReasonIfThereIsOne) {
  EXPECT_EQ(ExplainDeath({.pid = 7, .reason = "its job finished"}, ""),
            "its job finished; its process (pid=7) ended; how is not known, the zygote did not "
            "tell");
}

}  // namespace
}  // namespace ray::raylet
