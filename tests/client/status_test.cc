// SPDX-License-Identifier: Apache-2.0
#include "client/status.h"

#include <gtest/gtest.h>

#include "tests/client/fake_server.h"

namespace mneme::client {
namespace {

TEST(ToAbslStatusTest, OkStaysOk) {
  EXPECT_TRUE(ToAbslStatus(grpc::Status::OK).ok());
}

TEST(ToAbslStatusTest, EveryCodeKeepsItsNumber) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status =
        ToAbslStatus(grpc::Status(static_cast<grpc::StatusCode>(code), "why"));
    EXPECT_EQ(static_cast<int>(status.code()), code);
    EXPECT_EQ(status.message(), "why");
    EXPECT_EQ(ReasonOf(status), "");
  }
}

TEST(ToAbslStatusTest, ReasonAndMetadataJoinTheMessage) {
  const absl::Status status = ToAbslStatus(
      MakeError(grpc::StatusCode::FAILED_PRECONDITION, "other bytes",
                v1::SEGMENT_CONFLICT, {{"offset", "12"}, {"digest", "ab"}}));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(),
            "other bytes (SEGMENT_CONFLICT digest=ab offset=12)");
  EXPECT_EQ(ReasonOf(status), "SEGMENT_CONFLICT");
}

TEST(ToAbslStatusTest, DamagedDetailsAreIgnored) {
  const absl::Status status = ToAbslStatus(
      grpc::Status(grpc::StatusCode::INTERNAL, "why", "\xff\xff\xff"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(status.message(), "why");
  EXPECT_EQ(ReasonOf(status), "");
}

TEST(IsUnreachableTest, OnlyWhenNoServerGaveAReason) {
  EXPECT_TRUE(IsUnreachable(
      ToAbslStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, "refused"))));
  EXPECT_FALSE(IsUnreachable(ToAbslStatus(
      MakeError(grpc::StatusCode::UNAVAILABLE, "draining", v1::DRAINING))));
  EXPECT_FALSE(IsUnreachable(absl::OkStatus()));
}

}  // namespace
}  // namespace mneme::client
