// SPDX-License-Identifier: Apache-2.0
//
// TTT in its dual form, one head at a time. The formulas of the primal form
// are in engine/ops/reference/ttt.cc. The inner model is a chain of affine
// maps, one or two; with the gradients of a mini-batch kept per map as pairs
// (x_s, u_s), x_s what entered the map with token s and u_s = lr_s times the
// gradient of what left it, token i, that enters the map as y_i, meets
//
//     y_i (W - te_i Σ_{s<=i} x_sᵀ u_s) + b - te_i Σ_{s<=i} u_s
//       = y_i W + b - te_i Σ_{s<=i} (y_i·x_s + 1) u_s
//
// so a mini-batch is a few small matrix products and needs no W of its own per
// token. W is rewritten once, when the mini-batch is full. A mini-batch that
// began in an earlier call brings its pairs along in the state.
//
// Every sum runs over its elements in one order that does not depend on how
// many rows are computed together, and ends before the pairs of later tokens.
// On the step path, where rows come one by one, products with a transposed
// matrix are dot products; on the block path transposed copies of what is
// small make them products like the others.
#include "engine/ops/cpu/ttt.h"

#include <algorithm>

#include "engine/ops/cpu/scratch_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/ttt.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "engine/ops/cpu/simd-inl.h"
#include "engine/ops/cpu/small_product-inl.h"
#include "hwy/highway.h"

namespace mneme::cpu {
#ifndef MNEME_ENGINE_OPS_CPU_TTT_ONCE
#define MNEME_ENGINE_OPS_CPU_TTT_ONCE

inline constexpr float kInnerNormEps = 1e-6f;
inline constexpr int64_t kMaxMaps = 2;

// Where the scratch of one head lies, in floats from its start.
struct HeadScratch : ScratchPlan {
  struct Map {
    int64_t inputs = 0;     // [mini_batch, in_pitch], x
    int64_t inputs_t = 0;   // [in, batch_pitch], x transposed; block path
    int64_t gradients = 0;  // [mini_batch, out_pitch], u
    int64_t outputs = 0;    // [rows, out_pitch], x W + b, then y W + b - ...
    int64_t queries = 0;    // [rows, in_pitch], y
  };

  HeadScratch(const TttParams& params, int64_t rows) {
    const int64_t batch_pitch = RoundToLine(params.mini_batch);
    int64_t widest = 0;
    for (int64_t i = 0; i < params.maps(); ++i) {
      const int64_t in_pitch = RoundToLine(params.in_dim(i));
      const int64_t out_pitch = RoundToLine(params.out_dim(i));
      maps[i].inputs = Take(params.mini_batch * in_pitch);
      maps[i].inputs_t = Take(params.in_dim(i) * batch_pitch);
      maps[i].gradients = Take(params.mini_batch * out_pitch);
      maps[i].outputs = Take(rows * out_pitch);
      maps[i].queries = Take(rows * in_pitch);
      widest = std::max({widest, in_pitch, out_pitch});
    }
    reads = Take(rows * batch_pitch);
    row = Take(RoundToLine(params.head_dim));
    turned = Take(widest * RoundToLine(rows));
    turned_back = Take(widest * RoundToLine(rows));
  }

  Map maps[kMaxMaps];
  int64_t reads = 0;        // [rows, batch_pitch], -te (y·x + 1)
  int64_t row = 0;          // [head_dim]
  int64_t turned = 0;       // [width of a map, rows]
  int64_t turned_back = 0;  // likewise
};

#endif
}  // namespace mneme::cpu

