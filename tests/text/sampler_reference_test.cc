// SPDX-License-Identifier: Apache-2.0
//
// The sampler draws as often as a slow reference says, whatever its parameters.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "engine/text/sampler.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The probability of each token, as the API's comments say it: every step by
// itself, over a map, with full sorts.
std::map<int32_t, double> SlowProbabilities(const std::vector<float>& logits,
                                            const std::vector<uint8_t>& allowed,
                                            const std::vector<int32_t>& recent,
                                            const Sampling& sampling) {
  std::map<int32_t, double> scores;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isnan(logits[i]) && logits[i] != -kInfinity &&
        (allowed.empty() || allowed[i] != 0)) {
      scores[static_cast<int32_t>(i)] = logits[i];
    }
  }
  for (auto& [token, score] : scores) {
    for (const auto& [biased, bias] : sampling.logit_bias) {
      if (biased == token) score += bias;
    }
    int times = 0;
    const auto size = static_cast<int64_t>(recent.size());
    for (int64_t i =
             std::max<int64_t>(size - sampling.penalty_window_tokens, 0);
         i < size; ++i) {
      times += recent[i] == token ? 1 : 0;
    }
    if (times == 0) continue;
    score = score > 0 ? score / sampling.repetition_penalty
                      : score * sampling.repetition_penalty;
    score -= sampling.presence_penalty;
    score -= times * double{sampling.frequency_penalty};
  }
  using Entry = std::pair<int32_t, double>;
  std::vector<Entry> kept(scores.begin(), scores.end());
  double highest = -kInfinity;
  for (const Entry& entry : kept) highest = std::max(highest, entry.second);
  for (auto& [token, p] : kept) {
    p = std::exp((p - highest) / sampling.temperature);
  }
  const auto normalise = [&kept] {
    double total = 0;
    for (const auto& [token, p] : kept) total += p;
    for (auto& [token, p] : kept) p /= total;
  };
  const auto sort = [&kept](const std::function<double(double)>& key) {
    std::stable_sort(kept.begin(), kept.end(),
                     [&](const Entry& a, const Entry& b) {
                       return key(a.second) < key(b.second);
                     });
  };
  const auto keep_mass = [&kept](double mass) {
    double sum = 0;
    size_t count = 0;
    while (count < kept.size() && sum < mass) sum += kept[count++].second;
    kept.resize(std::max<size_t>(count, 1));
  };
  const auto by_id = [&kept] { std::sort(kept.begin(), kept.end()); };
  normalise();
  if (sampling.top_k > 0 && kept.size() > size_t(sampling.top_k)) {
    sort([](double p) { return -p; });
    kept.resize(sampling.top_k);
    by_id();
    normalise();
  }
  if (sampling.top_p < 1) {
    sort([](double p) { return -p; });
    keep_mass(sampling.top_p);
    by_id();
    normalise();
  }
  double best = 0;
  for (const auto& [token, p] : kept) best = std::max(best, p);
  std::erase_if(kept, [&](const Entry& entry) {
    return entry.second < sampling.min_p * best;
  });
  normalise();
  if (sampling.typical_p < 1) {
    double entropy = 0;
    for (const auto& [token, p] : kept) {
      if (p > 0) entropy -= p * std::log(p);
    }
    sort([&](double p) { return std::abs(-std::log(p) - entropy); });
    keep_mass(sampling.typical_p);
    normalise();
  }
  return {kept.begin(), kept.end()};
}

// What the sampler makes of the same, seen from outside: the share of the unit
// interval that each token has, by drawing at evenly spread positions. Exact
// enough to see which tokens are kept, and how likely each is.
std::vector<int> Draws(Sampler& sampler, const std::vector<float>& logits,
                       const std::vector<int32_t>& recent, int draws) {
  std::vector<int> counts(logits.size(), 0);
  for (int64_t position = 0; position < draws; ++position) {
    ++counts[*sampler.Sample(logits, recent, position)];
  }
  return counts;
}

