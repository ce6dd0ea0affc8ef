// SPDX-License-Identifier: Apache-2.0
//
// Products of the small matrices that a head works with, which are in
// cache and too small for a library. Compiled once per instruction set.
//
// An element of a result is one sum, over k in order, of fused multiply-adds
// onto what was there; which rows and columns are computed beside it changes
// no bit.
#if defined(MNEME_ENGINE_OPS_CPU_SMALL_PRODUCT_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ENGINE_OPS_CPU_SMALL_PRODUCT_INL_H_
#undef MNEME_ENGINE_OPS_CPU_SMALL_PRODUCT_INL_H_
#else
#define MNEME_ENGINE_OPS_CPU_SMALL_PRODUCT_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "engine/ops/cpu/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::cpu {
namespace HWY_NAMESPACE {

// The left operand of a product: element (i, k) is at data[i * row + k * col].
struct Left {
  const float* data;
  int64_t row;
  int64_t col;

  Left From(int64_t i, int64_t k) const {
    return {data + i * row + k * col, row, col};
  }
};

// The right operand and the result of a product.
struct Right {
  const float* data;
  int64_t stride;
};
struct Sum {
  float* data;
  int64_t stride;
};

// Rows and vectors of a tile: as many as leave its sums in registers, with
// few enough loads beside each multiply-add.
constexpr int kTileRows = HWY_TARGET <= HWY_AVX3 ? 8 : 4;
constexpr int kTileVectors = 2;
// Vectors of a tile of one row: many, so that b is read in long stretches.
constexpr int kRowVectors = HWY_TARGET <= HWY_AVX3 ? 16 : 8;

// c[i, :] += Σ_k a(i, k) b[k, :] for M rows and N whole vectors of c.
template <int M, int N>
HWY_INLINE void ProductTile(const Left& a, const Right& b, int64_t depth,
                            const Sum& c) {
  const F32 d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  VF32 sum[M][N];
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      sum[i][j] = hn::LoadU(d, c.data + i * c.stride + j * lanes);
    }
  }
  const float* HWY_RESTRICT left = a.data;
  const float* HWY_RESTRICT right = b.data;
  for (int64_t k = 0; k < depth; ++k) {
    VF32 vector[N];
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j) vector[j] = hn::LoadU(d, right + j * lanes);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const VF32 factor = hn::Set(d, left[i * a.row]);
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) {
        sum[i][j] = hn::MulAdd(factor, vector[j], sum[i][j]);
      }
    }
    left += a.col;
    right += b.stride;
  }
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      hn::StoreU(sum[i][j], d, c.data + i * c.stride + j * lanes);
    }
  }
}

// The same for one row and the last `count` columns, fewer than a vector.
HWY_INLINE void ProductTail(const Left& a, const Right& b, int64_t depth,
                            float* c, int64_t count) {
  const F32 d;
  VF32 sum = LoadPart(d, c, count);
  for (int64_t k = 0; k < depth; ++k) {
    sum = hn::MulAdd(hn::Set(d, a.data[k * a.col]),
                     LoadPart(d, b.data + k * b.stride, count), sum);
  }
  StorePart(sum, d, c, count);
}

// Row i sums over depth + i * step, with step 0 or 1.
template <int N>
HWY_INLINE void ProductColumns(const Left& a, int64_t rows, const Right& b,
                               int64_t depth, int64_t step, const Sum& c) {
  int64_t i = 0;
  for (; i + kTileRows <= rows; i += kTileRows) {
    const int64_t common = depth + i * step;
    const Sum tile = {c.data + i * c.stride, c.stride};
    ProductTile<kTileRows, N>(a.From(i, 0), b, common, tile);
    for (int64_t r = 1; step != 0 && r < kTileRows; ++r) {
      ProductTile<1, N>(a.From(i + r, common),
                        {b.data + common * b.stride, b.stride}, r,
                        {c.data + (i + r) * c.stride, c.stride});
    }
  }
  for (; i < rows; ++i) {
    ProductTile<1, N>(a.From(i, 0), b, depth + i * step,
                      {c.data + i * c.stride, c.stride});
  }
}

