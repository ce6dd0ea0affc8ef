// SPDX-License-Identifier: Apache-2.0
//
// Attention, one kv head at a time. What a token sees is in
// engine/ops/reference/attention.cc.
//
// What the rows of a call see lies in a few runs of consecutive tokens: the
// sinks, the ring's older tokens in one or two runs, and the rows themselves.
// On the step path a row is computed alone, run after run. On the block path
// the scores of all rows form one matrix; what a query does not see of it is
// masked.
//
// Every sum over tokens goes in their order, whatever runs they lie in, and
// ends before what later tokens brought.
#include "engine/ops/cpu/attention.h"

#include <algorithm>
#include <limits>

#include "engine/ops/cpu/scratch_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "engine/ops/cpu/attention-inl.h"
#include "engine/ops/cpu/small_product-inl.h"
#include "hwy/highway.h"

namespace mneme::cpu {
#ifndef MNEME_ENGINE_OPS_CPU_ATTENTION_ONCE
#define MNEME_ENGINE_OPS_CPU_ATTENTION_ONCE

// Where the scratch of a kv head lies, in floats from its start.
struct AttentionScratch : ScratchPlan {
  AttentionScratch(const AttentionParams& params, int64_t rows) {
    const int64_t pitch = RoundToLine(rows);
    queries_t = Take(params.head_dim * pitch);
    far_t = Take(params.sinks > 0 ? params.head_dim * pitch : 0);
    scores = Take((params.sinks + params.kept + rows) * pitch);
    distance_queries_t =
        Take(params.distance_keys != nullptr ? params.head_dim * pitch : 0);
    distance_scores =
        Take(std::min(params.distances, params.kept + rows) * pitch);
    attended = Take(rows * RoundToLine(params.head_dim));
    sums = Take(rows);
  }

  int64_t queries_t = 0;  // [head_dim, rows], scaled; a step: [head_dim]
  int64_t far_t = 0;      // likewise
  int64_t scores = 0;     // [seen tokens, rows]; a step: [seen tokens]
  int64_t distance_queries_t = 0;  // as queries_t
  int64_t distance_scores = 0;     // [distances, rows]; a step: [distances]
  int64_t attended = 0;            // [rows, head_dim]
  int64_t sums = 0;                // [rows], of a softmax
};

#endif
}  // namespace mneme::cpu

HWY_BEFORE_NAMESPACE();
namespace mneme::cpu {
namespace HWY_NAMESPACE {

// Consecutive tokens with their keys and values.
struct Run {
  int64_t first = 0;  // position
  int64_t count = 0;
  const float* keys = nullptr;
  const float* values = nullptr;
  int64_t stride = 0;
  bool far = false;  // the sinks'
};

class AttentionKernel {
 public:
  AttentionKernel(const AttentionParams& params, const AttentionInputs& inputs,
                  const AttentionSlice& slice, int64_t kv_head, int64_t rows,
                  float* scratch, Rows out)
      : params_(params),
        inputs_(inputs),
        slice_(slice),
        kv_head_(kv_head),
        group_(params.heads / params.kv_heads),
        dim_(params.head_dim),
        pitch_(RoundToLine(rows)),
        out_(out) {
    const AttentionScratch places(params, rows);
    queries_t_ = scratch + places.queries_t;
    far_t_ = scratch + places.far_t;
    scores_ = scratch + places.scores;
    distance_queries_t_ = scratch + places.distance_queries_t;
    distance_scores_ = scratch + places.distance_scores;
    attended_ = scratch + places.attended;
    sums_ = scratch + places.sums;
  }

  void RunSteps() {
    for (int64_t row = 0; row < slice_.rows; ++row) {
      Keep(row);
      FindRuns(row, row, slice_.position + row + 1);
      for (int64_t i = 0; i < group_; ++i) Step(kv_head_ * group_ + i, row);
    }
  }

  void RunBlock() {
    // Into rows of the ring that none of them sees.
    for (int64_t row = 0; row < slice_.rows; ++row) Keep(row);
    FindRuns(0, slice_.rows - 1, slice_.position);
    runs_[run_count_++] = {
        .first = slice_.position,
        .count = slice_.rows,
        .keys = inputs_.k.row(slice_.first_row) + kv_head_ * dim_,
        .values = inputs_.v.row(slice_.first_row) + kv_head_ * dim_,
        .stride = inputs_.k.stride};
    for (int64_t i = 0; i < group_; ++i) Block(kv_head_ * group_ + i);
  }

 private:
  int64_t key_column() const { return kv_head_ * dim_; }
  int64_t value_column() const { return (params_.kv_heads + kv_head_) * dim_; }

  // The head's key and value of a row, into the ring and the sinks.
  void Keep(int64_t row) const {
    const int64_t position = slice_.position + row;
    const float* k = inputs_.k.row(slice_.first_row + row) + kv_head_ * dim_;
    const float* v = inputs_.v.row(slice_.first_row + row) + kv_head_ * dim_;
    const auto keep = [&](float* token) {
      std::copy_n(k, dim_, token + key_column());
      std::copy_n(v, dim_, token + value_column());
    };
    keep(slice_.ring + position % slice_.ring_rows * params_.token_floats());
    if (position < params_.sinks) {
      keep(slice_.sinks + position * params_.token_floats());
    }
  }

