// SPDX-License-Identifier: Apache-2.0
//
// Infini-attention, one kv head at a time. The formulas are in
// engine/ops/reference/infini.cc.
//
// The rows of a call are taken in runs that end with their segment; on the
// step path a run is one row. Keys are kept rotated, so that a step reads them
// as they are, and are rotated back once, when their segment is complete. Then
// the whole segment is summed before it is added to the memory: over a million
// tokens that loses far less than adding them one by one.
//
// Every sum runs over its elements in one order that does not depend on how
// many rows are computed together, and ends before what later tokens brought.
#include "engine/ops/cpu/infini.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "engine/ops/cpu/scratch_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/infini.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "engine/ops/cpu/attention-inl.h"
#include "engine/ops/cpu/small_product-inl.h"
#include "hwy/highway.h"

namespace mneme::cpu {
#ifndef MNEME_ENGINE_OPS_CPU_INFINI_ONCE
#define MNEME_ENGINE_OPS_CPU_INFINI_ONCE

// Where the scratch of a kv head lies, in floats from its start.
struct InfiniScratch : ScratchPlan {
  InfiniScratch(const InfiniParams& params, int64_t rows) {
    const int64_t dim = RoundToLine(params.head_dim);
    const int64_t pitch = RoundToLine(rows);
    query = Take(rows * dim);
    attended = Take(rows * dim);
    remembered = Take(rows * dim);
    // Reading and closing take turns.
    const int64_t shared = floats;
    scores = Take(params.segment * pitch);
    queries_t = Take(params.head_dim * pitch);
    sums = Take(rows);
    const int64_t reading = std::exchange(floats, shared);
    keys = Take(params.segment * dim);
    values = Take(params.segment * dim);
    added = Take((params.head_dim + 1) * dim);
    floats = std::max(floats, reading);
  }

  int64_t query = 0;       // [rows, dim], rotated or σ
  int64_t attended = 0;    // [rows, dim]
  int64_t remembered = 0;  // [rows, dim]
  int64_t scores = 0;      // [segment, rows]; a step: [segment]
  int64_t queries_t = 0;   // [head_dim, rows], scaled
  int64_t sums = 0;        // [rows], of a softmax
  int64_t keys = 0;        // [segment, dim], σ of them
  int64_t values = 0;      // [segment, dim], what of them is added
  int64_t added = 0;       // [head_dim + 1, dim]
};

#endif
}  // namespace mneme::cpu

HWY_BEFORE_NAMESPACE();
namespace mneme::cpu {
namespace HWY_NAMESPACE {

class InfiniKernel {
 public:
  InfiniKernel(const InfiniParams& params, const InfiniSlice& slice,
               int64_t kv_head, int64_t rows_at_once, float* scratch)
      : params_(params),
        slice_(slice),
        kv_head_(kv_head),
        dim_(params.head_dim),
        pitch_(RoundToLine(params.head_dim)),
        rows_pitch_(RoundToLine(rows_at_once)),
        rows_at_once_(rows_at_once) {
    const InfiniScratch places(params, rows_at_once);
    query_ = scratch + places.query;
    attended_ = scratch + places.attended;
    remembered_ = scratch + places.remembered;
    scores_ = scratch + places.scores;
    queries_t_ = scratch + places.queries_t;
    sums_ = scratch + places.sums;
    keys_ = scratch + places.keys;
    values_ = scratch + places.values;
    added_ = scratch + places.added;
  }

  void Run(const InfiniInputs& inputs, Rows out) {
    const int64_t first_float = kv_head_ * params_.memory_floats();
    const int64_t group = params_.heads / params_.kv_heads;
    const float* memory = slice_.memory + first_float;
    float* open = slice_.open;
    int64_t slot = slice_.slot;
    int64_t row = 0;
    while (row < slice_.rows) {
      const int64_t rows =
          std::min({rows_at_once_, slice_.rows - row, params_.segment - slot});
      const int64_t first = slice_.first_row + row;
      TakeTokens(inputs, first, rows, slot, open);
      for (int64_t i = 0; i < group; ++i) {
        const int64_t head = kv_head_ * group + i;
        Attend(inputs.q, head, first, rows, slot, open);
        Remember(inputs.q, head, first, rows, memory);
        Mix(head, first, rows, out);
      }
      row += rows;
      slot += rows;
      if (slot < params_.segment) continue;
      Close(memory, open, slot, slice_.next_memory + first_float);
      memory = slice_.next_memory + first_float;
      open = slice_.next_open;
      slot = 0;
    }
  }

  void Close() {
    const int64_t first_float = kv_head_ * params_.memory_floats();
    Close(slice_.memory + first_float, slice_.open, slice_.slot,
          slice_.next_memory + first_float);
  }