// Columns from `first` on, N vectors at a time and then ever fewer; returns
// the first column that is left, behind the last whole vector.
template <int N>
HWY_INLINE int64_t ProductVectors(const Left& a, int64_t rows, const Right& b,
                                  int64_t depth, int64_t step, const Sum& c,
                                  int64_t first, int64_t cols) {
  const int64_t width = N * static_cast<int64_t>(hn::Lanes(F32()));
  for (; first + width <= cols; first += width) {
    ProductColumns<N>(a, rows, {b.data + first, b.stride}, depth, step,
                      {c.data + first, c.stride});
  }
  if constexpr (N > 1) {
    first = ProductVectors<N / 2>(a, rows, b, depth, step, c, first, cols);
  }
  return first;
}

HWY_INLINE void AddAnyProduct(const Left& a, int64_t rows, const Right& b,
                              int64_t depth, int64_t step, const Sum& c,
                              int64_t cols) {
  int64_t j = 0;
  if (rows < kTileRows) {
    j = ProductVectors<kRowVectors>(a, rows, b, depth, step, c, j, cols);
  } else {
    j = ProductVectors<kTileVectors>(a, rows, b, depth, step, c, j, cols);
  }
  if (j == cols) return;
  for (int64_t i = 0; i < rows; ++i) {
    ProductTail(a.From(i, 0), {b.data + j, b.stride}, depth + i * step,
                c.data + i * c.stride + j, cols - j);
  }
}

// c [rows, cols] += a [rows, depth] b [depth, cols].
HWY_INLINE void AddProduct(const Left& a, int64_t rows, const Right& b,
                           int64_t depth, const Sum& c, int64_t cols) {
  AddAnyProduct(a, rows, b, depth, 0, c, cols);
}

// The same where row i of a ends after its first depth + i elements: what
// comes behind is not read as zero but not at all, so that no row can hear of
// an infinity in a later one.
HWY_INLINE void AddTriangularProduct(const Left& a, int64_t rows,
                                     const Right& b, int64_t depth,
                                     const Sum& c, int64_t cols) {
  AddAnyProduct(a, rows, b, depth, 1, c, cols);
}

// y[i] = row i of b times x, for `rows` rows of `count` numbers.
HWY_INLINE void Dots(const Right& b, int64_t rows, int64_t count,
                     const float* x, float* y) {
  const F32 d;
  constexpr int kAtOnce = 8;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t whole = count / lanes * lanes;
  for (int64_t i = 0; i < rows; i += kAtOnce) {
    const int64_t taken = std::min<int64_t>(kAtOnce, rows - i);
    // Rows behind the last are computed as the last again, and not stored.
    const float* row[kAtOnce];
    VF32 sum[kAtOnce];
    for (int r = 0; r < kAtOnce; ++r) {
      row[r] = b.data + (i + std::min<int64_t>(r, taken - 1)) * b.stride;
      sum[r] = hn::Zero(d);
    }
    for (int64_t k = 0; k < whole; k += lanes) {
      const VF32 value = hn::LoadU(d, x + k);
#pragma GCC unroll 8
      for (int r = 0; r < kAtOnce; ++r) {
        sum[r] = hn::MulAdd(value, hn::LoadU(d, row[r] + k), sum[r]);
      }
    }
    if (whole < count) {
      const int64_t rest = count - whole;
      const VF32 value = LoadPart(d, x + whole, rest);
      for (int r = 0; r < kAtOnce; ++r) {
        sum[r] = hn::MulAdd(value, LoadPart(d, row[r] + whole, rest), sum[r]);
      }
    }
    for (int64_t r = 0; r < taken; ++r) {
      y[i + r] = hn::GetLane(hn::SumOfLanes(d, sum[r]));
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::cpu
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
