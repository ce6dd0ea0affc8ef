// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/row_kernels.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/row_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "engine/ops/cpu/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::cpu {
namespace HWY_NAMESPACE {

// R rows of x times N rows of the weight: R * N sums, each in one vector
// register that takes the elements of its row in order.
template <int R, int N>
HWY_INLINE void DotTile(const float* HWY_RESTRICT weight, int64_t weight_stride,
                        int64_t in, const float* HWY_RESTRICT x,
                        int64_t x_stride, float* HWY_RESTRICT y,
                        int64_t y_stride) {
  const F32 d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  VF32 sum[R][N];
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) sum[r][n] = hn::Zero(d);
  }
  int64_t k = 0;
  for (; k + lanes <= in; k += lanes) {
    VF32 w[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      w[n] = hn::LoadU(d, weight + n * weight_stride + k);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const VF32 value = hn::LoadU(d, x + r * x_stride + k);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        sum[r][n] = hn::MulAdd(value, w[n], sum[r][n]);
      }
    }
  }
  if (k < in) {
    for (int r = 0; r < R; ++r) {
      const VF32 value = LoadPart(d, x + r * x_stride + k, in - k);
      for (int n = 0; n < N; ++n) {
        sum[r][n] = hn::MulAdd(
            value, hn::LoadU(d, weight + n * weight_stride + k), sum[r][n]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) {
      y[r * y_stride + n] = hn::GetLane(hn::SumOfLanes(d, sum[r][n]));
    }
  }
}

// All rows of x against N rows of the weight, which stay in the first cache.
template <int N>
HWY_INLINE void DotPanel(const float* weight, int64_t weight_stride,
                         ConstRows x, float* y, int64_t y_stride) {
  int64_t r = 0;
  for (; r + 4 <= x.rows; r += 4) {
    DotTile<4, N>(weight, weight_stride, x.cols, x.row(r), x.stride,
                  y + r * y_stride, y_stride);
  }
  switch (x.rows - r) {
    case 3:
      DotTile<3, N>(weight, weight_stride, x.cols, x.row(r), x.stride,
                    y + r * y_stride, y_stride);
      break;
    case 2:
      DotTile<2, N>(weight, weight_stride, x.cols, x.row(r), x.stride,
                    y + r * y_stride, y_stride);
      break;
    case 1:
      DotTile<1, N>(weight, weight_stride, x.cols, x.row(r), x.stride,
                    y + r * y_stride, y_stride);
      break;
    default:
      break;
  }
}

// Outputs a tile takes: as many as leave its sums in registers.
constexpr int kTileOuts = HWY_TARGET <= HWY_AVX3 ? 4 : 3;

void DotRows(const float* weight, int64_t weight_stride, int64_t outs,
             ConstRows x, Rows y) {
  int64_t n = 0;
  if (x.rows == 1) {
    // Bound by memory: many weight rows at a time keep many loads in flight.
    for (; n + 8 <= outs; n += 8) {
      DotTile<1, 8>(weight + n * weight_stride, weight_stride, x.cols, x.data,
                    x.stride, y.data + n, y.stride);
    }
  } else {
    for (; n + kTileOuts <= outs; n += kTileOuts) {
      DotPanel<kTileOuts>(weight + n * weight_stride, weight_stride, x,
                          y.data + n, y.stride);
    }
  }
  for (; n < outs; ++n) {
    DotPanel<1>(weight + n * weight_stride, weight_stride, x, y.data + n,
                y.stride);
  }
}

void RmsNormRows(ConstRows x, const float* HWY_RESTRICT weight, float eps,
                 Rows y) {
  const F32 d;
  for (int64_t row = 0; row < x.rows; ++row) {
    const float* in = x.row(row);
    float* out = y.row(row);
    VF32 squares = hn::Zero(d);
    ForEachVector(x.cols, [&](int64_t i, auto load, auto) HWY_ATTR {
      const VF32 v = load(in + i);
      squares = hn::MulAdd(v, v, squares);
    });
    const float mean =
        hn::GetLane(hn::SumOfLanes(d, squares)) / static_cast<float>(x.cols);
    const VF32 inverse = hn::Set(d, 1.0f / std::sqrt(mean + eps));
    ForEachVector(x.cols, [&](int64_t i, auto load, auto store) HWY_ATTR {
      store(hn::Mul(load(weight + i), hn::Mul(load(in + i), inverse)), out + i);
    });
  }
}

void AccumulateRows(ConstRows x, Rows y) {
  for (int64_t row = 0; row < x.rows; ++row) {
    const float* in = x.row(row);
    float* out = y.row(row);
    ForEachVector(x.cols, [&](int64_t i, auto load, auto store) HWY_ATTR {
      store(hn::Add(load(out + i), load(in + i)), out + i);
    });
  }
}

void LayerNormRows(ConstRows x, const float* HWY_RESTRICT weight,
                   const float* HWY_RESTRICT bias, float eps, Rows y) {
  const F32 d;
  for (int64_t row = 0; row < x.rows; ++row) {
    const float* in = x.row(row);
    float* out = y.row(row);
    const Moments moments = RowMoments(in, x.cols);
    const VF32 mean = hn::Set(d, moments.mean);
    const VF32 inverse = hn::Set(d, 1.0f / std::sqrt(moments.variance + eps));
    ForEachVector(x.cols, [&](int64_t i, auto load, auto store) HWY_ATTR {
      const VF32 n = hn::Mul(hn::Sub(load(in + i), mean), inverse);
      store(hn::MulAdd(load(weight + i), n, load(bias + i)), out + i);
    });
  }
}

// out = function(out), and times in unless that is null.
template <typename Function>
HWY_INLINE void ActivateRow(int64_t cols, const float* in, float* out,
                            const Function& function) {
  ForEachVector(cols, [&](int64_t i, auto load, auto store) HWY_ATTR {
    const VF32 y = function(load(out + i));
    store(in == nullptr ? y : hn::Mul(y, load(in + i)), out + i);
  });
}

void ActivateRows(Activation activation, ConstRows up, Rows gate) {
  const F32 d;
  for (int64_t row = 0; row < gate.rows; ++row) {
    const float* in = up.data == nullptr ? nullptr : up.row(row);
    float* out = gate.row(row);
    const auto apply = [&](const auto& function) HWY_ATTR {
      ActivateRow(gate.cols, in, out, function);
    };
    switch (activation) {
      case Activation::kSilu:
        apply([&](VF32 x) HWY_ATTR { return hn::Mul(x, Sigmoid(d, x)); });
        break;
      case Activation::kSigmoid:
        apply([&](VF32 x) HWY_ATTR { return Sigmoid(d, x); });
        break;
      case Activation::kGeluTanh:
        apply([&](VF32 x) HWY_ATTR { return GeluTanh(d, x); });
        break;
      case Activation::kGeluErf:
        for (int64_t i = 0; i < gate.cols; ++i) {
          const float y = 0.5f * out[i] * std::erfc(-0.70710678f * out[i]);
          out[i] = in == nullptr ? y : y * in[i];
        }
        break;
      case Activation::kRelu:
        apply([&](VF32 x) HWY_ATTR { return hn::Max(x, hn::Zero(d)); });
        break;
    }
  }
}

void ScaledSigmoidRows(const float* bias, float scale, Rows x) {
  const F32 d;
  for (int64_t row = 0; row < x.rows; ++row) {
    float* out = x.row(row);
    ForEachVector(x.cols, [&](int64_t i, auto load, auto store) HWY_ATTR {
      const VF32 logit = hn::Add(load(out + i), load(bias + i));
      store(hn::Mul(hn::Set(d, scale), Sigmoid(d, logit)), out + i);
    });
  }
}

void ScaledHardSigmoidRows(const float* bias, float stretch, float scale,
                           Rows x) {
  const F32 d;
  const VF32 shift = hn::Set(d, (stretch - 1.0f) / 2.0f);
  for (int64_t row = 0; row < x.rows; ++row) {
    float* out = x.row(row);
    ForEachVector(x.cols, [&](int64_t i, auto load, auto store) HWY_ATTR {
      const VF32 logit = hn::Add(load(out + i), load(bias + i));
      const VF32 stretched =
          hn::Sub(hn::Mul(hn::Set(d, stretch), Sigmoid(d, logit)), shift);
      const VF32 open =
          hn::Min(hn::Max(stretched, hn::Zero(d)), hn::Set(d, 1.0f));
      // What is no number stays none, whatever Min and Max make of it.
      store(hn::IfThenElse(hn::IsNaN(logit), logit,
                           hn::Mul(hn::Set(d, scale), open)),
            out + i);
    });
  }
}

void NormaliseHeadsRows(int64_t head_dim, float eps, Rows x) {
  const F32 d;
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t first = 0; first < x.cols; first += head_dim) {
      float* head = x.row(row) + first;
      VF32 squares = hn::Zero(d);
      ForEachVector(head_dim, [&](int64_t i, auto load, auto) HWY_ATTR {
        const VF32 v = load(head + i);
        squares = hn::MulAdd(v, v, squares);
      });
      const VF32 inverse = hn::Set(
          d, 1.0f / std::sqrt(hn::GetLane(hn::SumOfLanes(d, squares)) + eps));
      ForEachVector(head_dim, [&](int64_t i, auto load, auto store) HWY_ATTR {
        store(hn::Mul(load(head + i), inverse), head + i);
      });
    }
  }
}

