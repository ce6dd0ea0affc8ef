// SPDX-License-Identifier: Apache-2.0
//
// TTT-Linear in its dual form, one head at a time. The formulas of the primal
// form are in engine/ops/reference/ttt_linear.cc; with the gradients of a
// mini-batch kept as pairs (k_s, u_s), u_s = lr_s g_s, what token i reads is
//
//     q_i (W - te_i Σ_{s<=i} k_sᵀ u_s) + b - te_i Σ_{s<=i} u_s
//       = q_i W + b - te_i Σ_{s<=i} (q_i·k_s + 1) u_s
//
// so a mini-batch is five small matrix products and needs no W of its own per
// token. W is rewritten once, when the mini-batch is full. A mini-batch that
// began in an earlier call brings its pairs along in the state.
//
// Every sum runs over its elements in one order that does not depend on how
// many rows are computed together, and the pairs of later tokens enter an
// earlier token's sum with the factor zero.
#include "engine/ops/cpu/ttt_linear.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/ttt_linear.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "engine/ops/cpu/simd-inl.h"
#include "hwy/highway.h"

namespace mneme::cpu {
#ifndef MNEME_ENGINE_OPS_CPU_TTT_LINEAR_ONCE
#define MNEME_ENGINE_OPS_CPU_TTT_LINEAR_ONCE

inline constexpr float kInnerNormEps = 1e-6f;

inline int64_t RoundToLine(int64_t floats) { return (floats + 15) / 16 * 16; }

#endif
}  // namespace mneme::cpu

HWY_BEFORE_NAMESPACE();
namespace mneme::cpu {
namespace HWY_NAMESPACE {

// The left operand of a product: element (i, k) is at data[i * row + k * col],
// scaled by alpha.
struct Left {
  const float* data;
  int64_t row;
  int64_t col;
  float alpha = 1.0f;
};

// c[i, :] += Σ_k a(i, k) b[k, :] for M rows and N whole vectors of c.
template <int M, int N>
HWY_INLINE void ProductTile(const Left& a, const float* HWY_RESTRICT b,
                            int64_t b_stride, int64_t depth,
                            float* HWY_RESTRICT c, int64_t c_stride) {
  const F32 d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  VF32 sum[M][N];
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      sum[i][j] = hn::LoadU(d, c + i * c_stride + j * lanes);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    VF32 right[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      right[j] = hn::LoadU(d, b + k * b_stride + j * lanes);
    }
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i) {
      const VF32 left = hn::Set(d, a.alpha * a.data[i * a.row + k * a.col]);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) {
        sum[i][j] = hn::MulAdd(left, right[j], sum[i][j]);
      }
    }
  }
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      hn::StoreU(sum[i][j], d, c + i * c_stride + j * lanes);
    }
  }
}

// The same for one row and the last `count` columns, fewer than a vector.
HWY_INLINE void ProductTail(const Left& a, const float* b, int64_t b_stride,
                            int64_t depth, float* c, int64_t count) {
  const F32 d;
  VF32 sum = LoadPart(d, c, count);
  for (int64_t k = 0; k < depth; ++k) {
    sum = hn::MulAdd(hn::Set(d, a.alpha * a.data[k * a.col]),
                     LoadPart(d, b + k * b_stride, count), sum);
  }
  StorePart(sum, d, c, count);
}

template <int N>
HWY_INLINE void ProductColumns(const Left& a, int64_t rows, const float* b,
                               int64_t b_stride, int64_t depth, float* c,
                               int64_t c_stride) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    ProductTile<4, N>({a.data + i * a.row, a.row, a.col, a.alpha}, b, b_stride,
                      depth, c + i * c_stride, c_stride);
  }
  for (; i < rows; ++i) {
    ProductTile<1, N>({a.data + i * a.row, a.row, a.col, a.alpha}, b, b_stride,
                      depth, c + i * c_stride, c_stride);
  }
}

