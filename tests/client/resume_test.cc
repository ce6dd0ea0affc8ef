// SPDX-License-Identifier: Apache-2.0
//
// Appends whose streams break.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "client/client.h"
#include "client/status.h"
#include "tests/client/fake_server.h"

namespace mneme::client {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;
using ::testing::SizeIs;
using Break = FakeOptions::Break;

constexpr char kText[] = "abcdefghijklmnopqrstuvwxyz";

TextSource Give(std::string text) {
  auto rest = std::make_shared<std::string>(std::move(text));
  return [rest](int64_t max_bytes) -> absl::StatusOr<std::string> {
    std::string piece = rest->substr(0, static_cast<size_t>(max_bytes));
    rest->erase(0, piece.size());
    return piece;
  };
}

class ResumeTest : public testing::Test {
 protected:
  // Appends the alphabet, four bytes a message, and notes the waits.
  absl::StatusOr<AppendResult> Append(FakeServer& server,
                                      AppendOptions options = {},
                                      const std::string& text = kText) {
    ClientOptions client_options;
    client_options.first_backoff = absl::Milliseconds(100);
    client_options.longest_resume_backoff = absl::Milliseconds(400);
    client_options.resume_for = absl::Seconds(10);
    client_options.wait = [this](absl::Duration wait) {
      waits_.push_back(wait);
    };
    client_ = *Client::Connect(server.address(), client_options);
    options.message_bytes = 4;
    return client_->AppendText("sessions/a", Give(text), options);
  }

  std::unique_ptr<Client> client_;
  std::vector<absl::Duration> waits_;
};

grpc::Status Plain(grpc::StatusCode code) {
  return grpc::Status(code, "Received RST_STREAM with error code 8");
}

TEST_F(ResumeTest, WhatATransportMakesOfALostConnectionIsNoError) {
  for (const auto code :
       {grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::CANCELLED,
        grpc::StatusCode::INTERNAL, grpc::StatusCode::UNKNOWN}) {
    FakeServer server({.breaks = {{.segments = 3, .status = Plain(code)},
                                  {.segments = 2, .status = Plain(code)}}});
    const auto result = Append(server);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(server.history(), kText);
    EXPECT_EQ(result->end_offset, 26);
    EXPECT_EQ(result->breaks, 2);
    EXPECT_FALSE(result->duplicate);
    EXPECT_THAT(server.opens(), SizeIs(3));
  }
}

TEST_F(ResumeTest, LostAcksRepeatNothing) {
  // The server takes everything of every stream and acknowledges nothing.
  FakeServer server({.max_inflight_bytes = 16,
                     .ack_every_units = 1000,
                     .breaks = {{.segments = 4}, {.segments = 1}}});
  const auto result = Append(server, {}, "abcdefghijklmnop");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(server.history(), "abcdefghijklmnop");
}

TEST_F(ResumeTest, AnAckMayFollowOpenedAtOnce) {
  for (int round = 0; round < 50; ++round) {
    FakeServer server({.absorbs_late = true,
                       .breaks = {{.segments = 1},
                                  {.segments = 2},
                                  {.segments = 1},
                                  {.segments = 3}}});
    const auto result = Append(server);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(server.history(), kText);
  }
}

TEST_F(ResumeTest, WhatTheServerLostUnacknowledgedIsSentAgain) {
  FakeServer server({.breaks = {{.segments = 3, .lose = 4}}});
  const auto result = Append(server);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(server.history(), kText);
}

TEST_F(ResumeTest, ADurableSessionFreesOnlyWhatIsDurable) {
  // Nothing becomes durable before the break, so all of it may vanish.
  FakeServer server({.durability = v1::Session::FSYNC,
                     .ack_every_units = 1000,
                     .breaks = {{.segments = 5, .lose = 20}}});
  const auto result = Append(server);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(server.history(), kText);
}

TEST_F(ResumeTest, TheNextStreamSaysWhichSessionItMeans) {
  FakeServer server({.breaks = {{.segments = 2}}});
  ASSERT_TRUE(Append(server).ok());
  const auto opens = server.opens();
  ASSERT_THAT(opens, SizeIs(2));
  EXPECT_EQ(opens[0].uid(), "");
  EXPECT_FALSE(opens[0].resume());
  EXPECT_EQ(opens[1].uid(), "the-uid");
  EXPECT_EQ(opens[1].expected_epoch(), 5);
  EXPECT_TRUE(opens[1].resume());
  EXPECT_FALSE(opens[1].takeover());
}

TEST_F(ResumeTest, WaitsDoubleUpToACapAndBeginAnewAfterProgress) {
  std::vector<Break> breaks(6, {.instead_of_opened = true});
  breaks.insert(breaks.begin(), {.segments = 2});
  breaks.push_back({.segments = 3});
  FakeServer server({.breaks = breaks});
  const auto result = Append(server);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_THAT(waits_, SizeIs(8));
  const int steps[] = {100, 200, 400, 400, 400, 400, 400, 100};
  for (size_t i = 0; i < waits_.size(); ++i) {
    EXPECT_THAT(waits_[i], AllOf(Ge(absl::Milliseconds(steps[i] / 2)),
                                 Le(absl::Milliseconds(steps[i]))))
        << i;
  }
}

TEST_F(ResumeTest, TheServersDelayIsWaitedForAtLeast) {
  FakeServer server(
      {.breaks = {{.segments = 2,
                   .status = MakeError(grpc::StatusCode::UNAVAILABLE, "busy",
                                       v1::MODEL_LOADING, {}, 3)}}});
  ASSERT_TRUE(Append(server).ok());
  EXPECT_THAT(waits_, testing::ElementsAre(absl::Seconds(3)));
}

TEST_F(ResumeTest, GivesUpAfterWaitingInVainAndSaysHowFarItGot) {
  std::vector<Break> breaks(200, {.instead_of_opened = true});
  breaks.insert(breaks.begin(), {.segments = 3});
  FakeServer server({.breaks = breaks});
  const auto result = Append(server);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("acknowledged up to offset"));
  absl::Duration waited;
  for (const absl::Duration wait : waits_) waited += wait;
  EXPECT_LE(waited, absl::Seconds(10));
  EXPECT_GT(waited, absl::Seconds(9));
}

