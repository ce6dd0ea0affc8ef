// SPDX-License-Identifier: Apache-2.0
//
// What a user expects of a generation, through the whole engine: what its
// parameters do and what is shown of it.
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/errors.h"
#include "engine/base/utf8.h"
#include "engine/engine.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/generation_fixture.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Ids = std::vector<int32_t>;

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

}  // namespace
}  // namespace mneme
