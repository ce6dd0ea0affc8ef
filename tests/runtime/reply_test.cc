// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/reply.h"

#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Kind = GenerateEvent::Kind;

constexpr int64_t kBegin = 100;  // the answer's offset

// Replies of token sessions: one token is one unit of an offset.
class ReplyTest : public testing::Test {
 protected:
  void Make(Reply::Setup setup) {
    setup.unit = SessionUnit::kTokens;
    reply_ = std::make_unique<Reply>(std::move(setup));
    reader_ = reply_->Open(&waiter_);
  }
  // Says `count` tokens: 0, 1, 2 and so on, all to be seen.
  void Say(int count) {
    for (int i = 0; i < count; ++i) {
      const LikelyToken token{.token = static_cast<int32_t>(said_),
                              .logprob = -1.0f};
      ++said_;
      reply_->Add(token, {}, said_, said_);
    }
  }
  void Finish(FinishReason reason = FinishReason::kLength,
              absl::Status status = absl::OkStatus()) {
    reply_->Finish({.kind = Kind::kFinished,
                    .status = std::move(status),
                    .reason = reason},
                   said_, said_);
  }
  absl::optional<GenerateEvent> Poll(Reply::Reader& reader) {
    return reply_->Poll(reader, &resume_);
  }
  // All tokens that there are to be seen.
  std::vector<int32_t> ReadTokens(Reply::Reader& reader) {
    std::vector<int32_t> tokens;
    while (true) {
      const auto event = Poll(reader);
      if (!event.has_value() || event->kind == Kind::kFinished) return tokens;
      if (event->token.has_value()) tokens.push_back(*event->token);
    }
  }

  ProgressWaiter waiter_;
  std::unique_ptr<Reply> reply_;
  std::shared_ptr<Reply::Reader> reader_;
  int64_t said_ = 0;
  bool resume_ = false;
};

TEST_F(ReplyTest, AReaderSeesTheBeginningTheTokensAndTheEnd) {
  Make({.max_tokens = 10});
  EXPECT_FALSE(Poll(*reader_).has_value());
  reply_->Begin(7, kBegin);
  Say(1);
  EXPECT_EQ(Poll(*reader_)->offset, kBegin);
  EXPECT_EQ(Poll(*reader_)->token, 0);
  EXPECT_FALSE(Poll(*reader_).has_value());
  Say(1);
  EXPECT_EQ(Poll(*reader_)->token, 1);
  Finish();
  EXPECT_EQ(Poll(*reader_)->kind, Kind::kFinished);
  EXPECT_FALSE(Poll(*reader_).has_value());
}

TEST_F(ReplyTest, HiddenTokensAreNotSeen) {
  Make({.max_tokens = 10});
  reply_->Begin(7, kBegin);
  Say(2);
  reply_->Add({.token = 2}, {}, 2, 2);
  Finish();
  EXPECT_THAT(ReadTokens(*reader_), testing::ElementsAre(0, 1));
}

TEST_F(ReplyTest, ASlowReaderIsWaitedForAndNotForEver) {
  Make({.max_tokens = 1000});
  reply_->Begin(7, kBegin);
  const absl::Duration start = absl::Hours(5);
  Say(Reply::kMaxUnread - 1);
  EXPECT_FALSE(reply_->Crowded(start));
  Say(1);
  EXPECT_TRUE(reply_->Crowded(start));
  EXPECT_TRUE(reply_->Crowded(start + absl::Seconds(30)));
  EXPECT_FALSE(reply_->Stuck(start + kReaderPatience - absl::Seconds(1)));
  EXPECT_TRUE(reply_->Stuck(start + kReaderPatience));
  // Half of it has to be seen before its task is woken.
  Poll(*reader_);  // kStarted
  for (int64_t i = 0; i < Reply::kMaxUnread / 2 - 1; ++i) {
    Poll(*reader_);
    EXPECT_FALSE(resume_) << i;
  }
  Poll(*reader_);
  EXPECT_TRUE(resume_);
  EXPECT_FALSE(reply_->Stuck(start + kReaderPatience));
  EXPECT_FALSE(reply_->Crowded(start));
}

TEST_F(ReplyTest, OneThatDoesNotWaitForgetsItsOldestTokens) {
  Make({.max_tokens = 1'000'000, .waits = false});
  reply_->Begin(7, kBegin);
  const int kept = Reply::kMaxBytes / 8;
  Say(kept);
  EXPECT_FALSE(reply_->Crowded(absl::ZeroDuration()));
  EXPECT_THAT(reply_->Attach(0, &waiter_), IsOk());
  Say(10);
  const auto whole = reply_->Attach(0, &waiter_);
  EXPECT_THAT(whole, HasReason("OFFSET_NOT_KEPT"));
  EXPECT_THAT(whole, Fails(StatusCode::kOutOfRange, "nearest is 110"));
  EXPECT_THAT(reply_->Attach(kBegin + 9, &waiter_),
              Fails(StatusCode::kOutOfRange, "nearest is 110"));
  const auto rest = reply_->Attach(kBegin + 10, &waiter_);
  ASSERT_THAT(rest, IsOk());
  const std::vector<int32_t> tokens = ReadTokens(**rest);
  ASSERT_EQ(tokens.size(), static_cast<size_t>(kept));
  EXPECT_EQ(tokens.front(), 10);
  EXPECT_EQ(tokens.back(), kept + 9);
}