TEST_F(ResumeTest, AServerThatWasNeverThereIsTriedAFewTimesOnly) {
  FakeServer server(
      {.breaks = std::vector<Break>(10, {.instead_of_opened = true})});
  EXPECT_EQ(Append(server).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(server.opens(), SizeIs(4));
}

TEST_F(ResumeTest, AnErrorOfTheServerIsFinal) {
  FakeServer server({.breaks = {{.segments = 2,
                                 .status = MakeError(grpc::StatusCode::INTERNAL,
                                                     "bug", v1::INCIDENT)}}});
  EXPECT_EQ(Append(server).status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(server.opens(), SizeIs(1));
}

TEST_F(ResumeTest, AVanishedSessionIsExplained) {
  FakeServer server(
      {.breaks = {{.segments = 2},
                  {.instead_of_opened = true,
                   .status = MakeError(grpc::StatusCode::NOT_FOUND, "no such",
                                       v1::SESSION_NOT_FOUND)}}});
  const auto result = Append(server);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(result.status()), "SESSION_NOT_FOUND");
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("does not keep sessions"));
}

TEST_F(ResumeTest, ASessionOfTheSameNameIsNotContinued) {
  FakeServer server(
      {.breaks = {{.segments = 2},
                  {.instead_of_opened = true,
                   .status = MakeError(grpc::StatusCode::ABORTED, "another",
                                       v1::EPOCH_FENCED, {{"uid", "new"}})}}});
  const auto result = Append(server);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("another session has the name"));
}

