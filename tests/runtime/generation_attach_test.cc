// SPDX-License-Identifier: Apache-2.0
//
// Generations and those who read them, through the whole engine: what goes on
// without a stream, what a second one is given, and what ends it.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/engine.h"
#include "engine/runtime/reply.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/generation_fixture.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Ids = std::vector<int32_t>;

TEST_F(GenerationTest, TheSameRequestIdGivesTheSameAnswerAndAddsNothing) {
  Create("s");
  GenerateOptions options = Letters("abc", 30);
  options.request_id = "r";
  options.request_digest = "d";
  options.logprobs = true;
  options.top_logprobs = 2;
  const auto first = GenerateAll(*engine_, options);
  ASSERT_THAT(first, IsOk());
  EXPECT_FALSE(first->started.attached);
  const std::string digest = Describe(*engine_, "s")->state_digest;

  const auto again = GenerateAll(*engine_, options);
  ASSERT_THAT(again, IsOk());
  EXPECT_TRUE(again->started.attached);
  EXPECT_EQ(again->started.offset, first->started.offset);
  EXPECT_EQ(again->started.ask_position, first->started.ask_position);
  EXPECT_EQ(again->text, first->text);
  EXPECT_EQ(again->tokens, first->tokens);
  ASSERT_EQ(again->logprobs.size(), first->logprobs.size());
  EXPECT_EQ(again->logprobs[7].logprob, first->logprobs[7].logprob);
  EXPECT_EQ(again->logprobs[7].top[1].token, first->logprobs[7].top[1].token);
  EXPECT_EQ(again->finished.next_offset, first->finished.next_offset);
  EXPECT_EQ(again->finished.stats.seed, 9u);
  EXPECT_EQ(Describe(*engine_, "s")->state_digest, digest);

  // From the middle, from its end, from nowhere.
  options.output_offset = 6 + 11;
  EXPECT_EQ(GenerateAll(*engine_, options)->text, first->text.substr(11));
  options.output_offset = 6 + 30;
  EXPECT_EQ(GenerateAll(*engine_, options)->text, "");
  for (const auto& [offset, nearest] :
       {std::make_pair(3, "6"), std::make_pair(50, "36")}) {
    options.output_offset = offset;
    const absl::Status status = GenerateAll(*engine_, options).status();
    EXPECT_THAT(status, Fails(StatusCode::kOutOfRange, nearest));
    EXPECT_THAT(status, HasReason("OFFSET_NOT_KEPT"));
    EXPECT_EQ(GetReason(status)->metadata[0].second, nearest);
  }
  options.output_offset = 0;
  options.request_digest = "another";
  EXPECT_THAT(GenerateAll(*engine_, options), HasReason("REQUEST_ID_REUSED"));
  EXPECT_EQ(Describe(*engine_, "s")->state_digest, digest);
}

TEST_F(GenerationTest, OffsetsOfATokenSessionCountTokens) {
  Create("t", SessionUnit::kTokens);
  ASSERT_THAT(AppendAll(*engine_, "t", Ids{1, 2, 3}), IsOk());
  GenerateOptions options{
      .session = "t", .max_tokens = 8, .ignore_eos = true, .request_id = "r"};
  const auto whole = GenerateAll(*engine_, options);
  ASSERT_THAT(whole, IsOk());
  options.output_offset = 3 + 5;
  EXPECT_EQ(GenerateAll(*engine_, options)->tokens,
            Ids(whole->tokens.begin() + 5, whole->tokens.end()));
}

TEST_F(GenerationTest, WithFinishItGoesOnWithoutAStream) {
  GenerateOptions options = Letters("abcdef", 500);
  const std::string wanted = Fresh(options)->text;
  Create("s");
  options.request_id = "r";
  options.on_disconnect = OnDisconnect::kFinish;
  {
    ProgressWaiter waiter;
    const auto generation = *engine_->Generate(options, &waiter);
    AwaitOutput(*generation, waiter);
  }
  // Far more than one that waits for its reader would say.
  ASSERT_TRUE(AwaitIdle("s"));
  EXPECT_EQ(engine_->GetSession("s")->next_offset, 506);
  const auto rest = GenerateAll(*engine_, options);
  ASSERT_THAT(rest, IsOk());
  EXPECT_TRUE(rest->started.attached);
  EXPECT_EQ(rest->text, wanted);
  EXPECT_EQ(rest->finished.reason, FinishReason::kLength);
  EXPECT_EQ(engine_->stats().generations, 0);
}