HWY_BEFORE_NAMESPACE();
namespace mneme::cpu {
namespace HWY_NAMESPACE {

// to [cols, rows] = from [rows, cols] transposed.
HWY_INLINE void Transpose(const float* HWY_RESTRICT from, int64_t from_stride,
                          int64_t rows, int64_t cols, float* HWY_RESTRICT to,
                          int64_t to_stride) {
  for (int64_t j = 0; j < cols; ++j) {
    for (int64_t i = 0; i < rows; ++i) {
      to[j * to_stride + i] = from[i * from_stride + j];
    }
  }
}

// One affine map of a head.
struct Map {
  int64_t in, out;              // numbers that enter and leave it
  int64_t in_pitch, out_pitch;  // padded to lines
  int64_t first_weight;         // in the head's weights
  float* inputs;                // as in HeadScratch::Map
  float* inputs_t;
  float* gradients;
  float* outputs;
  float* queries;
};

// One head of one slice, with its scratch. A pitch is a width padded to lines.
class HeadKernel {
 public:
  HeadKernel(ComputePath path, const TttParams& params, const TttInputs& inputs,
             const TttSlice& slice, int64_t head, float* scratch, Rows out)
      : params_(params),
        inputs_(inputs),
        slice_(slice),
        head_(head),
        out_(out),
        dim_(params.head_dim),
        batch_pitch_(RoundToLine(params.mini_batch)),
        step_(path == ComputePath::kStep),
        rows_at_once_(step_ ? 1 : std::min(slice.rows, params.mini_batch)),
        map_count_(params.maps()) {
    const HeadScratch places(params, rows_at_once_);
    int64_t first_weight = 0;
    for (int64_t i = 0; i < map_count_; ++i) {
      const HeadScratch::Map& place = places.maps[i];
      maps_[i] = {.in = params.in_dim(i),
                  .out = params.out_dim(i),
                  .in_pitch = RoundToLine(params.in_dim(i)),
                  .out_pitch = RoundToLine(params.out_dim(i)),
                  .first_weight = first_weight,
                  .inputs = scratch + place.inputs,
                  .inputs_t = scratch + place.inputs_t,
                  .gradients = scratch + place.gradients,
                  .outputs = scratch + place.outputs,
                  .queries = scratch + place.queries};
      first_weight += (params.in_dim(i) + 1) * params.out_dim(i);
    }
    reads_ = scratch + places.reads;
    row_ = scratch + places.row;
    turned_ = scratch + places.turned;
    turned_back_ = scratch + places.turned_back;
  }

