// SPDX-License-Identifier: Apache-2.0
#include "engine/model/rotation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mneme {

namespace {

// The pair whose wave fits `times` in the length that a model was trained with
// at first.
double PairOfWave(const RopeConfig& rope, double head_dim, double times) {
  return head_dim *
         std::log(double(rope.original_positions) /
                  (times * 2 * std::numbers::pi)) /
         (2 * std::log(double{rope.theta}));
}

// How much of its frequency a pair keeps. Peng et al. 2023,
// arXiv:2309.00071, section 3.2, with the pairs where one passes into the
// other as in the authors' code.
double YarnKept(const RopeConfig& rope, int64_t head_dim, int64_t pair) {
  double low = PairOfWave(rope, double(head_dim), rope.beta_fast);
  double high = PairOfWave(rope, double(head_dim), rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, double(head_dim - 1));
  if (low == high) high += 0.001;
  return 1 - std::clamp((double(pair) - low) / (high - low), 0.0, 1.0);
}

}  // namespace

std::vector<double> RotationFrequencies(const RopeConfig& rope,
                                        int64_t head_dim) {
  std::vector<double> frequencies;
  for (int64_t m = 0; m < head_dim / 2; ++m) {
    const double exponent = -2.0 * double(m) / double(head_dim);
    double frequency = std::pow(double{rope.theta}, exponent);
    if (rope.type == "linear") frequency /= rope.factor;
    if (rope.type == "llama3") {
      // Waves that fit often stay, those that fit seldom grow longer, and
      // between them one passes into the other.
      const double low = rope.low_freq_factor;
      const double high = rope.high_freq_factor;
      const double fits =
          double(rope.original_positions) * frequency / (2 * std::numbers::pi);
      const double kept = std::clamp((fits - low) / (high - low), 0.0, 1.0);
      frequency *= kept + (1 - kept) / rope.factor;
    }
    if (rope.type == "yarn") {
      const double kept = YarnKept(rope, head_dim, m);
      frequency *= kept + (1 - kept) / rope.factor;
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

Rotation::Rotation(int64_t positions, int64_t head_dim, float theta) {
  const std::vector<double> frequencies =
      RotationFrequencies({.theta = theta}, head_dim);
  for (int64_t position = 0; position < positions; ++position) {
    for (const double frequency : frequencies) {
      const double angle = double(position) * frequency;
      cosines.push_back(static_cast<float>(std::cos(angle)));
      sines.push_back(static_cast<float>(std::sin(angle)));
    }
  }
}

}  // namespace mneme
