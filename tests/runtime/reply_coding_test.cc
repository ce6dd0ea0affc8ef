// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/runtime/kept_reply_coding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/golden_session.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Kind = GenerateEvent::Kind;

std::string Encoded(const Reply& reply) {
  std::string bytes;
  reply.Encode(bytes);
  return bytes;
}

// All that one who attaches is told, as text.
std::vector<std::string> Told(Reply& reply, int64_t output_offset = 0) {
  ProgressWaiter waiter;
  auto reader = reply.Attach(output_offset, &waiter);
  if (!reader.ok()) return {std::string(reader.status().ToString())};
  std::vector<std::string> told;
  bool resume = false;
  while (const auto event = reply.Poll(**reader, &resume)) {
    std::string one = absl::StrCat(int(event->kind), " ", event->text, " ",
                                   event->token.value_or(-7));
    if (event->kind == Kind::kStarted) {
      absl::StrAppend(&one, event->ask_position, " ", event->offset);
    }
    if (event->logprob.has_value()) {
      absl::StrAppend(&one, " ", event->logprob->logprob);
      for (const TokenLogprob& top : event->logprob->top) {
        absl::StrAppend(&one, " ", top.token, ":", top.logprob);
      }
    }
    if (event->kind == Kind::kFinished) {
      const GenerateStats& stats = event->stats;
      absl::StrAppend(
          &one, event->status.ToString(), int(event->reason), " ",
          event->next_offset, " ", event->position, " ", event->stop, " ",
          event->stop_token.value_or(-7), " ", stats.prompt_tokens, " ",
          stats.generated_tokens, " ",
          absl::FormatDuration(stats.queue_time + stats.prefill_time), " ",
          absl::FormatDuration(stats.decode_time), " ",
          absl::FormatDuration(stats.time_to_first_token), " ", stats.seed);
    }
    told.push_back(one);
  }
  return told;
}

void ExpectTheSame(Reply& reply,
                   const std::shared_ptr<const ServedModel>& model,
                   SessionUnit unit, int64_t end) {
  const std::string bytes = Encoded(reply);
  const auto decoded = Reply::Decode(bytes, model, unit);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(Encoded(**decoded), bytes);
  EXPECT_TRUE((*decoded)->finished());
  EXPECT_EQ((*decoded)->NeverBegan(), reply.NeverBegan());
  for (int64_t offset = 0; offset <= end; ++offset) {
    ASSERT_EQ(Told(**decoded, offset), Told(reply, offset)) << offset;
  }
}

TEST(ReplyCodingTest, OneWhoAttachesIsToldTheSame) {
  const auto model = GoldenModel();
  ExpectTheSame(*GoldenReply(model), model, SessionUnit::kText, 14);
}

TEST(ReplyCodingTest, AStatusKeepsItsReason) {
  const auto model = GoldenModel();
  const auto reply =
      Reply::Decode(Encoded(*GoldenReply(model)), model, SessionUnit::kText);
  ASSERT_THAT(reply, IsOk());
  ProgressWaiter waiter;
  const auto reader = (*reply)->Open(&waiter);
  bool resume = false;
  absl::optional<GenerateEvent> last;
  while (auto event = (*reply)->Poll(*reader, &resume)) last = event;
  EXPECT_THAT(last->status, HasReason("READER_GONE"));
  EXPECT_EQ(last->status, GoldenFinished().status);
}

TEST(ReplyCodingTest, AReplyThatForgotItsBeginningDoesSoStill) {
  for (const SessionUnit unit : {SessionUnit::kTokens, SessionUnit::kText}) {
    const auto model = GoldenModel();
    Reply reply({.model = model,
                 .unit = unit,
                 .max_tokens = 1'000'000,
                 .waits = false});
    reply.Begin(0, 0);
    const int said = Reply::kMaxBytes / 8 + 1000;
    for (int i = 0; i < said; ++i) {
      reply.Add({.token = i % 256, .logprob = -1.0f}, {}, i + 1, i + 1);
    }
    reply.Finish({.kind = Kind::kFinished, .status = absl::OkStatus()}, said,
                 said);
    const std::string bytes = Encoded(reply);
    EXPECT_LT(bytes.size(), Reply::kMaxBytes + 1000u);
    const auto decoded = Reply::Decode(bytes, model, unit);
    ASSERT_THAT(decoded, IsOk());
    EXPECT_EQ(Encoded(**decoded), bytes);
    for (const int64_t offset : {0, 999, 1000, 1001, 5000, said}) {
      EXPECT_EQ(Told(**decoded, offset), Told(reply, offset)) << offset;
    }
  }
}

TEST(ReplyCodingTest, OneThatNeverBeganIsKeptToo) {
  const auto model = GoldenModel();
  Reply reply({.model = model, .max_tokens = 3});
  reply.Finish({.kind = Kind::kFinished,
                .status = absl::UnavailableError("the node stops")},
               0, 0);
  ExpectTheSame(reply, model, SessionUnit::kText, 0);
}

TEST(ReplyCodingTest, AKeptReplyKeepsItsRequest) {
  const auto model = GoldenModel();
  std::string bytes;
  EncodeKeptReply(GoldenKept(model), bytes);
  const auto kept = DecodeKeptReply(bytes, model, SessionUnit::kText);
  ASSERT_THAT(kept, IsOk());
  EXPECT_EQ(kept->request_id, "request-1");
  EXPECT_EQ(kept->request_digest, "digest-1");
  EXPECT_TRUE(kept->had_prompt);
  EXPECT_EQ(kept->task.lock(), nullptr);
  EXPECT_EQ(Encoded(*kept->reply), Encoded(*GoldenReply(model)));
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_THAT(
        DecodeKeptReply(bytes.substr(0, size), model, SessionUnit::kText),
        Fails(StatusCode::kDataLoss, "kept reply: "))
        << size;
  }
}

TEST(ReplyCodingTest, ABitThatFlipsIsAnErrorOrIsSeen) {
  const auto model = GoldenModel();
  const std::string bytes = Encoded(*GoldenReply(model));
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      const auto reply = Reply::Decode(damaged, model, SessionUnit::kText);
      if (!reply.ok()) {
        ASSERT_EQ(reply.status().code(), StatusCode::kDataLoss);
        continue;
      }
      ASSERT_EQ(Encoded(**reply), damaged) << "byte " << at << " bit " << bit;
      Told(**reply);  // ends
    }
  }
}

TEST(ReplyCodingTest, TheOtherUnitIsRefused) {
  const auto model = GoldenModel();
  EXPECT_THAT(
      Reply::Decode(Encoded(*GoldenReply(model)), model, SessionUnit::kTokens),
      Fails(StatusCode::kDataLoss, "no request"));
}

}  // namespace
}  // namespace mneme
