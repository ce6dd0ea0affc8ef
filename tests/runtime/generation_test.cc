// SPDX-License-Identifier: Apache-2.0
//
// What a user expects of a generation, through the whole engine.
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/base/utf8.h"
#include "engine/engine.h"
#include "engine/runtime/reply.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/moved_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Ids = std::vector<int32_t>;

// Makes the model say these bytes, more or less by chance.
std::map<int32_t, float> Only(const std::string& bytes) {
  std::map<int32_t, float> bias;
  for (const char c : bytes) bias[static_cast<uint8_t>(c)] = 100.0f;
  return bias;
}

class GenerationTest : public testing::Test {
 protected:
  void SetUp() override {
    const ModelConfig config = *PresetConfig("ttt-linear-tiny");
    ASSERT_THAT(WriteRandomModel(config, 1, model_dir_.path()), IsOk());
    engine_ = *Engine::Create({.threads = 2, .clock = &clock_});
    ASSERT_THAT(engine_->LoadModel("tiny", model_dir_.path()), IsOk());
  }

  void Create(const std::string& id, SessionUnit unit = SessionUnit::kText) {
    ASSERT_THAT(
        engine_->CreateSession({.id = id, .model = "tiny", .unit = unit}),
        IsOk());
  }
  // What a generation makes of a new session.
  absl::StatusOr<Generated> Fresh(GenerateOptions options) {
    const std::string id = absl::StrCat("fresh-", ++made_);
    Create(id);
    options.session = id;
    return GenerateAll(*engine_, options);
  }
  GenerateOptions Letters(const std::string& letters, int64_t tokens) {
    return {.session = "s",
            .prompt = "prompt",
            .max_tokens = tokens,
            .sampling = {.seed = 9, .logit_bias = Only(letters)}};
  }
  bool AwaitIdle(const std::string& id) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (engine_->GetSession(id)->activity != SessionActivity::kIdle) {
      if (absl::Now() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return true;
  }
  // Until the first token was seen.
  static void AwaitOutput(Generation& generation, ProgressWaiter& waiter) {
    while (true) {
      const auto event = generation.Poll();
      if (!event.has_value()) {
        ASSERT_TRUE(waiter.Wait());
      } else if (event->kind == GenerateEvent::Kind::kOutput) {
        return;
      }
    }
  }

  TempDir model_dir_;
  MovedClock clock_;
  std::unique_ptr<Engine> engine_;
  int made_ = 0;
};

// -- Checks ------------------------------------------------------------------

TEST_F(GenerationTest, AbsurdValuesAreNamed) {
  Create("s");
  Create("t", SessionUnit::kTokens);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  using Change = std::function<void(GenerateOptions&)>;
  std::vector<std::pair<std::string, Change>> cases;
  const auto numbers = [&cases](const std::string& field, auto member,
                                const std::vector<float>& values) {
    for (const float value : values) {
      cases.emplace_back("sampling." + field, [=](GenerateOptions& o) {
        o.sampling.*member = value;
      });
    }
  };
  numbers("temperature", &SamplingOptions::temperature,
          {-0.1f, 101, kNan, kInfinity});
  numbers("top_p", &SamplingOptions::top_p, {0, -1, 1.01f, kNan});
  numbers("min_p", &SamplingOptions::min_p, {-0.1f, 1.1f, kNan});
  numbers("typical_p", &SamplingOptions::typical_p, {0, 2, kNan});
  numbers("repetition_penalty", &SamplingOptions::repetition_penalty,
          {0, -1, 10.5f, kNan});
  numbers("presence_penalty", &SamplingOptions::presence_penalty,
          {-11, 11, kNan});
  numbers("frequency_penalty", &SamplingOptions::frequency_penalty,
          {-11, kInfinity, kNan});
  const std::pair<const char*, Change> others[] = {
      {"sampling.top_k", [](auto& o) { o.sampling.top_k = -1; }},
      {"sampling.top_k", [](auto& o) { o.sampling.top_k = 265; }},
      {"sampling.penalty_window_tokens",
       [](auto& o) { o.sampling.penalty_window_tokens = 1025; }},
      {"sampling.penalty_window_tokens",
       [](auto& o) { o.sampling.penalty_window_tokens = -1; }},
      {"sampling.logit_bias", [](auto& o) { o.sampling.logit_bias[264] = 1; }},
      {"sampling.logit_bias", [](auto& o) { o.sampling.logit_bias[-1] = 1; }},
      {"sampling.logit_bias", [](auto& o) { o.sampling.logit_bias[0] = 101; }},
      {"sampling.logit_bias", [](auto& o) { o.sampling.logit_bias[0] = kNan; }},
      {"sampling.logit_bias",
       [](auto& o) {
         for (int i = 0; i < 1025; ++i) o.sampling.logit_bias[i] = 1;
       }},
      {"stop", [](auto& o) { o.stop = {""}; }},
      {"stop", [](auto& o) { o.stop = {std::string(257, 'a')}; }},
      {"stop", [](auto& o) { o.stop.assign(17, "a"); }},
      {"stop",
       [](auto& o) {
         o.session = "t";
         o.stop = {"a"};
       }},
      {"stop_token_ids", [](auto& o) { o.stop_tokens = {264}; }},
      {"stop_token_ids", [](auto& o) { o.stop_tokens.assign(65, 1); }},
      {"max_tokens", [](auto& o) { o.max_tokens = -1; }},
      {"top_logprobs",
       [](auto& o) {
         o.logprobs = true;
         o.top_logprobs = 21;
       }},
      {"top_logprobs", [](auto& o) { o.top_logprobs = -1; }},
      {"top_logprobs", [](auto& o) { o.top_logprobs = 1; }},
      {"request_id", [](auto& o) { o.request_id = std::string(65, 'x'); }},
      {"request_id",
       [](auto& o) {
         o.request_id = "x";
         o.commit = false;
       }},
      {"on_disconnect",
       [](auto& o) {
         o.on_disconnect = OnDisconnect::kFinish;
         o.commit = false;
       }},
      {"output_offset", [](auto& o) { o.output_offset = 5; }},
      {"output_offset",
       [](auto& o) {
         o.request_id = "x";
         o.output_offset = -5;
       }},
  };
  cases.insert(cases.end(), std::begin(others), std::end(others));
  const std::string before = Describe(*engine_, "s")->state_digest;
  for (const auto& [field, change] : cases) {
    GenerateOptions options{.session = "s"};
    change(options);
    const absl::Status status = GenerateAll(*engine_, options).status();
    EXPECT_THAT(status, Fails(StatusCode::kInvalidArgument, field));
    EXPECT_THAT(status, Fails(StatusCode::kInvalidArgument, "found"));
    EXPECT_THAT(status, Fails(StatusCode::kInvalidArgument, "wanted"));
    EXPECT_EQ(GetReason(status)->metadata[0].second, field);
  }
  EXPECT_EQ(Describe(*engine_, "s")->state_digest, before);
}

TEST_F(GenerationTest, TheEndsOfTheRangesAreAllowed) {
  EXPECT_THAT(Fresh({.max_tokens = 1,
                     .sampling = {.temperature = 100,
                                  .top_k = 264,
                                  .top_p = 1,
                                  .min_p = 0,
                                  .typical_p = 1,
                                  .repetition_penalty = 10,
                                  .presence_penalty = -10,
                                  .frequency_penalty = 10,
                                  .penalty_window_tokens = 1024,
                                  .logit_bias = {{0, -100}, {263, 100}}},
                     .stop = std::vector<std::string>(16, "x"),
                     .stop_tokens = Ids(64, 263),
                     .logprobs = true,
                     .top_logprobs = 20,
                     .request_id = std::string(64, 'x')}),
              IsOk());
}

// -- Sampling ----------------------------------------------------------------

TEST_F(GenerationTest, PenaltiesLookBackAtPromptAndAnswer) {
  // 'a' is preferred by 5; being recent costs 10.
  GenerateOptions options{.prompt = "a",
                          .max_tokens = 6,
                          .sampling = {.temperature = 0,
                                       .presence_penalty = 10,
                                       .penalty_window_tokens = 1,
                                       .logit_bias = {{'a', 100}, {'b', 95}}}};
  EXPECT_EQ(Fresh(options)->text, "bababa");
  options.prompt = "b";
  EXPECT_EQ(Fresh(options)->text, "ababab");
  options.sampling.presence_penalty = 0;
  EXPECT_EQ(Fresh(options)->text, "aaaaaa");
}

TEST_F(GenerationTest, EveryParameterReachesTheSampler) {
  const std::string free = Fresh(Letters("abcdefghij", 40))->text;
  EXPECT_EQ(free.size(), 40u);
  const std::pair<const char*, std::function<void(SamplingOptions&)>>
      changes[] = {
          {"temperature", [](auto& s) { s.temperature = 0.1f; }},
          {"top_k", [](auto& s) { s.top_k = 1; }},
          {"top_p", [](auto& s) { s.top_p = 0.1f; }},
          {"min_p", [](auto& s) { s.min_p = 1; }},
          {"typical_p", [](auto& s) { s.typical_p = 0.1f; }},
          {"repetition", [](auto& s) { s.repetition_penalty = 2; }},
          {"presence", [](auto& s) { s.presence_penalty = 5; }},
          {"frequency", [](auto& s) { s.frequency_penalty = 5; }},
          {"seed", [](auto& s) { s.seed = 10; }},
      };
  for (const auto& [name, change] : changes) {
    GenerateOptions options = Letters("abcdefghij", 40);
    change(options.sampling);
    EXPECT_NE(Fresh(options)->text, free) << name;
  }
  EXPECT_EQ(Fresh(Letters("abcdefghij", 40))->text, free);
}

TEST_F(GenerationTest, LogprobsComeBeforeAnySamplingParameter) {
  GenerateOptions options{.prompt = "abc",
                          .max_tokens = 20,
                          .sampling = {.temperature = 0},
                          .ignore_eos = true,
                          .logprobs = true,
                          .top_logprobs = 5};
  const auto plain = Fresh(options);
  ASSERT_THAT(plain, IsOk());
  ASSERT_EQ(plain->logprobs.size(), plain->tokens.size());
  for (size_t i = 0; i < plain->tokens.size(); ++i) {
    const TokenLogprob& said = plain->logprobs[i];
    EXPECT_EQ(said.token, plain->tokens[i]);
    ASSERT_EQ(said.top.size(), 5u);
    for (size_t k = 1; k < 5; ++k) {
      EXPECT_LE(said.top[k].logprob, said.top[k - 1].logprob);
    }
    EXPECT_LE(said.top[0].logprob, 0.0f);
    EXPECT_GE(said.top[0].logprob, said.logprob);
    EXPECT_EQ(said.text.size(), said.token < 256 ? 1u : 0u);
  }
  // The first token is asked of the same history whatever the bias.
  options.sampling.logit_bias = Only("z");
  const auto biased = Fresh(options);
  ASSERT_THAT(biased, IsOk());
  EXPECT_EQ(biased->text, std::string(20, 'z'));
  EXPECT_LT(biased->logprobs[0].logprob, -0.5f);
  ASSERT_FALSE(plain->logprobs.empty());
  EXPECT_EQ(biased->logprobs[0].top[0].logprob,
            plain->logprobs[0].top[0].logprob);
  EXPECT_EQ(biased->logprobs[0].top[0].token, plain->logprobs[0].top[0].token);
}

// -- What is shown -----------------------------------------------------------

TEST_F(GenerationTest, AnyPieceOfTheTextCanStopIt) {
  const std::string text = Fresh(Letters("ab", 60))->text;
  ASSERT_EQ(text.size(), 60u);
  for (const size_t begin : {0, 1, 17, 40}) {
    for (const size_t size : {1, 2, 7, 20}) {
      GenerateOptions options = Letters("ab", 60);
      const std::string stop = text.substr(begin, size);
      options.stop = {"never", stop};
      const auto stopped = Fresh(options);
      ASSERT_THAT(stopped, IsOk());
      const size_t at = text.find(stop);
      EXPECT_EQ(stopped->text, text.substr(0, at));
      EXPECT_EQ(stopped->tokens.size(), at);
      EXPECT_EQ(stopped->finished.reason, FinishReason::kStop);
      EXPECT_EQ(stopped->finished.stop, stop);
      EXPECT_FALSE(stopped->finished.stop_token.has_value());
      // The stop string is history all the same.
      EXPECT_EQ(stopped->finished.next_offset, 6 + int64_t(at + size));
      EXPECT_EQ(stopped->finished.stats.generated_tokens, int64_t(at + size));
    }
  }
}

TEST_F(GenerationTest, WhatCouldHaveBecomeAStopStringIsShownAtTheEnd) {
  GenerateOptions options = Letters("a", 10);
  options.stop = {"aaaaaaaaaaab"};
  const auto said = Fresh(options);
  ASSERT_THAT(said, IsOk());
  EXPECT_EQ(said->text, std::string(10, 'a'));
  EXPECT_EQ(said->tokens.size(), 10u);
  EXPECT_EQ(said->finished.stop, "");
  EXPECT_EQ(said->finished.reason, FinishReason::kLength);
}

TEST_F(GenerationTest, NoMessageEndsInsideACharacter) {
  Create("s");
  ProgressWaiter waiter;
  const auto generation =
      *engine_->Generate(Letters("a\xe2\x82\xac\xc3", 400), &waiter);
  std::string text;
  int64_t tokens = 0;
  int held = 0;
  while (true) {
    const auto event = generation->Poll();
    if (!event.has_value()) {
      ASSERT_TRUE(waiter.Wait());
      continue;
    }
    if (event->kind == GenerateEvent::Kind::kFinished) {
      EXPECT_EQ(event->next_offset, 406);
      break;
    }
    if (event->kind != GenerateEvent::Kind::kOutput) continue;
    text += event->text;
    tokens += event->token.has_value() ? 1 : 0;
  }
  // Byte tokens: every shown byte is a token, and at most an incomplete
  // character is missing at the end.
  EXPECT_EQ(tokens, static_cast<int64_t>(text.size()));
  EXPECT_GE(text.size(), 398u);
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = FirstUtf8Char(std::string_view(text).substr(at));
    // What looks cut off at the end was followed by something else.
    if (c.kind == Utf8Char::Kind::kIncomplete) {
      EXPECT_LT(text.size(), 400u);
    }
    held += c.kind == Utf8Char::Kind::kWhole && c.bytes == 3 ? 1 : 0;
    at += c.bytes;
  }
  EXPECT_GT(held, 0);
}

