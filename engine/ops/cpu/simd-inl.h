// SPDX-License-Identifier: Apache-2.0
//
// What the Highway kernels share, compiled once per instruction set.
#if defined(MNEME_ENGINE_OPS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ENGINE_OPS_CPU_SIMD_INL_H_
#undef MNEME_ENGINE_OPS_CPU_SIMD_INL_H_
#else
#define MNEME_ENGINE_OPS_CPU_SIMD_INL_H_
#endif

#include <cmath>
#include <cstdint>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using VF32 = hn::Vec<F32>;

// The first `count` floats at p, fewer than a vector, and zeros. The masked
// loads and stores of older instruction sets touch whole aligned vectors, so
// there the floats take a way around.
HWY_INLINE VF32 LoadPart(F32 d, const float* p, int64_t count) {
#if HWY_TARGET <= HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(count)), d, p);
#else
  HWY_ALIGN float part[hn::MaxLanes(F32())] = {};
  for (int64_t i = 0; i < count; ++i) part[i] = p[i];
  return hn::Load(d, part);
#endif
}

// Stores the first `count` lanes of v at p, and nothing else.
HWY_INLINE void StorePart(VF32 v, F32 d, float* p, int64_t count) {
#if HWY_TARGET <= HWY_AVX2
  hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(count)), d, p);
#else
  HWY_ALIGN float part[hn::MaxLanes(F32())];
  hn::Store(v, d, part);
  for (int64_t i = 0; i < count; ++i) p[i] = part[i];
#endif
}

// Calls body(i, load, store) for i = 0, Lanes, 2 Lanes, ... below `count`.
// `load(p)` and `store(v, p)` move whole vectors, or in the last call only
// what is left of `count`, reading zeros for the rest.
template <class Body>
HWY_INLINE void ForEachVector(int64_t count, const Body& body) {
  const F32 d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    body(
        i, [&](const float* p) HWY_ATTR { return hn::LoadU(d, p); },
        [&](VF32 v, float* p) HWY_ATTR { hn::StoreU(v, d, p); });
  }
  if (i < count) {
    const int64_t rest = count - i;
    body(
        i, [&](const float* p) HWY_ATTR { return LoadPart(d, p, rest); },
        [&](VF32 v, float* p) HWY_ATTR { StorePart(v, d, p, rest); });
  }
}

// 1 / (1 + e^-x). Highway's Exp ends at 88; beyond it the result is 0 to f32.
HWY_INLINE VF32 Sigmoid(F32 d, VF32 x) {
  const VF32 negated = hn::Min(hn::Neg(x), hn::Set(d, 88.0f));
  return hn::Div(hn::Set(d, 1.0f),
                 hn::Add(hn::Set(d, 1.0f), hn::Exp(d, negated)));
}

// x/2 (1 + tanh u) = x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x³). Below
// -20 the result is 0 to f32, however large x is.
HWY_INLINE VF32 GeluTanh(F32 d, VF32 x) {
  const VF32 cubic = hn::Mul(hn::Mul(x, x), hn::Set(d, 0.044715f));
  const VF32 inner = hn::MulAdd(cubic, x, x);
  const VF32 y =
      hn::Mul(x, Sigmoid(d, hn::Mul(hn::Set(d, 1.5957691216057308f), inner)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -20.0f)), y);
}

// Its derivative s + 2 x s (1 - s) u'(x), s = sigmoid(2 u), by way of |x|, for
// which e^-2u neither overflows nor loses 1 - s to cancellation. Beyond 10 it
// is 0 or 1 to f32.
HWY_INLINE VF32 GeluTanhDerivative(F32 d, VF32 x) {
  const VF32 one = hn::Set(d, 1.0f);
  const VF32 size = hn::Min(hn::Abs(x), hn::Set(d, 10.0f));
  const VF32 square = hn::Mul(size, size);
  const VF32 inner =
      hn::MulAdd(hn::Mul(square, hn::Set(d, 0.044715f)), size, size);
  const VF32 e = hn::Exp(d, hn::Mul(hn::Set(d, -1.59576912f), inner));
  const VF32 s = hn::Div(one, hn::Add(one, e));
  const VF32 slope = hn::MulAdd(square, hn::Set(d, 0.1070322243f),
                                hn::Set(d, 0.79788456f));  // u'
  const VF32 es = hn::Mul(e, s);                           // 1 - s
  const VF32 bend =
      hn::Mul(hn::Mul(hn::Add(size, size), slope), hn::Mul(es, s));
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Sub(es, bend),
                        hn::Add(s, bend));
}

// y = the pairs (m, m + half) of x turned by angles, or back if `direction` is
// -1. y may be x.
HWY_INLINE void RotateHalves(const float* cosines, const float* sines,
                             float direction, int64_t half, const float* x,
                             float* y) {
  const F32 d;
  const VF32 sign = hn::Set(d, direction);
  ForEachVector(half, [&](int64_t m, auto load, auto store) HWY_ATTR {
    const VF32 a = load(x + m);
    const VF32 b = load(x + half + m);
    const VF32 c = load(cosines + m);
    const VF32 s = hn::Mul(sign, load(sines + m));
    store(hn::NegMulAdd(b, s, hn::Mul(a, c)), y + m);
    store(hn::MulAdd(a, s, hn::Mul(b, c)), y + half + m);
  });
}

struct Moments {
  float mean = 0;
  float variance = 0;  // biased
};

// Mean first, then the mean of squared deviations: a small variance beside a
// large mean survives.
HWY_INLINE Moments RowMoments(const float* x, int64_t count) {
  const F32 d;
  VF32 sum = hn::Zero(d);
  ForEachVector(count, [&](int64_t i, auto load, auto)
                           HWY_ATTR { sum = hn::Add(sum, load(x + i)); });
  const float n = static_cast<float>(count);
  const float mean = hn::GetLane(hn::SumOfLanes(d, sum)) / n;
  // Lanes behind the end would count as (0 - mean)², so they are left out.
  VF32 squares = hn::Zero(d);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const VF32 v = hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean));
    squares = hn::MulAdd(v, v, squares);
  }
  if (i < count) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(count - i));
    const VF32 v = hn::Sub(LoadPart(d, x + i, count - i), hn::Set(d, mean));
    squares = hn::Add(squares, hn::IfThenElseZero(mask, hn::Mul(v, v)));
  }
  return {.mean = mean,
          .variance = hn::GetLane(hn::SumOfLanes(d, squares)) / n};
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::cpu
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
