#include "ray/accelerators/host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cpp/accelerators/accelerators_testutil.h"

namespace ray::accelerators {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Host, ReadsNumbersInBothNotations) {
  FakeMachine machine;
  machine.Write("decimal", "42\n");
  machine.Write("hexadecimal", "0x1ae0\n");
  machine.Write("text", "no number\n");
  EXPECT_EQ(machine.host().ReadNumber("decimal"), 42);
  EXPECT_EQ(machine.host().ReadNumber("hexadecimal"), 0x1ae0);
  EXPECT_EQ(machine.host().ReadNumber("text"), std::nullopt);
  EXPECT_EQ(machine.host().ReadNumber("missing"), std::nullopt);
}

TEST(Host, ListsNumberedEntriesInNumericalOrder) {
  FakeMachine machine;
  for (const char* const name :
       {"dev/accel10", "dev/accel2", "dev/accel", "dev/accel2x", "dev/3"}) {
    machine.Write(name);
  }
  EXPECT_THAT(machine.host().NumberedEntries("dev", "accel"), ElementsAre(2, 10));
  EXPECT_THAT(machine.host().NumberedEntries("dev", ""), ElementsAre(3));
  EXPECT_THAT(machine.host().NumberedEntries("no/such/folder", ""), IsEmpty());
}

TEST(Host, SplitsAndJoinsLists) {
  EXPECT_THAT(SplitList(" 0 ,GPU-8f,"), ElementsAre("0", "GPU-8f", ""));
  EXPECT_THAT(SplitList(" "), IsEmpty());
  EXPECT_EQ(JoinList({"0", "GPU-8f"}), "0,GPU-8f");
  EXPECT_EQ(JoinList({}), "");
}

TEST(Host, CurrentSeesTheEnvironment) {
  FakeMachine machine;
  machine.SetFake("MANTA_TEST_VARIABLE", "a=b");
  EXPECT_EQ(Host::Current().Variable("MANTA_TEST_VARIABLE"), "a=b");
  EXPECT_EQ(Host::Current().Variable("MANTA_TEST_OTHER"), std::nullopt);
}

}  // namespace
}  // namespace ray::accelerators
