// SPDX-License-Identifier: Apache-2.0
//
// Streams on sessions that are not in memory yet.
#include "tests/server/server_fixture.h"

namespace mneme::server {
namespace {

class SessionLoadTest : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    engine_.HoldSessionLoads(true);
  }

  // A stream of each kind from its opening to its end.
  grpc::Status Append(grpc::ClientContext* call,
                      const std::function<void()>& meanwhile) {
    auto stream = memory_->Append(call);
    v1::AppendRequest request;
    request.mutable_open()->set_session("sessions/alice");
    stream->Write(request);
    meanwhile();
    stream->WritesDone();
    return End<v1::AppendResponse>(stream.get());
  }
  grpc::Status Converse(grpc::ClientContext* call,
                        const std::function<void()>& meanwhile) {
    auto stream = memory_->Converse(call);
    v1::ClientEvent event;
    event.mutable_open()->set_session("sessions/alice");
    stream->Write(event);
    meanwhile();
    stream->WritesDone();
    return End<v1::ServerEvent>(stream.get());
  }
  grpc::Status Score(grpc::ClientContext* call,
                     const std::function<void()>& meanwhile) {
    auto stream = memory_->Score(call);
    v1::ScoreRequest request;
    request.mutable_open()->set_session("sessions/alice");
    stream->Write(request);
    meanwhile();
    stream->WritesDone();
    return End<v1::ScoreResponse>(stream.get());
  }
  grpc::Status Generate(grpc::ClientContext* call,
                        const std::function<void()>& meanwhile) {
    v1::GenerateRequest request;
    request.set_session("sessions/alice");
    auto stream = memory_->Generate(call, request);
    meanwhile();
    return End<v1::GenerateResponse>(stream.get());
  }
  using Stream = grpc::Status (SessionLoadTest::*)(
      grpc::ClientContext*, const std::function<void()>&);
  static constexpr Stream kStreams[] = {
      &SessionLoadTest::Append, &SessionLoadTest::Converse,
      &SessionLoadTest::Score, &SessionLoadTest::Generate};
  static constexpr int kGenerate = 3;

 private:
  template <typename Response, typename Reader>
  static grpc::Status End(Reader* stream) {
    Response response;
    while (stream->Read(&response)) {
    }
    return stream->Finish();
  }
};

TEST_F(SessionLoadTest, AStreamOpensWhenItsSessionIsThere) {
  int64_t loads = 0;
  for (const Stream stream : kStreams) {
    engine_.HoldSessionLoads(true);
    Call call;
    const grpc::Status status = (this->*stream)(&call, [&] {
      ASSERT_TRUE(engine_.AwaitLoads(++loads));
      if (stream == kStreams[kGenerate]) {
        GenerateEvent finished;
        finished.kind = GenerateEvent::Kind::kFinished;
        engine_.Say({});
        engine_.Say(finished);
      }
      engine_.HoldSessionLoads(false);
    });
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_TRUE(engine_.AwaitStreams(0));
    EXPECT_TRUE(engine_.AwaitHolds(0));
  }
}

TEST_F(SessionLoadTest, AClientThatGoesMeanwhileLeavesNothing) {
  int64_t loads = 0;
  for (const Stream stream : kStreams) {
    Call call;
    const grpc::Status status = (this->*stream)(&call, [&] {
      ASSERT_TRUE(engine_.AwaitLoads(++loads));
      call.TryCancel();
    });
    EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  }
  server_->Drain(absl::Now());  // the calls are over
  engine_.HoldSessionLoads(false);
  EXPECT_TRUE(engine_.AwaitHolds(0));
  EXPECT_TRUE(engine_.AwaitStreams(0));
}

TEST_F(SessionLoadTest, ADeadlineThatPassesMeanwhileEndsTheCall) {
  for (const Stream stream : kStreams) {
    grpc::ClientContext call;
    call.set_deadline(std::chrono::system_clock::now() +
                      std::chrono::milliseconds(100));
    EXPECT_EQ((this->*stream)(&call, [] {}).error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  engine_.HoldSessionLoads(false);
  EXPECT_TRUE(engine_.AwaitHolds(0));
}

TEST_F(SessionLoadTest, AnErrorOfTheLoadIsTheStatus) {
  engine_.HoldSessionLoads(false);
  for (const Stream stream : kStreams) {
    engine_.FailNextSessionLoad(
        WithReason(absl::DataLossError("a record is damaged"),
                   {.reason = "SESSION_QUARANTINED",
                    .metadata = {{"snapshot", "auto-1"}}}));
    Call call;
    const grpc::Status status = (this->*stream)(&call, [] {});
    EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
    EXPECT_EQ(ReasonOf(status), "SESSION_QUARANTINED");
    EXPECT_EQ(FactOf(status, "snapshot"), "auto-1");
  }
}

TEST_F(SessionLoadTest, ADrainDoesNotWaitForIt) {
  int64_t loads = 0;
  for (const Stream stream : kStreams) {
    StartServer();
    engine_.HoldSessionLoads(true);
    Call call;
    const grpc::Status status = (this->*stream)(&call, [&] {
      ASSERT_TRUE(engine_.AwaitLoads(++loads));
      server_->Drain(absl::Now() + absl::Seconds(10));
    });
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    engine_.HoldSessionLoads(false);
    EXPECT_TRUE(engine_.AwaitHolds(0));
  }
}

}  // namespace
}  // namespace mneme::server
