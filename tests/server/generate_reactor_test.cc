// SPDX-License-Identifier: Apache-2.0
#include "tests/server/server_fixture.h"

namespace mneme::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

GenerateEvent Started() {
  GenerateEvent event;
  event.ask_position = 7;
  event.offset = 6;
  return event;
}

GenerateEvent Token(char c) {
  GenerateEvent event;
  event.kind = GenerateEvent::Kind::kOutput;
  event.token = static_cast<unsigned char>(c);
  event.text = std::string(1, c);
  return event;
}

GenerateEvent TokenWithLogprob(char c) {
  GenerateEvent event = Token(c);
  event.logprob =
      TokenLogprob{.token = *event.token,
                   .logprob = -0.5f,
                   .text = std::string(1, c),
                   .top = {{.token = 'x', .logprob = -0.25f, .text = "x"}}};
  return event;
}

GenerateEvent Finished() {
  GenerateEvent event;
  event.kind = GenerateEvent::Kind::kFinished;
  event.reason = FinishReason::kStop;
  event.next_offset = 9;
  event.stop_token = 0;
  event.durable_offset = 8;
  event.stats.generated_tokens = 3;
  event.stats.load = FakeEngine::Report();
  return event;
}

class GenerateReactorTest : public ServerFixture {
 protected:
  void Ask() {
    request_.set_session("sessions/alice");
    reader_ = memory_->Generate(&call_, request_);
  }
  // Reads to the end; all messages are joined in `answer_`.
  grpc::Status Finish() {
    v1::GenerateResponse response;
    while (reader_->Read(&response)) {
      EXPECT_FALSE(answer_.has_finished());
      answer_.MergeFrom(response);
      text_ += response.text();
    }
    return reader_->Finish();
  }

  Call call_;
  v1::GenerateRequest request_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
  v1::GenerateResponse answer_;
  std::string text_;
};

TEST_F(GenerateReactorTest, TokensThatAreReadyShareAMessage) {
  for (const GenerateEvent& event :
       {Started(), Token('a'), Token('b'), Token('c'), Finished()}) {
    engine_.Say(event);
  }
  Ask();
  v1::GenerateResponse response;
  ASSERT_TRUE(reader_->Read(&response));
  EXPECT_EQ(response.started().ask_position(), 7);
  EXPECT_EQ(response.started().offset(), 6);
  EXPECT_EQ(response.text(), "abc");
  EXPECT_THAT(response.tokens(), ElementsAre('a', 'b', 'c'));
  EXPECT_EQ(response.logprobs_size(), 0);
  EXPECT_EQ(response.finished().finish_reason(),
            v1::GenerateResponse::Finished::STOP);
  EXPECT_EQ(response.finished().next_offset(), 9);
  EXPECT_EQ(response.finished().durable_offset(), 8);
  EXPECT_EQ(response.finished().stats().generated_tokens(), 3);
  EXPECT_EQ(response.finished().stats().state_tier(), v1::Session::REPLAYED);
  EXPECT_EQ(response.finished().stats().tokens_replayed(), 42);
  EXPECT_EQ(response.finished().stats().load_time().seconds(), 2);
  EXPECT_TRUE(Finish().ok());
}

TEST_F(GenerateReactorTest, TokensArriveAsTheyAreGenerated) {
  Ask();
  ASSERT_TRUE(engine_.AwaitStreams(1));
  engine_.Say(Started());
  v1::GenerateResponse response;
  ASSERT_TRUE(reader_->Read(&response));
  EXPECT_TRUE(response.has_started());
  engine_.Say(Token('a'));
  ASSERT_TRUE(reader_->Read(&response));
  EXPECT_EQ(response.text(), "a");
  EXPECT_FALSE(response.has_started());
  engine_.Say(Token('b'));
  engine_.Say(Finished());
  EXPECT_TRUE(Finish().ok());
  EXPECT_EQ(text_, "b");
  EXPECT_TRUE(engine_.AwaitStreams(0));
}

TEST_F(GenerateReactorTest, LogprobsComeWhenAskedFor) {
  request_.set_logprobs(true);
  request_.set_top_logprobs(1);
  for (const GenerateEvent& event :
       {Started(), TokenWithLogprob('a'), Finished()}) {
    engine_.Say(event);
  }
  Ask();
  EXPECT_TRUE(Finish().ok());
  ASSERT_EQ(answer_.logprobs_size(), 1);
  EXPECT_EQ(answer_.logprobs(0).token(), 'a');
  EXPECT_EQ(answer_.logprobs(0).logprob(), -0.5f);
  EXPECT_EQ(answer_.logprobs(0).text(), "a");
  ASSERT_EQ(answer_.logprobs(0).top_size(), 1);
  EXPECT_EQ(answer_.logprobs(0).top(0).token(), 'x');
  EXPECT_EQ(answer_.logprobs(0).top(0).logprob(), -0.25f);
  EXPECT_TRUE(engine_.last_generate().logprobs);
  EXPECT_EQ(engine_.last_generate().top_logprobs, 1);
}