 private:
  // Of the head's key and value in a token's row of `open`.
  int64_t key_column() const { return kv_head_ * dim_; }
  int64_t value_column() const { return (params_.kv_heads + kv_head_) * dim_; }

  // Turns x by the angles of `slot`, or back if `direction` is -1.
  void Rotate(int64_t slot, float direction, const float* x, float* y) const {
    const int64_t half = dim_ / 2;
    RotateHalves(params_.rope_cos + slot * half, params_.rope_sin + slot * half,
                 direction, half, x, y);
  }

  // y = ELU(x) + 1
  void Sigma(const float* x, float* y) const {
    const F32 d;
    const VF32 zero = hn::Zero(d);
    ForEachVector(dim_, [&](int64_t i, auto load, auto store) HWY_ATTR {
      const VF32 u = load(x + i);
      store(hn::IfThenElse(hn::Gt(u, zero), hn::Add(u, hn::Set(d, 1.0f)),
                           hn::Exp(d, hn::Min(u, zero))),
            y + i);
    });
  }

  // The keys and values of `rows` tokens, into the open segment.
  void TakeTokens(const InfiniInputs& inputs, int64_t first, int64_t rows,
                  int64_t slot, float* open) {
    for (int64_t i = 0; i < rows; ++i) {
      float* token = open + (slot + i) * params_.token_floats();
      Rotate(slot + i, 1.0f, inputs.k.row(first + i) + key_column(),
             token + key_column());
      std::copy_n(inputs.v.row(first + i) + key_column(), dim_,
                  token + value_column());
    }
  }

  // attended_ = what the rows find in their segment.
  void Attend(ConstRows q, int64_t head, int64_t first, int64_t rows,
              int64_t slot, const float* open) {
    const int64_t stride = params_.token_floats();
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim_));
    const Right values = {open + value_column(), stride};
    const Sum attended = {attended_, pitch_};
    for (int64_t i = 0; i < rows; ++i) {
      Rotate(slot + i, 1.0f, q.row(first + i) + head * dim_,
             query_ + i * pitch_);
      std::fill_n(attended_ + i * pitch_, dim_, 0.0f);
    }
    if (rows == 1) {
      ScaleRow(scale, query_, dim_, query_);
      Dots({open + key_column(), stride}, slot + 1, dim_, query_, scores_);
      sums_[0] = ExpRow(scores_, slot + 1);
      AddProduct({scores_, 0, 1}, 1, values, slot + 1, attended, dim_);
    } else {
      TurnRows(scale, query_, pitch_, rows, dim_, queries_t_, rows_pitch_);
      FindScores(rows, slot, open);
      ExpColumns(scores_, rows_pitch_, slot + rows, rows, sums_);
      const Left scores = {scores_, 1, rows_pitch_};
      AddProduct(scores, rows, values, slot, attended, dim_);
      AddTriangularProduct(scores.From(0, slot), rows,
                           {values.data + slot * stride, stride}, 1, attended,
                           dim_);
    }
    for (int64_t i = 0; i < rows; ++i) {
      ScaleRow(1.0f / sums_[i], attended_ + i * pitch_, dim_,
               attended_ + i * pitch_);
    }
  }

  // scores_ [slot + rows, rows] of queries_t_; what a row does not see yet is
  // masked.
  void FindScores(int64_t rows, int64_t slot, const float* open) const {
    std::fill_n(scores_, (slot + rows) * rows_pitch_, 0.0f);
    AddProduct({open + key_column(), params_.token_floats(), 1}, slot + rows,
               {queries_t_, rows_pitch_}, dim_, {scores_, rows_pitch_}, rows);
    for (int64_t i = 1; i < rows; ++i) {
      std::fill_n(scores_ + (slot + i) * rows_pitch_, i,
                  -std::numeric_limits<float>::infinity());
    }
  }

  // remembered_ = what the rows find in the memory. Overwrites query_.
  void Remember(ConstRows q, int64_t head, int64_t first, int64_t rows,
                const float* memory) {
    for (int64_t i = 0; i < rows; ++i) {
      Sigma(q.row(first + i) + head * dim_, query_ + i * pitch_);
    }
    ReadMemory(memory, query_, rows, remembered_);
  }

  // y = x M / max(x·z, ε)
  void ReadMemory(const float* memory, const float* x, int64_t rows,
                  float* y) const {
    const F32 d;
    for (int64_t i = 0; i < rows; ++i) std::fill_n(y + i * pitch_, dim_, 0.0f);
    AddProduct({x, pitch_, 1}, rows, {memory, dim_}, dim_, {y, pitch_}, dim_);
    for (int64_t i = 0; i < rows; ++i) {
      float denominator = 0;
      Dots({memory + dim_ * dim_, dim_}, 1, dim_, x + i * pitch_, &denominator);
      const VF32 inverse =
          hn::Set(d, 1.0f / std::max(denominator, params_.epsilon));
      float* row = y + i * pitch_;
      ForEachVector(dim_, [&](int64_t j, auto load, auto store) HWY_ATTR {
        store(hn::Mul(inverse, load(row + j)), row + j);
      });
    }
  }