TEST_F(ReplyTest, AReaderThatFallsBehindWhatIsKeptIsTold) {
  Make({.max_tokens = 1'000'000, .waits = false});
  reply_->Begin(7, kBegin);
  Say(1);
  EXPECT_EQ(ReadTokens(*reader_).size(), 1u);
  Say(Reply::kMaxBytes / 8 + 1);
  const auto lost = Poll(*reader_);
  ASSERT_TRUE(lost.has_value());
  EXPECT_EQ(lost->kind, Kind::kFinished);
  EXPECT_THAT(lost->status, HasReason("OFFSET_NOT_KEPT"));
  EXPECT_FALSE(Poll(*reader_).has_value());
}

TEST_F(ReplyTest, OffsetsBeyondWhatWasSaidAreOutOfRange) {
  Make({.max_tokens = 10});
  EXPECT_THAT(reply_->Attach(kBegin, &waiter_),
              Fails(StatusCode::kOutOfRange, "100"));  // not begun
  reply_->Begin(7, kBegin);
  Say(3);
  EXPECT_THAT(reply_->Attach(kBegin - 1, &waiter_),
              Fails(StatusCode::kOutOfRange, "nearest is 100"));
  EXPECT_THAT(reply_->Attach(kBegin + 4, &waiter_),
              Fails(StatusCode::kOutOfRange, "nearest is 103"));
  const auto at_end = reply_->Attach(kBegin + 3, &waiter_);
  ASSERT_THAT(at_end, IsOk());
  EXPECT_TRUE(ReadTokens(**at_end).empty());
}

TEST_F(ReplyTest, TheLastReaderToAttachIsTheReader) {
  Make({.max_tokens = 10});
  reply_->Begin(7, kBegin);
  Say(3);
  Poll(*reader_);
  Poll(*reader_);
  const auto second = *reply_->Attach(kBegin + 2, &waiter_);
  EXPECT_TRUE(waiter_.Wait());
  EXPECT_THAT(Poll(*reader_)->status, HasReason("TAKEN_OVER"));
  EXPECT_FALSE(Poll(*reader_).has_value());
  EXPECT_EQ(reply_->Leave(reader_), Reply::Left::kTakenOver);
  EXPECT_TRUE(Poll(*second)->attached);
  EXPECT_EQ(Poll(*second)->token, 2);
  EXPECT_EQ(reply_->Leave(second), Reply::Left::kRunning);
  Finish();
  const auto third = *reply_->Attach(0, &waiter_);
  EXPECT_EQ(reply_->Leave(third), Reply::Left::kFinished);
}

TEST_F(ReplyTest, ACancellationIsAnErrorToItsReaderAndAnAnswerToALaterOne) {
  Make({.max_tokens = 10});
  reply_->Begin(7, kBegin);
  Finish(FinishReason::kCancelled, absl::CancelledError("why"));
  Poll(*reader_);
  EXPECT_THAT(Poll(*reader_)->status, Fails(StatusCode::kCancelled, "why"));
  const auto later = *reply_->Attach(0, &waiter_);
  Poll(*later);
  const auto end = Poll(*later);
  EXPECT_THAT(end->status, IsOk());
  EXPECT_EQ(end->reason, FinishReason::kCancelled);
}

TEST_F(ReplyTest, LikelyTokensAreKeptBesideTheirs) {
  Make({.max_tokens = 10, .logprobs = true, .top_logprobs = 2});
  reply_->Begin(7, kBegin);
  const std::vector<LikelyToken> top = {{5, -0.5f}, {6, -2.0f}};
  reply_->Add({6, -2.0f}, top, 1, 1);
  reply_->Add({7, -3.0f}, {{7, -3.0f}}, 2, 2);  // nothing else was possible
  Poll(*reader_);
  const auto first = Poll(*reader_);
  ASSERT_TRUE(first->logprob.has_value());
  EXPECT_EQ(first->logprob->token, 6);
  EXPECT_EQ(first->logprob->logprob, -2.0f);
  ASSERT_EQ(first->logprob->top.size(), 2u);
  EXPECT_EQ(first->logprob->top[0].token, 5);
  EXPECT_EQ(first->logprob->top[1].logprob, -2.0f);
  EXPECT_EQ(Poll(*reader_)->logprob->top.size(), 1u);
}

}  // namespace
}  // namespace mneme