TEST_F(GenerationTest, OneThatRunsCanBeAttachedTo) {
  GenerateOptions options = Letters("abcdef", 3000);
  options.on_disconnect = OnDisconnect::kFinish;
  const std::string wanted = Fresh(options)->text;
  Create("s");
  options.request_id = "r";
  {
    ProgressWaiter waiter;
    const auto generation = *engine_->Generate(options, &waiter);
    AwaitOutput(*generation, waiter);
  }
  options.output_offset = 7;
  ProgressWaiter waiter;
  auto generation = *engine_->Generate(options, &waiter);
  const auto rest = ReadAll(*generation, waiter);
  ASSERT_THAT(rest, IsOk());
  EXPECT_TRUE(rest->started.attached);
  EXPECT_EQ(rest->text, wanted.substr(1));
  // It is counted until its stream is gone, and no longer.
  generation.reset();
  EXPECT_EQ(engine_->stats().generations, 0);
}

TEST_F(GenerationTest, WithCancelItEndsWithItsStreamAndSaysSo) {
  for (const FinishReason reason :
       {FinishReason::kCancelled, FinishReason::kDeadline}) {
    Create("s");
    GenerateOptions options = Letters("abc", 100'000);
    options.request_id = "r";
    {
      ProgressWaiter waiter;
      const auto generation = *engine_->Generate(options, &waiter);
      AwaitOutput(*generation, waiter);
      generation->Disconnect(reason);
    }
    ASSERT_TRUE(AwaitIdle("s"));
    const auto ended = GenerateAll(*engine_, options);
    ASSERT_THAT(ended, IsOk());
    EXPECT_TRUE(ended->started.attached);
    EXPECT_EQ(ended->finished.reason, reason);
    EXPECT_EQ(ended->finished.next_offset,
              6 + static_cast<int64_t>(ended->text.size()));
    EXPECT_EQ(ended->finished.next_offset,
              engine_->GetSession("s")->next_offset);
    ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
  }
}

TEST_F(GenerationTest, ADeadlineDoesNotEndOneThatIsToFinish) {
  Create("s");
  GenerateOptions options = Letters("abc", 600);
  options.request_id = "r";
  options.on_disconnect = OnDisconnect::kFinish;
  {
    ProgressWaiter waiter;
    const auto generation = *engine_->Generate(options, &waiter);
    generation->Disconnect(FinishReason::kDeadline);
  }
  const auto rest = GenerateAll(*engine_, options);
  ASSERT_THAT(rest, IsOk());
  EXPECT_EQ(rest->finished.reason, FinishReason::kLength);
  EXPECT_EQ(rest->text.size(), 600u);
}

TEST_F(GenerationTest, ASecondStreamTakesTheReaderOver) {
  Create("s");
  GenerateOptions options = Letters("abc", 1000);
  options.request_id = "r";
  ProgressWaiter first_waiter;
  auto first = *engine_->Generate(options, &first_waiter);
  AwaitOutput(*first, first_waiter);
  ProgressWaiter second_waiter;
  const auto second = *engine_->Generate(options, &second_waiter);
  EXPECT_THAT(ReadAll(*first, first_waiter), HasReason("TAKEN_OVER"));
  first.reset();  // ends nothing
  const auto all = ReadAll(*second, second_waiter);
  ASSERT_THAT(all, IsOk());
  EXPECT_EQ(all->text.size(), 1000u);
  EXPECT_EQ(engine_->GetSession("s")->next_offset, 1006);
}

TEST_F(GenerationTest, ManyWhoAskAtOnceGetOneAnswer) {
  GenerateOptions options = Letters("abc", 200);
  options.request_id = "r";
  options.on_disconnect = OnDisconnect::kFinish;
  for (int round = 0; round < 5; ++round) {
    Create("s");
    std::vector<std::thread> threads;
    threads.reserve(6);
    std::atomic<int> complete = 0;
    for (int i = 0; i < 6; ++i) {
      threads.emplace_back([&] {
        const auto said = GenerateAll(*engine_, options);
        if (said.ok()) {
          EXPECT_EQ(said->text.size(), 200u);
          ++complete;
        } else {
          EXPECT_THAT(said, HasReason("TAKEN_OVER"));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_GE(complete, 1);
    EXPECT_EQ(engine_->GetSession("s")->next_offset, 206);
    ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
  }
}

TEST_F(GenerationTest, ANewRequestIdForgetsTheOldOne) {
  Create("s");
  GenerateOptions options = Letters("abc", 5);
  options.request_id = "r";
  ASSERT_THAT(GenerateAll(*engine_, options), IsOk());
  options.request_id.clear();
  ASSERT_THAT(GenerateAll(*engine_, options), IsOk());  // forgets nothing
  options.request_id = "r";
  EXPECT_TRUE(GenerateAll(*engine_, options)->started.attached);
  options.request_id = "q";
  EXPECT_FALSE(GenerateAll(*engine_, options)->started.attached);
  // Who wants to go on is not given another answer instead.
  options.request_id = "r";
  options.output_offset = 8;
  const int64_t before = engine_->GetSession("s")->next_offset;
  EXPECT_THAT(GenerateAll(*engine_, options), HasReason("OFFSET_NOT_KEPT"));
  EXPECT_EQ(engine_->GetSession("s")->next_offset, before);
}

TEST_F(GenerationTest, AResetForgetsTheAnswer) {
  Create("s");
  GenerateOptions options = Letters("abc", 5);
  options.request_id = "r";
  ASSERT_THAT(GenerateAll(*engine_, options), IsOk());
  ASSERT_THAT(Reset(*engine_, {.session = "s", .takeover = true}), IsOk());
  EXPECT_FALSE(GenerateAll(*engine_, options)->started.attached);
}

TEST_F(GenerationTest, WhatNeverBeganMayBeAskedAgain) {
  Create("t", SessionUnit::kTokens);
  GenerateOptions options{
      .session = "t", .max_tokens = 2, .ignore_eos = true, .request_id = "r"};
  EXPECT_THAT(GenerateAll(*engine_, options), HasReason("NO_HISTORY"));
  ASSERT_THAT(AppendAll(*engine_, "t", Ids{1, 2}), IsOk());
  EXPECT_EQ(GenerateAll(*engine_, options)->tokens.size(), 2u);
}

// -- Slow readers ------------------------------------------------------------

TEST_F(GenerationTest, AReaderThatTakesNothingDoesNotHoldTheSessionForEver) {
  Create("s");
  ProgressWaiter waiter;
  const auto generation = *engine_->Generate(Letters("abc", 100'000), &waiter);
  // It waits for the reader, for a minute of the engine's clock.
  const int64_t paused_at = 7 + Reply::kMaxUnread;
  while (Describe(*engine_, "s")->position < paused_at) {
  }
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (engine_->GetSession("s")->activity != SessionActivity::kIdle &&
         absl::Now() < deadline) {
    EXPECT_EQ(engine_->GetSession("s")->position, paused_at);
    clock_.Move(61);
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_EQ(engine_->GetSession("s")->activity, SessionActivity::kIdle);
  const auto said = ReadAll(*generation, waiter);
  EXPECT_THAT(said, Fails(StatusCode::kCancelled, "1m"));
  EXPECT_THAT(said, HasReason("SLOW_READER"));
}

TEST_F(GenerationTest, DrainingEndsWhatRunsWithoutAStream) {
  Create("s");
  GenerateOptions options = Letters("abc", 100'000'000);
  options.on_disconnect = OnDisconnect::kFinish;
  {
    ProgressWaiter waiter;
    const auto generation = *engine_->Generate(options, &waiter);
    AwaitOutput(*generation, waiter);
  }
  EXPECT_EQ(engine_->stats().generations, 1);
  EXPECT_EQ(engine_->Drain(absl::InfinitePast()), 1);
  EXPECT_TRUE(AwaitIdle("s"));
  engine_.reset();
}

}  // namespace
}  // namespace mneme