// c [rows, cols] += a [rows, depth] b [depth, cols].
HWY_INLINE void AddProduct(const Left& a, int64_t rows, const float* b,
                           int64_t b_stride, int64_t depth, float* c,
                           int64_t c_stride, int64_t cols) {
  constexpr int kVectors = HWY_TARGET <= HWY_AVX3 ? 4 : 2;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(F32()));
  int64_t j = 0;
  for (; j + kVectors * lanes <= cols; j += kVectors * lanes) {
    ProductColumns<kVectors>(a, rows, b + j, b_stride, depth, c + j, c_stride);
  }
  for (; j + lanes <= cols; j += lanes) {
    ProductColumns<1>(a, rows, b + j, b_stride, depth, c + j, c_stride);
  }
  if (j == cols) return;
  for (int64_t i = 0; i < rows; ++i) {
    ProductTail({a.data + i * a.row, a.row, a.col, a.alpha}, b + j, b_stride,
                depth, c + i * c_stride + j, cols - j);
  }
}

// One head of one slice, with its scratch. dim is d, pitch d padded to lines.
class HeadKernel {
 public:
  HeadKernel(const TttLinearParams& params, const TttLinearInputs& inputs,
             const TttLinearSlice& slice, int64_t head, float* scratch,
             Rows out)
      : params_(params),
        inputs_(inputs),
        slice_(slice),
        head_(head),
        out_(out),
        dim_(params.head_dim),
        pitch_(RoundToLine(dim_)),
        batch_pitch_(RoundToLine(params.mini_batch)) {
    keys_ = scratch;
    pairs_ = keys_ + params.mini_batch * pitch_;
    keys_by_dim_ = pairs_ + params.mini_batch * pitch_;
    row_ = keys_by_dim_ + dim_ * batch_pitch_;
    queries_ = row_ + pitch_;
  }

  void Run(int64_t rows_at_once) {
    const int64_t cells = (dim_ + 1) * dim_;
    const float* weights = slice_.weights + head_ * cells;
    float* next_weights = slice_.next_weights + head_ * cells;
    float* factors = slice_.factors;
    int64_t slot = slice_.slot;
    for (int64_t i = 0; i < slot; ++i) LoadPair(factors, i);
    int64_t row = 0;
    while (row < slice_.rows) {
      const int64_t rows = std::min(
          {rows_at_once, slice_.rows - row, params_.mini_batch - slot});
      ReadRows(slice_.first_row + row, rows, slot, weights);
      row += rows;
      if (slot + rows < params_.mini_batch) {
        for (int64_t i = 0; i < rows; ++i) StorePair(factors, slot + i);
        slot += rows;
      } else {
        CloseMiniBatch(weights, next_weights);
        weights = next_weights;
        factors = slice_.next_factors;
        slot = 0;
      }
    }
  }

 private:
  float* Factor(float* factors, int64_t i) const {
    return factors + (i * params_.heads + head_) * 2 * dim_;
  }

  void LoadPair(float* factors, int64_t i) {
    const float* factor = Factor(factors, i);
    std::copy_n(factor, dim_, keys_ + i * pitch_);
    std::copy_n(factor + dim_, dim_, pairs_ + i * pitch_);
    TransposeKey(i);
  }

  void StorePair(float* factors, int64_t i) const {
    float* factor = Factor(factors, i);
    std::copy_n(keys_ + i * pitch_, dim_, factor);
    std::copy_n(pairs_ + i * pitch_, dim_, factor + dim_);
  }

  void TransposeKey(int64_t i) {
    for (int64_t j = 0; j < dim_; ++j) {
      keys_by_dim_[j * batch_pitch_ + i] = keys_[i * pitch_ + j];
    }
  }

  // The pairs (2m, 2m + 1) turned by the angles of `slot`.
  void Rotate(int64_t slot, const float* HWY_RESTRICT x,
              float* HWY_RESTRICT y) const {
    const int64_t half = dim_ / 2;
    const float* c = params_.rope_cos + slot * half;
    const float* s = params_.rope_sin + slot * half;
    for (int64_t m = 0; m < half; ++m) {
      const float a = x[2 * m];
      const float b = x[2 * m + 1];
      y[2 * m] = a * c[m] - b * s[m];
      y[2 * m + 1] = b * c[m] + a * s[m];
    }
  }

