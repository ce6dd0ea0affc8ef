// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "client/client.h"
#include "client/crc32c.h"
#include "client/status.h"
#include "tests/client/fake_server.h"

namespace mneme::client {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Client> ConnectTo(const FakeServer& server) {
  return *Client::Connect(server.address());
}

// Gives `text` in pieces as large as asked for.
TextSource Give(std::string text) {
  auto rest = std::make_shared<std::string>(std::move(text));
  return [rest](int64_t max_bytes) -> absl::StatusOr<std::string> {
    std::string piece = rest->substr(0, static_cast<size_t>(max_bytes));
    rest->erase(0, piece.size());
    return piece;
  };
}

TokenSource Give(std::vector<int32_t> ids) {
  auto rest = std::make_shared<std::vector<int32_t>>(std::move(ids));
  return [rest](int64_t max_tokens) -> absl::StatusOr<std::vector<int32_t>> {
    const auto end =
        rest->begin() +
        std::min<int64_t>(max_tokens, static_cast<int64_t>(rest->size()));
    std::vector<int32_t> piece(rest->begin(), end);
    rest->erase(rest->begin(), end);
    return piece;
  };
}

std::string Joined(FakeServer& server) {
  std::string text;
  for (const auto& segment : server.segments()) text += segment.text();
  return text;
}

TEST(AppendTest, SplitsTheSourceIntoMessagesThatFollowEachOther) {
  FakeServer server;
  const auto result = ConnectTo(server)->AppendText(
      "sessions/a", Give("abcdefghij"), {.message_bytes = 4});
  ASSERT_TRUE(result.ok()) << result.status();
  const auto segments = server.segments();
  ASSERT_EQ(segments.size(), 3u);
  EXPECT_EQ(segments[0].text(), "abcd");
  EXPECT_EQ(segments[0].crc32c(), Crc32c("abcd"));
  EXPECT_EQ(segments[1].offset(), 4);
  EXPECT_EQ(segments[2].offset(), 8);
  EXPECT_EQ(segments[2].text(), "ij");
  EXPECT_EQ(result->start_offset, 0);
  EXPECT_EQ(result->end_offset, 10);
  EXPECT_EQ(result->ack.absorbed_offset(), 10);
  EXPECT_FALSE(result->duplicate);
}

TEST(AppendTest, NothingToAppendIsFine) {
  FakeServer server({.next_offset = 5});
  const auto result = ConnectTo(server)->AppendText("sessions/a", Give(""));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->start_offset, 5);
  EXPECT_EQ(result->end_offset, 5);
  EXPECT_TRUE(server.segments().empty());
}

TEST(AppendTest, TheServersLimitCapsTheMessage) {
  FakeServer server({.max_segment_bytes = 3});
  const auto result = ConnectTo(server)->AppendText(
      "sessions/a", Give("abcdefgh"), {.message_bytes = 100});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(server.segments().size(), 3u);
  EXPECT_EQ(Joined(server), "abcdefgh");
}

