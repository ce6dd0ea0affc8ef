// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_BENCH_MEASUREMENTS_H_
#define MNEME_TESTS_BENCH_MEASUREMENTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model.h"

namespace mneme::bench {

// Floating-point operations of the projections per prefilled token, logits
// left out, and bytes of weights and state that a decoded token touches.
double PrefillFlopsPerToken(const Model& model);
double DecodeBytesPerPass(const Model& model, int64_t sessions);

// Tokens/s of reading blocks into one session, best and median of `rounds`.
struct Rate {
  double best = 0;
  double median = 0;
};
absl::StatusOr<Rate> Prefill(const Model& model, int64_t blocks, int rounds);

// Tokens/s summed over `sessions` that decode together.
absl::StatusOr<Rate> Decode(const Model& model, int64_t sessions, int64_t steps,
                            int rounds);

// Reads `tokens` into one session while a young one reads along, a stretch of
// each in turn, so that what else the machine does hits both. The ratio of the
// medians of time per token is what position costs.
struct Flatness {
  struct Point {
    int64_t position = 0;
    double old_us_per_token = 0;    // at this position
    double young_us_per_token = 0;  // of a session below 10,000 tokens
    int64_t resident_bytes = 0;
  };
  std::vector<Point> points;
  int64_t resident_after_10k = 0;
  int64_t resident_at_end = 0;
};
absl::StatusOr<Flatness> LongStream(const Model& model, int64_t tokens);

// Seconds that the log-probabilities of one more token of a long text take a
// Transformer-XL whose layers see `tokens`: with the memory of what it read,
// and by reading the last `tokens` anew.
struct CachedEvaluation {
  double cached_seconds = 0;
  double recomputed_seconds = 0;
};
absl::StatusOr<CachedEvaluation> EvaluateCached(const Model& model,
                                                int64_t tokens, int rounds);

int64_t ResidentBytes();

}  // namespace mneme::bench

#endif  // MNEME_TESTS_BENCH_MEASUREMENTS_H_
