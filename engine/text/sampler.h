// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_SAMPLER_H_
#define MNEME_ENGINE_TEXT_SAMPLER_H_

#include <cstdint>

#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace mneme {

struct Sampling {
  float temperature = 1.0f;  // 0: the most likely token
  uint64_t seed = 0;
};

// Chooses a token. Among equal logits the lowest id wins when greedy. The
// random number is a function of (seed, position) alone, so a history
// continues the same way whatever ran beside it.
//
//   logits   [vocab_size]; NaN counts as impossible
//   allowed  [vocab_size] 1 for tokens that may be chosen; empty: all
//
// Nothing if no allowed logit is finite, or one is plus infinity.
absl::optional<int32_t> SampleToken(absl::Span<const float> logits,
                                    absl::Span<const uint8_t> allowed,
                                    const Sampling& sampling, int64_t position);

// Natural logarithm of the probability of `token` under softmax(logits).
float LogProbability(absl::Span<const float> logits, int32_t token);

// A number in [0, 1) that depends on nothing else.
double UniformAt(uint64_t seed, int64_t position);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_SAMPLER_H_
