// SPDX-License-Identifier: Apache-2.0
#include "engine/text/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
const Sampling kGreedy = {.temperature = 0.0f};

// One token, without a history.
absl::optional<int32_t> SampleToken(const std::vector<float>& logits,
                                    const std::vector<uint8_t>& allowed,
                                    const Sampling& sampling,
                                    int64_t position) {
  return Sampler(sampling, static_cast<int64_t>(logits.size()), allowed)
      .Sample(logits, {}, position);
}

std::vector<double> Softmax(const std::vector<float>& logits,
                            double temperature) {
  std::vector<double> probabilities;
  double total = 0;
  for (const float logit : logits) {
    probabilities.push_back(std::exp(logit / temperature));
    total += probabilities.back();
  }
  for (double& probability : probabilities) probability /= total;
  return probabilities;
}

// How often each token was chosen at positions 0 to 19,999.
std::vector<int> Counts(const std::vector<float>& logits,
                        const std::vector<uint8_t>& allowed,
                        const Sampling& sampling) {
  std::vector<int> counts(logits.size(), 0);
  Sampler sampler(sampling, static_cast<int64_t>(logits.size()), allowed);
  for (int64_t position = 0; position < 20'000; ++position) {
    ++counts[*sampler.Sample(logits, {}, position)];
  }
  return counts;
}

