// SPDX-License-Identifier: Apache-2.0
#include "tests/server/server_fixture.h"

namespace mneme::server {
namespace {

using ::testing::HasSubstr;

GenerateEvent Token(char c) {
  GenerateEvent event;
  event.kind = GenerateEvent::Kind::kOutput;
  event.token = static_cast<unsigned char>(c);
  event.text = std::string(1, c);
  return event;
}

GenerateEvent Finished(FinishReason reason) {
  GenerateEvent event;
  event.kind = GenerateEvent::Kind::kFinished;
  event.reason = reason;
  event.next_offset = 9;
  return event;
}

class ConverseReactorTest : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    stream_ = memory_->Converse(&call_);
  }

  void Open() {
    v1::ClientEvent event;
    event.mutable_open()->set_session("sessions/alice");
    event.mutable_open()->mutable_defaults()->set_max_tokens(5);
    ASSERT_TRUE(stream_->Write(event));
    ASSERT_TRUE(stream_->Read(&event_));
    ASSERT_TRUE(event_.has_opened());
  }
  void Send(const std::string& text, int64_t offset) {
    v1::ClientEvent event;
    event.mutable_segment()->set_text(text);
    event.mutable_segment()->set_offset(offset);
    stream_->Write(event);
  }
  void Ask() {
    v1::ClientEvent event;
    event.mutable_ask();
    stream_->Write(event);
  }
  // The text of the answer that comes next, to its end.
  std::string Answer() {
    std::string text;
    while (stream_->Read(&event_)) {
      if (!event_.has_answer()) continue;
      text += event_.answer().text();
      if (event_.answer().has_finished()) break;
    }
    return text;
  }
  // Of a stream that the server ends.
  grpc::Status Ended() {
    while (stream_->Read(&event_)) {
    }
    return stream_->Finish();
  }

  Call call_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ClientEvent, v1::ServerEvent>>
      stream_;
  v1::ServerEvent event_;
};

TEST_F(ConverseReactorTest, TurnsFollowEachOtherOnOneStream) {
  Open();
  engine_.SetCredit(10);
  for (int turn = 0; turn < 2; ++turn) {
    Send("hello", turn * 5);
    ASSERT_TRUE(engine_.AwaitTaken(turn + 1));
    engine_.Absorb();
    for (GenerateEvent event : {GenerateEvent(), Token('a'), Token('b'),
                                Finished(FinishReason::kStop)}) {
      engine_.Say(std::move(event));
    }
    Ask();
    EXPECT_EQ(Answer(), "ab");
    EXPECT_EQ(event_.answer().finished().finish_reason(),
              v1::GenerateResponse::Finished::STOP);
  }
  stream_->WritesDone();
  EXPECT_TRUE(Ended().ok());
  EXPECT_TRUE(engine_.AwaitStreams(0));
}

TEST_F(ConverseReactorTest, AnAnswerCanBeInterrupted) {
  Open();
  engine_.Say(GenerateEvent());
  engine_.Say(Token('a'));
  Ask();
  ASSERT_TRUE(stream_->Read(&event_));
  v1::ClientEvent event;
  event.mutable_interrupt();
  stream_->Write(event);
  EXPECT_TRUE(engine_.AwaitCancelled());
  engine_.Say(Finished(FinishReason::kCancelled));
  Answer();
  EXPECT_EQ(event_.answer().finished().finish_reason(),
            v1::GenerateResponse::Finished::CANCELLED);
  // The stream goes on.
  stream_->Write(event);
  stream_->WritesDone();
  EXPECT_TRUE(Ended().ok());
}

TEST_F(ConverseReactorTest, WhileAnAnswerRunsThereIsNoInput) {
  Open();
  Ask();
  Send("x", 0);
  const grpc::Status status = Ended();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(ReasonOf(status), "ANSWER_RUNNING");
  EXPECT_TRUE(engine_.AwaitStreams(0));
}

TEST_F(ConverseReactorTest, AnAnswerThatFailsEndsTheStream) {
  Open();
  GenerateEvent failed = Finished(FinishReason::kLength);
  failed.status = absl::UnavailableError("a pass failed");
  engine_.Say(failed);
  Ask();
  EXPECT_EQ(Ended().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ConverseReactorTest, TheFirstMessageOpens) {
  Ask();
  const grpc::Status status = Ended();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("wanted open first"));
}

TEST_F(ConverseReactorTest, ParametersNameNoSession) {
  v1::ClientEvent event;
  event.mutable_open()->set_session("sessions/alice");
  event.mutable_open()->mutable_defaults()->set_text("prompt");
  stream_->Write(event);
  const grpc::Status status = Ended();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("open.defaults.prompt"));
}

TEST_F(ConverseReactorTest, AClientThatGoesFreesTheSession) {
  Open();
  engine_.Say(GenerateEvent());
  Ask();
  ASSERT_TRUE(stream_->Read(&event_));
  call_.TryCancel();
  EXPECT_EQ(Ended().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(engine_.AwaitStreams(0));
}

}  // namespace
}  // namespace mneme::server
