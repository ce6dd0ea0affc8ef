// SPDX-License-Identifier: Apache-2.0
#include "engine/text/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mneme {
namespace {

constexpr double kImpossible = -std::numeric_limits<double>::infinity();

// The finaliser of SplitMix64: every bit of x moves every bit of the result.
uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9;
  x ^= x >> 27;
  x *= 0x94d049bb133111eb;
  x ^= x >> 31;
  return x;
}

bool IsGreedy(const Sampling& sampling) { return sampling.temperature <= 0; }

bool Penalises(const Sampling& sampling) {
  return sampling.repetition_penalty != 1.0f ||
         sampling.presence_penalty != 0.0f ||
         sampling.frequency_penalty != 0.0f;
}

int64_t WindowOf(const Sampling& sampling) {
  return Penalises(sampling) ? sampling.penalty_window_tokens : 0;
}

// softmax(logits) in two numbers: the probability of a logit is
// exp(logit - highest - log_total). The total is of the possible alone.
struct Normaliser {
  double highest = kImpossible;
  double log_total = 0;

  explicit Normaliser(absl::Span<const float> logits) {
    for (const float logit : logits) {
      if (logit > highest) highest = logit;  // never true of a NaN
    }
    double total = 0;
    for (const float logit : logits) {
      if (logit > kImpossible) total += std::exp(double{logit} - highest);
    }
    log_total = std::log(total);
  }

  bool ok() const { return !std::isinf(highest); }
  float LogProbability(float logit) const {
    return static_cast<float>(double{logit} - highest - log_total);
  }
};

}  // namespace

double UniformAt(uint64_t seed, int64_t position) {
  const uint64_t bits =
      Mix(Mix(seed + 0x9e3779b97f4a7c15) + static_cast<uint64_t>(position));
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

Sampler::Sampler(Sampling sampling, int64_t vocab_size,
                 absl::Span<const uint8_t> allowed)
    : sampling_(std::move(sampling)), allowed_(allowed), scores_(vocab_size) {
  recent_.reserve(WindowOf(sampling_));
  if (IsGreedy(sampling_)) return;
  weights_.resize(vocab_size);
  kept_.reserve(vocab_size);
}

int64_t Sampler::ScratchBytes(const Sampling& sampling, int64_t vocab_size) {
  constexpr int64_t kScore = sizeof(double);
  constexpr int64_t kCandidate = sizeof(double) + sizeof(int32_t);
  return vocab_size * (kScore + (IsGreedy(sampling) ? 0 : kCandidate)) +
         WindowOf(sampling) * static_cast<int64_t>(sizeof(int32_t));
}

int64_t Sampler::window_tokens() const { return WindowOf(sampling_); }

void Sampler::TakeLogits(absl::Span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i) {
    const bool possible =
        (allowed_.empty() || allowed_[i] != 0) && !std::isnan(logits[i]);
    scores_[i] = possible ? double{logits[i]} : kImpossible;
  }
}

void Sampler::Penalise(absl::Span<const int32_t> recent) {
  const auto window = static_cast<size_t>(window_tokens());
  if (recent.size() > window) recent.remove_prefix(recent.size() - window);
  recent_.assign(recent.begin(), recent.end());
  std::sort(recent_.begin(), recent_.end());
  for (auto token = recent_.begin(); token != recent_.end();) {
    const auto next = std::upper_bound(token, recent_.end(), *token);
    const auto times = static_cast<double>(next - token);
    double& score = scores_[*token];
    if (score > 0) {
      score /= sampling_.repetition_penalty;
    } else {
      score *= sampling_.repetition_penalty;
    }
    score -= sampling_.presence_penalty + times * sampling_.frequency_penalty;
    token = next;
  }
}

int32_t Sampler::Best() const {
  return static_cast<int32_t>(std::max_element(scores_.begin(), scores_.end()) -
                              scores_.begin());
}

void Sampler::Weigh(double highest) {
  const double inverse = 1.0 / sampling_.temperature;
  kept_.clear();
  for (size_t i = 0; i < scores_.size(); ++i) {
    weights_[i] = 0;
    if (scores_[i] == kImpossible) continue;
    scores_[i] = (scores_[i] - highest) * inverse;
    weights_[i] = std::exp(scores_[i]);
    if (weights_[i] > 0) kept_.push_back(static_cast<int32_t>(i));
  }
}

double Sampler::TotalWeight() const {
  double total = 0;
  for (const int32_t token : kept_) total += weights_[token];
  return total;
}