class ReferenceTest : public testing::Test {
 protected:
  // Random rows, some with ties, holes and steep ends.
  void MakeRow() {
    const int size = std::uniform_int_distribution<>(1, 40)(random_);
    const float spread = std::uniform_real_distribution<float>(0, 4)(random_);
    std::normal_distribution<float> normal(0, spread);
    logits_.assign(size, 0);
    allowed_.assign(size, 1);
    for (int i = 0; i < size; ++i) {
      logits_[i] = normal(random_);
      if (random_() % 8 == 0) logits_[i] = std::round(logits_[i]);
      if (i > 0 && random_() % 16 == 0) logits_[i] = kNan;
      if (i > 0 && random_() % 16 == 0) logits_[i] = -kInfinity;
      if (i > 0 && random_() % 8 == 0) allowed_[i] = 0;
    }
    recent_.clear();
    const int recent = std::uniform_int_distribution<>(0, 100)(random_);
    for (int i = 0; i < recent; ++i) {
      recent_.push_back(std::uniform_int_distribution<>(0, size - 1)(random_));
    }
  }
  float Between(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random_);
  }

  // `rows` random rows under what `choose` makes; a chi-square test of each.
  void Check(int rows, const std::function<void(Sampling&)>& choose) {
    constexpr int kDraws = 2000;
    for (int row = 0; row < rows; ++row) {
      MakeRow();
      Sampling sampling{.seed = random_()};
      choose(sampling);
      Sampler sampler(sampling, static_cast<int64_t>(logits_.size()), allowed_);
      const std::vector<int> counts = Draws(sampler, logits_, recent_, kDraws);
      const std::map<int32_t, double> wanted =
          SlowProbabilities(logits_, allowed_, recent_, sampling);
      // Rare tokens share a bin.
      constexpr double kLeast = 5;
      double chi_square = 0;
      double bins = 0;
      double rare = 0;
      double rare_count = 0;
      for (size_t i = 0; i < counts.size(); ++i) {
        const auto found = wanted.find(static_cast<int32_t>(i));
        if (found == wanted.end()) {
          ASSERT_EQ(counts[i], 0) << "row " << row << " token " << i;
          continue;
        }
        const double expected = found->second * kDraws;
        if (expected < kLeast) {
          rare += expected;
          rare_count += counts[i];
          continue;
        }
        chi_square +=
            (counts[i] - expected) * (counts[i] - expected) / expected;
        ++bins;
      }
      // Of n bins: mean n, deviation sqrt(2n).
      ASSERT_LT(chi_square, bins + 7 * std::sqrt(2 * bins) + 7)
          << "row " << row;
      ASSERT_NEAR(rare_count, rare, 6 * std::sqrt(rare) + 5) << "row " << row;
    }
  }

  std::mt19937_64 random_{7};
  std::vector<float> logits_;
  std::vector<uint8_t> allowed_;
  std::vector<int32_t> recent_;
};

TEST_F(ReferenceTest, Temperature) {
  Check(100, [&](Sampling& s) { s.temperature = Between(0.1f, 5); });
}
TEST_F(ReferenceTest, TopK) {
  Check(200, [&](Sampling& s) { s.top_k = 1 + int(random_() % 12); });
}
TEST_F(ReferenceTest, TopP) {
  Check(200, [&](Sampling& s) { s.top_p = Between(0.01f, 1); });
}
TEST_F(ReferenceTest, MinP) {
  Check(200, [&](Sampling& s) { s.min_p = Between(0, 1); });
}
TEST_F(ReferenceTest, TypicalP) {
  Check(200, [&](Sampling& s) { s.typical_p = Between(0.01f, 1); });
}
TEST_F(ReferenceTest, Penalties) {
  Check(100, [&](Sampling& s) { s.repetition_penalty = Between(0.2f, 5); });
  Check(100, [&](Sampling& s) { s.presence_penalty = Between(-3, 3); });
  Check(100, [&](Sampling& s) { s.frequency_penalty = Between(-1, 1); });
  Check(100, [&](Sampling& s) {
    s.repetition_penalty = Between(0.2f, 5);
    s.presence_penalty = Between(-3, 3);
    s.frequency_penalty = Between(-1, 1);
    s.penalty_window_tokens = 1 + int64_t(random_() % 90);
  });
}
TEST_F(ReferenceTest, AllTogether) {
  Check(400, [&](Sampling& s) {
    s.temperature = Between(0.2f, 3);
    s.top_k = int(random_() % 30);
    s.top_p = Between(0.3f, 1);
    s.min_p = Between(0, 0.2f);
    s.typical_p = Between(0.3f, 1);
    s.repetition_penalty = Between(0.5f, 2);
    s.presence_penalty = Between(-1, 1);
    s.frequency_penalty = Between(-0.2f, 0.2f);
    s.penalty_window_tokens = 1 + int64_t(random_() % 90);
    s.logit_bias = {{0, Between(-2, 2)}};
    if (logits_.size() > 5) s.logit_bias.push_back({5, Between(-100, 2)});
  });
}

}  // namespace
}  // namespace mneme
