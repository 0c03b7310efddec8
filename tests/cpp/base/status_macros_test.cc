#include "ray/base/status_macros.h"

#include <gtest/gtest.h>

#include <memory>

namespace ray::base {
namespace {

absl::StatusOr<std::unique_ptr<int>> Half(int number) {
  if (number % 2 != 0) return absl::InvalidArgumentError("odd");
  return std::make_unique<int>(number / 2);
}

absl::StatusOr<int> Quarter(int number) {
  MANTA_ASSIGN_OR_RETURN(std::unique_ptr<int> half, Half(number));
  MANTA_ASSIGN_OR_RETURN(std::unique_ptr<int> quarter, Half(*half));
  return *quarter;
}

absl::Status CheckDivisible(int number) {
  MANTA_RETURN_IF_ERROR(Quarter(number).status());
  return absl::OkStatus();
}

TEST(StatusMacros, PassValuesOnAndErrorsUp) {
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_EQ(Quarter(6).status(), absl::InvalidArgumentError("odd"));
  EXPECT_TRUE(CheckDivisible(4).ok());
  EXPECT_EQ(CheckDivisible(5), absl::InvalidArgumentError("odd"));
}

TEST(StatusMacros, AnnotateAddsContextAndKeepsTheCode) {
  EXPECT_EQ(Annotate(absl::NotFoundError("no file"), "reading x"),
            absl::NotFoundError("reading x: no file"));
  EXPECT_TRUE(Annotate(absl::OkStatus(), "reading x").ok());
}

}  // namespace
}  // namespace ray::base
