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
#include <utility>

#include "engine/ops/cpu/scratch_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/infini.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "engine/ops/cpu/simd-inl.h"
#include "engine/ops/cpu/small_product-inl.h"
#include "hwy/highway.h"

namespace mneme::cpu {
#ifndef MNEME_ENGINE_OPS_CPU_INFINI_ONCE
#define MNEME_ENGINE_OPS_CPU_INFINI_ONCE

// Where the scratch of a kv head lies, in floats from its start.
struct InfiniScratch : ScratchPlan {
  InfiniScratch(const InfiniParams& params, int64_t rows) {
    const int64_t dim = RoundToLine(params.head_dim);
    const int64_t tokens = RoundToLine(params.segment);
    query = Take(rows * dim);
    attended = Take(rows * dim);
    remembered = Take(rows * dim);
    // Reading and closing take turns.
    const int64_t shared = floats;
    scores = Take(rows * tokens);
    keys_t = Take(params.head_dim * tokens);
    const int64_t reading = std::exchange(floats, shared);
    keys = Take(params.segment * dim);
    values = Take(params.segment * dim);
    added = Take((params.head_dim + 1) * dim);
    floats = std::max(floats, reading);
  }

  int64_t query = 0;       // [rows, dim], rotated or σ
  int64_t attended = 0;    // [rows, dim]
  int64_t remembered = 0;  // [rows, dim]
  int64_t scores = 0;      // [rows, tokens]
  int64_t keys_t = 0;      // [head_dim, tokens]; block path
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
        tokens_pitch_(RoundToLine(params.segment)),
        rows_at_once_(rows_at_once) {
    const InfiniScratch places(params, rows_at_once);
    query_ = scratch + places.query;
    attended_ = scratch + places.attended;
    remembered_ = scratch + places.remembered;
    scores_ = scratch + places.scores;
    keys_t_ = scratch + places.keys_t;
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
    if (rows == 1) return;
    for (int64_t s = 0; s < slot + rows; ++s) {
      const float* key = open + s * params_.token_floats() + key_column();
      for (int64_t i = 0; i < dim_; ++i)
        keys_t_[i * tokens_pitch_ + s] = key[i];
    }
  }

  // attended_ = what the rows find in their segment.
  void Attend(ConstRows q, int64_t head, int64_t first, int64_t rows,
              int64_t slot, const float* open) {
    const int64_t tokens = slot + rows;
    const int64_t stride = params_.token_floats();
    for (int64_t i = 0; i < rows; ++i) {
      Rotate(slot + i, 1.0f, q.row(first + i) + head * dim_,
             query_ + i * pitch_);
    }
    if (rows == 1) {
      Dots({open + key_column(), stride}, tokens, dim_, query_, scores_);
    } else {
      for (int64_t i = 0; i < rows; ++i) {
        std::fill_n(scores_ + i * tokens_pitch_, tokens, 0.0f);
      }
      AddProduct({query_, pitch_, 1}, rows, {keys_t_, tokens_pitch_}, dim_,
                 {scores_, tokens_pitch_}, tokens);
    }
    for (int64_t i = 0; i < rows; ++i) {
      Softmax(scores_ + i * tokens_pitch_, slot + i + 1);
      std::fill_n(attended_ + i * pitch_, dim_, 0.0f);
    }
    AddTriangularProduct({scores_, tokens_pitch_, 1}, rows,
                         {open + value_column(), stride}, slot + 1,
                         {attended_, pitch_}, dim_);
  }

  // x = softmax(x / √dim)
  void Softmax(float* x, int64_t count) const {
    const F32 d;
    const float highest = *std::max_element(x, x + count);
    const VF32 scale = hn::Set(d, 1.0f / std::sqrt(static_cast<float>(dim_)));
    const VF32 top = hn::Set(d, highest);
    ForEachVector(count, [&](int64_t i, auto load, auto store) HWY_ATTR {
      store(hn::Exp(d, hn::Mul(scale, hn::Sub(load(x + i), top))), x + i);
    });
    VF32 sums = hn::Zero(d);
    ForEachVector(count, [&](int64_t i, auto load, auto)
                             HWY_ATTR { sums = hn::Add(sums, load(x + i)); });
    const VF32 inverse =
        hn::Set(d, 1.0f / hn::GetLane(hn::SumOfLanes(d, sums)));
    ForEachVector(count, [&](int64_t i, auto load, auto store) HWY_ATTR {
      store(hn::Mul(inverse, load(x + i)), x + i);
    });
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
  const int64_t tokens_pitch_;
  const int64_t rows_at_once_;
  float* query_;  // as in InfiniScratch
  float* attended_;
  float* remembered_;
  float* scores_;
  float* keys_t_;
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
