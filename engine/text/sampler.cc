// SPDX-License-Identifier: Apache-2.0
#include "engine/text/sampler.h"

#include <cmath>
#include <limits>

namespace mneme {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

// The finaliser of SplitMix64: every bit of x moves every bit of the result.
uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9;
  x ^= x >> 27;
  x *= 0x94d049bb133111eb;
  x ^= x >> 31;
  return x;
}

}  // namespace

double UniformAt(uint64_t seed, int64_t position) {
  const uint64_t bits =
      Mix(Mix(seed + 0x9e3779b97f4a7c15) + static_cast<uint64_t>(position));
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

absl::optional<int32_t> SampleToken(absl::Span<const float> logits,
                                    absl::Span<const uint8_t> allowed,
                                    const Sampling& sampling,
                                    int64_t position) {
  auto logit = [&](size_t i) {
    return allowed.empty() || allowed[i] != 0 ? logits[i] : kImpossible;
  };
  size_t best = 0;
  float highest = kImpossible;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logit(i) > highest) {  // never true of a NaN
      highest = logit(i);
      best = i;
    }
  }
  if (std::isinf(highest)) return absl::nullopt;
  if (sampling.temperature <= 0.0f) {
    return static_cast<int32_t>(best);
  }

  const double inverse = 1.0 / sampling.temperature;
  auto weight = [&](size_t i) {
    const float value = logit(i);
    return value > kImpossible ? std::exp((double{value} - highest) * inverse)
                               : 0.0;
  };
  double total = 0.0;
  for (size_t i = 0; i < logits.size(); ++i) total += weight(i);
  const double target = UniformAt(sampling.seed, position) * total;
  double sum = 0.0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double w = weight(i);
    if (w == 0.0) continue;
    sum += w;
    if (sum > target) return static_cast<int32_t>(i);
  }
  return static_cast<int32_t>(best);  // the sums' last rounding
}

float LogProbability(absl::Span<const float> logits, int32_t token) {
  float highest = kImpossible;
  for (const float value : logits) {
    if (value > highest) highest = value;
  }
  double total = 0.0;
  for (const float value : logits) total += std::exp(double{value} - highest);
  return static_cast<float>(double{logits[token]} - highest - std::log(total));
}

}  // namespace mneme