void AddBiasRows(const float* bias, Rows x) {
  for (int64_t row = 0; row < x.rows; ++row) {
    float* out = x.row(row);
    ForEachVector(x.cols, [&](int64_t i, auto load, auto store) HWY_ATTR {
      store(hn::Add(load(out + i), load(bias + i)), out + i);
    });
  }
}

void RotateRows(RotationPairs pairs, ConstRows cosines, ConstRows sines,
                int64_t head_dim, Rows x) {
  const int64_t half = head_dim / 2;
  for (int64_t row = 0; row < x.rows; ++row) {
    const float* c = cosines.row(row);
    const float* s = sines.row(row);
    for (int64_t first = 0; first < x.cols; first += head_dim) {
      float* head = x.row(row) + first;
      if (pairs == RotationPairs::kHalves) {
        RotateHalves(c, s, 1.0f, half, head, head);
        continue;
      }
      for (int64_t m = 0; m < half; ++m) {
        const float a = head[2 * m];
        const float b = head[2 * m + 1];
        head[2 * m] = a * c[m] - b * s[m];
        head[2 * m + 1] = b * c[m] + a * s[m];
      }
    }
  }
}

void CausalConvRow(const CausalConvParams& params, const CausalConvSlice& slice,
                   int64_t row, ConstRows x, Rows y) {
  const int64_t history = params.taps - 1;
  float* out = y.row(slice.first_row + row);
  ForEachVector(x.cols, [&](int64_t i, auto load, auto store) HWY_ATTR {
    VF32 sum = load(params.bias + i);
    for (int64_t j = 0; j < params.taps; ++j) {
      const int64_t t = row - history + j;
      const float* in = t < 0 ? slice.window + (history + t) * x.cols
                              : x.row(slice.first_row + t);
      sum = hn::MulAdd(load(params.weight + j * x.cols + i), load(in + i), sum);
    }
    store(sum, out + i);
  });
}