TEST_F(ResumeTest, ALossOfWhatWasAcknowledgedIsDataLoss) {
  FakeServer server({.breaks = {{.segments = 4, .lose = 16}}});
  EXPECT_EQ(Append(server).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(ResumeTest, AnotherWritersInputIsNotWrittenOver) {
  FakeServer server({.breaks = {{.segments = 4, .gain = "something else"}}});
  EXPECT_EQ(Append(server).status().code(), absl::StatusCode::kAborted);
}

TEST_F(ResumeTest, AnotherHistoryOfTheSameLengthIsFoundByItsDigest) {
  FakeServer server(
      {.breaks = {{.segments = 4, .lose = 16, .gain = std::string(16, 'x')}}});
  const auto result = Append(server);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("digest"));
}

TEST_F(ResumeTest, TakesOverItsOwnStreamWhichTheServerStillHolds) {
  const grpc::Status busy =
      MakeError(grpc::StatusCode::ABORTED, "busy", v1::SESSION_BUSY,
                {{"busy", "APPENDING"}});
  FakeServer server({.breaks = {{.segments = 2},
                                {.instead_of_opened = true, .status = busy}}});
  const auto result = Append(server);
  ASSERT_TRUE(result.ok()) << result.status();
  const auto opens = server.opens();
  ASSERT_THAT(opens, SizeIs(3));
  EXPECT_FALSE(opens[1].takeover());
  EXPECT_TRUE(opens[2].takeover());
  EXPECT_EQ(server.history(), kText);
}

TEST_F(ResumeTest, ABusySessionIsNotTakenOverByAnAppendThatBegins) {
  const grpc::Status busy =
      MakeError(grpc::StatusCode::ABORTED, "busy", v1::SESSION_BUSY,
                {{"busy", "APPENDING"}});
  FakeServer server({.breaks = {{.instead_of_opened = true, .status = busy}}});
  EXPECT_EQ(Append(server).status().code(), absl::StatusCode::kAborted);
  EXPECT_THAT(server.opens(), SizeIs(1));
}

TEST_F(ResumeTest, AFirstStreamThatWasNotHeardOfIsWaitedOut) {
  const grpc::Status busy =
      MakeError(grpc::StatusCode::ABORTED, "busy", v1::SESSION_BUSY,
                {{"busy", "APPENDING"}});
  std::vector<Break> breaks(8, {.instead_of_opened = true, .status = busy});
  breaks.insert(breaks.begin(), {.instead_of_opened = true});
  FakeServer server({.breaks = breaks});
  const auto result = Append(server);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(server.history(), kText);
  for (const auto& open : server.opens()) EXPECT_FALSE(open.takeover());
}

TEST_F(ResumeTest, TheEpochOfATakeoverWhoseAnswerWasLostIsItsOwn) {
  const grpc::Status busy =
      MakeError(grpc::StatusCode::ABORTED, "busy", v1::SESSION_BUSY,
                {{"busy", "APPENDING"}});
  const auto fenced = [](const char* epoch) {
    return MakeError(grpc::StatusCode::ABORTED, "epoch", v1::EPOCH_FENCED,
                     {{"epoch", epoch}});
  };
  FakeServer server(
      {.breaks = {{.segments = 2},
                  {.instead_of_opened = true, .status = busy},
                  // The takeover: heard by the server only.
                  {.instead_of_opened = true},
                  {.instead_of_opened = true, .status = fenced("6")}}});
  const auto result = Append(server);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(server.opens().back().expected_epoch(), 6);
  EXPECT_EQ(server.history(), kText);

  // Without a takeover of its own the epoch is somebody else's.
  FakeServer other(
      {.breaks = {{.segments = 2},
                  {.instead_of_opened = true, .status = fenced("6")}}});
  EXPECT_EQ(Append(other).status().code(), absl::StatusCode::kAborted);
}

TEST_F(ResumeTest, BeingTakenOverIsFinal) {
  FakeServer server(
      {.breaks = {{.segments = 2,
                   .status = MakeError(grpc::StatusCode::ABORTED, "another",
                                       v1::TAKEN_OVER, {{"epoch", "6"}})}}});
  EXPECT_EQ(ReasonOf(Append(server).status()), "TAKEN_OVER");
  EXPECT_THAT(server.opens(), SizeIs(1));
}

TEST_F(ResumeTest, ACancellationOfItsOwnEndsTheAppend) {
  FakeServer server(
      {.breaks = std::vector<Break>(
           50, {.segments = 1, .status = Plain(grpc::StatusCode::CANCELLED)})});
  AppendOptions options;
  options.on_break = [this](const absl::Status&, absl::Duration) {
    client_->CancelAll();
  };
  EXPECT_EQ(Append(server, options).status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_THAT(server.opens(), SizeIs(1));
}

TEST_F(ResumeTest, AnAppendBehindARunningGenerationGoesBehindItsAnswer) {
  FakeServer server({.intrusion = "an answer"});
  const auto result = Append(server);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(server.history(), std::string("an answer") + kText);
  EXPECT_EQ(result->start_offset, 9);
  EXPECT_EQ(result->end_offset, 35);
}

TEST_F(ResumeTest, AnAnswerThatBeginsLikeTheAppendIsNotMistakenForIt) {
  FakeServer server({.intrusion = "abcd"});
  EXPECT_EQ(Append(server).status().code(), absl::StatusCode::kAborted);
}

TEST_F(ResumeTest, AFileGoesOnWhereTheSessionIs) {
  FakeServer server;
  ASSERT_TRUE(Append(server, {}, "abcdefghij").ok());
  const auto result = Append(server, {.resume = true});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->start_offset, 10);
  EXPECT_EQ(result->end_offset, 26);
  EXPECT_EQ(server.history(), kText);
  EXPECT_FALSE(result->duplicate);
  // And once more there is nothing to do.
  const auto again = Append(server, {.resume = true});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->start_offset, 26);
  EXPECT_EQ(server.history(), kText);
}

TEST_F(ResumeTest, AFileThatIsNotTheSessionsIsRefused) {
  FakeServer server;
  ASSERT_TRUE(Append(server, {}, "abcdefghiJ").ok());
  const auto other = Append(server, {.resume = true});
  EXPECT_EQ(other.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("digest"));
  const auto shorter = Append(server, {.resume = true}, "abc");
  EXPECT_EQ(shorter.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(shorter.status().message()),
              HasSubstr("holds 10, the source has only 3"));
  EXPECT_EQ(server.history(), "abcdefghiJ");
}

TEST_F(ResumeTest, ResumeAndAStartOffsetExcludeEachOther) {
  FakeServer server;
  EXPECT_EQ(Append(server, {.start_offset = 0, .resume = true}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mneme::client