void Sampler::KeepTopK() {
  const auto k = static_cast<size_t>(sampling_.top_k);
  if (k == 0 || k >= kept_.size()) return;
  std::nth_element(kept_.begin(), kept_.begin() + sampling_.top_k, kept_.end(),
                   [this](int32_t a, int32_t b) {
                     return scores_[a] != scores_[b] ? scores_[a] > scores_[b]
                                                     : a < b;
                   });
  kept_.resize(k);
  std::sort(kept_.begin(), kept_.end());
}

template <typename Before>
void Sampler::KeepMass(double mass, Before before) {
  // A heap gives the first few without sorting the rest.
  const auto after = [&](int32_t a, int32_t b) { return before(b, a); };
  const double wanted = mass * TotalWeight();
  std::make_heap(kept_.begin(), kept_.end(), after);
  auto rest = kept_.end();
  double sum = 0;
  do {
    std::pop_heap(kept_.begin(), rest, after);
    --rest;
    sum += weights_[*rest];
  } while (sum < wanted && rest != kept_.begin());
  kept_.erase(kept_.begin(), rest);
  std::sort(kept_.begin(), kept_.end());
}

void Sampler::KeepMinP() {
  const double least = sampling_.min_p;
  kept_.erase(
      std::remove_if(kept_.begin(), kept_.end(),
                     [&](int32_t token) { return weights_[token] < least; }),
      kept_.end());
}

void Sampler::KeepTypical() {
  // -log p = log total - score, so how far it is from its mean is how far the
  // score is from its own.
  double mean = 0;
  for (const int32_t token : kept_) mean += weights_[token] * scores_[token];
  mean /= TotalWeight();
  KeepMass(sampling_.typical_p, [this, mean](int32_t a, int32_t b) {
    const double from_a = std::abs(scores_[a] - mean);
    const double from_b = std::abs(scores_[b] - mean);
    return from_a != from_b ? from_a < from_b : a < b;
  });
}

absl::optional<int32_t> Sampler::Sample(absl::Span<const float> logits,
                                        absl::Span<const int32_t> recent,
                                        int64_t position) {
  if (logits.empty()) return absl::nullopt;
  TakeLogits(logits);
  for (const auto& [token, bias] : sampling_.logit_bias) {
    scores_[token] += bias;
  }
  Penalise(recent);
  const int32_t best = Best();
  if (std::isinf(scores_[best])) return absl::nullopt;
  if (IsGreedy(sampling_)) return best;

  Weigh(scores_[best]);
  KeepTopK();
  if (sampling_.top_p < 1.0f) {
    KeepMass(sampling_.top_p, [this](int32_t a, int32_t b) {
      return scores_[a] != scores_[b] ? scores_[a] > scores_[b] : a < b;
    });
  }
  KeepMinP();
  if (sampling_.typical_p < 1.0f) KeepTypical();

  const double target = UniformAt(sampling_.seed, position) * TotalWeight();
  double sum = 0;
  for (const int32_t token : kept_) {
    sum += weights_[token];
    if (sum > target) return token;
  }
  return kept_.back();  // the sums' last rounding
}

float LogProbability(absl::Span<const float> logits, int32_t token) {
  const Normaliser normaliser(logits);
  if (!normaliser.ok()) return std::numeric_limits<float>::quiet_NaN();
  const float logit = logits[token];
  return std::isnan(logit) ? static_cast<float>(kImpossible)
                           : normaliser.LogProbability(logit);
}

void TopLogProbabilities(absl::Span<const float> logits, int64_t count,
                         std::vector<LikelyToken>& top) {
  top.clear();
  const Normaliser normaliser(logits);
  if (!normaliser.ok() || count <= 0) return;
  // `top` holds logits until all are compared.
  for (size_t i = 0; i < logits.size(); ++i) {
    const float logit = logits[i];
    if (!(logit > kImpossible)) continue;
    if (static_cast<int64_t>(top.size()) == count) {
      if (logit <= top.back().logprob) continue;
      top.pop_back();
    }
    const auto place = std::find_if(
        top.begin(), top.end(),
        [logit](const LikelyToken& other) { return other.logprob < logit; });
    top.insert(place, {.token = static_cast<int32_t>(i), .logprob = logit});
  }
  for (LikelyToken& likely : top) {
    likely.logprob = normaliser.LogProbability(likely.logprob);
  }
}

}  // namespace mneme
