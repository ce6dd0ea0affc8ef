// SPDX-License-Identifier: Apache-2.0
#include "tests/server/server_fixture.h"

namespace mneme::server {
namespace {

using ::testing::DoubleNear;

class ScoreReactorTest : public ServerFixture {
 protected:
  grpc::Status Score(v1::ScoreRequest::Detail detail,
                     std::initializer_list<std::string> pieces,
                     const std::string& request_id = "") {
    Call call;
    auto stream = memory_->Score(&call);
    v1::ScoreRequest request;
    request.mutable_open()->set_session("sessions/alice");
    request.mutable_open()->set_detail(detail);
    request.mutable_open()->set_commit(!request_id.empty());
    request.mutable_open()->set_request_id(request_id);
    messages_ = scores_ = 0;
    last_.Clear();
    stream->Write(request);
    for (const std::string& piece : pieces) {
      request.set_text(piece);
      stream->Write(request);
    }
    stream->WritesDone();
    v1::ScoreResponse response;
    while (stream->Read(&response)) {
      ++messages_;
      scores_ += response.scores_size();
      last_ = response;
    }
    return stream->Finish();
  }

  int messages_ = 0;
  int scores_ = 0;
  v1::ScoreResponse last_;
};

TEST_F(ScoreReactorTest, ASummaryIsOneMessage) {
  ASSERT_TRUE(Score(v1::ScoreRequest::SUMMARY, {"abc", "de"}).ok());
  EXPECT_EQ(messages_, 1);
  EXPECT_EQ(scores_, 0);
  EXPECT_EQ(last_.totals().tokens_scored(), 5);
  EXPECT_EQ(last_.totals().bytes(), 5);
  EXPECT_THAT(last_.totals().bits_per_byte(), DoubleNear(1, 1e-6));
  EXPECT_THAT(last_.totals().bits_per_token(), DoubleNear(1, 1e-6));
  EXPECT_TRUE(last_.has_finished());
  EXPECT_EQ(last_.finished().stats().tokens_replayed(), 42);
  EXPECT_TRUE(engine_.AwaitStreams(0));
  EXPECT_TRUE(engine_.AwaitHolds(0));
}

TEST_F(ScoreReactorTest, EveryTokenComesWhenAskedFor) {
  ASSERT_TRUE(Score(v1::ScoreRequest::TOKENS, {"abc", "de"}).ok());
  EXPECT_EQ(scores_, 5);
  EXPECT_TRUE(last_.has_finished());
}

TEST_F(ScoreReactorTest, ACommittedScoreIsMadeOnceForItsRequestId) {
  ASSERT_TRUE(Score(v1::ScoreRequest::TOKENS, {"abc", "de"}, "r").ok());
  EXPECT_EQ(scores_, 5);
  const v1::ScoreResponse first = last_;
  ASSERT_TRUE(Score(v1::ScoreRequest::TOKENS, {"abc", "de"}, "r").ok());
  EXPECT_EQ(messages_, 1);
  EXPECT_EQ(scores_, 0);
  EXPECT_EQ(last_.totals().bytes(), 5);
  EXPECT_EQ(last_.finished().SerializeAsString(),
            first.finished().SerializeAsString());
  EXPECT_EQ(engine_.scorings(), 1);
  EXPECT_EQ(Score(v1::ScoreRequest::SUMMARY, {"abc"}, "r").error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(engine_.scorings(), 1);
}

TEST_F(ScoreReactorTest, ARequestIdWantsACommit) {
  Call call;
  auto stream = memory_->Score(&call);
  v1::ScoreRequest request;
  request.mutable_open()->set_session("sessions/alice");
  request.mutable_open()->set_request_id("r");
  stream->Write(request);
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ScoreReactorTest, AScoreThatWasCutOffIsNotRemembered) {
  {
    Call call;
    auto stream = memory_->Score(&call);
    v1::ScoreRequest request;
    request.mutable_open()->set_session("sessions/alice");
    request.mutable_open()->set_commit(true);
    request.mutable_open()->set_request_id("r");
    stream->Write(request);
    ASSERT_TRUE(engine_.AwaitStreams(1));
    call.TryCancel();
    EXPECT_FALSE(stream->Finish().ok());
  }
  ASSERT_TRUE(engine_.AwaitStreams(0));
  const grpc::Status again = Score(v1::ScoreRequest::SUMMARY, {"abc"}, "r");
  EXPECT_TRUE(again.ok()) << again.error_message();
  EXPECT_EQ(engine_.scorings(), 2);
}

TEST_F(ScoreReactorTest, NoTextAtAllScoresNothing) {
  ASSERT_TRUE(Score(v1::ScoreRequest::SUMMARY, {}).ok());
  EXPECT_EQ(last_.totals().tokens_scored(), 0);
  EXPECT_EQ(last_.totals().bits_per_byte(), 0);
}

}  // namespace
}  // namespace mneme::server
