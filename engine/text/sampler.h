// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_SAMPLER_H_
#define MNEME_ENGINE_TEXT_SAMPLER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace mneme {

// How a token is chosen: bias, then penalties, temperature, top_k, top_p,
// min_p, typical_p. Each of the last four sees the probabilities of what those
// before it keep, made to sum to 1, and keeps at least one token.
struct Sampling {
  float temperature = 1.0f;  // 0: the most likely token; nothing below counts
  int32_t top_k = 0;         // keeps the k most likely; 0: all
  float top_p = 1.0f;  // keeps the fewest, most likely first, of this mass
  float min_p = 0.0f;  // keeps those at least this likely relative to the best
  // Keeps the fewest of this mass, those first whose information content
  // -log p is nearest to its mean, the entropy. Meister et al. 2022,
  // arXiv:2202.00666v5, section 3.
  float typical_p = 1.0f;

  // Of the tokens among the last `penalty_window_tokens`: positive logits are
  // divided and negative ones multiplied by the first (Keskar et al. 2019,
  // arXiv:1909.05858v2, section 4.1, which has no case for the negative);
  // then the second is subtracted once, the third for each time.
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  int64_t penalty_window_tokens = 64;

  // Token ids, each once, and what is added to their logits.
  std::vector<std::pair<int32_t, float>> logit_bias;

  uint64_t seed = 0;
};

// Chooses tokens of one text. Ties go to the lowest id, and the random number
// is a function of (seed, position) alone, so a history continues the same
// way whatever ran beside it. Arithmetic is in double. What truncates nothing
// changes no choice. Not thread-safe; allocates when it is made and never
// again.
class Sampler {
 public:
  //   allowed  [vocab_size] 1 for tokens that may be chosen; empty: all.
  //            Outlives the sampler.
  // REQUIRES: all that `sampling` names is within the ranges that the API
  // states, and ids are below vocab_size.
  Sampler(Sampling sampling, int64_t vocab_size,
          absl::Span<const uint8_t> allowed);

  // Bytes that one allocates.
  static int64_t ScratchBytes(const Sampling& sampling, int64_t vocab_size);

  // Tokens of the history's end that Sample wants to be told.
  int64_t window_tokens() const;

  // The token that comes at `position`.
  //
  //   logits  [vocab_size]; NaN counts as impossible
  //   recent  the last tokens of the history, oldest first; of more than
  //           window_tokens() only the end counts
  //
  // Nothing if no allowed logit is finite, or one is plus infinity.
  absl::optional<int32_t> Sample(absl::Span<const float> logits,
                                 absl::Span<const int32_t> recent,
                                 int64_t position);

 private:
  void TakeLogits(absl::Span<const float> logits);
  void Penalise(absl::Span<const int32_t> recent);
  // The first of the highest scores.
  int32_t Best() const;
  // Makes scores and weights of all that can be drawn.
  void Weigh(double highest);
  void KeepTopK();
  // Keeps the fewest candidates, in the order of `before`, that have `mass` of
  // all their weight.
  template <typename Before>
  void KeepMass(double mass, Before before);
  void KeepMinP();
  void KeepTypical();
  double TotalWeight() const;

  const Sampling sampling_;
  const absl::Span<const uint8_t> allowed_;
  std::vector<int32_t> recent_;  // sorted
  // [vocab_size] Logits with bias and penalties; minus infinity where
  // impossible. Weigh makes them logarithms of the weights.
  std::vector<double> scores_;
  // [vocab_size] exp(scores_): 1 for the best.
  std::vector<double> weights_;
  std::vector<int32_t> kept_;  // candidates by id
};

struct LikelyToken {
  int32_t token = 0;
  float logprob = 0.0f;  // natural, at most 0
};

// Natural logarithm of the probability of `token` under softmax(logits), where
// NaN counts as impossible: minus infinity. NaN where Sampler chooses nothing.
float LogProbability(absl::Span<const float> logits, int32_t token);

// Overwrites `top` with the `count` most likely tokens, best first, ties by
// id; fewer if fewer are possible.
void TopLogProbabilities(absl::Span<const float> logits, int64_t count,
                         std::vector<LikelyToken>& top);

// A number in [0, 1) that depends on nothing else.
double UniformAt(uint64_t seed, int64_t position);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_SAMPLER_H_