// log Σ e^x over two pieces, the second of which may be empty.
HWY_INLINE float LogSumExp(const float* x, int64_t count, const float* more,
                           int64_t more_count) {
  const F32 d;
  float highest = *std::max_element(x, x + count);
  for (int64_t i = 0; i < more_count; ++i) highest = std::max(highest, more[i]);
  const VF32 offset = hn::Set(d, highest);
  VF32 sums = hn::Zero(d);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    sums = hn::Add(sums, hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), offset)));
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; i < count; ++i) sum += std::exp(x[i] - highest);
  for (i = 0; i < more_count; ++i) sum += std::exp(more[i] - highest);
  return highest + std::log(sum);
}

HWY_INLINE void Subtract(float offset, float* x, int64_t count) {
  const VF32 value = hn::Set(F32(), offset);
  ForEachVector(count, [&](int64_t i, auto load, auto store) HWY_ATTR {
    store(hn::Sub(load(x + i), value), x + i);
  });
}

void AdaptiveLogSoftmaxRows(absl::Span<const int64_t> ends, ConstRows clusters,
                            Rows logits) {
  const int64_t tails = static_cast<int64_t>(ends.size()) - 1;
  for (int64_t row = 0; row < logits.rows; ++row) {
    float* values = logits.row(row);
    const float* of_tails = tails > 0 ? clusters.row(row) : nullptr;
    const float head = LogSumExp(values, ends[0], of_tails, tails);
    Subtract(head, values, ends[0]);
    for (int64_t i = 0; i < tails; ++i) {
      float* tail = values + ends[i];
      const int64_t count = ends[i + 1] - ends[i];
      Subtract(LogSumExp(tail, count, nullptr, 0) + (head - of_tails[i]), tail,
               count);
    }
  }
}