TEST_F(GenerateReactorTest, TextMayComeBeforeTheTokenItBelongsTo) {
  GenerateEvent beginning = Token('a');
  beginning.token.reset();
  GenerateEvent rest = Token('b');
  rest.token = 500;
  GenerateEvent finished = Finished();
  finished.stop_token.reset();
  finished.stop = "\n";
  for (const GenerateEvent& event : {Started(), beginning, rest, finished}) {
    engine_.Say(event);
  }
  Ask();
  EXPECT_TRUE(Finish().ok());
  EXPECT_EQ(text_, "ab");
  EXPECT_THAT(answer_.tokens(), ElementsAre(500));
  EXPECT_EQ(answer_.finished().stop(), "\n");
  EXPECT_FALSE(answer_.finished().has_stop_token());
}

TEST_F(GenerateReactorTest, CancellingEndsTheGeneration) {
  Ask();
  ASSERT_TRUE(engine_.AwaitStreams(1));
  engine_.Say(Started());
  engine_.Say(Token('a'));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader_->Read(&response));
  call_.TryCancel();
  EXPECT_EQ(Finish().error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(engine_.AwaitStreams(0));
  EXPECT_EQ(engine_.disconnected(), FinishReason::kCancelled);
}

TEST_F(GenerateReactorTest, ADeadlineThatPassesIsToldApart) {
  call_.set_deadline(std::chrono::system_clock::now() +
                     std::chrono::milliseconds(300));
  Ask();
  ASSERT_TRUE(engine_.AwaitStreams(1));
  EXPECT_EQ(Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  ASSERT_TRUE(engine_.AwaitStreams(0));
  EXPECT_EQ(engine_.disconnected(), FinishReason::kDeadline);
}

TEST_F(GenerateReactorTest, OnlyWhoAttachesSeesACancellationAsAnAnswer) {
  GenerateEvent cancelled = Finished();
  cancelled.reason = FinishReason::kCancelled;
  cancelled.stop_token.reset();
  for (const bool attached : {false, true}) {
    answer_.Clear();
    GenerateEvent started = Started();
    started.attached = attached;
    engine_.Say(started);
    engine_.Say(cancelled);
    v1::GenerateRequest request;
    request.set_session("sessions/alice");
    Call call;
    reader_ = memory_->Generate(&call, request);
    EXPECT_EQ(Finish().error_code(),
              attached ? grpc::StatusCode::OK : grpc::StatusCode::CANCELLED);
    EXPECT_EQ(answer_.started().attached(), attached);
    EXPECT_EQ(answer_.finished().finish_reason(),
              v1::GenerateResponse::Finished::CANCELLED);
    ASSERT_TRUE(engine_.AwaitStreams(0));
  }
  EXPECT_THAT(MetricsText(),
              HasSubstr("mneme_stream_resumes_total{kind=\"generate\",model="
                        "\"tiny\"} 1"));
}

TEST_F(GenerateReactorTest, AStreamThatWasTakenOverIsAborted) {
  GenerateEvent lost = Finished();
  lost.status = WithReason(absl::AbortedError("another stream reads it now"),
                           {.reason = "TAKEN_OVER", .metadata = {}});
  for (const GenerateEvent& event : {Started(), Token('a'), lost}) {
    engine_.Say(event);
  }
  Ask();
  const grpc::Status status = Finish();
  EXPECT_EQ(text_, "a");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(ReasonOf(status), "TAKEN_OVER");
}

TEST_F(GenerateReactorTest, AFailureIsTheStatusBehindWhatWasSaid) {
  GenerateEvent failed = Finished();
  failed.status = absl::InternalError("a pass failed");
  for (const GenerateEvent& event : {Started(), Token('a'), failed}) {
    engine_.Say(event);
  }
  Ask();
  const grpc::Status status = Finish();
  EXPECT_EQ(text_, "a");
  EXPECT_FALSE(answer_.has_finished());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(ReasonOf(status), "INCIDENT");
  EXPECT_THAT(FactOf(status, "incident"), ::testing::SizeIs(16));
}

TEST_F(GenerateReactorTest, ARefusalOfTheEngineIsTheStatus) {
  engine_.FailNextStream(
      WithReason(absl::FailedPreconditionError("one runs already"),
                 {.reason = "SESSION_BUSY", .metadata = {}}));
  Ask();
  const grpc::Status status = Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(ReasonOf(status), "SESSION_BUSY");
}

TEST_F(GenerateReactorTest, AnUnsupportedFieldIsNamed) {
  request_.set_grammar("root ::= [a-z]+");
  Ask();
  const grpc::Status status = Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(FactOf(status, "field"), "grammar");
  EXPECT_THAT(status.error_message(), HasSubstr("grammar"));
}

}  // namespace
}  // namespace mneme::server