  // u = lr dLoss/dz for one token, from z = k W + b.
  void ScaledGradient(const float* z, const float* k, const float* v, float lr,
                      float* u) {
    const F32 d;
    const float* gamma = params_.norm_weight + head_ * dim_;
    const float* beta = params_.norm_bias + head_ * dim_;
    const Moments moments = RowMoments(z, dim_);
    const float inverse = 1.0f / std::sqrt(moments.variance + kInnerNormEps);
    const VF32 mean = hn::Set(d, moments.mean);
    const VF32 scale = hn::Set(d, inverse);
    VF32 sum_a = hn::Zero(d);
    VF32 sum_a_n = hn::Zero(d);
    ForEachVector(dim_, [&](int64_t i, auto load, auto store) HWY_ATTR {
      const VF32 n = hn::Mul(hn::Sub(load(z + i), mean), scale);
      const VF32 g = load(gamma + i);
      const VF32 target = hn::Sub(load(v + i), load(k + i));
      const VF32 error = hn::Sub(hn::MulAdd(g, n, load(beta + i)), target);
      const VF32 a = hn::Mul(g, error);  // 0 behind the end, as g is
      sum_a = hn::Add(sum_a, a);
      sum_a_n = hn::MulAdd(a, n, sum_a_n);
      store(a, row_ + i);
    });
    const float n = static_cast<float>(dim_);
    const VF32 mean_a = hn::Set(d, hn::GetLane(hn::SumOfLanes(d, sum_a)) / n);
    const VF32 mean_a_n =
        hn::Set(d, hn::GetLane(hn::SumOfLanes(d, sum_a_n)) / n);
    const VF32 rate = hn::Set(d, lr * inverse);
    ForEachVector(dim_, [&](int64_t i, auto load, auto store) HWY_ATTR {
      const VF32 centred = hn::Mul(hn::Sub(load(z + i), mean), scale);
      const VF32 g =
          hn::Sub(hn::Sub(load(row_ + i), mean_a), hn::Mul(centred, mean_a_n));
      store(hn::Mul(rate, g), u + i);
    });
  }

  // out = q + LN(z).
  void Output(const float* z, const float* q, float* out) const {
    const F32 d;
    const float* gamma = params_.norm_weight + head_ * dim_;
    const float* beta = params_.norm_bias + head_ * dim_;
    const Moments moments = RowMoments(z, dim_);
    const VF32 mean = hn::Set(d, moments.mean);
    const VF32 scale =
        hn::Set(d, 1.0f / std::sqrt(moments.variance + kInnerNormEps));
    ForEachVector(dim_, [&](int64_t i, auto load, auto store) HWY_ATTR {
      const VF32 n = hn::Mul(hn::Sub(load(z + i), mean), scale);
      store(
          hn::Add(load(q + i), hn::MulAdd(load(gamma + i), n, load(beta + i))),
          out + i);
    });
  }

