// SPDX-License-Identifier: Apache-2.0
//
// The delta rule, one head at a time. The formulas are in
// engine/ops/reference/delta.cc. W changes only where the rate is not 0, so the
// rows from one write to the next read it as one matrix product; with gates
// that seldom open, that is a whole block. An element of such a product is one
// sum in one order, whichever rows are computed together, so a row's result is
// the same bits however the rows come: there is one form for both paths.
#include "engine/ops/cpu/delta.h"

#include <algorithm>

#include "engine/ops/cpu/scratch_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/delta.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "engine/ops/cpu/simd-inl.h"
#include "engine/ops/cpu/small_product-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::cpu {
namespace HWY_NAMESPACE {

// next = weights + rate kᵀ (v - k weights); next may be weights. `error` is
// scratch, [dim].
HWY_INLINE void DeltaWrite(int64_t dim, float rate, const float* k,
                           const float* v, const float* weights, float* next,
                           float* error) {
  const F32 d;
  std::fill_n(error, dim, 0.0f);
  AddProduct({k, 0, 1}, 1, {weights, dim}, dim, {error, dim}, dim);
  const VF32 scale = hn::Set(d, rate);
  ForEachVector(dim, [&](int64_t j, auto load, auto store) HWY_ATTR {
    store(hn::Mul(scale, hn::Sub(load(v + j), load(error + j))), error + j);
  });
  for (int64_t i = 0; i < dim; ++i) {
    const float* from = weights + i * dim;
    float* to = next + i * dim;
    const VF32 key = hn::Set(d, k[i]);
    ForEachVector(dim, [&](int64_t j, auto load, auto store) HWY_ATTR {
      store(hn::MulAdd(key, load(error + j), load(from + j)), to + j);
    });
  }
}

// Rows first..first + rows of out = q weights.
HWY_INLINE void DeltaRead(int64_t dim, ConstRows q, int64_t first, int64_t rows,
                          int64_t column, const float* weights, Rows out) {
  if (rows == 0) return;
  for (int64_t i = first; i < first + rows; ++i) {
    std::fill_n(out.row(i) + column, dim, 0.0f);
  }
  AddProduct({q.row(first) + column, q.stride, 1}, rows, {weights, dim}, dim,
             {out.row(first) + column, out.stride}, dim);
}

void DeltaHead(const DeltaParams& params, const DeltaInputs& inputs,
               const DeltaSlice& slice, int64_t head, float* scratch,
               Rows out) {
  const int64_t dim = params.head_dim;
  const int64_t column = head * dim;
  const float* weights = slice.weights + head * params.weight_floats();
  float* const next = slice.wrote
                          ? slice.next_weights + head * params.weight_floats()
                          : nullptr;
  const int64_t end = slice.first_row + slice.rows;
  int64_t unread = slice.first_row;  // the first row that was told nothing yet
  for (int64_t row = slice.first_row; row < end; ++row) {
    const float rate = inputs.learning_rate.row(row)[head];
    if (rate == 0.0f) continue;
    DeltaRead(dim, inputs.q, unread, row - unread, column, weights, out);
    unread = row;
    DeltaWrite(dim, rate, inputs.k.row(row) + column,
               inputs.v.row(row) + column, weights, next, scratch);
    weights = next;
  }
  DeltaRead(dim, inputs.q, unread, end - unread, column, weights, out);
  // Another head wrote.
  if (next != nullptr && weights != next) {
    std::copy_n(weights, params.weight_floats(), next);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::cpu {

HWY_EXPORT(DeltaHead);

int64_t ScratchFloats(const DeltaParams& params, int64_t /*rows*/) {
  return RoundToLine(params.head_dim);
}

bool DeltaWrites(const DeltaInputs& inputs, const DeltaSlice& slice) {
  const ConstRows& rates = inputs.learning_rate;
  for (int64_t i = slice.first_row; i < slice.first_row + slice.rows; ++i) {
    for (int64_t head = 0; head < rates.cols; ++head) {
      if (rates.row(i)[head] != 0.0f) return true;
    }
  }
  return false;
}

void DeltaHead(const DeltaParams& params, const DeltaInputs& inputs,
               const DeltaSlice& slice, int64_t head, float* scratch,
               Rows out) {
  HWY_DYNAMIC_DISPATCH(DeltaHead)
  (params, inputs, slice, head, scratch, out);
}

}  // namespace mneme::cpu
#endif  // HWY_ONCE