  // The runs of kept tokens before `end` that rows `first` to `last` may see.
  void FindRuns(int64_t first, int64_t last, int64_t end) {
    run_count_ = 0;
    const int64_t sinks = std::min(params_.sinks, slice_.begins[last]);
    if (sinks > 0) {
      AddRun(0, sinks, slice_.sinks);
      runs_[0].far = true;
    }
    const int64_t begin = slice_.begins[first];
    const int64_t ring_begin =
        (begin % slice_.ring_rows + slice_.ring_rows) % slice_.ring_rows;
    const int64_t first_count =
        std::min(end - begin, slice_.ring_rows - ring_begin);
    if (first_count > 0) {
      AddRun(begin, first_count,
             slice_.ring + ring_begin * params_.token_floats());
    }
    if (begin + first_count < end) {
      AddRun(begin + first_count, end - begin - first_count, slice_.ring);
    }
  }

  void AddRun(int64_t first, int64_t count, const float* tokens) {
    runs_[run_count_++] = {.first = first,
                           .count = count,
                           .keys = tokens + key_column(),
                           .values = tokens + value_column(),
                           .stride = params_.token_floats()};
  }

  void Step(int64_t head, int64_t row) {
    const int64_t line = slice_.first_row + row;
    ScaleRow(params_.scale, inputs_.q.row(line) + head * dim_, dim_,
             queries_t_);
    if (params_.sinks > 0) {
      ScaleRow(params_.scale, inputs_.far_q.row(line) + head * dim_, dim_,
               far_t_);
    }
    int64_t seen = 0;
    for (int64_t r = 0; r < run_count_; ++r) {
      const Run& run = runs_[r];
      Dots({run.keys, run.stride}, run.count, dim_,
           run.far ? far_t_ : queries_t_, scores_ + seen);
      seen += run.count;
    }
    AddDistances(head, row);
    const float sum = ExpRow(scores_, seen);
    std::fill_n(attended_, dim_, 0.0f);
    seen = 0;
    for (int64_t r = 0; r < run_count_; ++r) {
      const Run& run = runs_[r];
      AddProduct({scores_ + seen, 0, 1}, 1, {run.values, run.stride}, run.count,
                 {attended_, dim_}, dim_);
      seen += run.count;
    }
    ScaleRow(1.0f / sum, attended_, dim_, out_.row(line) + head * dim_);
  }

  // What distances add to the scores of one row.
  void AddDistances(int64_t head, int64_t row) {
    if (!by_distance()) return;
    const int64_t position = slice_.position + row;
    const int64_t told_apart =
        std::min(params_.distances, position - runs_[0].first + 1);
    if (params_.distance_keys != nullptr) {
      const int64_t line = slice_.first_row + row;
      ScaleRow(params_.scale, inputs_.distance_q.row(line) + head * dim_, dim_,
               distance_queries_t_);
      Dots(DistanceKeys(head), told_apart, dim_, distance_queries_t_,
           distance_scores_);
    }
    float* score = scores_;
    for (int64_t r = 0; r < run_count_; ++r) {
      for (int64_t s = 0; s < runs_[r].count; ++s, ++score) {
        const int64_t distance = Seen(runs_[r], position) - runs_[r].first - s;
        *score -= Slope(head) * static_cast<float>(distance);
        if (told_apart > 0) {
          *score += distance_scores_[std::min(distance, told_apart - 1)];
        }
      }
    }
  }

  // Likewise of all rows. What rows do not see is masked afterwards.
  void AddDistances(int64_t head) {
    if (!by_distance()) return;
    const int64_t last = slice_.position + slice_.rows - 1;
    const int64_t told_apart =
        std::min(params_.distances, last - runs_[0].first + 1);
    if (params_.distance_keys != nullptr) {
      TurnQueries(inputs_.distance_q, head, distance_queries_t_);
      std::fill_n(distance_scores_, told_apart * pitch_, 0.0f);
      const Right keys = DistanceKeys(head);
      AddProduct({keys.data, keys.stride, 1}, told_apart,
                 {distance_queries_t_, pitch_}, dim_,
                 {distance_scores_, pitch_}, slice_.rows);
    }
    float* scores = scores_;
    for (int64_t r = 0; r < run_count_; ++r) {
      for (int64_t s = 0; s < runs_[r].count; ++s, scores += pitch_) {
        const int64_t token = runs_[r].first + s;
        for (int64_t row = std::max<int64_t>(0, token - slice_.position);
             row < slice_.rows; ++row) {
          const int64_t distance =
              Seen(runs_[r], slice_.position + row) - token;
          scores[row] -= Slope(head) * static_cast<float>(distance);
          if (told_apart > 0) {
            scores[row] +=
                distance_scores_[std::min(distance, told_apart - 1) * pitch_ +
                                 row];
          }
        }
      }
    }
  }