// Six standard deviations of a count of 20,000 draws.
void ExpectCounts(const std::vector<int>& counts,
                  const std::vector<double>& probabilities) {
  ASSERT_EQ(counts.size(), probabilities.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    const double p = probabilities[i];
    const double deviation = std::sqrt(20'000 * p * (1 - p));
    EXPECT_NEAR(counts[i], 20'000 * p, 6 * deviation + 1) << "token " << i;
  }
}

TEST(SampleTokenTest, GreedyTakesTheHighestLogit) {
  EXPECT_EQ(SampleToken({-3.0f, 2.0f, 1.0f}, {}, kGreedy, 0), 1);
  EXPECT_EQ(SampleToken({-3.0f, -2.0f, -4.0f}, {}, kGreedy, 7), 1);
  EXPECT_EQ(SampleToken({-std::numeric_limits<float>::max()}, {}, kGreedy, 0),
            0);
}

TEST(SampleTokenTest, AmongEqualLogitsGreedyTakesTheLowestId) {
  EXPECT_EQ(SampleToken({1.0f, 2.0f, 2.0f, 2.0f}, {}, kGreedy, 0), 1);
  EXPECT_EQ(SampleToken({0.0f, -0.0f}, {}, kGreedy, 0), 0);
  EXPECT_EQ(SampleToken({-0.0f, 0.0f}, {}, kGreedy, 0), 0);
}

TEST(SampleTokenTest, NanIsNeverChosen) {
  EXPECT_EQ(SampleToken({kNan, 1.0f, kNan, 2.0f}, {}, kGreedy, 0), 3);
  for (const int count :
       {Counts({kNan, 1.0f, kNan}, {}, {.temperature = 1.0f})[1],
        Counts({1.0f, kNan, kNan}, {}, {.temperature = 1e9f})[0]}) {
    EXPECT_EQ(count, 20'000);
  }
}

TEST(SampleTokenTest, NothingIsChosenIfNothingIsPossible) {
  for (const float temperature : {0.0f, 1.0f}) {
    const Sampling sampling{.temperature = temperature};
    EXPECT_FALSE(SampleToken({}, {}, sampling, 0).has_value());
    EXPECT_FALSE(
        SampleToken({-kInfinity, -kInfinity}, {}, sampling, 0).has_value());
    EXPECT_FALSE(SampleToken({kNan, -kInfinity}, {}, sampling, 0).has_value());
    EXPECT_FALSE(SampleToken({1.0f, 2.0f}, {0, 0}, sampling, 0).has_value());
    EXPECT_FALSE(
        SampleToken({1.0f, -kInfinity}, {0, 1}, sampling, 0).has_value());
  }
}

TEST(SampleTokenTest, TokensThatAreNotAllowedAreNeverChosen) {
  const std::vector<float> logits = {5.0f, 1.0f, 9.0f, 1.0f};
  const std::vector<uint8_t> allowed = {0, 1, 0, 1};
  EXPECT_EQ(SampleToken(logits, allowed, kGreedy, 0), 1);
  const std::vector<int> counts = Counts(logits, allowed, {.seed = 3});
  ExpectCounts(counts, {0, 0.5, 0, 0.5});
}

TEST(SampleTokenTest, TheMaskDoesNotChangeTheOddsOfTheRest) {
  const std::vector<int> counts =
      Counts({30.0f, 0.0f, std::log(3.0f)}, {0, 1, 1}, {.seed = 4});
  ExpectCounts(counts, {0, 0.25, 0.75});
}

TEST(SampleTokenTest, SeedAndPositionDecideTheToken) {
  const std::vector<float> logits(64, 0.0f);
  for (int64_t position = 0; position < 100; ++position) {
    EXPECT_EQ(SampleToken(logits, {}, {.seed = 5}, position),
              SampleToken(logits, {}, {.seed = 5}, position));
  }
}

TEST(SampleTokenTest, OtherSeedsAndOtherPositionsGiveOtherTexts) {
  const std::vector<float> logits(1000, 0.0f);
  std::set<std::vector<int32_t>> texts;
  for (const uint64_t seed :
       {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{1} << 63, UINT64_MAX}) {
    for (const int64_t begin : {int64_t{0}, int64_t{1}, int64_t{1} << 40}) {
      std::vector<int32_t> text;
      for (int64_t i = 0; i < 8; ++i) {
        text.push_back(*SampleToken(logits, {}, {.seed = seed}, begin + i));
      }
      EXPECT_TRUE(texts.insert(text).second) << seed << " from " << begin;
    }
  }
}

TEST(SampleTokenTest, TokensComeAsOftenAsTheirProbabilitySays) {
  const std::vector<float> logits = {0.0f, 1.0f, -2.0f, 2.5f, -kInfinity, 0.0f};
  for (const float temperature : {0.5f, 1.0f, 3.0f}) {
    ExpectCounts(Counts(logits, {}, {.temperature = temperature, .seed = 11}),
                 Softmax(logits, temperature));
  }
}

TEST(SampleTokenTest, AShiftOfAllLogitsChangesNothing) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f};
  const std::vector<float> shifted = {1000.0f, 1001.0f, 1002.0f};
  EXPECT_EQ(Counts(logits, {}, {.seed = 2}), Counts(shifted, {}, {.seed = 2}));
}

TEST(SampleTokenTest, AnIceColdTemperatureIsGreedy) {
  for (const float temperature :
       {std::numeric_limits<float>::denorm_min(),
        std::numeric_limits<float>::min(), 1e-6f, -1.0f}) {
    const std::vector<int> counts =
        Counts({1.0f, 1.001f, -5.0f}, {}, {.temperature = temperature});
    EXPECT_EQ(counts[1], 20'000) << temperature;
  }
}

TEST(SampleTokenTest, AnEndlessTemperatureMakesAllPossibleTokensEqual) {
  for (const float temperature :
       {1e20f, std::numeric_limits<float>::max(), kInfinity}) {
    ExpectCounts(Counts({50.0f, -50.0f, -kInfinity, 0.0f}, {},
                        {.temperature = temperature, .seed = 6}),
                 {1 / 3.0, 1 / 3.0, 0, 1 / 3.0});
  }
}

TEST(SampleTokenTest, AnInfiniteLogitIsAFaultOfTheModel) {
  for (const float temperature : {0.0f, 1.0f, 1e20f}) {
    EXPECT_EQ(SampleToken({5.0f, kInfinity, 3.0f, kInfinity}, {},
                          {.temperature = temperature}, 9),
              absl::nullopt);
  }
}

// Probabilities 1/2, 1/4, 1/8, 1/8 of tokens 2, 0, 1, 3.
const std::vector<float> kHalves = {std::log(2.0f), 0.0f, std::log(4.0f), 0.0f};

// The tokens that are ever drawn.
std::set<int32_t> Kept(const std::vector<float>& logits,
                       const Sampling& sampling,
                       const std::vector<int32_t>& recent = {}) {
  Sampler sampler(sampling, static_cast<int64_t>(logits.size()), {});
  std::set<int32_t> kept;
  for (int64_t position = 0; position < 500; ++position) {
    kept.insert(*sampler.Sample(logits, recent, position));
  }
  return kept;
}

using Ids = std::set<int32_t>;

TEST(SamplerTest, TopKKeepsTheMostLikelyAndOfEqualsTheLowestIds) {
  EXPECT_EQ(Kept(kHalves, {.top_k = 1}), Ids({2}));
  EXPECT_EQ(Kept(kHalves, {.top_k = 3}), Ids({0, 1, 2}));
  EXPECT_EQ(Kept(kHalves, {.top_k = 4}), Ids({0, 1, 2, 3}));
  EXPECT_EQ(Kept(kHalves, {.top_k = 1000}), Ids({0, 1, 2, 3}));
  EXPECT_EQ(Kept(std::vector<float>(9, 0.0f), {.top_k = 2}), Ids({0, 1}));
}

TEST(SamplerTest, TopPKeepsTheFewestThatReachIt) {
  EXPECT_EQ(Kept(kHalves, {.top_p = 1e-9f}), Ids({2}));
  EXPECT_EQ(Kept(kHalves, {.top_p = 0.49f}), Ids({2}));
  EXPECT_EQ(Kept(kHalves, {.top_p = 0.51f}), Ids({0, 2}));
  EXPECT_EQ(Kept(kHalves, {.top_p = 0.8f}), Ids({0, 1, 2}));
  EXPECT_EQ(Kept(kHalves, {.top_p = 0.999f}), Ids({0, 1, 2, 3}));
}

TEST(SamplerTest, TopPSeesWhatTopKLeaves) {
  // Of 1/2 and 1/4 the first is two thirds.
  EXPECT_EQ(Kept(kHalves, {.top_k = 2, .top_p = 0.66f}), Ids({2}));
  EXPECT_EQ(Kept(kHalves, {.top_k = 2, .top_p = 0.67f}), Ids({0, 2}));
}

TEST(SamplerTest, MinPIsRelativeToTheBest) {
  EXPECT_EQ(Kept(kHalves, {.min_p = 0.2f}), Ids({0, 1, 2, 3}));
  EXPECT_EQ(Kept(kHalves, {.min_p = 0.3f}), Ids({0, 2}));
  EXPECT_EQ(Kept(kHalves, {.min_p = 0.6f}), Ids({2}));
  EXPECT_EQ(Kept({1.0f, 1.0f, 0.9f}, {.min_p = 1.0f}), Ids({0, 1}));
}

TEST(SamplerTest, TypicalTokensAreThoseNearTheEntropy) {
  // The entropy is 1.75 bits: 1/4 (2 bits) is nearest, then 1/2 (1 bit), then
  // 1/8 (3 bits).
  EXPECT_EQ(Kept(kHalves, {.typical_p = 0.2f}), Ids({0}));
  EXPECT_EQ(Kept(kHalves, {.typical_p = 0.7f}), Ids({0, 2}));
  EXPECT_EQ(Kept(kHalves, {.typical_p = 0.8f}), Ids({0, 1, 2}));
}

TEST(SamplerTest, BiasComesFirst) {
  EXPECT_EQ(Kept(kHalves, {.temperature = 0, .logit_bias = {{3, 2.0f}}}),
            Ids({3}));
  EXPECT_EQ(Kept(kHalves, {.logit_bias = {{2, -100.0f}, {0, -100.0f}}}),
            Ids({1, 3}));
  // It does not make the impossible possible.
  EXPECT_EQ(Kept({0.0f, -kInfinity, kNan},
                 {.logit_bias = {{1, 100.0f}, {2, 100.0f}}}),
            Ids({0}));
}

TEST(SamplerTest, PenaltiesHoldForGreedyToo) {
  const std::vector<float> logits = {2.0f, 1.5f, -1.0f};
  const Sampling repetition{.temperature = 0, .repetition_penalty = 2.0f};
  EXPECT_EQ(Kept(logits, repetition), Ids({0}));
  EXPECT_EQ(Kept(logits, repetition, {0}), Ids({1}));
  EXPECT_EQ(Kept(logits, repetition, {0, 0, 0, 1}), Ids({0}));
  EXPECT_EQ(Kept({-1.0f, -1.5f}, repetition, {0}), Ids({1}));
  const Sampling presence{.temperature = 0, .presence_penalty = 0.6f};
  EXPECT_EQ(Kept(logits, presence, {0}), Ids({1}));
  EXPECT_EQ(Kept(logits, presence, {0, 0, 0, 1}), Ids({0}));
  const Sampling frequency{.temperature = 0, .frequency_penalty = 0.2f};
  EXPECT_EQ(Kept(logits, frequency, {0, 0}), Ids({0}));
  EXPECT_EQ(Kept(logits, frequency, {0, 0, 0}), Ids({1}));
}

TEST(SamplerTest, OnlyTheWindowIsRecent) {
  Sampling sampling{
      .temperature = 0, .presence_penalty = 5, .penalty_window_tokens = 2};
  EXPECT_EQ(Kept({1.0f, 0.5f}, sampling, {0, 1, 1}), Ids({0}));
  EXPECT_EQ(Kept({1.0f, 0.5f}, sampling, {0, 1}), Ids({0}));
  EXPECT_EQ(Kept({1.0f, 0.5f}, sampling, {1, 0, 0}), Ids({1}));
  EXPECT_EQ(Sampler(sampling, 2, {}).window_tokens(), 2);
  sampling.presence_penalty = 0;
  EXPECT_EQ(Sampler(sampling, 2, {}).window_tokens(), 0);
}

TEST(SamplerTest, WhatTruncatesNothingChangesNoChoice) {
  std::vector<float> logits(50);
  for (int i = 0; i < 50; ++i) logits[i] = std::sin(static_cast<float>(i));
  Sampler plain({.seed = 3}, 50, {});
  Sampler idle({.top_k = 50,
                .top_p = 0.9999999f,
                .min_p = 1e-9f,
                .typical_p = 0.9999999f,
                .seed = 3},
               50, {});
  for (int64_t position = 0; position < 1000; ++position) {
    EXPECT_EQ(idle.Sample(logits, {}, position),
              plain.Sample(logits, {}, position));
  }
}

TEST(SamplerTest, AdversarialRowsNeverGiveADisallowedToken) {
  const float huge = std::numeric_limits<float>::max();
  const std::vector<std::vector<float>> rows = {
      {huge, -huge, huge, -huge, 0.0f},
      {-huge, -huge, -huge, -huge, -huge},
      {kNan, -huge, huge, kNan, -kInfinity},
      {1e-45f, -1e-45f, 0.0f, -0.0f, 1e-38f},
      {kInfinity, 1.0f, kInfinity, 2.0f, kInfinity}};
  const std::vector<uint8_t> allowed = {0, 1, 0, 1, 0};
  std::mt19937_64 random(5);
  for (const std::vector<float>& row : rows) {
    for (int i = 0; i < 300; ++i) {
      const auto any = [&](std::vector<float> values) {
        return values[random() % values.size()];
      };
      Sampler sampler({.temperature = any({0, 1e-45f, 1, 100}),
                       .top_k = static_cast<int32_t>(random() % 6),
                       .top_p = any({1e-45f, 0.5f, 1}),
                       .min_p = any({0, 1e-45f, 1}),
                       .typical_p = any({1e-45f, 0.5f, 1}),
                       .repetition_penalty = any({1e-45f, 1, 10}),
                       .presence_penalty = any({-10, 0, 10}),
                       .frequency_penalty = any({-10, 0, 10}),
                       .penalty_window_tokens = 1024,
                       .logit_bias = {{0, 100}, {1, any({-100, 100})}},
                       .seed = random()},
                      5, allowed);
      const auto token = sampler.Sample(
          row, std::vector<int32_t>(1024, static_cast<int32_t>(random() % 5)),
          i);
      ASSERT_TRUE(token.has_value());
      EXPECT_TRUE(token == 1 || token == 3) << *token;
    }
  }
}

TEST(SamplerTest, ScratchIsWhatItsParametersNeed) {
  EXPECT_EQ(Sampler::ScratchBytes({.temperature = 0}, 1000), 8000);
  EXPECT_EQ(Sampler::ScratchBytes({.presence_penalty = 1}, 1000),
            20000 + 64 * 4);
}

TEST(LogProbabilityTest, ProbabilitiesSumToOne) {
  for (const float size : {0.0f, 1.0f, 10.0f, 80.0f}) {
    std::vector<float> logits(300);
    for (int i = 0; i < 300; ++i) {
      logits[i] = size * std::sin(static_cast<float>(i));
    }
    double total = 0;
    for (int32_t token = 0; token < 300; ++token) {
      const float log_probability = LogProbability(logits, token);
      EXPECT_LE(log_probability, 0.0f);
      total += std::exp(double{log_probability});
    }
    EXPECT_NEAR(total, 1.0, 1e-5) << size;
  }
}

TEST(LogProbabilityTest, IsTheLogarithmOfSoftmax) {
  EXPECT_FLOAT_EQ(LogProbability({0.0f, std::log(3.0f)}, 0), std::log(0.25f));
  EXPECT_FLOAT_EQ(LogProbability({0.0f, std::log(3.0f)}, 1), std::log(0.75f));
  EXPECT_EQ(LogProbability({-3.5f}, 0), 0.0f);
}

TEST(LogProbabilityTest, HugeLogitsDoNotOverflow) {
  EXPECT_FLOAT_EQ(LogProbability({3e38f, 3e38f}, 0), -std::log(2.0f));
  EXPECT_FLOAT_EQ(LogProbability({-3e38f, -3e38f}, 1), -std::log(2.0f));
  EXPECT_EQ(LogProbability({1.0f, -kInfinity}, 1), -kInfinity);
  EXPECT_EQ(LogProbability({1.0f, -kInfinity}, 0), 0.0f);
}

TEST(LogProbabilityTest, NanIsImpossibleAsForTheSampler) {
  EXPECT_FLOAT_EQ(LogProbability({0.0f, kNan, 0.0f}, 0), -std::log(2.0f));
  EXPECT_EQ(LogProbability({0.0f, kNan}, 1), -kInfinity);
  EXPECT_TRUE(std::isnan(LogProbability({kNan, kNan}, 0)));
  EXPECT_TRUE(std::isnan(LogProbability({1.0f, kInfinity}, 0)));
  EXPECT_TRUE(std::isnan(LogProbability({-kInfinity}, 0)));
}

MATCHER_P2(Likely, token, probability, "") {
  return arg.token == token &&
         std::abs(std::exp(arg.logprob) - probability) < 1e-6;
}

TEST(TopLogProbabilitiesTest, AreTheBestInOrderAndTiesById) {
  std::vector<LikelyToken> top;
  TopLogProbabilities(kHalves, 3, top);
  EXPECT_THAT(top, testing::ElementsAre(Likely(2, 0.5), Likely(0, 0.25),
                                        Likely(1, 0.125)));
  TopLogProbabilities(kHalves, 20, top);
  EXPECT_EQ(top.size(), 4u);
  TopLogProbabilities(kHalves, 0, top);
  EXPECT_TRUE(top.empty());
}

TEST(TopLogProbabilitiesTest, LeaveOutTheImpossible) {
  std::vector<LikelyToken> top;
  TopLogProbabilities({kNan, 1.0f, -kInfinity, 1.0f}, 4, top);
  EXPECT_THAT(top, testing::ElementsAre(Likely(1, 0.5), Likely(3, 0.5)));
  TopLogProbabilities({kNan, 1.0f, kInfinity}, 4, top);
  EXPECT_TRUE(top.empty());
}

TEST(TopLogProbabilitiesTest, AgreeWithASortOfRandomRows) {
  std::mt19937 random(1);
  for (int row = 0; row < 200; ++row) {
    std::vector<float> logits(1 + random() % 60);
    for (float& logit : logits) {
      logit = static_cast<float>(static_cast<int>(random() % 9)) / 2;
    }
    std::vector<int32_t> ids(logits.size());
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
      return logits[a] > logits[b];
    });
    const size_t count = random() % 21;
    ids.resize(std::min(ids.size(), count));
    std::vector<LikelyToken> top;
    TopLogProbabilities(logits, static_cast<int64_t>(count), top);
    ASSERT_EQ(top.size(), ids.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(top[i].token, ids[i]);
      EXPECT_EQ(top[i].logprob, LogProbability(logits, ids[i]));
    }
  }
}

TEST(UniformAtTest, LiesInTheHalfOpenUnitIntervalAndFillsItEvenly) {
  std::vector<int> tenths(10, 0);
  for (int64_t position = 0; position < 20'000; ++position) {
    const double value = UniformAt(42, position);
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    ++tenths[static_cast<int>(value * 10)];
  }
  ExpectCounts(tenths, std::vector<double>(10, 0.1));
}

}  // namespace
}  // namespace mneme
