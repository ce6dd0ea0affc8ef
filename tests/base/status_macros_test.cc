// SPDX-License-Identifier: Apache-2.0
#include "engine/base/status_macros.h"

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

constexpr absl::StatusCode kCode = absl::StatusCode::kDataLoss;

absl::Status ReturnIfError(const absl::Status& status, bool& reached_end) {
  MNEME_RETURN_IF_ERROR(status);
  reached_end = true;
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReturnIfErrorFromStatusOr(
    const absl::Status& status) {
  MNEME_RETURN_IF_ERROR(status);
  return "end";
}

absl::StatusOr<int> Sum(const absl::StatusOr<int>& a,
                        const absl::StatusOr<int>& b) {
  MNEME_ASSIGN_OR_RETURN(int sum, a);
  MNEME_ASSIGN_OR_RETURN(const int more, b);
  MNEME_ASSIGN_OR_RETURN(sum, absl::StatusOr<int>(sum + more));
  return sum;
}

absl::StatusOr<std::unique_ptr<int>> PassOn(
    absl::StatusOr<std::unique_ptr<int>> made) {
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<int> value, std::move(made));
  return value;
}

TEST(ReturnIfErrorTest, AnErrorLeavesTheFunctionAtOnce) {
  bool reached_end = false;
  EXPECT_THAT(ReturnIfError(absl::DataLossError("torn"), reached_end),
              Fails(kCode, "torn"));
  EXPECT_FALSE(reached_end);
  EXPECT_THAT(ReturnIfErrorFromStatusOr(absl::DataLossError("torn")),
              Fails(kCode, "torn"));
}

TEST(ReturnIfErrorTest, SuccessGoesOn) {
  bool reached_end = false;
  EXPECT_THAT(ReturnIfError(absl::OkStatus(), reached_end), IsOk());
  EXPECT_TRUE(reached_end);
  EXPECT_EQ(*ReturnIfErrorFromStatusOr(absl::OkStatus()), "end");
}

TEST(AssignOrReturnTest, ValuesAreDeclaredAndAssigned) {
  EXPECT_EQ(*Sum(2, 3), 5);
}

TEST(AssignOrReturnTest, TheFirstErrorIsReturned) {
  EXPECT_THAT(Sum(absl::DataLossError("a"), absl::InternalError("b")),
              Fails(kCode, "a"));
  EXPECT_THAT(Sum(2, absl::DataLossError("b")), Fails(kCode, "b"));
}

TEST(AssignOrReturnTest, ValuesThatOnlyMoveAreMoved) {
  EXPECT_EQ(**PassOn(std::make_unique<int>(7)), 7);
  EXPECT_THAT(PassOn(absl::DataLossError("torn")), Fails(kCode, "torn"));
}

}  // namespace
}  // namespace mneme
