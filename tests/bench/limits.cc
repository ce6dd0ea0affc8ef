// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/limits.h"

#include <dnnl.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "engine/tensor/tensor.h"

namespace mneme::bench {
namespace {

double Seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Runs work(i) on `threads` threads at once; seconds until all are done.
double Together(int threads, const std::function<void(int)>& work) {
  const double start = Seconds();
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work, i);
  work(0);
  for (std::thread& other : others) other.join();
  return Seconds() - start;
}

}  // namespace

double BestSgemmFlops(int threads) {
  double best = 0;
  for (const int64_t n : {512, 768, 1024, 1536}) {
    const int64_t stride = PaddedStride(n);
    std::vector<std::vector<float>> matrices(3 * threads);
    for (auto& matrix : matrices) matrix.assign(n * stride, 0.5f);
    const int repeats = static_cast<int>(2e10 / (2.0 * n * n * n)) + 1;
    for (int round = 0; round < 4; ++round) {
      const double seconds = Together(threads, [&](int i) {
        omp_set_num_threads(1);
        for (int r = 0; r < repeats; ++r) {
          dnnl_sgemm('N', 'N', n, n, n, 1.0f, matrices[3 * i].data(), stride,
                     matrices[3 * i + 1].data(), stride, 0.0f,
                     matrices[3 * i + 2].data(), stride);
        }
      });
      best = std::max(best, 2.0 * n * n * n * repeats * threads / seconds);
    }
  }
  return best;
}

double ReadBandwidth(int threads) {
  constexpr int64_t kFloats = int64_t{128} << 20;
  AlignedBuffer buffer(kFloats * 4, Pages::kHuge);
  if (!buffer) return 0;
  auto* values = reinterpret_cast<float*>(buffer.data());
  std::fill_n(values, kFloats, 1.0f);
  std::vector<float> sums(threads * 16, 0.0f);
  double best = 0;
  for (int round = 0; round < 12; ++round) {
    const double seconds = Together(threads, [&](int i) {
      const int64_t share = kFloats / threads;
      const float* first = values + i * share;
      // Eight vectors of sums keep many loads in flight.
      float sum[8][16] = {};
      for (int64_t k = 0; k + 128 <= share; k += 128) {
#pragma GCC unroll 8
        for (int s = 0; s < 8; ++s) {
#pragma GCC unroll 16
          for (int j = 0; j < 16; ++j) sum[s][j] += first[k + s * 16 + j];
        }
      }
      for (const auto& stream : sum) {
        for (const float value : stream) sums[i * 16] += value;
      }
    });
    best = std::max(best, kFloats * 4 / seconds);
  }
  // Keeps the sums from being optimised away.
  return sums[0] == 0.5f ? 0 : best;
}

}  // namespace mneme::bench
