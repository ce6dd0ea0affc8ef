// SPDX-License-Identifier: Apache-2.0
#include "engine/base/errors.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

TEST(ErrorReasonTest, AReasonAndItsMetadataComeBackAsTheyWentIn) {
  const absl::Status status = WithReason(
      absl::FailedPreconditionError("a gap"),
      {.reason = "SEGMENT_GAP",
       .metadata = {{"expected_offset", "4096"}, {"found_offset", ""}}});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "a gap");
  const absl::optional<ErrorReason> reason = GetReason(status);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->reason, "SEGMENT_GAP");
  EXPECT_THAT(reason->metadata, ElementsAre(Pair("expected_offset", "4096"),
                                            Pair("found_offset", "")));
}

TEST(ErrorReasonTest, AReasonNeedsNoMetadata) {
  const absl::optional<ErrorReason> reason =
      GetReason(WithReason(absl::AbortedError(""), {.reason = "TAKEN_OVER"}));
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->reason, "TAKEN_OVER");
  EXPECT_THAT(reason->metadata, IsEmpty());
}

TEST(ErrorReasonTest, BadTextSaysWhere) {
  const absl::Status status = BadUtf8("text", 7, "found half a character");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const absl::optional<ErrorReason> reason = GetReason(status);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->reason, "BAD_UTF8");
  EXPECT_THAT(reason->metadata,
              ElementsAre(Pair("field", "text"), Pair("offset", "7")));
}

TEST(ErrorReasonTest, AStatusWithoutReasonHasNone) {
  EXPECT_FALSE(GetReason(absl::InternalError("plain")).has_value());
  EXPECT_FALSE(GetReason(absl::OkStatus()).has_value());
}

TEST(ErrorReasonTest, SuccessTakesNoReason) {
  const absl::Status status =
      WithReason(absl::OkStatus(), {.reason = "SEGMENT_GAP"});
  EXPECT_TRUE(status.ok());
  EXPECT_FALSE(GetReason(status).has_value());
}

TEST(ErrorReasonTest, TheLastReasonStands) {
  const absl::Status status =
      WithReason(WithReason(absl::AbortedError(""),
                            {.reason = "FIRST", .metadata = {{"a", "1"}}}),
                 {.reason = "SECOND"});
  EXPECT_EQ(GetReason(status)->reason, "SECOND");
  EXPECT_THAT(GetReason(status)->metadata, IsEmpty());
}

}  // namespace
}  // namespace mneme