  void Mix(int64_t head, int64_t first, int64_t rows, Rows out) const {
    const F32 d;
    const VF32 gate = hn::Set(d, params_.gate[head]);
    const VF32 rest = hn::Set(d, 1.0f - params_.gate[head]);
    for (int64_t i = 0; i < rows; ++i) {
      const float* far = remembered_ + i * pitch_;
      const float* near = attended_ + i * pitch_;
      float* to = out.row(first + i) + head * dim_;
      ForEachVector(dim_, [&](int64_t j, auto load, auto store) HWY_ATTR {
        store(hn::MulAdd(gate, load(far + j), hn::Mul(rest, load(near + j))),
              to + j);
      });
    }
  }

  // next = memory with the `tokens` tokens of `open`.
  void Close(const float* memory, const float* open, int64_t tokens,
             float* next) {
    for (int64_t s = 0; s < tokens; ++s) {
      const float* token = open + s * params_.token_floats();
      float* key = keys_ + s * pitch_;
      Rotate(s, -1.0f, token + key_column(), key);
      Sigma(key, key);
    }
    if (params_.delta) ReadMemory(memory, keys_, tokens, values_);
    for (int64_t s = 0; s < tokens; ++s) {
      const float* value = open + s * params_.token_floats() + value_column();
      float* to = values_ + s * pitch_;
      ForEachVector(dim_, [&](int64_t i, auto load, auto store) HWY_ATTR {
        const VF32 v = load(value + i);
        store(params_.delta ? hn::Sub(v, load(to + i)) : v, to + i);
      });
    }
    std::fill_n(added_, (dim_ + 1) * pitch_, 0.0f);
    constexpr float kOne = 1.0f;
    AddProduct({keys_, 1, pitch_}, dim_, {values_, pitch_}, tokens,
               {added_, pitch_}, dim_);
    AddProduct({&kOne, 0, 0}, 1, {keys_, pitch_}, tokens,
               {added_ + dim_ * pitch_, pitch_}, dim_);
    for (int64_t i = 0; i <= dim_; ++i) {
      const float* old = memory + i * dim_;
      const float* more = added_ + i * pitch_;
      ForEachVector(dim_, [&](int64_t j, auto load, auto store) HWY_ATTR {
        store(hn::Add(load(old + j), load(more + j)), next + i * dim_ + j);
      });
    }
  }

  const InfiniParams& params_;
  const InfiniSlice& slice_;
  const int64_t kv_head_;
  const int64_t dim_;
  const int64_t pitch_;
  const int64_t rows_pitch_;
  const int64_t rows_at_once_;
  float* query_;  // as in InfiniScratch
  float* attended_;
  float* remembered_;
  float* scores_;
  float* queries_t_;
  float* sums_;
  float* keys_;
  float* values_;
  float* added_;
};

void InfiniHead(ComputePath path, const InfiniParams& params,
                const InfiniInputs& inputs, const InfiniSlice& slice,
                int64_t kv_head, float* scratch, Rows out) {
  const int64_t rows =
      path == ComputePath::kStep ? 1 : std::min(slice.rows, params.segment);
  InfiniKernel(params, slice, kv_head, rows, scratch).Run(inputs, out);
}

void CloseInfiniHead(const InfiniParams& params, const InfiniSlice& slice,
                     int64_t kv_head, float* scratch) {
  InfiniKernel(params, slice, kv_head, 1, scratch).Close();
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::cpu {

HWY_EXPORT(InfiniHead);
HWY_EXPORT(CloseInfiniHead);

int64_t ScratchFloats(const InfiniParams& params, int64_t rows) {
  return InfiniScratch(params, std::min(rows, params.segment)).floats;
}

void InfiniHead(ComputePath path, const InfiniParams& params,
                const InfiniInputs& inputs, const InfiniSlice& slice,
                int64_t kv_head, float* scratch, Rows out) {
  HWY_DYNAMIC_DISPATCH(InfiniHead)
  (path, params, inputs, slice, kv_head, scratch, out);
}

void CloseInfiniHead(const InfiniParams& params, const InfiniSlice& slice,
                     int64_t kv_head, float* scratch) {
  HWY_DYNAMIC_DISPATCH(CloseInfiniHead)(params, slice, kv_head, scratch);
}

}  // namespace mneme::cpu
#endif  // HWY_ONCE
