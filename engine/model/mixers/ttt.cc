// SPDX-License-Identifier: Apache-2.0
#include "engine/model/mixers/ttt.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "engine/base/status_macros.h"
#include "engine/model/mixers/ttt_projections.h"
#include "engine/model/rotation.h"

namespace mneme {
namespace {

struct TttWeights {
  Tensor norm_weight, norm_bias;  // [heads, head_dim]
  Tensor initial;                 // [heads, weight_floats] of TttParams
};

TttInner Inner(const ModelConfig& config) {
  return config.ttt.layer_type == "mlp" ? TttInner::kMlp : TttInner::kLinear;
}

// The checkpoint's W1, b1 (, W2, b2), head by head.
absl::StatusOr<Tensor> TakeInnerModel(const ModelConfig& config,
                                      const std::string& prefix,
                                      Weights& weights) {
  const TttParams sizes{.inner = Inner(config),
                        .heads = config.ttt_heads(),
                        .head_dim = config.ttt_head_dim()};
  Tensor joined({sizes.heads, sizes.weight_floats()});
  int64_t first = 0;  // of the next tensor in a head
  for (int64_t i = 0; i < sizes.maps(); ++i) {
    for (const auto& [letter, rows] :
         {std::pair<const char*, int64_t>{"W", sizes.in_dim(i)}, {"b", 1}}) {
      MNEME_ASSIGN_OR_RETURN(
          const Tensor tensor,
          weights.TakeTensor(absl::StrCat(prefix, letter, i + 1),
                             {sizes.heads, rows, sizes.out_dim(i)}));
      const int64_t floats = rows * sizes.out_dim(i);
      for (int64_t head = 0; head < sizes.heads; ++head) {
        std::copy_n(tensor.data() + head * floats, floats,
                    joined.mutable_values().data() +
                        head * sizes.weight_floats() + first);
      }
      first += floats;
    }
  }
  return joined;
}

class Ttt final : public SequenceMixer {
 public:
  Ttt(const ModelConfig& config, TttProjections projections, TttWeights weights)
      : inner_(Inner(config)),
        heads_(config.ttt_heads()),
        head_dim_(config.ttt_head_dim()),
        mini_batch_(config.ttt.mini_batch),
        projections_(std::move(projections)),
        weights_(std::move(weights)) {
    if (config.ttt.rope) {
      rotation_.emplace(mini_batch_, head_dim_, config.ttt.rope_theta);
    }
  }

  std::string_view kind() const override {
    return inner_ == TttInner::kMlp ? "ttt_mlp" : "ttt_linear";
  }
  int64_t segment_tokens() const override { return mini_batch_; }

  int64_t weight_bytes() const override {
    return weights_.initial.values().size() * 4 + projections_.weight_bytes() +
           (rotation_.has_value() ? rotation_->bytes() : 0);
  }

  LayerSpec state_spec() const override {
    LayerSpec spec = {{.name = "weights",
                       .kind = PartKind::kRewritten,
                       .rows = weight_rows(),
                       .row_floats = head_dim_},
                      {.name = "factors",
                       .kind = PartKind::kAppended,
                       .rows = mini_batch_ - 1,
                       .row_floats = heads_ * params().factor_floats()}};
    projections_.AddWindow(spec);
    return spec;
  }

  void InitialiseState(int64_t first_part, SessionState& state) const override {
    const int64_t part = first_part + int64_t(TttPart::kWeights);
    const absl::Span<const float> initial = weights_.initial.values();
    std::copy(initial.begin(), initial.end(), state.mutable_contents(part));
  }

  bool HasRightRows(int64_t first_part,
                    const SessionState& state) const override {
    return state.rows(first_part + int64_t(TttPart::kFactors)) ==
           state.computed_tokens() % mini_batch_;
  }

  int64_t scratch_bytes(int64_t rows) const override {
    return projections_.scratch_bytes(rows) +
           Pass::ScratchBytes(rows, heads_ * head_dim_);  // out
  }

