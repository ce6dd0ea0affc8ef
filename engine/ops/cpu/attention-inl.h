// SPDX-License-Identifier: Apache-2.0
//
// What the kernels of softmax attention share, compiled once per instruction
// set. One query's scores are a row, one per token that it sees. Those of many
// queries are a matrix with a row per token and a column per query, so that a
// softmax goes over vectors of queries.
#if defined(MNEME_ENGINE_OPS_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ENGINE_OPS_CPU_ATTENTION_INL_H_
#undef MNEME_ENGINE_OPS_CPU_ATTENTION_INL_H_
#else
#define MNEME_ENGINE_OPS_CPU_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "engine/ops/cpu/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::cpu {
namespace HWY_NAMESPACE {

// y = factor x; y may be x.
HWY_INLINE void ScaleRow(float factor, const float* x, int64_t count,
                         float* y) {
  const F32 d;
  const VF32 scale = hn::Set(d, factor);
  ForEachVector(count, [&](int64_t i, auto load, auto store) HWY_ATTR {
    store(hn::Mul(scale, load(x + i)), y + i);
  });
}

// to [dim, pitch] = factor times `rows` rows of x, transposed.
HWY_INLINE void TurnRows(float factor, const float* x, int64_t stride,
                         int64_t rows, int64_t dim, float* to, int64_t pitch) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = x + row * stride;
    for (int64_t i = 0; i < dim; ++i) to[i * pitch + row] = factor * from[i];
  }
}

// x = e^(x - its highest); returns their sum.
HWY_INLINE float ExpRow(float* x, int64_t count) {
  const F32 d;
  const VF32 highest = hn::Set(d, *std::max_element(x, x + count));
  ForEachVector(count, [&](int64_t i, auto load, auto store) HWY_ATTR {
    store(hn::Exp(d, hn::Sub(load(x + i), highest)), x + i);
  });
  VF32 sum = hn::Zero(d);
  ForEachVector(count, [&](int64_t i, auto load, auto)
                           HWY_ATTR { sum = hn::Add(sum, load(x + i)); });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// The same for each of `columns` columns of x [count, pitch].
HWY_INLINE void ExpColumns(float* x, int64_t pitch, int64_t count,
                           int64_t columns, float* sums) {
  const F32 d;
  ForEachVector(columns, [&](int64_t i, auto load, auto store) HWY_ATTR {
    VF32 highest = load(x + i);
    for (int64_t s = 1; s < count; ++s) {
      highest = hn::Max(highest, load(x + s * pitch + i));
    }
    VF32 sum = hn::Zero(d);
    for (int64_t s = 0; s < count; ++s) {
      float* cell = x + s * pitch + i;
      const VF32 e = hn::Exp(d, hn::Sub(load(cell), highest));
      sum = hn::Add(sum, e);
      store(e, cell);
    }
    store(sum, sums + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::cpu
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