const char* CompiledTarget() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace mneme::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::cpu {

HWY_EXPORT(DotRows);
HWY_EXPORT(RmsNormRows);
HWY_EXPORT(AccumulateRows);
HWY_EXPORT(LayerNormRows);
HWY_EXPORT(ActivateRows);
HWY_EXPORT(ScaledSigmoidRows);
HWY_EXPORT(ScaledHardSigmoidRows);
HWY_EXPORT(NormaliseHeadsRows);
HWY_EXPORT(AddBiasRows);
HWY_EXPORT(RotateRows);
HWY_EXPORT(CausalConvRow);
HWY_EXPORT(AdaptiveLogSoftmaxRows);
HWY_EXPORT(CompiledTarget);

void DotRows(const float* weight, int64_t weight_stride, int64_t outs,
             ConstRows x, Rows y) {
  HWY_DYNAMIC_DISPATCH(DotRows)(weight, weight_stride, outs, x, y);
}
void RmsNormRows(ConstRows x, const float* weight, float eps, Rows y) {
  HWY_DYNAMIC_DISPATCH(RmsNormRows)(x, weight, eps, y);
}
void AccumulateRows(ConstRows x, Rows y) {
  HWY_DYNAMIC_DISPATCH(AccumulateRows)(x, y);
}
void LayerNormRows(ConstRows x, const float* weight, const float* bias,
                   float eps, Rows y) {
  HWY_DYNAMIC_DISPATCH(LayerNormRows)(x, weight, bias, eps, y);
}
void ActivateRows(Activation activation, ConstRows up, Rows gate) {
  HWY_DYNAMIC_DISPATCH(ActivateRows)(activation, up, gate);
}
void ScaledSigmoidRows(const float* bias, float scale, Rows x) {
  HWY_DYNAMIC_DISPATCH(ScaledSigmoidRows)(bias, scale, x);
}
void ScaledHardSigmoidRows(const float* bias, float stretch, float scale,
                           Rows x) {
  HWY_DYNAMIC_DISPATCH(ScaledHardSigmoidRows)(bias, stretch, scale, x);
}
void NormaliseHeadsRows(int64_t head_dim, float eps, Rows x) {
  HWY_DYNAMIC_DISPATCH(NormaliseHeadsRows)(head_dim, eps, x);
}
void AddBiasRows(const float* bias, Rows x) {
  HWY_DYNAMIC_DISPATCH(AddBiasRows)(bias, x);
}
void RotateRows(RotationPairs pairs, ConstRows cosines, ConstRows sines,
                int64_t head_dim, Rows x) {
  HWY_DYNAMIC_DISPATCH(RotateRows)(pairs, cosines, sines, head_dim, x);
}
void CausalConvRow(const CausalConvParams& params, const CausalConvSlice& slice,
                   int64_t row, ConstRows x, Rows y) {
  HWY_DYNAMIC_DISPATCH(CausalConvRow)(params, slice, row, x, y);
}
void AdaptiveLogSoftmaxRows(absl::Span<const int64_t> ends, ConstRows clusters,
                            Rows logits) {
  HWY_DYNAMIC_DISPATCH(AdaptiveLogSoftmaxRows)(ends, clusters, logits);
}
std::string TargetName() { return HWY_DYNAMIC_DISPATCH(CompiledTarget)(); }

}  // namespace mneme::cpu
#endif  // HWY_ONCE
