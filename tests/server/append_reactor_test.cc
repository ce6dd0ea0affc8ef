// SPDX-License-Identifier: Apache-2.0
#include "tests/server/server_fixture.h"

namespace mneme::server {
namespace {

using ::testing::HasSubstr;

class AppendReactorTest : public ServerFixture {
 protected:
  // Opens a stream to `session`; Opened is read.
  void Open(const std::string& session = "sessions/alice") {
    stream_ = memory_->Append(&call_);
    v1::AppendRequest request;
    request.mutable_open()->set_session(session);
    stream_->Write(request);
    Read();
  }
  bool Send(int64_t offset, const std::string& text) {
    v1::AppendRequest request;
    request.mutable_segment()->set_offset(offset);
    request.mutable_segment()->set_text(text);
    return stream_->Write(request);
  }
  bool Read() {
    response_.Clear();
    return stream_->Read(&response_);
  }
  grpc::Status Finish() {
    while (Read()) {
    }
    return stream_->Finish();
  }

  Call call_;
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::AppendRequest, v1::AppendResponse>>
      stream_;
  v1::AppendResponse response_;
};

TEST_F(AppendReactorTest, OpenedComesWithoutASegment) {
  Open();
  EXPECT_EQ(response_.opened().uid(), "uid-1");
  EXPECT_EQ(response_.opened().durability(), v1::Session::NONE);
  EXPECT_EQ(response_.opened().max_segment_bytes(), 1024);
  stream_->WritesDone();
  EXPECT_TRUE(Finish().ok());
}

TEST_F(AppendReactorTest, OpenedSaysHowTheSessionCameIntoMemory) {
  engine_.MakeDurable("alice");
  Open();
  EXPECT_EQ(response_.opened().durability(), v1::Session::FSYNC);
  EXPECT_EQ(response_.opened().state_tier(), v1::Session::REPLAYED);
  EXPECT_EQ(response_.opened().tokens_replayed(), 42);
  EXPECT_EQ(response_.opened().load_time().seconds(), 2);
  EXPECT_EQ(response_.opened().digest_at_durable(), std::string(64, 'h'));
  stream_->WritesDone();
  EXPECT_TRUE(Finish().ok());
  EXPECT_TRUE(engine_.AwaitHolds(0));
}

TEST_F(AppendReactorTest, AnAckTellsWhatIsDurable) {
  engine_.MakeDurable("alice");
  Open();
  Send(0, "abc");
  ASSERT_TRUE(engine_.AwaitTaken(1));
  engine_.Sync();
  engine_.Absorb();
  do {  // they may come one after the other
    ASSERT_TRUE(Read());
  } while (response_.ack().absorbed_offset() < 3);
  EXPECT_EQ(response_.ack().durable_offset(), 3);
  stream_->WritesDone();
  EXPECT_TRUE(Finish().ok());
}

TEST_F(AppendReactorTest, WhatIsManyBytesIsAcknowledgedOnceItIsDurable) {
  engine_.MakeDurable("alice");
  Open();
  for (int i = 0; i < 5; ++i) Send(i * 1024, std::string(1024, 'x'));
  ASSERT_TRUE(engine_.AwaitTaken(5));
  engine_.Sync();
  ASSERT_TRUE(Read());
  EXPECT_EQ(response_.ack().durable_offset(), 5 * 1024);
  EXPECT_EQ(response_.ack().absorbed_offset(), 0);
  engine_.Absorb();
  stream_->WritesDone();
  EXPECT_TRUE(Finish().ok());
}

TEST_F(AppendReactorTest, TheHalfCloseWaitsUntilEverythingIsDurable) {
  engine_.MakeDurable("alice");
  Open();
  Send(0, "abc");
  v1::AppendRequest flush;
  flush.mutable_flush();
  stream_->Write(flush);
  stream_->WritesDone();
  ASSERT_TRUE(engine_.AwaitTaken(1));
  engine_.Absorb();  // no ack yet: it is not durable
  engine_.Sync();
  int64_t durable = 0;
  while (Read()) {
    durable = response_.ack().durable_offset();
    EXPECT_EQ(durable, 3);
  }
  EXPECT_EQ(durable, 3);
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(AppendReactorTest, HalfCloseBringsOneLastAckOfEverything) {
  Open();
  Send(0, "abc");
  Send(3, "def");
  stream_->WritesDone();
  ASSERT_TRUE(engine_.AwaitTaken(2));
  engine_.Absorb();
  ASSERT_TRUE(Read());
  EXPECT_EQ(response_.ack().absorbed_offset(), 6);
  EXPECT_EQ(response_.ack().tokens(), 6);
  EXPECT_TRUE(response_.ack().verified());
  EXPECT_TRUE(Finish().ok());
}

TEST_F(AppendReactorTest, SegmentsThatWereAbsorbedTogetherShareAnAck) {
  Open();
  for (int64_t i = 0; i < 8; ++i) Send(i, "x");
  ASSERT_TRUE(engine_.AwaitTaken(8));
  engine_.Absorb();
  ASSERT_TRUE(Read());
  EXPECT_EQ(response_.ack().absorbed_offset(), 8);
  stream_->WritesDone();
  EXPECT_TRUE(Finish().ok());
}

TEST_F(AppendReactorTest, NothingIsReadWithoutCredit) {
  Open();
  engine_.SetCredit(1);
  for (int64_t i = 0; i < 5; ++i) Send(i, "x");
  ASSERT_TRUE(engine_.AwaitTaken(1));
  engine_.Absorb();
  ASSERT_TRUE(Read());
  EXPECT_EQ(response_.ack().absorbed_offset(), 1);
  EXPECT_EQ(engine_.taken(), 1);
  EXPECT_THAT(MetricsText(),
              HasSubstr("mneme_credit_stalls_total{model=\"tiny\"} 1"));
  engine_.SetCredit(100);
  ASSERT_TRUE(engine_.AwaitTaken(5));
  engine_.Absorb();
  stream_->WritesDone();
  EXPECT_TRUE(Finish().ok());
}

TEST_F(AppendReactorTest, AGenerationThatWritesThrottlesOnce) {
  Open();
  engine_.SetCredit(0);
  engine_.SetActivity("alice", SessionActivity::kGenerating);
  Send(0, "x");
  ASSERT_TRUE(Read());
  EXPECT_THAT(response_.throttle().reason(), HasSubstr("generation"));
  EXPECT_GT(response_.throttle().retry_delay().nanos(), 0);
  engine_.SetCredit(0);  // a wake-up that changes nothing
  engine_.SetActivity("alice", SessionActivity::kAppending);
  engine_.SetCredit(10);
  ASSERT_TRUE(engine_.AwaitTaken(1));
  engine_.Absorb();
  ASSERT_TRUE(Read());
  EXPECT_EQ(response_.ack().absorbed_offset(), 1);
  stream_->WritesDone();
  EXPECT_TRUE(Finish().ok());
}

TEST_F(AppendReactorTest, WhatAGenerationWroteIsNotAcknowledged) {
  Open();
  engine_.WriteElsewhere("alice", 5);
  engine_.Sync();
  stream_->WritesDone();
  ASSERT_TRUE(Read());
  EXPECT_EQ(response_.ack().absorbed_offset(), 0);
  EXPECT_EQ(response_.ack().durable_offset(), 0);
  EXPECT_TRUE(Finish().ok());
}

TEST_F(AppendReactorTest, AGapNamesTheOffsetThatIsAwaited) {
  Open();
  Send(0, "abc");
  Send(7, "def");
  const grpc::Status status = Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(ReasonOf(status), "SEGMENT_GAP");
  EXPECT_EQ(FactOf(status, "expected_offset"), "3");
}

TEST_F(AppendReactorTest, ADuplicateIsAcknowledgedAgain) {
  Open();
  Send(0, "abc");
  ASSERT_TRUE(engine_.AwaitTaken(1));
  engine_.Absorb();
  ASSERT_TRUE(Read());
  Send(0, "abc");
  ASSERT_TRUE(Read());
  EXPECT_TRUE(response_.ack().duplicate());
  EXPECT_EQ(response_.ack().absorbed_offset(), 3);
  stream_->WritesDone();
  EXPECT_TRUE(Finish().ok());
}

TEST_F(AppendReactorTest, AFlushIsAnsweredWhenAllBeforeItIsAbsorbed) {
  Open();
  v1::AppendRequest flush;
  flush.mutable_flush();
  stream_->Write(flush);  // nothing is outstanding
  ASSERT_TRUE(Read());
  EXPECT_EQ(response_.ack().absorbed_offset(), 0);
  stream_->WritesDone();
  EXPECT_TRUE(Finish().ok());
}

TEST_F(AppendReactorTest, ASecondWriterCanOpenAsSoonAsTheFirstEnded) {
  for (int i = 0; i < 20; ++i) {
    Call call;
    auto stream = memory_->Append(&call);
    v1::AppendRequest request;
    request.mutable_open()->set_session("sessions/alice");
    stream->Write(request);
    stream->WritesDone();
    v1::AppendResponse response;
    while (stream->Read(&response)) {
    }
    ASSERT_TRUE(stream->Finish().ok()) << i;
  }
}

TEST_F(AppendReactorTest, CancellingFreesTheSessionAndKeepsWhatWasTaken) {
  Open();
  Send(0, "abc");
  ASSERT_TRUE(engine_.AwaitTaken(1));
  call_.TryCancel();
  EXPECT_EQ(Finish().error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(engine_.AwaitStreams(0));
  EXPECT_EQ(engine_.GetSession("alice")->next_offset, 3);
}

TEST_F(AppendReactorTest, AStreamThatWasTakenOverEnds) {
  Open();
  engine_.FailAppend(WithReason(absl::AbortedError("taken over"),
                                {.reason = "TAKEN_OVER", .metadata = {}}));
  const grpc::Status status = Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(ReasonOf(status), "TAKEN_OVER");
}

TEST_F(AppendReactorTest, TheFirstMessageHasToBeOpen) {
  stream_ = memory_->Append(&call_);
  Send(0, "abc");
  EXPECT_EQ(Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(AppendReactorTest, AMissingSessionIsNamed) {
  Open("sessions/bob");
  const grpc::Status status = Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(DetailOf<google::rpc::ResourceInfo>(status).resource_name(),
            "sessions/bob");
}

TEST_F(AppendReactorTest, ASegmentWithoutPayloadIsRefused) {
  Open();
  v1::AppendRequest request;
  request.mutable_segment()->set_offset(0);
  stream_->Write(request);
  const grpc::Status status = Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FactOf(status, "field"), "segment.payload");
}

}  // namespace
}  // namespace mneme::server