  void Forward(const Pass& pass, int64_t first_part, ConstRows h,
               Rows y) const override {
    const Workspace::Frame frame(pass.workspace);
    const TttProjections::Operands operands =
        projections_.Project(pass, first_part + int64_t(TttPart::kWindow), h);
    Rows out = pass.Scratch(heads_ * head_dim_);
    Learn(pass, first_part,
          {.q = operands.q,
           .k = operands.k,
           .v = operands.v,
           .learning_rate = operands.rate},
          out);
    projections_.Finish(pass, operands, out, y);
  }

  TttParams params() const {
    return {
        .inner = inner_,
        .heads = heads_,
        .head_dim = head_dim_,
        .mini_batch = mini_batch_,
        .norm_weight = weights_.norm_weight.data(),
        .norm_bias = weights_.norm_bias.data(),
        .token_scale = projections_.token_scale().data(),
        .rope_cos = rotation_.has_value() ? rotation_->cosines.data() : nullptr,
        .rope_sin = rotation_.has_value() ? rotation_->sines.data() : nullptr};
  }

 private:
  // Rows of head_dim that the inner models take.
  int64_t weight_rows() const {
    return heads_ * params().weight_floats() / head_dim_;
  }

  // The inner learner, and what its sessions' states become.
  void Learn(const Pass& pass, int64_t first_part, const TttInputs& inputs,
             Rows out) const {
    const int64_t weights = first_part + int64_t(TttPart::kWeights);
    const int64_t factors = first_part + int64_t(TttPart::kFactors);
    absl::InlinedVector<TttSlice, kMaxPassSlices> slices;
    for (const PassSlice& slice : pass.slices) {
      SessionState& state = *slice.state;
      slices.push_back({.first_row = slice.first_row,
                        .rows = slice.rows,
                        .slot = slice.position % mini_batch_,
                        .weights = state.contents(weights),
                        .next_weights = state.spare(weights),
                        .factors = state.mutable_contents(factors),
                        .next_factors = state.spare(factors)});
    }
    pass.backend.Ttt(pass.path, params(), inputs, slices, out);
    for (const PassSlice& slice : pass.slices) {
      const int64_t slot = slice.position % mini_batch_;
      if (slot + slice.rows < mini_batch_) {
        slice.state->Append(factors, slice.rows);
      } else {
        slice.state->Replace(weights, weight_rows());
        slice.state->Replace(factors, (slot + slice.rows) % mini_batch_);
      }
    }
  }

  const TttInner inner_;
  const int64_t heads_;
  const int64_t head_dim_;
  const int64_t mini_batch_;
  const TttProjections projections_;
  const TttWeights weights_;
  absl::optional<Rotation> rotation_;  // by slot in the mini-batch
};

}  // namespace

absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeTtt(
    const BuildContext& context, const std::string& prefix) {
  const ModelConfig& config = context.config;
  Weights& weights = context.weights;
  const Shape per_head = {config.ttt_heads(), config.ttt_head_dim()};
  MNEME_ASSIGN_OR_RETURN(TttProjections projections,
                         TttProjections::Take(context, prefix));
  TttWeights w;
  MNEME_ASSIGN_OR_RETURN(
      w.norm_weight, weights.TakeTensor(prefix + "ttt_norm_weight", per_head));
  MNEME_ASSIGN_OR_RETURN(
      w.norm_bias, weights.TakeTensor(prefix + "ttt_norm_bias", per_head));
  MNEME_ASSIGN_OR_RETURN(w.initial, TakeInnerModel(config, prefix, weights));

  auto mixer =
      std::make_unique<Ttt>(config, std::move(projections), std::move(w));
  MNEME_RETURN_IF_ERROR(
      context.backend.Reserve(mixer->params(), context.max_rows));
  return mixer;
}

}  // namespace mneme