  // Rows first..first + rows of the operands, which take slots slot.. of one
  // mini-batch.
  void ReadRows(int64_t first, int64_t rows, int64_t slot,
                const float* weights) {
    const int64_t column = head_ * dim_;
    const float* bias = weights + dim_ * dim_;
    float* z = queries_ + rows * pitch_;
    float* reads = z + rows * pitch_;    // [rows, batch_pitch_]
    const int64_t tokens = slot + rows;  // of the mini-batch so far

    for (int64_t i = 0; i < rows; ++i) {
      Rotate(slot + i, inputs_.q.row(first + i) + column,
             queries_ + i * pitch_);
      Rotate(slot + i, inputs_.k.row(first + i) + column,
             keys_ + (slot + i) * pitch_);
      TransposeKey(slot + i);
      std::copy_n(bias, dim_, z + i * pitch_);
    }
    AddProduct({keys_ + slot * pitch_, pitch_, 1}, rows, weights, dim_, dim_, z,
               pitch_, dim_);
    for (int64_t i = 0; i < rows; ++i) {
      ScaledGradient(z + i * pitch_, keys_ + (slot + i) * pitch_,
                     inputs_.v.row(first + i) + column,
                     inputs_.learning_rate.row(first + i)[head_],
                     pairs_ + (slot + i) * pitch_);
    }

    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(bias, dim_, z + i * pitch_);
      std::fill_n(reads + i * batch_pitch_, tokens, 0.0f);
    }
    AddProduct({queries_, pitch_, 1}, rows, weights, dim_, dim_, z, pitch_,
               dim_);
    AddProduct({queries_, pitch_, 1}, rows, keys_by_dim_, batch_pitch_, dim_,
               reads, batch_pitch_, tokens);
    for (int64_t i = 0; i < rows; ++i) {
      float* read = reads + i * batch_pitch_;
      const float scale = params_.token_scale[slot + i];
      for (int64_t s = 0; s <= slot + i; ++s) {
        read[s] = -scale * (read[s] + 1.0f);
      }
      std::fill_n(read + slot + i + 1, rows - 1 - i, 0.0f);
    }
    AddProduct({reads, batch_pitch_, 1}, rows, pairs_, pitch_, tokens, z,
               pitch_, dim_);
    for (int64_t i = 0; i < rows; ++i) {
      Output(z + i * pitch_, queries_ + i * pitch_,
             out_.row(first + i) + column);
    }
  }

  // next = weights - te_{K-1} Σ_s [k_s, 1]ᵀ u_s.
  void CloseMiniBatch(const float* weights, float* next) {
    const int64_t tokens = params_.mini_batch;
    if (next != weights) std::copy_n(weights, (dim_ + 1) * dim_, next);
    const float scale = -params_.token_scale[tokens - 1];
    AddProduct({keys_, 1, pitch_, scale}, dim_, pairs_, pitch_, tokens, next,
               dim_, dim_);
    constexpr float kOne = 1.0f;
    AddProduct({&kOne, 0, 0, scale}, 1, pairs_, pitch_, tokens,
               next + dim_ * dim_, dim_, dim_);
  }

  const TttLinearParams& params_;
  const TttLinearInputs& inputs_;
  const TttLinearSlice& slice_;
  const int64_t head_;
  const Rows out_;
  const int64_t dim_;
  const int64_t pitch_;
  const int64_t batch_pitch_;
  float* keys_;         // [mini_batch, pitch_], rotated
  float* pairs_;        // [mini_batch, pitch_], u
  float* keys_by_dim_;  // [dim_, batch_pitch_], keys_ transposed
  float* row_;          // [pitch_]
  float* queries_;      // [rows, pitch_], rotated; z and reads follow
};

void TttLinearHead(ComputePath path, const TttLinearParams& params,
                   const TttLinearInputs& inputs, const TttLinearSlice& slice,
                   int64_t head, float* scratch, Rows out) {
  HeadKernel(params, inputs, slice, head, scratch, out)
      .Run(path == ComputePath::kBlock ? params.mini_batch : 1);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::cpu {

HWY_EXPORT(TttLinearHead);

int64_t TttLinearScratchFloats(const TttLinearParams& params, int64_t rows) {
  const int64_t pitch = RoundToLine(params.head_dim);
  const int64_t batch_pitch = RoundToLine(params.mini_batch);
  const int64_t at_once = std::min(rows, params.mini_batch);
  return 2 * params.mini_batch * pitch + params.head_dim * batch_pitch + pitch +
         at_once * (2 * pitch + batch_pitch);
}

void TttLinearHead(ComputePath path, const TttLinearParams& params,
                   const TttLinearInputs& inputs, const TttLinearSlice& slice,
                   int64_t head, float* scratch, Rows out) {
  HWY_DYNAMIC_DISPATCH(TttLinearHead)
  (path, params, inputs, slice, head, scratch, out);
}

}  // namespace mneme::cpu
#endif  // HWY_ONCE