TEST(AppendTest, GoesOnAtTheEndOfTheSession) {
  FakeServer server({.next_offset = 7});
  const auto result = ConnectTo(server)->AppendText("sessions/a", Give("abc"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(server.segments()[0].offset(), 7);
  EXPECT_EQ(result->end_offset, 10);
}

TEST(AppendTest, AStartOffsetRepeatsWhatIsThere) {
  FakeServer server({.next_offset = 4});
  const auto result = ConnectTo(server)->AppendText(
      "sessions/a", Give("abcdefgh"), {.message_bytes = 3, .start_offset = 0});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(server.segments()[0].offset(), 0);
  EXPECT_EQ(result->end_offset, 8);
  EXPECT_TRUE(result->duplicate);
  EXPECT_TRUE(result->verified);
}

TEST(AppendTest, AStartOffsetBeyondTheEndIsTheServersToRefuse) {
  FakeServer server({.max_inflight_bytes = 8, .next_offset = 4});
  const auto result = ConnectTo(server)->AppendText("sessions/a", Give("abc"),
                                                    {.start_offset = 1000});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(ReasonOf(result.status()), "SEGMENT_GAP");
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("expected_offset=4"));
}

// The source is asked for a message only when all messages before it were
// written, and the fake notes an ack before it sends it: so what the source
// gave so far, less what is acknowledged when it is asked again, is a lower
// bound of what the client had in flight.
TEST(AppendTest, UnacknowledgedBytesStayWithinTheCredit) {
  constexpr int64_t kCredit = 100;
  constexpr int64_t kMessage = 30;
  constexpr int kMessages = 40;
  FakeServer server({.max_inflight_bytes = kCredit, .ack_every_units = 90});
  int64_t written = 0;
  int64_t most_in_flight = 0;
  int message = 0;
  const TextSource source = [&](int64_t) -> absl::StatusOr<std::string> {
    most_in_flight = std::max(most_in_flight, written - server.acknowledged());
    if (message++ == kMessages) return "";
    written += kMessage;
    return std::string(kMessage, 'x');
  };
  const auto result = ConnectTo(server)->AppendText(
      "sessions/a", source, {.message_bytes = kMessage});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->end_offset, kMessages * kMessage);
  EXPECT_LE(most_in_flight, kCredit);
}

TEST(AppendTest, ATokenTakesFourBytesOfCreditAndMessage) {
  FakeServer server({.unit = v1::Session::TOKENS, .max_inflight_bytes = 12});
  std::vector<int32_t> ids(10);
  std::iota(ids.begin(), ids.end(), 100);
  const auto result = ConnectTo(server)->AppendTokens("sessions/a", Give(ids));
  ASSERT_TRUE(result.ok()) << result.status();
  const auto segments = server.segments();
  ASSERT_EQ(segments.size(), 4u);
  EXPECT_EQ(segments[0].tokens().ids_size(), 3);
  EXPECT_EQ(segments[3].offset(), 9);
  EXPECT_EQ(segments[3].tokens().ids(0), 109);
  EXPECT_EQ(result->end_offset, 10);
}

TEST(AppendTest, TextForATokenSessionIsNotSent) {
  FakeServer server({.unit = v1::Session::TOKENS});
  const auto result = ConnectTo(server)->AppendText("sessions/a", Give("abc"));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(server.segments().empty());
}

TEST(AppendTest, ADurableSessionIsDoneOnlyWhenItIsDurable) {
  FakeServer server({.durability = v1::Session::FSYNC});
  const auto result = ConnectTo(server)->AppendText("sessions/a", Give("abc"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->ack.durable_offset(), 3);

  FakeServer forgetful(
      {.durability = v1::Session::FSYNC, .never_durable = true});
  const auto lost = ConnectTo(forgetful)->AppendText("sessions/a", Give("abc"));
  EXPECT_EQ(lost.status().code(), absl::StatusCode::kInternal);
}

TEST(AppendTest, AFailingSourceKeepsWhatItGaveBefore) {
  FakeServer server;
  int calls = 0;
  const auto result = ConnectTo(server)->AppendText(
      "sessions/a", [&](int64_t) -> absl::StatusOr<std::string> {
        if (calls++ == 0) return "abc";
        return absl::DataLossError("bad sector");
      });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Joined(server), "abc");
}

TEST(AppendTest, AThrottledStreamGoesOnAfterwards) {
  FakeOptions options;
  options.extra.mutable_throttle()->mutable_retry_delay()->set_nanos(1000);
  FakeServer server(options);
  const auto result = ConnectTo(server)->AppendText("sessions/a", Give("abc"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Joined(server), "abc");
}

TEST(AppendTest, AMovedSessionNamesItsOwner) {
  FakeOptions options;
  options.extra.mutable_moved()->set_owner("other:7600");
  FakeServer server(options);
  const auto result = ConnectTo(server)->AppendText("sessions/a", Give("abc"));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("other:7600"));
}

TEST(AppendTest, AMessageWithoutRoomIsRefusedBeforeAnythingIsSent) {
  FakeServer server;
  const auto result = ConnectTo(server)->AppendText("sessions/a", Give("abc"),
                                                    {.message_bytes = 0});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mneme::client
