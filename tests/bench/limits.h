// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_BENCH_LIMITS_H_
#define MNEME_TESTS_BENCH_LIMITS_H_

namespace mneme::bench {

// What the machine can do, measured for about a second on `threads` threads:
// the figures that everything else is a share of.

// Best rate of oneDNN's f32 matrix product over square sizes 512 to 1536,
// each thread with its own product, in FLOP/s.
double BestSgemmFlops(int threads);

// Streaming reads of 512 MiB, far more than any cache holds, in bytes/s:
// the best of several passes.
double ReadBandwidth(int threads);

}  // namespace mneme::bench

#endif  // MNEME_TESTS_BENCH_LIMITS_H_
