// SPDX-License-Identifier: Apache-2.0
//
// Calls that are made again.
#include "client/retries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/client.h"
#include "client/status.h"
#include "tests/client/fake_server.h"

namespace mneme::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

grpc::Status Unavailable() {
  return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
}

grpc::Status Exhausted(int retry_seconds) {
  return MakeError(grpc::StatusCode::RESOURCE_EXHAUSTED, "no room",
                   v1::RAM_BUDGET, {}, retry_seconds);
}

class RetriesTest : public testing::Test {
 protected:
  std::unique_ptr<Client> ConnectTo(const FakeServer& server) {
    ClientOptions options;
    options.wait = [this](absl::Duration wait) { waits_.push_back(wait); };
    return *Client::Connect(server.address(), options);
  }

  std::vector<absl::Duration> waits_;
};

TEST_F(RetriesTest, ACreateIsTriedAgainUnderTheSameRequestId) {
  FakeServer server({.failures = {Unavailable(), Unavailable()}});
  v1::CreateSessionRequest request;
  request.set_session_id("a");
  const auto made = ConnectTo(server)->CreateSession(request);
  ASSERT_TRUE(made.ok()) << made.status();
  const auto ids = server.request_ids();
  ASSERT_THAT(ids, SizeIs(3));
  EXPECT_THAT(ids[0],
              testing::MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{"
                                    "3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_EQ(ids[1], ids[0]);
  EXPECT_EQ(ids[2], ids[0]);
  EXPECT_THAT(waits_, SizeIs(2));
}

TEST_F(RetriesTest, TwoCallsHaveTwoRequestIdsAndAGivenOneIsKept) {
  FakeServer server;
  const auto client = ConnectTo(server);
  ASSERT_TRUE(client->CreateSession({}).ok());
  ASSERT_TRUE(client->DeleteSession({}).ok());
  v1::DeleteSessionRequest request;
  request.set_request_id("mine");
  ASSERT_TRUE(client->DeleteSession(request).ok());
  const auto ids = server.request_ids();
  ASSERT_THAT(ids, SizeIs(3));
  EXPECT_NE(ids[0], ids[1]);
  EXPECT_NE(ids[1], "");
  EXPECT_EQ(ids[2], "mine");
}

TEST_F(RetriesTest, AfterFourAttemptsTheErrorIsTheAnswer) {
  FakeServer server({.failures = std::vector<grpc::Status>(9, Unavailable())});
  EXPECT_EQ(ConnectTo(server)->CreateSession({}).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_THAT(server.request_ids(), SizeIs(4));
  ASSERT_THAT(waits_, SizeIs(3));
  for (int i = 0; i < 3; ++i) {
    EXPECT_GE(waits_[i], absl::Milliseconds(25 << i));
    EXPECT_LE(waits_[i], absl::Milliseconds(50 << i));
  }
}

TEST_F(RetriesTest, AFullServersDelayIsRespected) {
  FakeServer server({.failures = {Exhausted(2)}});
  ASSERT_TRUE(ConnectTo(server)->CreateSession({}).ok());
  EXPECT_THAT(waits_, ElementsAre(absl::Seconds(2)));
}

TEST_F(RetriesTest, ADelayBeyondTheDeadlineIsNotWaitedFor) {
  FakeServer server({.failures = {Exhausted(11)}});
  EXPECT_EQ(ConnectTo(server)->CreateSession({}).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(waits_, IsEmpty());
}

TEST_F(RetriesTest, OtherErrorsAreFinal) {
  for (const grpc::Status& status :
       {grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "no delay"),
        MakeError(grpc::StatusCode::UNAVAILABLE, "moved", v1::NOT_OWNER),
        grpc::Status(grpc::StatusCode::ABORTED, "no")}) {
    FakeServer server({.failures = {status}});
    EXPECT_FALSE(ConnectTo(server)->CreateSession({}).ok());
    EXPECT_THAT(server.request_ids(), SizeIs(1));
  }
}

class ScoreRetriesTest : public RetriesTest {
 protected:
  absl::StatusOr<ScoreResult> Score(const FakeServer& server, bool commit) {
    v1::ScoreRequest::Open open;
    open.set_commit(commit);
    return ConnectTo(server)->ScoreText(
        open, [this](int64_t) -> absl::StatusOr<std::string> {
          std::string piece = rest_.substr(0, 3);
          rest_.erase(0, piece.size());
          return piece;
        });
  }

  std::string rest_ = "abcdefgh";
};

TEST_F(ScoreRetriesTest, AScoreThatOnlyReadsIsMadeAgainFromItsBeginning) {
  FakeServer server({.failures = {Unavailable(), Unavailable()}});
  const auto result = Score(server, false);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->totals.bytes(), 8);
}

TEST_F(ScoreRetriesTest, AScoreThatCommitsIsNot) {
  FakeServer server({.failures = {Unavailable()}});
  EXPECT_EQ(Score(server, true).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_THAT(waits_, IsEmpty());
}

}  // namespace
}  // namespace mneme::client