  void Run() {
    const int64_t head_weights = head_ * params_.weight_floats();
    const float* weights = slice_.weights + head_weights;
    float* next_weights = slice_.next_weights + head_weights;
    float* factors = slice_.factors;
    int64_t slot = slice_.slot;
    for (int64_t i = 0; i < slot; ++i) LoadFactors(factors, i);
    for (int64_t m = 0; m < map_count_; ++m) TurnInputs(maps_[m], 0, slot);
    int64_t row = 0;
    while (row < slice_.rows) {
      const int64_t rows = std::min(
          {rows_at_once_, slice_.rows - row, params_.mini_batch - slot});
      const int64_t first = slice_.first_row + row;
      Learn(first, rows, slot, weights);
      Read(first, rows, slot, weights);
      row += rows;
      if (slot + rows < params_.mini_batch) {
        for (int64_t i = 0; i < rows; ++i) StoreFactors(factors, slot + i);
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
  float* Factors(float* factors, int64_t i) const {
    return factors + (i * params_.heads + head_) * params_.factor_floats();
  }

  void LoadFactors(float* factors, int64_t i) {
    const float* from = Factors(factors, i);
    for (int64_t m = 0; m < map_count_; ++m) {
      const Map& map = maps_[m];
      std::copy_n(from, map.in, map.inputs + i * map.in_pitch);
      from += map.in;
      std::copy_n(from, map.out, map.gradients + i * map.out_pitch);
      from += map.out;
    }
  }

  void StoreFactors(float* factors, int64_t i) const {
    float* to = Factors(factors, i);
    for (int64_t m = 0; m < map_count_; ++m) {
      const Map& map = maps_[m];
      to = std::copy_n(map.inputs + i * map.in_pitch, map.in, to);
      to = std::copy_n(map.gradients + i * map.out_pitch, map.out, to);
    }
  }

  void TurnInputs(const Map& map, int64_t first, int64_t count) const {
    if (step_) return;
    Transpose(map.inputs + first * map.in_pitch, map.in_pitch, count, map.in,
              map.inputs_t + first, batch_pitch_);
  }

  // The pairs (2m, 2m + 1) turned by the angles of `slot`, if there are any.
  void Rotate(int64_t slot, const float* HWY_RESTRICT x,
              float* HWY_RESTRICT y) const {
    if (params_.rope_cos == nullptr) {
      std::copy_n(x, dim_, y);
      return;
    }
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

  // map.outputs = x W + b for `rows` rows of x.
  void Affine(const Map& map, const float* x, int64_t rows,
              const float* weights) const {
    const float* w = weights + map.first_weight;
    const float* bias = w + map.in * map.out;
    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(bias, map.out, map.outputs + i * map.out_pitch);
    }
    AddProduct({x, map.in_pitch, 1}, rows, {w, map.out}, map.in,
               {map.outputs, map.out_pitch}, map.out);
  }

  // y = gelu(x) for `rows` rows of the width between the maps.
  static void Gelu(const Map& map, int64_t rows, float* y) {
    const F32 d;
    for (int64_t i = 0; i < rows; ++i) {
      const float* x = map.outputs + i * map.out_pitch;
      float* to = y + i * map.out_pitch;
      ForEachVector(map.out, [&](int64_t j, auto load, auto store) HWY_ATTR {
        store(GeluTanh(d, load(x + j)), to + j);
      });
    }
  }

  // u = lr dLoss/dz for one token, from z = the last map's output.
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

  // below's gradients = (above's gradients · Wᵀ) gelu'(below's outputs), rows
  // slot.. of both; W is above's.
  void BackThroughGelu(const Map& below, const Map& above, int64_t slot,
                       int64_t rows, const float* weights) const {
    const F32 d;
    const float* w = weights + above.first_weight;
    const float* from = above.gradients + slot * above.out_pitch;
    float* to = below.gradients + slot * below.out_pitch;
    if (step_) {
      Dots({w, above.out}, above.in, above.out, from, to);
    } else {
      const int64_t pitch = RoundToLine(rows);
      Transpose(from, above.out_pitch, rows, above.out, turned_, pitch);
      std::fill_n(turned_back_, above.in * pitch, 0.0f);
      AddProduct({w, above.out, 1}, above.in, {turned_, pitch}, above.out,
                 {turned_back_, pitch}, rows);
      Transpose(turned_back_, pitch, above.in, rows, to, below.out_pitch);
    }
    for (int64_t i = 0; i < rows; ++i) {
      const float* z = below.outputs + i * below.out_pitch;
      float* u = to + i * below.out_pitch;
      ForEachVector(below.out, [&](int64_t j, auto load, auto store) HWY_ATTR {
        store(hn::Mul(load(u + j), GeluTanhDerivative(d, load(z + j))), u + j);
      });
    }
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

  // What rows first..first + rows of the operands teach, which take slots
  // slot.. of one mini-batch.
  void Learn(int64_t first, int64_t rows, int64_t slot, const float* weights) {
    const int64_t column = head_ * dim_;
    const Map& bottom = maps_[0];
    const Map& top = maps_[map_count_ - 1];
    for (int64_t i = 0; i < rows; ++i) {
      Rotate(slot + i, inputs_.k.row(first + i) + column,
             bottom.inputs + (slot + i) * bottom.in_pitch);
    }
    for (int64_t m = 0; m < map_count_; ++m) {
      const Map& map = maps_[m];
      float* x = map.inputs + slot * map.in_pitch;
      if (m > 0) Gelu(maps_[m - 1], rows, x);
      TurnInputs(map, slot, rows);
      Affine(map, x, rows, weights);
    }
    for (int64_t i = 0; i < rows; ++i) {
      ScaledGradient(top.outputs + i * top.out_pitch,
                     bottom.inputs + (slot + i) * bottom.in_pitch,
                     inputs_.v.row(first + i) + column,
                     inputs_.learning_rate.row(first + i)[head_],
                     top.gradients + (slot + i) * top.out_pitch);
    }
    for (int64_t m = map_count_ - 1; m > 0; --m) {
      BackThroughGelu(maps_[m - 1], maps_[m], slot, rows, weights);
    }
  }

  // What the same rows are told.
  void Read(int64_t first, int64_t rows, int64_t slot, const float* weights) {
    const int64_t column = head_ * dim_;
    const Map& bottom = maps_[0];
    const Map& top = maps_[map_count_ - 1];
    for (int64_t i = 0; i < rows; ++i) {
      Rotate(slot + i, inputs_.q.row(first + i) + column,
             bottom.queries + i * bottom.in_pitch);
    }
    for (int64_t m = 0; m < map_count_; ++m) {
      const Map& map = maps_[m];
      if (m > 0) Gelu(maps_[m - 1], rows, map.queries);
      Affine(map, map.queries, rows, weights);
      FindReads(map, rows, slot);
      AddTriangularProduct({reads_, batch_pitch_, 1}, rows,
                           {map.gradients, map.out_pitch}, slot + 1,
                           {map.outputs, map.out_pitch}, map.out);
    }
    for (int64_t i = 0; i < rows; ++i) {
      Output(top.outputs + i * top.out_pitch,
             bottom.queries + i * bottom.in_pitch,
             out_.row(first + i) + column);
    }
  }

  // reads_[i, s] = -te_i (y_i·x_s + 1) for s <= slot + i.
  void FindReads(const Map& map, int64_t rows, int64_t slot) const {
    const int64_t tokens = slot + rows;  // of the mini-batch so far
    if (step_) {
      Dots({map.inputs, map.in_pitch}, tokens, map.in, map.queries, reads_);
    } else {
      for (int64_t i = 0; i < rows; ++i) {
        std::fill_n(reads_ + i * batch_pitch_, tokens, 0.0f);
      }
      AddProduct({map.queries, map.in_pitch, 1}, rows,
                 {map.inputs_t, batch_pitch_}, map.in, {reads_, batch_pitch_},
                 tokens);
    }
    for (int64_t i = 0; i < rows; ++i) {
      float* read = reads_ + i * batch_pitch_;
      const float scale = params_.token_scale[slot + i];
      for (int64_t s = 0; s <= slot + i; ++s) {
        read[s] = -scale * (read[s] + 1.0f);
      }
    }
  }

  // next = weights - te_{K-1} Σ_s [x_s, 1]ᵀ u_s, map by map.
  void CloseMiniBatch(const float* weights, float* next) {
    const int64_t tokens = params_.mini_batch;
    if (next != weights) std::copy_n(weights, params_.weight_floats(), next);
    const F32 d;
    const VF32 scale = hn::Set(d, -params_.token_scale[tokens - 1]);
    constexpr float kOne = 1.0f;
    for (int64_t m = 0; m < map_count_; ++m) {
      const Map& map = maps_[m];
      float* w = next + map.first_weight;
      for (int64_t s = 0; s < tokens; ++s) {  // the pairs are not needed again
        float* u = map.gradients + s * map.out_pitch;
        ForEachVector(map.out, [&](int64_t j, auto load, auto store) HWY_ATTR {
          store(hn::Mul(scale, load(u + j)), u + j);
        });
      }
      const Right gradients = {map.gradients, map.out_pitch};
      AddProduct({map.inputs, 1, map.in_pitch}, map.in, gradients, tokens,
                 {w, map.out}, map.out);
      AddProduct({&kOne, 0, 0}, 1, gradients, tokens,
                 {w + map.in * map.out, map.out}, map.out);
    }
  }

  const TttParams& params_;
  const TttInputs& inputs_;
  const TttSlice& slice_;
  const int64_t head_;
  const Rows out_;
  const int64_t dim_;
  const int64_t batch_pitch_;
  const bool step_;
  const int64_t rows_at_once_;
  const int64_t map_count_;
  Map maps_[kMaxMaps];
  float* reads_;  // as in HeadScratch
  float* row_;
  float* turned_;
  float* turned_back_;
};

void TttHead(ComputePath path, const TttParams& params, const TttInputs& inputs,
             const TttSlice& slice, int64_t head, float* scratch, Rows out) {
  HeadKernel(path, params, inputs, slice, head, scratch, out).Run();
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::cpu {

HWY_EXPORT(TttHead);

int64_t ScratchFloats(const TttParams& params, int64_t rows) {
  return HeadScratch(params, std::min(rows, params.mini_batch)).floats;
}

void TttHead(ComputePath path, const TttParams& params, const TttInputs& inputs,
             const TttSlice& slice, int64_t head, float* scratch, Rows out) {
  HWY_DYNAMIC_DISPATCH(TttHead)
  (path, params, inputs, slice, head, scratch, out);
}

}  // namespace mneme::cpu
#endif  // HWY_ONCE