TEST_F(GenerationTest, ACharacterThatIsCutOffIsHistoryButNotReply) {
  GenerateOptions options = Letters("\xe2", 1);
  const auto said = Fresh(options);
  ASSERT_THAT(said, IsOk());
  EXPECT_EQ(said->text, "");
  EXPECT_TRUE(said->tokens.empty());
  EXPECT_EQ(said->finished.next_offset, 7);
}

TEST_F(GenerationTest, EndTokensStopUnlessIgnored) {
  const ModelConfig config = *PresetConfig("ttt-linear-tiny");
  ASSERT_FALSE(config.eos_tokens.empty());
  const int32_t eos = config.eos_tokens[0];
  GenerateOptions options{
      .prompt = "x", .max_tokens = 3, .sampling = {.logit_bias = {{eos, 100}}}};
  const auto ended = Fresh(options);
  EXPECT_EQ(ended->finished.stop_token, eos);
  EXPECT_EQ(ended->finished.stats.generated_tokens, 1);
  EXPECT_TRUE(ended->tokens.empty());
  options.ignore_eos = true;
  const auto ignored = Fresh(options);
  EXPECT_EQ(ignored->finished.reason, FinishReason::kLength);
  EXPECT_EQ(ignored->tokens, Ids(3, eos));
  EXPECT_EQ(ignored->text, "");
}

// -- Re-attaching ------------------------------------------------------------

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
  absl::Notification done;
  engine_->ResetSession("s", true,
                        [&](const absl::StatusOr<SessionInfo>& info) {
                          EXPECT_THAT(info, IsOk());
                          done.Notify();
                        });
  done.WaitForNotification();
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
