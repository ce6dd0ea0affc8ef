// SPDX-License-Identifier: Apache-2.0
#include "server/status.h"

#include "engine/base/errors.h"
#include "mneme/v1/common.pb.h"
#include "tests/server/server_fixture.h"

namespace mneme::server {
namespace {

TEST(StatusTest, OkStaysOk) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(StatusTest, TheReasonAndItsFactsTravelInTheDetails) {
  const grpc::Status status = ToGrpcStatus(
      WithReason(
          absl::OutOfRangeError("gap"),
          {.reason = "SEGMENT_GAP", .metadata = {{"expected_offset", "4096"}}}),
      "sessions/a");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(status.error_message(), "gap");
  const auto info = DetailOf<google::rpc::ErrorInfo>(status);
  EXPECT_EQ(info.reason(), "SEGMENT_GAP");
  EXPECT_EQ(info.domain(), "mneme");
  EXPECT_EQ(info.metadata().at("expected_offset"), "4096");
  google::rpc::Status rich;
  ASSERT_TRUE(rich.ParseFromString(status.error_details()));
  EXPECT_EQ(rich.code(), 11);
  EXPECT_EQ(rich.message(), "gap");
}

TEST(StatusTest, WhatMayBeRetriedSaysWhen) {
  const grpc::Status full =
      ToGrpcStatus(WithReason(absl::ResourceExhaustedError("no room"),
                              {.reason = "RAM_BUDGET", .metadata = {}}));
  EXPECT_EQ(ReasonOf(full), "RAM_BUDGET");
  EXPECT_GT(DetailOf<google::rpc::RetryInfo>(full).retry_delay().seconds(), 0);
  EXPECT_EQ(DetailOf<google::rpc::QuotaFailure>(full).violations_size(), 1);
  const grpc::Status draining = ToGrpcStatus(DrainingError());
  EXPECT_EQ(ReasonOf(draining), "DRAINING");
  EXPECT_GT(DetailOf<google::rpc::RetryInfo>(draining).retry_delay().seconds(),
            0);
}

TEST(StatusTest, WhatIsMissingIsNamed) {
  const auto missing = DetailOf<google::rpc::ResourceInfo>(
      ToGrpcStatus(absl::NotFoundError("none"), "models/m"));
  EXPECT_EQ(missing.resource_type(), "mneme.v1.Model");
  EXPECT_EQ(missing.resource_name(), "models/m");
}

TEST(StatusTest, OfASnapshotsNameThePartThatIsMissingIsNamed) {
  const std::string name = "sessions/a/snapshots/s";
  const grpc::Status session =
      ToGrpcStatus(absl::NotFoundError("no session"), name);
  EXPECT_EQ(ReasonOf(session), "SESSION_NOT_FOUND");
  EXPECT_EQ(DetailOf<google::rpc::ResourceInfo>(session).resource_name(),
            "sessions/a");
  const grpc::Status snapshot =
      ToGrpcStatus(WithReason(absl::NotFoundError("no snapshot"),
                              {.reason = "SNAPSHOT_NOT_FOUND", .metadata = {}}),
                   name);
  const auto missing = DetailOf<google::rpc::ResourceInfo>(snapshot);
  EXPECT_EQ(missing.resource_type(), "mneme.v1.Snapshot");
  EXPECT_EQ(missing.resource_name(), name);
}

TEST(StatusTest, WhatTheStoreRefusesSaysHowToGoOn) {
  const grpc::Status down =
      ToGrpcStatus(WithReason(absl::UnavailableError("no disk"),
                              {.reason = "STORE_UNAVAILABLE", .metadata = {}}));
  EXPECT_EQ(ReasonOf(down), "STORE_UNAVAILABLE");
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(down).has_retry_delay());
  const grpc::Status full =
      ToGrpcStatus(WithReason(absl::ResourceExhaustedError("full"),
                              {.reason = "QUOTA", .metadata = {}}));
  EXPECT_EQ(DetailOf<google::rpc::QuotaFailure>(full).violations_size(), 1);
  const grpc::Status damaged =
      ToGrpcStatus(WithReason(absl::DataLossError("damaged"),
                              {.reason = "SESSION_QUARANTINED",
                               .metadata = {{"snapshot", "auto-1"}}}),
                   "sessions/a");
  EXPECT_EQ(damaged.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(FactOf(damaged, "snapshot"), "auto-1");
}

TEST(StatusTest, ABadFieldIsNamed) {
  const grpc::Status status = ToGrpcStatus(BadField("a.b", "found 1"));
  EXPECT_EQ(ReasonOf(status), "BAD_FIELD");
  EXPECT_EQ(
      DetailOf<google::rpc::BadRequest>(status).field_violations(0).field(),
      "a.b");
}

TEST(StatusTest, EveryReasonOfOursIsInTheContract) {
  for (const grpc::Status& status :
       {ToGrpcStatus(BadField("f", "d")), ToGrpcStatus(UnsupportedField("f")),
        ToGrpcStatus(DrainingError()),
        ToGrpcStatus(SessionExists(absl::AlreadyExistsError("is there"))),
        ToGrpcStatus(absl::InternalError("bug")),
        ToGrpcStatus(absl::AlreadyExistsError("is there")),
        ToGrpcStatus(absl::NotFoundError("none"), "sessions/a"),
        ToGrpcStatus(WithReason(absl::AbortedError("uid"),
                                {.reason = "EPOCH_FENCED", .metadata = {}})),
        ToGrpcStatus(WithReason(absl::AbortedError("writer"),
                                {.reason = "SESSION_BUSY", .metadata = {}}))}) {
    v1::ErrorReason reason;
    EXPECT_TRUE(v1::ErrorReason_Parse(ReasonOf(status), &reason))
        << ReasonOf(status);
  }
}

}  // namespace
}  // namespace mneme::server
