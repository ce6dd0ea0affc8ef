// SPDX-License-Identifier: Apache-2.0
#include "engine/text/sampler.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr Sampling kGreedy = {.temperature = 0.0f};

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
  for (int64_t position = 0; position < 20'000; ++position) {
    ++counts[*SampleToken(logits, allowed, sampling, position)];
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