  // From where a token at `position` sees a run: sinks as if the cache began
  // with them.
  int64_t Seen(const Run& run, int64_t position) const {
    return run.far ? std::min(position, params_.sinks + params_.kept)
                   : position;
  }

  bool by_distance() const {
    return params_.slopes != nullptr || params_.distance_keys != nullptr;
  }
  float Slope(int64_t head) const {
    return params_.slopes != nullptr ? params_.slopes[head] : 0.0f;
  }
  Right DistanceKeys(int64_t head) const {
    return {params_.distance_keys + head * dim_, params_.heads * dim_};
  }

  void Block(int64_t head) {
    TurnQueries(inputs_.q, head, queries_t_);
    if (params_.sinks > 0) TurnQueries(inputs_.far_q, head, far_t_);
    int64_t seen = 0;
    for (int64_t r = 0; r < run_count_; ++r) {
      const Run& run = runs_[r];
      float* scores = scores_ + seen * pitch_;
      std::fill_n(scores, run.count * pitch_, 0.0f);
      AddProduct({run.keys, run.stride, 1}, run.count,
                 {run.far ? far_t_ : queries_t_, pitch_}, dim_,
                 {scores, pitch_}, slice_.rows);
      seen += run.count;
    }
    AddDistances(head);
    seen = 0;
    for (int64_t r = 0; r < run_count_; ++r) {
      for (int64_t s = 0; s < runs_[r].count; ++s, ++seen) {
        Mask(runs_[r], runs_[r].first + s, scores_ + seen * pitch_);
      }
    }
    ExpColumns(scores_, pitch_, seen, slice_.rows, sums_);
    const int64_t width = RoundToLine(dim_);
    std::fill_n(attended_, slice_.rows * width, 0.0f);
    seen = 0;
    for (int64_t r = 0; r < run_count_; ++r) {
      const Run& run = runs_[r];
      const Left scores = {scores_ + seen * pitch_, 1, pitch_};
      const Right values = {run.values, run.stride};
      if (r + 1 < run_count_) {
        AddProduct(scores, slice_.rows, values, run.count, {attended_, width},
                   dim_);
      } else {  // the rows themselves
        AddTriangularProduct(scores, slice_.rows, values, 1, {attended_, width},
                             dim_);
      }
      seen += run.count;
    }
    for (int64_t row = 0; row < slice_.rows; ++row) {
      ScaleRow(1.0f / sums_[row], attended_ + row * width, dim_,
               out_.row(slice_.first_row + row) + head * dim_);
    }
  }

  void TurnQueries(ConstRows q, int64_t head, float* to) const {
    TurnRows(params_.scale, q.row(slice_.first_row) + head * dim_, q.stride,
             slice_.rows, dim_, to, pitch_);
  }

  // Of a token's scores, one per row, those of rows that do not see it.
  void Mask(const Run& run, int64_t token, float* scores) const {
    // From this row on the window is behind it.
    const int64_t passed =
        std::upper_bound(slice_.begins, slice_.begins + slice_.rows, token) -
        slice_.begins;
    int64_t begin = 0;
    int64_t end = slice_.rows;
    if (run.far) {
      begin = passed;
    } else {
      begin = std::max<int64_t>(0, token - slice_.position);
      end = passed;
    }
    constexpr float kUnseen = -std::numeric_limits<float>::infinity();
    std::fill(scores, scores + begin, kUnseen);
    std::fill(scores + end, scores + slice_.rows, kUnseen);
  }

  const AttentionParams& params_;
  const AttentionInputs& inputs_;
  const AttentionSlice& slice_;
  const int64_t kv_head_;
  const int64_t group_;
  const int64_t dim_;
  const int64_t pitch_;
  const Rows out_;
  Run runs_[4];
  int64_t run_count_ = 0;
  float* queries_t_;  // as in AttentionScratch
  float* far_t_;
  float* scores_;
  float* distance_queries_t_;
  float* distance_scores_;
  float* attended_;
  float* sums_;
};

void AttentionHead(ComputePath path, const AttentionParams& params,
                   const AttentionInputs& inputs, const AttentionSlice& slice,
                   int64_t kv_head, float* scratch, Rows out) {
  const bool step = path == ComputePath::kStep;
  AttentionKernel kernel(params, inputs, slice, kv_head, step ? 1 : slice.rows,
                         scratch, out);
  if (step) {
    kernel.RunSteps();
  } else {
    kernel.RunBlock();
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::cpu {

HWY_EXPORT(AttentionHead);

int64_t ScratchFloats(const AttentionParams& params, int64_t rows) {
  return AttentionScratch(params, rows).floats;
}

void AttentionHead(ComputePath path, const AttentionParams& params,
                   const AttentionInputs& inputs, const AttentionSlice& slice,
                   int64_t kv_head, float* scratch, Rows out) {
  HWY_DYNAMIC_DISPATCH(AttentionHead)
  (path, params, inputs, slice, kv_head, scratch, out);
}

}  // namespace mneme::cpu
#endif  // HWY_ONCE
